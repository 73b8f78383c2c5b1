"""Two places of masks at a time: pairs that have no place in common, and what both show."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.cases.distributions import POOL
from mlm_conformance.distributions.judge import Tally
from mlm_spec import MaskingPolicy

__all__ = ["Shown", "couples", "evenly", "kinds_of_both", "same_ids"]

Array: TypeAlias = NDArray[Any]
#: What is looked at, in which of the trials it occurred, and its probability.
Test: TypeAlias = tuple[str, Array, Fraction]


class Shown(NamedTuple):
    """What masks show at some places: ids, and whether selected; all of one shape, (n, …)."""

    tokens: Array
    inputs: Array
    selected: Array

    def at(self, index: Any) -> Shown:
        """Some of the places."""
        return Shown(*(array[index] for array in self))


def couples(shape: tuple[int, ...]) -> Iterator[tuple[str, Any, Any]]:
    """Indices of the ones and of the others of an (n, B, T): by columns, by rows, by samples."""
    count, rows, columns = shape
    for apart in (1, 2, 8):
        left = [c for c in range(columns - apart) if c // apart % 2 == 0]
        yield f"pairs {apart} apart", np.s_[:, :, left], np.s_[:, :, [c + apart for c in left]]
    yield "pairs of rows", np.s_[:, 0 : rows - 1 : 2], np.s_[:, 1::2]
    yield "pairs of samples", np.s_[0 : count - 1 : 2], np.s_[1::2]


def evenly(tests: Iterable[Test]) -> list[Tally]:
    """Tallies with one number of trials where they have about as many: so they see the same.

    Trials are independent, so the first of them are as good as any.  No test loses more than half
    of them; one without any is left out.
    """
    some = [test for test in tests if test[1].size]
    sizes = [seen.size for _, seen, _ in some]
    tallies = []
    for what, seen, p in some:
        trials = min(size for size in sizes if 2 * size >= seen.size)
        tallies.append(Tally(what, int(seen.reshape(-1)[:trials].sum()), trials, p))
    return tallies


def kinds_of_both(what: str, one: Shown, other: Shown, policy: MaskingPolicy) -> Iterator[Test]:
    """Both of two selected places show the mask id; both show their own tokens (MLM-DST-12)."""
    shares = policy.corruption
    kept = shares.keep + shares.random / len(POOL)
    able = one.selected & other.selected
    masked = (one.inputs == policy.mask_id) & (other.inputs == policy.mask_id)
    own = (one.inputs == one.tokens) & (other.inputs == other.tokens)
    yield f"{what}, both masked", masked[able], Fraction(shares.mask) ** 2
    yield f"{what}, both their own tokens", own[able], Fraction(kept) ** 2


def same_ids(what: str, one: Shown, other: Shown) -> Test:
    """Two places show the same id, neither the mask id nor their own tokens (MLM-DST-20).

    Of places with equal tokens or of those with different ones, whichever are more.
    """
    left = len(POOL) - 1  # the ids that a place may show that shows no token of its own
    able = np.full(one.inputs.shape, True)
    for shown in (one, other):
        able &= shown.selected & np.isin(shown.inputs, POOL) & (shown.inputs != shown.tokens)
    alike = one.tokens == other.tokens
    if 2 * int((alike & able).sum()) > int(able.sum()):
        able, p = able & alike, Fraction(1, left)
    else:
        able, p = able & ~alike, Fraction(left - 1, left**2)
    return f"{what}, the same id", (one.inputs == other.inputs)[able], p
