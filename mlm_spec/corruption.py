"""What the selected positions show: x̄ (chapter COR)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_spec.policy import MaskingPolicy, Span
from mlm_spec.random_words import Stream, random_words
from mlm_spec.selection import Source, span_anchor, word_anchor
from mlm_spec.thresholds import below, pool_index

__all__ = ["corrupt", "pool_ids"]

Bools = NDArray[np.bool_]
Words = NDArray[np.uint32]


def pool_ids(policy: MaskingPolicy, index: Words) -> NDArray[np.int64]:
    """The ids at the given places of the pool, which is in ascending order (MLM-COR-5).

    The original token may be among them: it can be redrawn.

    Parameters
    ----------
    policy : whose pool.
    index : uint32 (...), each in 0 .. K - 1.

    Returns
    -------
    int64 (...).

    >>> from mlm_spec import Bernoulli, Corruption
    >>> policy = MaskingPolicy(Bernoulli(1), Corruption(0, 1, 0), 9, 3, special_ids=(0, 3))
    >>> pool_ids(policy, np.arange(policy.pool_size, dtype=np.uint32)).tolist()
    [1, 2, 4, 5, 6, 7, 8]
    """
    place = index.astype(np.int64)
    if policy.pool == "all":
        return place
    if policy.pool == "regular":  # every special id that is passed moves the rest up by one
        special = np.array(policy.special_ids, dtype=np.int64)
        passed = np.searchsorted(special - np.arange(special.size), place, side="right")
        return place + passed
    return np.array(policy.pool, dtype=np.int64)[place]


def corrupt(
    source: Source,
    candidate: Bools,
    selected: Bools,
    policy: MaskingPolicy,
    seed: int,
    epoch: int,
) -> NDArray[Any]:
    """The corrupted tokens x̄: tokens where not selected, else by kind (MLM-COR-1, 3-8).

    Returns
    -------
    integer (B, T), in the dtype of the tokens.
    """
    weights = policy.corruption
    at = np.flatnonzero(selected)
    sequence, tokens = source.sequence_id.reshape(-1, 2)[at], source.tokens.reshape(-1)[at]
    position = source.position.reshape(-1)[at]
    _, own, w2, w3 = random_words(seed, epoch, sequence, position, Stream.TOKEN)
    if weights.unit == "token":
        w1 = own
    else:
        anchor = _deciding_position(source, candidate, policy, seed, epoch).reshape(-1)[at]
        _, w1, _, _ = random_words(seed, epoch, sequence, anchor, Stream.TOKEN)
    shown = tokens.copy()
    replaced = below(w1, weights.mask + weights.random)
    if weights.random:
        drawn = pool_ids(policy, pool_index(w2, w3, policy.pool_size))
        shown = np.where(replaced, drawn.astype(tokens.dtype), shown)
    shown = np.where(below(w1, weights.mask), tokens.dtype.type(policy.mask_id), shown)
    inputs = source.tokens.copy(order="C")
    inputs.reshape(-1)[at] = shown  # a view: the copy is contiguous
    return inputs


def _deciding_position(
    source: Source, candidate: Bools, policy: MaskingPolicy, seed: int, epoch: int
) -> Words:
    """Whose w1 decides the kind: the word's first candidate, or the latest covering start."""
    if policy.corruption.unit == "word":
        return word_anchor(source, candidate)
    assert isinstance(policy.selection, Span)  # the policy has checked it
    _, anchor = span_anchor(source, policy.selection, seed, epoch)
    return anchor
