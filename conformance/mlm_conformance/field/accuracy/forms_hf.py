"""The functions by which Hugging Face's models compute the loss of a masked language model.

``ForMaskedLMLoss`` is what a model has as ``loss_function``; it converts all logits to float32
first.  ``fixed_cross_entropy`` is the part that follows.  The older models call PyTorch's
``CrossEntropyLoss`` themselves, without the conversion.
"""

# The packages of the field are in no environment that is type-checked.
# mypy: disable-error-code="import-not-found, import-untyped"

from __future__ import annotations

import torch
import transformers
from transformers.loss import loss_utils

from mlm_conformance.field.accuracy.form import Form
from mlm_conformance.field.accuracy.forms_torch import torch_form

__all__ = ["fixed_cross_entropy", "for_masked_lm"]

_VERSIONS = {"torch": torch.__version__, "transformers": transformers.__version__}


def for_masked_lm() -> Form:
    """``ForMaskedLMLoss`` of one position, with the sign turned."""

    def function(z: torch.Tensor, t: int) -> torch.Tensor:
        loss: torch.Tensor = loss_utils.ForMaskedLMLoss(z[None, None], torch.tensor([[t]]), len(z))
        return -loss

    return torch_form(function, _VERSIONS)


def fixed_cross_entropy() -> Form:
    """``fixed_cross_entropy`` of one position, with the sign turned."""

    def function(z: torch.Tensor, t: int) -> torch.Tensor:
        loss: torch.Tensor = loss_utils.fixed_cross_entropy(z[None], torch.tensor([t]))
        return -loss

    return torch_form(function, _VERSIONS)
