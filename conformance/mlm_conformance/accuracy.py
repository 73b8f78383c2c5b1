"""How accurate a target's log-likelihoods are, in units in the last place: a grade, no verdict.

A unit in the last place is that of the accumulation dtype (float64 for float64 logits, float32
for all others) at the true number.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_spec import enclose

__all__ = ["GRADES", "Accuracy", "AccuracyBin", "Grade", "grades", "merged"]

#: What the grades mean, from the best.
GRADES = {
    "R": "at most 4 ulp everywhere, also where p is close to 1",
    "A": "at most 4 ulp where log p is below -1, and the error of 4 ulp of 1 above",
    "C": "less",
}
_GOOD_ULPS = 4.0
_DIGITS = {"float64": 52, "float32": 23}
_LEAST = {"float64": -1074, "float32": -149}
_DECADES = (-20, 5)
_EXACT_ROWS = 8  # rows of a case whose float64 results are compared with an enclosure


@dataclass(frozen=True, slots=True)
class AccuracyBin:
    """The largest error among some positions.

    Attributes
    ----------
    dtype : of the logits.
    vocab_size : V.
    decade : ⌊log10 |log p|⌋.
    positions : how many there were.
    ulps : the largest error, in units in the last place; inf where a result is not finite.
    error : the largest error, in nats.
    log_likelihood : the true number at which the most units were seen.
    """

    dtype: str
    vocab_size: int
    decade: int
    positions: int
    ulps: float
    error: float
    log_likelihood: float

    def to_json(self) -> dict[str, Any]:
        """Plain data; an infinite error is written as ``"inf"``."""
        data = asdict(self)
        return data | {n: "inf" for n in ("ulps", "error") if math.isinf(data[n])}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> AccuracyBin:
        """Read back what `to_json` wrote."""
        return cls(**{**data, "ulps": float(data["ulps"]), "error": float(data["error"])})


class Accuracy:
    """Errors by dtype, vocabulary size and decade, as they come."""

    def __init__(self) -> None:
        self._bins: dict[tuple[str, int, int], AccuracyBin] = {}

    def measure(
        self,
        logits: NDArray[Any],
        targets: NDArray[Any],
        observed: NDArray[Any],
        expected: NDArray[np.float64],
    ) -> None:
        """Count some positions.

        Parameters
        ----------
        logits, targets : (N, V), (N,).
        observed : float (N,), the target's answers.
        expected : float64 (N,), good to a few units of float64.
        """
        native = "float64" if logits.dtype.name == "float64" else "float32"
        number = _EXACT_ROWS if native == "float64" else len(expected)
        seen = observed.astype(np.float64)[:number]
        if native == "float64":
            rows = zip(logits, targets.tolist(), seen.tolist(), strict=False)
            errors = np.array([_error(z, t, value) for z, t, value in rows])
        else:
            errors = np.abs(seen - expected[:number])
        errors = np.where(np.isnan(errors), np.inf, errors)
        about = (logits.dtype.name, logits.shape[-1])
        ulps = errors / _unit(expected[:number], native)
        for u, error, true in zip(ulps, errors, expected.tolist(), strict=False):
            if true:  # log 1 is exact or wrong: there is no unit to measure it in
                decade = min(max(math.floor(math.log10(-true)), _DECADES[0]), _DECADES[1])
                self._count(AccuracyBin(*about, decade, 1, float(u), float(error), true))

    def bins(self) -> tuple[AccuracyBin, ...]:
        """What was counted, in order."""
        return tuple(self._bins[key] for key in sorted(self._bins))

    def _count(self, new: AccuracyBin) -> None:
        key = _key(new)
        self._bins[key] = _joined(self._bins[key], new) if key in self._bins else new


def _key(one: AccuracyBin) -> tuple[str, int, int]:
    return one.dtype, one.vocab_size, one.decade


def _error(logits: NDArray[Any], target: int, observed: float) -> float:
    """|observed − true|, from the enclosure."""
    if not math.isfinite(observed):
        return math.inf
    found = enclose(logits, target)
    middle = (Fraction(found.lower) + Fraction(found.upper)) / 2
    return float(abs(Fraction(observed) - middle))


def _unit(values: NDArray[np.float64], native: str) -> NDArray[np.float64]:
    """The unit in the last place at these numbers."""
    exponent = np.frexp(values)[1] - 1 - _DIGITS[native]
    unit: NDArray[np.float64] = np.ldexp(1.0, np.maximum(exponent, _LEAST[native]))
    return unit


def _joined(one: AccuracyBin, other: AccuracyBin) -> AccuracyBin:
    worse = max(one, other, key=lambda b: b.ulps)
    positions, error = one.positions + other.positions, max(one.error, other.error)
    return replace(worse, positions=positions, error=error)


def merged(parts: Iterable[Sequence[AccuracyBin]]) -> tuple[AccuracyBin, ...]:
    """The bins of several runs as those of one."""
    whole: dict[tuple[str, int, int], AccuracyBin] = {}
    for found in (b for part in parts for b in part):
        key = _key(found)
        whole[key] = _joined(whole[key], found) if key in whole else found
    return tuple(whole[key] for key in sorted(whole))


@dataclass(frozen=True, slots=True)
class Grade:
    """The grade of a dtype, with what decided it.

    Attributes
    ----------
    dtype : of the logits.
    letter : of `GRADES`.
    positions : how many were measured.
    ordinary : the largest error where log p ≤ −1, ulps.
    certain : the largest error above, in ulps of 1.
    worst : the bin with the most ulps.
    """

    dtype: str
    letter: str
    positions: int
    ordinary: float
    certain: float
    worst: AccuracyBin


def grades(bins: Sequence[AccuracyBin]) -> list[Grade]:
    """One for each dtype that was measured."""
    kinds = ("float64", "float32", "bfloat16", "float16")
    return [_grade(kind, mine) for kind in kinds if (mine := [b for b in bins if b.dtype == kind])]


def _grade(dtype: str, bins: Sequence[AccuracyBin]) -> Grade:
    unit = 2.0 ** -_DIGITS["float64" if dtype == "float64" else "float32"]
    ordinary = max((b.ulps for b in bins if b.decade >= 0), default=0.0)
    certain = max((b.error / unit for b in bins if b.decade < 0), default=0.0)
    worst = max(bins, key=lambda b: b.ulps)
    letter = "A" if max(ordinary, certain) <= _GOOD_ULPS else "C"
    letter = "R" if worst.ulps <= _GOOD_ULPS else letter
    return Grade(dtype, letter, sum(b.positions for b in bins), ordinary, certain, worst)
