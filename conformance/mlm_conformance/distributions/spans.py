"""What a union of random spans does, in exact rational numbers (MLM-SEL-8).

From left to right one number is enough to know: how many of the next positions the spans that have
started already cover.  Its distribution is carried from position to position, and what a pattern
forbids is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import cache, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_spec.policy import Span

__all__ = [
    "last_spans",
    "last_spans_of_rows",
    "pattern_probability",
    "rate",
    "spaced",
    "whole_runs",
    "windows",
]

#: By how many positions are still covered, how likely that is.
_State = tuple[Fraction, ...]


def rate(law: Span, at: int) -> Fraction:
    """The probability that position ``at`` is covered; lower at the first positions.

    >>> [str(rate(Span("1/2", ("1/2", "1/2")), at)) for at in (0, 1, 2)]
    ['1/2', '5/8', '5/8']
    """
    return pattern_probability(law, (True,), at)


def pattern_probability(law: Span, covered: Sequence[bool | None], at: int) -> Fraction:
    """The probability that positions ``at``, ``at`` + 1, … are covered just as ``covered`` says.

    None stands for a position that may be covered or not, such as one that is no candidate.

    >>> law = Span("1/4", ("0", "1"))
    >>> str(pattern_probability(law, (False, True, True, False), 5))  # one start, four without
    '81/1024'
    >>> str(pattern_probability(law, (False, True, False), 5))
    '0'
    >>> str(pattern_probability(law, (False, None, False), 5))  # four that start nothing
    '81/256'
    """
    return _probability(law, tuple(covered), at)


@lru_cache(2**12)  # the same patterns are looked for in all masks
def _probability(law: Span, covered: tuple[bool | None, ...], at: int) -> Fraction:
    state = _before(law, at)
    for wanted in covered:
        after = _step(law, state)
        # Where a position is not covered, nothing is left over from it.
        hidden = _uncovered(law, state)
        if wanted is None:
            state = after
        else:
            state = (after[0] - hidden, *after[1:]) if wanted else (hidden,)
    return sum(state, Fraction(0))


@cache
def _before(law: Span, at: int) -> _State:
    """The state before position ``at``: nothing starts before position 0."""
    if at == 0:
        return (Fraction(1),)
    if at > len(law.lengths):  # the state forgets what is further back than the longest span
        return _before(law, len(law.lengths))
    return _step(law, _before(law, at - 1))


def _uncovered(law: Span, state: _State) -> Fraction:
    """No span reaches here, and none starts."""
    return state[0] * (1 - law.start)


def _step(law: Span, state: _State) -> _State:
    """The state one position on, whether that position is covered or not."""
    after = [Fraction(0)] * len(law.lengths)
    for left, chance in enumerate(state):
        after[max(left - 1, 0)] += chance * (1 - law.start)
        for length, share in enumerate(law.lengths, 1):
            after[max(left - 1, length - 1)] += chance * law.start * share
    return tuple(after)


def windows(columns: int, width: int, longest: int) -> list[int]:
    """Where windows of a row begin that no span reaches two of, nor any that the row cuts.

    >>> windows(20, 3, 4)
    [4, 10, 16]
    """
    return list(range(longest, columns - width + 1, width + longest - 1))


def spaced(marked: NDArray[np.bool_], first: int, apart: int) -> NDArray[np.bool_]:
    """Of the marked places of each row those from ``first`` on, at least ``apart`` from each other.

    >>> spaced(np.array([[True, False, True, True, True, True]]), 2, 2).astype(int).tolist()
    [[0, 0, 1, 0, 1, 0]]
    """
    kept = np.zeros_like(marked)
    free = np.full(len(marked), first)  # the first column of each row that may be next
    for column in range(first, marked.shape[1]):
        kept[:, column] = marked[:, column] & (free <= column)
        free = np.where(kept[:, column], column + apart, free)
    return kept


def last_spans(
    selected: NDArray[np.bool_], candidate: NDArray[np.bool_], length: int
) -> NDArray[Any]:
    """Where spans of one length end, if all have it: the last positions of runs.

    Behind each is a candidate that is not selected, so that no later span covers any position of
    it; among its own positions may be places that are no candidates.

    Parameters
    ----------
    selected : bool (n, B, T).
    candidate : bool (B, T).

    Returns
    -------
    Sample, row and last column: int (spans, 3).
    """
    behind = candidate[:, 1:] & ~selected[:, :, 1:]
    found = np.argwhere(selected[:, :, :-1] & behind)
    return found[found[:, 2] >= length - 1]


def last_spans_of_rows(
    selected: NDArray[np.bool_], candidate: NDArray[np.bool_], length: int
) -> NDArray[Any]:
    """The last of the `last_spans` of each row: trials that nothing ties together."""
    found = last_spans(selected, candidate, length)
    if not len(found):
        return found
    ends = (found[1:, :2] != found[:-1, :2]).any(axis=1)
    last: NDArray[Any] = found[np.append(ends, True)]
    return last


def whole_runs(selected: NDArray[np.bool_], candidate: NDArray[np.bool_]) -> NDArray[Any]:
    """Runs of selected positions that nothing cuts.

    A run that the end of its row cuts is none, nor one beside a place that is no candidate.

    Parameters
    ----------
    selected : bool (n, B, T).
    candidate : bool (B, T).

    Returns
    -------
    Sample, row, first column, and the column behind the last: int (runs, 4).
    """
    state = np.where(np.broadcast_to(candidate, selected.shape), selected.astype(np.int8), 2)
    # Before a row nothing is selected; what would be behind it is not known.
    wide = np.pad(state, ((0, 0), (0, 0), (1, 1)), constant_values=((0, 0), (0, 0), (0, 2)))
    inside = wide == 1
    begins = np.argwhere(inside[..., 1:] & ~inside[..., :-1])
    ends = np.argwhere(~inside[..., 1:] & inside[..., :-1])
    before = wide[begins[:, 0], begins[:, 1], begins[:, 2]]
    behind = wide[ends[:, 0], ends[:, 1], ends[:, 2] + 1]
    whole = (before == 0) & (behind == 0)
    found: NDArray[Any] = np.column_stack([begins, ends[:, 2]])[whole]
    return found
