"""Hugging Face's ``BertForMaskedLM``: its loss, hidden states and gradients by autograd.

The model is built from its configuration, in float64, and given our parameters under their own
names.  It runs as it is, with these settings:

- ``attn_implementation="eager"``, the path without fused attention;
- ``pad_token_id=None``: with an id there PyTorch's embedding withholds the gradient of that row;
- who sees whom as numbers (B, 1, T, T) that are added to the scores, which the model takes in place
  of a mask (B, T) and hands on as they are: so rows may be packed;
- each ``nn.Dropout`` replaced by a product with given numbers, and the one on attention
  probabilities by an attention function of our own, registered under a name.
"""

# The packages of the field are in no environment that is type-checked.
# mypy: disable-error-code="import-not-found, import-untyped"

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

from mlm_conformance.field.hf_training import added_mask, labels_of
from mlm_spec.training.batch import TrainingBatch
from mlm_spec.training.config import EncoderConfig
from mlm_spec.training.dropout import (
    Dropout,
    Site,
    attention_channel,
    dropout_factor,
    dropout_keep,
    dropout_key,
)
from mlm_spec.training.parameters import with_tied_copies, without_tied_copies

__all__ = ["HfResult", "hf_model", "hf_parameters", "hf_run"]

_OURS = "given_dropout"  # the name of our attention function


class HfResult(NamedTuple):
    """The sum in nats, L + 1 hidden states (B, T, d), and all gradients of the sum."""

    sum: float
    hidden: list[NDArray[np.float64]]
    gradients: dict[str, NDArray[np.float64]]


class _Given(nn.Module):
    """A product with given numbers, in place of a random one; None leaves all as it is."""

    def __init__(self, factor: torch.Tensor | None) -> None:
        super().__init__()
        self.factor = factor
        self.p = 0.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if self.factor is None else x * self.factor


def hf_model(config: EncoderConfig, **changes: Any) -> Any:
    """``BertForMaskedLM`` of this configuration in float64, for evaluation.

    ``changes`` are settings of its own that take the place of ours.
    """
    ours = config.to_mapping()
    names = [name for name in ours if name not in {"hidden_dropout", "attention_dropout"}]
    settings = {name: ours[name] for name in names} | {"hidden_act": "gelu", "pad_token_id": None}
    torch.manual_seed(0)  # its first weights
    built = transformers.BertConfig(**settings | changes, attn_implementation="eager")
    return transformers.BertForMaskedLM(built).double().eval()


def hf_parameters(model: Any, config: EncoderConfig) -> dict[str, NDArray[Any]]:
    """The model's weights as parameters: its state dict without the tied copies."""
    state = {name: value.numpy().copy() for name, value in model.state_dict().items()}
    return without_tied_copies(state, config)


def hf_run(
    model: Any,
    parameters: Mapping[str, NDArray[Any]],
    batch: TrainingBatch,
    config: EncoderConfig,
    dropout: Dropout | None = None,
) -> HfResult:
    """Forward and backward of the model at these parameters.

    Raises
    ------
    RuntimeError : the state dict does not take our names or shapes.
    """
    state = {name: torch.tensor(value) for name, value in with_tied_copies(parameters).items()}
    model.load_state_dict(state, strict=True)
    _give_dropout(model, batch, config, dropout)
    given = {
        name: torch.tensor(getattr(batch, name)) for name in ("token_type_ids", "position_ids")
    }
    result = model(
        input_ids=torch.tensor(batch.inputs),
        attention_mask=torch.tensor(added_mask(batch, np.float64)),
        output_hidden_states=True,
        labels=torch.tensor(labels_of(batch)),
        **given,
    )
    # Its loss is a mean over the selected positions of this call.
    total = -result.loss * int(batch.selected.sum())
    model.zero_grad()
    total.backward()
    gradients = {name: p.grad.numpy().copy() for name, p in model.named_parameters()}
    hidden = [state.detach().numpy() for state in result.hidden_states]
    return HfResult(total.item(), hidden, gradients)


def _give_dropout(
    model: Any, batch: TrainingBatch, config: EncoderConfig, dropout: Dropout | None
) -> None:
    model.bert.embeddings.dropout = _Given(_hidden(batch, config, dropout, Site.EMBEDDINGS, 0))
    for layer, block in enumerate(model.bert.encoder.layer):
        attention = _hidden(batch, config, dropout, Site.ATTENTION_OUTPUT, layer)
        block.attention.output.dropout = _Given(attention)
        block.output.dropout = _Given(_hidden(batch, config, dropout, Site.OUTPUT, layer))
        block.attention.self.dropout = _Given(_probabilities(batch, config, dropout, layer))
    AttentionInterface.register(_OURS, _attention)
    AttentionMaskInterface.register(_OURS, eager_mask)
    model.config._attn_implementation = _OURS if dropout else "eager"


def _attention(
    module: Any, query: Any, key: Any, value: Any, mask: Any, scaling: float, **unused: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """The model's own eager function with another dropout."""
    scores = query @ key.transpose(2, 3) * scaling
    weights = module.dropout(nn.functional.softmax(scores + mask, dim=-1))
    return (weights @ value).transpose(1, 2).contiguous(), weights


def _hidden(
    batch: TrainingBatch, config: EncoderConfig, dropout: Dropout | None, site: Site, layer: int
) -> torch.Tensor | None:
    """(B, T, d)."""
    if dropout is None or not config.hidden_dropout:
        return None
    p: Any = config.hidden_dropout
    key = dropout_key(dropout, site, layer)
    channel = np.arange(config.hidden_size, dtype=np.uint32)
    keep = dropout_keep(
        key, batch.sequence_id.reshape(-1, 2), batch.position.reshape(-1), channel, p
    )
    return torch.tensor(dropout_factor(keep, p).reshape(*batch.inputs.shape, -1))


def _probabilities(
    batch: TrainingBatch, config: EncoderConfig, dropout: Dropout | None, layer: int
) -> torch.Tensor | None:
    """(B, H, T, T), query by key."""
    if dropout is None or not config.attention_dropout:
        return None
    p: Any = config.attention_dropout
    key, heads = dropout_key(dropout, Site.ATTENTION, layer), config.num_attention_heads
    found = []
    for ids, position in zip(batch.sequence_id, batch.position, strict=True):
        keep = dropout_keep(key, ids, position, attention_channel(heads, position), p)
        found.append(keep.reshape(position.size, heads, position.size).transpose(1, 0, 2))
    return torch.tensor(dropout_factor(np.stack(found), p))
