"""The losses of Hugging Face's masked-language models, through the models' own ``forward``.

A model is built from its configuration (without memory for its weights), and two of its parts
are replaced: the encoder hands on what it is given, the output layers do nothing.  So the suite
chooses the logits, and everything after them is the model's.

``Trainer`` gives a model ``num_items_in_batch``, the count of the whole optimiser step, if its
``forward`` takes ``**kwargs``, and then relies on it: it divides by nothing itself.  All the
models here take ``**kwargs``, so the reduction that is declared for them is "sum/num_items";
`bert_mean` and `modernbert_mean` are called without the count, as in a loop of one's own.
"""

# The packages of the field are in no environment that is type-checked.
# mypy: disable-error-code="import-not-found, import-untyped"

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch import nn
from transformers.modeling_outputs import BaseModelOutput

from mlm_conformance.field.torch_port import TorchLoss

__all__ = [
    "bert",
    "bert_mean",
    "distilbert",
    "electra",
    "eurobert",
    "modernbert",
    "modernbert_mean",
    "modernbert_sparse",
    "roberta",
]

_VERSIONS = {"torch": torch.__version__, "transformers": transformers.__version__}

#: The label that these models ignore; ``forward`` has no argument for another.
_IGNORED = -100


class _Given(nn.Module):
    """An encoder whose hidden states are the embeddings that it is given."""

    def forward(
        self, input_ids: None = None, inputs_embeds: torch.Tensor | None = None, **unused: Any
    ) -> BaseModelOutput:
        return BaseModelOutput(last_hidden_state=inputs_embeds)


def bert() -> TorchLoss:
    """``BertForMaskedLM`` with ``num_items_in_batch``."""
    return _global(_model("Bert", "bert", "cls"))


def bert_mean() -> TorchLoss:
    """``BertForMaskedLM`` without it."""
    return _mean(_model("Bert", "bert", "cls"))


def roberta() -> TorchLoss:
    """``RobertaForMaskedLM`` with ``num_items_in_batch``."""
    return _global(_model("Roberta", "roberta", "lm_head"))


def distilbert() -> TorchLoss:
    """``DistilBertForMaskedLM`` with ``num_items_in_batch``."""
    layers = ("vocab_transform", "activation", "vocab_layer_norm", "vocab_projector")
    return _global(_model("DistilBert", "distilbert", *layers))


def electra() -> TorchLoss:
    """``ElectraForMaskedLM`` (the generator) with ``num_items_in_batch``."""
    return _global(_model("Electra", "electra", "generator_predictions", "generator_lm_head"))


def eurobert() -> TorchLoss:
    """``EuroBertForMaskedLM`` with ``num_items_in_batch``."""
    return _global(_model("EuroBert", "model", "lm_head"))


def modernbert() -> TorchLoss:
    """``ModernBertForMaskedLM`` with ``num_items_in_batch``."""
    return _global(_model("ModernBert", "model", "head", "decoder"))


def modernbert_mean() -> TorchLoss:
    """``ModernBertForMaskedLM`` without it."""
    return _mean(_model("ModernBert", "model", "head", "decoder"))


def modernbert_sparse() -> TorchLoss:
    """``ModernBertForMaskedLM(sparse_prediction=True)``: logits at selected positions only."""
    return _global(_model("ModernBert", "model", "head", "decoder", sparse_prediction=True))


def _model(family: str, encoder: str, *layers: str, **settings: Any) -> Any:
    """``<family>ForMaskedLM`` with its encoder and the layers after it passed through."""
    configuration = getattr(transformers, f"{family}Config")(**settings)
    with torch.device("meta"):  # every parameter is in a part that goes away
        model = getattr(transformers, f"{family}ForMaskedLM")(configuration)
    setattr(model, encoder, _Given())
    for layer in layers:
        setattr(model, layer, nn.Identity())
    return model


def _global(model: Any) -> TorchLoss:
    def function(
        logits: torch.Tensor, labels: torch.Tensor, ignore_index: int, num_items: int | None
    ) -> torch.Tensor:
        # Trainer passes a tensor: the sum of (labels != -100) over the micro-batches of a step.
        count = {} if num_items is None else {"num_items_in_batch": torch.tensor(num_items)}
        return _loss(model, logits, labels, ignore_index, **count)

    return TorchLoss(function, "sum/num_items", _VERSIONS)


def _mean(model: Any) -> TorchLoss:
    def function(
        logits: torch.Tensor, labels: torch.Tensor, ignore_index: int, num_items: int | None
    ) -> torch.Tensor:
        return _loss(model, logits, labels, ignore_index)

    return TorchLoss(function, "mean", _VERSIONS)


def _loss(
    model: Any, logits: torch.Tensor, labels: torch.Tensor, ignore_index: int, **count: torch.Tensor
) -> torch.Tensor:
    model.config.vocab_size = logits.shape[-1]
    known = torch.where(labels == ignore_index, _IGNORED, labels)
    loss: torch.Tensor = model(inputs_embeds=logits, labels=known, **count).loss
    return loss
