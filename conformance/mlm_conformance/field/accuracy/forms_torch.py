"""PyTorch's ways to a log-likelihood, one position a call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from mlm_conformance.field.accuracy.form import Form
from mlm_conformance.field.torch_port import array_of, tensor_of

__all__ = ["cross_entropy", "log_of_softmax", "log_softmax", "logsumexp", "torch_form"]

_VERSIONS = {"torch": torch.__version__}


def log_softmax() -> Form:
    """``torch.log_softmax``."""
    return torch_form(lambda z, t: torch.log_softmax(z, -1)[t])


def cross_entropy() -> Form:
    """``F.cross_entropy`` of one row, with the sign turned."""
    return torch_form(lambda z, t: -F.cross_entropy(z[None], torch.tensor([t])))


def logsumexp() -> Form:
    """z_t - ``torch.logsumexp``."""
    return torch_form(lambda z, t: z[t] - torch.logsumexp(z, -1))


def log_of_softmax() -> Form:
    """``torch.log`` of ``torch.softmax``."""
    return torch_form(lambda z, t: torch.log(torch.softmax(z, -1))[t])


def torch_form(
    function: Callable[[torch.Tensor, int], torch.Tensor], versions: Mapping[str, str] = _VERSIONS
) -> Form:
    """A function of tensors as a form."""

    def one(z: NDArray[Any], t: int) -> NDArray[Any]:
        return array_of(function(tensor_of(z), t))

    return Form(one, versions)
