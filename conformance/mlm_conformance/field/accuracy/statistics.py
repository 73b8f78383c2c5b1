"""How far answers are from the truth, and what many of them amount to."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from mlm_conformance.field.accuracy.formats import Format, ulp
from mlm_conformance.field.accuracy.truth import Truth

__all__ = ["Miss", "Score", "miss", "score"]


class Miss(NamedTuple):
    """One answer against the truth.

    Attributes
    ----------
    correct : it is the number of its format that is nearest to the truth.
    ulps : the distance, in units in the last place of the format at the truth; inf for an answer
        that is not finite, unless it is correct.
    relative : the distance by the truth, or by the smallest normal number if that is larger: what
        is lost below it is the format's doing, and the ulps tell it.
    lost : it is not finite, and the correct one is.
    """

    correct: bool
    ulps: float
    relative: float
    lost: bool


def miss(answer: float, truth: Truth, form: Format) -> Miss:
    """How far an answer in ``form`` is from the truth."""
    wanted = truth.nearest[form.name]
    # A truth beyond the range of the format has no ulp there: right is inf alone.
    if not math.isfinite(answer) or not math.isfinite(wanted):
        right = answer == wanted
        away = 0.0 if right else math.inf
        return Miss(right, away, away, lost=math.isfinite(wanted))
    value = Fraction(truth.value)
    error = abs(Fraction(answer) - value)
    relative = _float(error / max(abs(value), form.smallest_normal))
    return Miss(answer == wanted, _float(error / ulp(value, form)), relative, lost=False)


def _float(x: Fraction) -> float:
    try:
        return float(x)
    except OverflowError:
        return math.inf


@dataclass(frozen=True, slots=True)
class Score:
    """What many answers amount to.

    Attributes
    ----------
    cases : how many there are.
    correct : how many are correctly rounded.
    lost : how many are not finite where the correct answer is.
    median_ulps, max_ulps : over all cases, a lost one counting as infinite.
    max_relative : the same for the relative error.
    """

    cases: int
    correct: int
    lost: int
    median_ulps: float
    max_ulps: float
    max_relative: float

    @property
    def correct_share(self) -> float:
        """From 0 to 1."""
        return self.correct / self.cases

    @property
    def lost_share(self) -> float:
        """From 0 to 1."""
        return self.lost / self.cases

    @property
    def badness(self) -> tuple[float, float, float]:
        """Orders scores, the worst last: by what is lost, the worst error, what is not correct.

        The error is the relative one, since answers may come in formats of different ulps.
        """
        return self.lost_share, self.max_relative, -self.correct_share

    def to_json(self) -> dict[str, Any]:
        """Plain data; an infinite number is the text "inf"."""
        return {k: "inf" if v == math.inf else v for k, v in asdict(self).items()}


def score(misses: Iterable[Miss]) -> Score:
    """The statistics of at least one answer."""
    every: Sequence[Miss] = list(misses)
    ulps = [each.ulps for each in every]
    return Score(
        cases=len(every),
        correct=sum(each.correct for each in every),
        lost=sum(each.lost for each in every),
        median_ulps=float(np.median(ulps)),
        max_ulps=max(ulps),
        max_relative=max(each.relative for each in every),
    )
