"""Which positions are selected: A(x) (chapter SEL)."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_spec.policy import Bernoulli, FixedCount, MaskingPolicy, Span, WholeWord
from mlm_spec.random_words import Stream, random_words
from mlm_spec.thresholds import below

__all__ = ["Source", "candidates", "fixed_count", "select_positions", "span_anchor", "word_anchor"]

Bools = NDArray[np.bool_]
Words = NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class Source:
    """A batch of source sequences, checked.

    Attributes
    ----------
    tokens : integer (B, T).
    sequence_id : uint32 (B, T, 2), the low word first.
    position : uint32 (B, T), in the source sequence.
    word_id : int32 (B, T), or None where no policy looks at words.
    eligible : bool (B, T).
    """

    tokens: NDArray[Any]
    sequence_id: Words
    position: Words
    word_id: NDArray[np.int32] | None
    eligible: Bools


def candidates(source: Source, policy: MaskingPolicy) -> Bools:
    """Positions that may be selected: eligible, and not a special id (MLM-SEL-1).

    Returns
    -------
    bool (B, T).
    """
    special = np.asarray(policy.special_ids, dtype=source.tokens.dtype)
    if special.size == 0:
        return source.eligible.copy()
    return source.eligible & ~np.isin(source.tokens, special)


def select_positions(
    source: Source, candidate: Bools, policy: MaskingPolicy, seed: int, epoch: int
) -> Bools:
    """A(x) as a mask: bool (B, T).  One law each for MLM-SEL-2, 4-5, 6-7 and 8."""
    law = policy.selection
    if isinstance(law, Bernoulli):
        w0, _, _, _ = random_words(seed, epoch, source.sequence_id, source.position, Stream.TOKEN)
        return candidate & below(w0, law.rate)
    if isinstance(law, FixedCount):
        return _smallest_words(source, candidate, law, policy.pad_id, seed, epoch)
    if isinstance(law, WholeWord):
        anchor = word_anchor(source, candidate)
        w0, _, _, _ = random_words(seed, epoch, source.sequence_id, anchor, Stream.RANK)
        return candidate & below(w0, law.rate)
    covered, _ = span_anchor(source, law, seed, epoch)
    return candidate & covered


def fixed_count(law: FixedCount, n: int, available: int) -> int:
    """k, the number of positions selected in a sequence (MLM-SEL-4).

    Parameters
    ----------
    law : the law.
    n : what its base counts.
    available : the number of candidates.

    >>> [fixed_count(FixedCount("3/20", floor=1, cap=20, rounding="half_even"), n, n)
    ...  for n in (1, 10, 30, 512)]
    [1, 2, 4, 20]
    """
    a, b = law.rate.numerator, law.rate.denominator
    if law.rounding == "half_up":
        k = (2 * a * n + b) // (2 * b)
    elif law.rounding == "ceiling":
        k = -(-a * n // b)
    else:
        k = round(Fraction(a * n, b))  # Fraction rounds exactly, ties to the even integer
    k = max(law.floor, k)
    if law.cap is not None:
        k = min(law.cap, k)
    return min(k, available)


def _smallest_words(
    source: Source, candidate: Bools, law: FixedCount, pad_id: int | None, seed: int, epoch: int
) -> Bools:
    """The k candidates of each sequence with the smallest (w0, position) (MLM-SEL-5)."""
    w0, _, _, _ = random_words(seed, epoch, source.sequence_id, source.position, Stream.RANK)
    order, group = _grouped(source, (~candidate, w0, source.position))
    member = candidate.reshape(-1)[order]
    if law.base == "eligible":
        counted = member
    elif pad_id is None:
        counted = np.ones_like(member)
    else:
        counted = source.tokens.reshape(-1)[order] != pad_id
    n, available = (np.bincount(group, weights=w).astype(np.int64) for w in (counted, member))
    pairs = zip(n.tolist(), available.tolist(), strict=True)
    k = np.array([fixed_count(law, *pair) for pair in pairs], dtype=np.int64)
    start = np.searchsorted(group, group)  # each member's group begins here
    rank = np.arange(group.size) - start
    selected = np.zeros(order.size, np.bool_)
    selected[order] = member & (rank < k[group])
    return selected.reshape(candidate.shape)


def word_anchor(source: Source, candidate: Bools) -> Words:
    """The smallest candidate position of each position's word (MLM-SEL-7).

    Meaningful at candidates only: elsewhere there may be no such position.

    Returns
    -------
    uint32 (B, T).
    """
    assert source.word_id is not None  # the entry point has refused the call otherwise
    order, group = _grouped(source, (source.word_id, ~candidate, source.position), keys_in_group=1)
    start = np.searchsorted(group, group)
    anchor = np.empty(order.size, np.uint32)
    anchor[order] = source.position.reshape(-1)[order][start]
    return anchor.reshape(source.position.shape)


def span_anchor(source: Source, law: Span, seed: int, epoch: int) -> tuple[Bools, Words]:
    """Which positions a span covers, and the latest start that covers each (MLM-SEL-8, MLM-COR-8).

    Returns
    -------
    covered : bool (B, T).
    anchor : uint32 (B, T); meaningful where covered.
    """
    position = source.position
    covered = np.zeros(position.shape, np.bool_)
    anchor = position.copy()
    sums = list(accumulate(law.lengths))[:-1]
    for back in reversed(range(len(law.lengths))):  # the nearest start is written last
        start = position - np.uint32(back)
        w0, w1, _, _ = random_words(seed, epoch, source.sequence_id, start, Stream.SPAN)
        longer = np.ones(position.shape, np.bool_) if back == 0 else ~below(w1, sums[back - 1])
        covers = (position >= back) & below(w0, law.start) & longer
        covered |= covers
        anchor = np.where(covers, start, anchor)
    return covered, anchor


def _grouped(
    source: Source, keys: tuple[NDArray[Any], ...], keys_in_group: int = 0
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Sort all positions by (row, sequence, *keys), and number the groups.

    A group is one sequence, refined by the first ``keys_in_group`` keys.  Returns the order and
    each sorted member's group.  Ties keep the order of columns.
    """
    rows = np.broadcast_to(np.arange(source.tokens.shape[0])[:, None], source.tokens.shape)
    high, low = source.sequence_id[..., 1], source.sequence_id[..., 0]
    parts: list[NDArray[Any]] = [rows, high, low, *keys]
    flat = [part.reshape(-1) for part in parts]
    order = np.lexsort(tuple(reversed(flat)))
    new = np.zeros(order.size, np.bool_)
    for part in flat[: 3 + keys_in_group]:
        ordered = part[order]
        new[1:] |= ordered[1:] != ordered[:-1]
    return order, np.cumsum(new)
