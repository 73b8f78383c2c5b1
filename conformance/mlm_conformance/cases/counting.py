"""Fixed counts that floating point gets wrong: rates and numbers of candidates, by rounding.

A rate is no float, and where a·n/b is a whole number, or one and a half, the last bit of the float
decides.  At most rates that happens nowhere, so drawn ones hardly ever show it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.cases.distributions import POOL, plain_policy
from mlm_conformance.cases.masks import PAD
from mlm_conformance.cases.model import MaskCase, SampleCase
from mlm_conformance.cases.numbers import generator
from mlm_spec import FixedCount, split_words

__all__ = ["ROUNDINGS", "FloatCount", "FloatCountDraw", "misrounded"]

ROUNDINGS = ("half_up", "half_even", "ceiling")
#: Of rows with so many candidates, and rates with so many percent or thousandths.
_MOST, _RATES = 200, {*(Fraction(k, 100) for k in range(1, 100)), Fraction(29, 200)}
_WIDTHS = ("float64", "float32")
_ROWS, _CONTENTS = 4, 2**46


def _rounded(rate: Fraction, n: NDArray[Any], rounding: str) -> NDArray[Any]:
    """By whole numbers; what is half rounded up is one too many where it is odd and was a tie."""
    product, by = rate.numerator * n, rate.denominator
    if rounding == "ceiling":
        return -(-product // by)
    up, rest = np.divmod(2 * product + by, 2 * by)
    return up - (up % 2) * (rest == 0) if rounding == "half_even" else up


def _rounded_floats(product: NDArray[Any], rounding: str) -> NDArray[Any]:
    if rounding == "half_up":
        return np.asarray(np.floor(product + product.dtype.type(0.5)))
    return np.asarray(np.rint(product) if rounding == "half_even" else np.ceil(product))


@cache
def misrounded(rounding: str, dtype: str) -> tuple[tuple[Fraction, int], ...]:
    """Rates and numbers n of which round(rate · n) in floats of that dtype is another number.

    >>> (Fraction(7, 100), 100) in misrounded("ceiling", "float64")  # it gives 8
    True
    """
    n = np.arange(1, _MOST + 1)
    found = []
    for rate in sorted(_RATES):
        floats = _rounded_floats(np.dtype(dtype).type(float(rate)) * n.astype(dtype), rounding)
        found += [(rate, int(m)) for m in n[floats != _rounded(rate, n, rounding)]]
    return tuple(found)


def _chosen(rounding: str, number: int, run_seed: int) -> tuple[Fraction, list[int]]:
    """One of the rates, for wide and for narrow floats in turn; and the least of its numbers."""
    pairs = misrounded(rounding, _WIDTHS[number % 2])
    rates = sorted({rate for rate, _ in pairs})
    rate = rates[int(generator(run_seed, _CONTENTS + number).integers(len(rates)))]
    several = [n for one, n in pairs if one == rate][:_ROWS]
    return rate, [several[i % len(several)] for i in range(_ROWS)]


def _lengths(many: list[int], columns: int) -> Iterator[NDArray[np.bool_]]:
    """Rows of which so many columns are eligible, from the first on and up to the last in turn."""
    for row, n in enumerate(many):
        place = np.arange(columns)
        yield place < n if row % 2 == 0 else place >= columns - n


@dataclass(frozen=True, slots=True)
class FloatCount:
    """What a `MaskCase` is made from, each row of which has a count that floats get wrong.

    Attributes
    ----------
    rounding : one of `ROUNDINGS`.
    number : of what is drawn; even ones for float64, odd ones for float32.
    """

    rounding: str
    number: int

    def build(self, run_seed: int) -> MaskCase:
        """The case; equal recipes and run seeds give equal cases."""
        rate, many = _chosen(self.rounding, self.number, run_seed)
        shape, rng = (_ROWS, _MOST), generator(run_seed, _CONTENTS - 1 - self.number)
        able = np.stack(list(_lengths(many, _MOST)))
        base = ("eligible", "all")[self.number // 2 % 2]
        law = FixedCount(rate, base=base, rounding=self.rounding)  # type: ignore[arg-type]
        return MaskCase(
            np.where(able, rng.choice(np.array(POOL), size=shape), PAD).astype(np.int32),
            split_words(np.broadcast_to(rng.integers(2**63, size=(_ROWS, 1)), shape)),
            np.broadcast_to(np.arange(_MOST, dtype=np.uint32), shape).copy(),
            np.zeros(shape, np.int32),
            able,
            plain_policy(law, "4/5 1/10 1/10"),
            seed=int(rng.integers(2**63)),
            epoch=0,
            about=f"{self.rounding} of {rate} of {sorted(set(many))}, {base}",
        )


@dataclass(frozen=True, slots=True)
class FloatCountDraw:
    """What a `SampleCase` is made from, likewise; as `FloatCount`."""

    rounding: str
    number: int

    def build(self, run_seed: int) -> SampleCase:
        """The case; equal recipes and run seeds give equal cases."""
        case = FloatCount(self.rounding, self.number).build(run_seed)
        tokens = case.tokens.astype(np.int64)
        return SampleCase(tokens, case.eligible, case.policy, 2, about=case.about)
