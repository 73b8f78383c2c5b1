"""What a selected position shows (chapter COR)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mlm_spec.policy import MaskingPolicy
from mlm_torch.places import Places
from mlm_torch.random_words import STREAM_TOKEN, below, unsigned, words
from mlm_torch.thresholds import FEW, Tables, redraw_limit, threshold

__all__ = ["deciding_words", "shown_ids"]


def deciding_words(
    key: Tensor, places: Places, deciding: Tensor | None, known: Sequence[Tensor] | None
) -> tuple[Tensor, Tensor, Tensor]:
    """What decides on each place: w1 for the kind, w2 and w3 for a random id, of stream 0.

    Parameters
    ----------
    key : int32 (4,).
    places : int32 bits, of any shape.
    deciding : the positions whose w1 decides the kind; None: each its own.
    known : the four words at ``places``, if they have been computed before.
    """
    _, w1, w2, w3 = words(key, STREAM_TOKEN, *places) if known is None else known
    if deciding is not None:
        _, w1, _, _ = words(key, STREAM_TOKEN, deciding, places.low, places.high)
    return w1, w2, w3


def shown_ids(
    tokens: Tensor, drawn: Sequence[Tensor], policy: MaskingPolicy, tables: Tables
) -> Tensor:
    """The ids that these positions show if they are selected: mask, random or original.

    Parameters
    ----------
    tokens : integer, any shape.
    drawn : w1, w2, w3 from `deciding_words`, of that shape.
    policy, tables : the policy, and its tables on the device.

    Returns
    -------
    Ids in the shape and dtype of ``tokens`` (MLM-COR-3, MLM-COR-6, MLM-COR-7, MLM-COR-8).
    """
    weights = policy.corruption
    w1, w2, w3 = drawn
    shown = tokens
    if weights.random > 0:
        other = _draw(w2, w3, policy, tables).to(tokens.dtype)
        shown = torch.where(below(w1, threshold(weights.mask + weights.random)), other, tokens)
    return torch.where(below(w1, threshold(weights.mask)), policy.mask_id, shown)


def _draw(w2: Tensor, w3: Tensor, policy: MaskingPolicy, tables: Tables) -> Tensor:
    """pool[r mod K], r = w2 unless it lies in the incomplete last stretch, then w3 (MLM-RNG-6)."""
    size = policy.pool_size
    word = unsigned(torch.where(below(w2, redraw_limit(size)), w2, w3))
    index = word % size
    if policy.pool == "all":
        return index
    if policy.pool != "regular":
        return tables.pool[index]
    if len(policy.special_ids) > FEW:
        return index + torch.searchsorted(tables.pool, index, right=True)
    regular = index
    for i, special in enumerate(policy.special_ids):
        regular = regular + (index >= special - i)
    return regular
