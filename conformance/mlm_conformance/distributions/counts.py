"""Sequences with one fixed count, by how many candidates they have."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.cases.model import SampleCase, candidates
from mlm_spec import FixedCount

__all__ = ["Group", "count", "groups"]


@dataclass(frozen=True, slots=True)
class Group:
    """Rows of which k of n candidates are selected.

    Attributes
    ----------
    k, n : selected, and candidates.
    rows : int (R,).
    columns : of each row's candidates, ascending: int (R, n).
    """

    k: int
    n: int
    rows: NDArray[Any]
    columns: NDArray[Any]

    def selected(self, chosen: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """What a bool (S, B, T) says of the candidates: (S, R, n)."""
        found: NDArray[np.bool_] = chosen[:, self.rows[:, None], self.columns]
        return found

    def one_each(self, chosen: NDArray[np.bool_], apart: int = 0) -> NDArray[np.bool_]:
        """One candidate, or two so far apart both, of each row: (S, R).

        Places of one row depend on each other, those of different rows do not.  Every two samples
        and every two rows look at the same place.
        """
        own = self.selected(chosen)
        sample, row = np.ogrid[: own.shape[0], : own.shape[1]]
        at = (5 * (sample // 2) + 3 * (row // 2)) % (self.n - apart)
        both: NDArray[np.bool_] = own[sample, row, at] & own[sample, row, at + apart]
        return both


def count(law: FixedCount, counted: int, candidates: int) -> int:
    """k by the rule of MLM-SEL-4.

    >>> [count(FixedCount("3/20", rounding=how), 30, 30) for how in ("half_up", "half_even")]
    [5, 4]
    >>> count(FixedCount("3/20", floor=9, cap=12), 30, 7)
    7
    """
    share = law.rate * counted
    rounded = {
        "half_up": floor(share + Fraction(1, 2)),
        "half_even": round(share),
        "ceiling": ceil(share),
    }[law.rounding]
    raised = max(law.floor, rounded)
    return min(candidates, raised if law.cap is None else min(law.cap, raised))


def groups(case: SampleCase) -> Iterator[Group]:
    """The rows of a case by their k and n; those without a candidate are left out."""
    law, policy = case.policy.selection, case.policy
    assert isinstance(law, FixedCount)
    able = candidates(case)
    whole = case.tokens != (-1 if policy.pad_id is None else policy.pad_id)
    many = able.sum(axis=1)
    bases = many if law.base == "eligible" else whole.sum(axis=1)
    for base, n in sorted(set(zip(bases.tolist(), many.tolist(), strict=True))):
        rows = np.flatnonzero((bases == base) & (many == n))
        if n:
            columns = np.stack([np.flatnonzero(able[row]) for row in rows])
            yield Group(count(law, base, n), n, rows, columns)
