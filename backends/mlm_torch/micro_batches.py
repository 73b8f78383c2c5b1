"""Micro-batches as arrays of the host, checked there, and on the device (chapter TRN)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mlm_spec.errors import InputError, PolicyError
from mlm_spec.policy import MaskingPolicy
from mlm_spec.training.batch import TrainingBatch
from mlm_spec.training.config import EncoderConfig
from mlm_torch.checking import IDS, check_batch, check_ids, check_tensor
from mlm_torch.encoder import Layout, layout_of
from mlm_torch.masking import mask_step
from mlm_torch.random_words import make_key
from mlm_torch.selection import find_special
from mlm_torch.thresholds import tables_for

__all__ = ["Given", "Tokens", "count_sequences", "on_device", "read_micro_batch"]

_LAID_OUT = ("attention_mask", "token_type_ids", "position_ids", "sequence_id", "position")
_MASKED = ("inputs", "targets", "selected")
_TOKENS = ("tokens", "eligible", "epoch")


class Tokens(NamedTuple):
    """What a batch is masked from, and in which epoch."""

    tokens: Tensor
    word_id: Tensor | None
    eligible: Tensor
    epoch: int


class Given(NamedTuple):
    """A checked micro-batch on the host.

    Attributes
    ----------
    batch : its tensors; inputs, targets and selected are None where they are made on the device.
    tokens : what they are made from, or None.
    whole : whether each row is one sequence without padding.
    count : how many positions are selected, if that is known.
    """

    batch: TrainingBatch
    tokens: Tokens | None
    whole: bool
    count: int | None


def read_micro_batch(
    tensors: Mapping[str, Any], config: EncoderConfig, policy: MaskingPolicy | None
) -> Given:
    """Check the fields of a micro-batch, tensors of the host.

    Raises
    ------
    InputError : missing or unknown fields, or a selected position of padding.
    PolicyError : tokens, and no policy to mask them with.
    ShapeError, DTypeError, IdRangeError, WordError.
    """
    masked = "tokens" not in tensors
    _check_names(tensors, masked)
    lead = tensors["inputs" if masked else "tokens"]
    check_tensor("inputs" if masked else "tokens", lead, ("B", "T"), IDS)
    shape = tuple(lead.shape)
    check_tensor("attention_mask", tensors["attention_mask"], shape, (torch.bool,))
    sizes = {"token_type_ids": config.type_vocab_size}
    sizes["position_ids"] = config.max_position_embeddings
    for name, size in sizes.items():
        check_tensor(name, tensors[name], shape, IDS)
        check_ids(name, tensors[name], size)
    check_tensor("sequence_id", tensors["sequence_id"], (*shape, 2), (torch.uint32,))
    check_tensor("position", tensors["position"], shape, (torch.uint32,))
    laid_out = {name: tensors[name] for name in _LAID_OUT}
    whole = _is_whole(laid_out["attention_mask"], laid_out["sequence_id"])
    if masked:
        _check_masked(tensors, shape, config)
        batch = TrainingBatch(*(tensors[name] for name in _MASKED), **laid_out)
        return Given(batch, None, whole, int(batch.selected.sum()))
    tokens = _read_tokens(tensors, config, policy)
    return Given(TrainingBatch(None, None, None, **laid_out), tokens, whole, None)


def _check_names(tensors: Mapping[str, Any], masked: bool) -> None:
    wanted = (*(_MASKED if masked else _TOKENS), *_LAID_OUT)
    allowed = wanted if masked else (*wanted, "word_id")
    missing = [name for name in wanted if name not in tensors]
    unknown = [str(name) for name in tensors if name not in allowed]
    if missing:
        raise InputError("batch", "without " + ", ".join(missing), "the fields of one batch")
    if unknown:
        raise InputError("batch", "with " + ", ".join(unknown), "only " + ", ".join(allowed))


def _check_masked(
    tensors: Mapping[str, Any], shape: tuple[int, ...], config: EncoderConfig
) -> None:
    check_tensor("targets", tensors["targets"], shape, IDS)
    check_tensor("selected", tensors["selected"], shape, (torch.bool,))
    check_ids("inputs", tensors["inputs"], config.vocab_size)
    check_ids("targets", tensors["targets"], config.vocab_size, tensors["selected"])
    padding = (tensors["selected"] & ~tensors["attention_mask"]).nonzero()
    if len(padding):
        where = "selected[" + ", ".join(str(int(i)) for i in padding[0]) + "]"
        raise InputError(where, "true at padding", "false where attention_mask is")


def _read_tokens(
    tensors: Mapping[str, Any], config: EncoderConfig, policy: MaskingPolicy | None
) -> Tokens:
    if policy is None:
        raise PolicyError("policy", None, "a MaskingPolicy, since the batch has tokens")
    if policy.vocab_size != config.vocab_size:
        raise PolicyError(
            "policy.vocab_size", policy.vocab_size, f"{config.vocab_size}, the model's"
        )
    words = tensors.get("word_id")
    able = tensors["eligible"]
    check_batch(tensors["tokens"], tensors["sequence_id"], tensors["position"], words, able, policy)
    check_ids("tokens", tensors["tokens"], config.vocab_size)
    make_key(0, tensors["epoch"])  # an epoch that is none is refused here
    special = find_special(tensors["tokens"], policy, tables_for(policy, able.device))
    if bool((able & ~special & ~tensors["attention_mask"]).any()):
        raise InputError("eligible", "true at padding", "false where attention_mask is")
    return Tokens(tensors["tokens"], words, able, tensors["epoch"])


def _is_whole(attention_mask: Tensor, sequence_id: Tensor) -> bool:
    ids = sequence_id.view(torch.int32)
    return bool(attention_mask.all()) and bool((ids == ids[:, :1]).all())


def count_sequences(given: Given) -> int:
    """How many (row, sequence) pairs the attention mask shows."""
    if given.whole:
        return given.batch.attention_mask.shape[0]
    real, ids = given.batch.attention_mask, given.batch.sequence_id.view(torch.int32)
    rows = torch.arange(real.shape[0], dtype=torch.int32)[:, None, None].expand(*real.shape, 1)
    return len(torch.unique(torch.cat((rows, ids), dim=-1)[real], dim=0))


def on_device(
    given: Given, device: torch.device, policy: MaskingPolicy | None, seed: int, grid: bool
) -> tuple[TrainingBatch, Layout]:
    """Move a micro-batch, mask it there if that is not done, and lay it out.

    Parameters
    ----------
    grid : whether attention probabilities are going to be dropped.
    """
    # What waits is done on the host: the grid comes from there.
    host = layout_of(given.batch, whole=True, grid=grid).grid
    moved = TrainingBatch(*(None if x is None else _to(x, device) for x in given.batch))
    if given.tokens is not None:
        tokens, words, able = (None if x is None else _to(x, device) for x in given.tokens[:3])
        key = _to(make_key(seed, given.tokens.epoch), device)
        found = mask_step(tokens, moved.sequence_id, moved.position, words, able, policy, key)
        moved = moved._replace(inputs=found.inputs, targets=found.targets, selected=found.selected)
    layout = layout_of(moved, whole=given.whole)
    if host is not None:
        layout = layout._replace(grid=type(host)(*(_to(x, device) for x in host)))
    return moved, layout


def _to(values: Tensor, device: torch.device) -> Tensor:
    return values.to(device, non_blocking=True)
