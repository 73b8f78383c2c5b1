"""Counts of a masker against the probabilities that its policy gives them.

First a few draws: a masker that fits them well is done.  One that does not is asked for sixteen
times as many, and rejected where a right masker would hardly ever be as far off: the second look
alone decides, so the first may be quick.

A tally of a second look that was always taken would reject a right masker with probability `ALPHA`
at most; that it is taken only after a bad first look makes it no more.  So nothing depends on
whether the two looks, or the tallies of one, are independent of each other.  A run has at most
`TESTS` tallies (`mlm_conformance.distributions.budget`), so it rejects a right masker with
probability `FAMILY_ERROR` at most.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from math import sqrt
from typing import Any

from numpy.typing import NDArray

from mlm_conformance.cases.model import SampleCase, SampleParallelCase, SampleWordsCase
from mlm_conformance.check import Context, Violation
from mlm_conformance.distributions.binomial import p_value, power, smallest_deviation
from mlm_conformance.results import Sensitivity

__all__ = [
    "ALPHA",
    "FAMILY_ERROR",
    "MORE",
    "SURE",
    "SUSPICION",
    "TESTS",
    "Drawable",
    "Tally",
    "bluntest",
    "fits",
]

#: With what probability a run rejects a right masker, at most, and how many tests share that.
FAMILY_ERROR, TESTS = 1e-9, 3000
ALPHA = FAMILY_ERROR / TESTS
#: Below this p-value the first look is followed by a second, of so many times the draws.
SUSPICION, MORE = 1e-3, 16
#: So many standard deviations have a p-value far above that, where the variance is so large.
_NEAR, _MANY = 2.5, 400.0
#: The power of both looks together, for the deviations that a report names.
SURE = 0.999

Masks = tuple[NDArray[Any], NDArray[Any]]
#: A case of which more can be drawn: ``n`` says how much.
Drawable = SampleCase | SampleWordsCase | SampleParallelCase


@dataclass(frozen=True, slots=True)
class Tally:
    """How often something happened in independent trials of one probability.

    Attributes
    ----------
    what : in words, for messages.
    count, trials : observed.
    probability : what the policy says.
    """

    what: str
    count: int
    trials: int
    probability: Fraction

    @property
    def p_value(self) -> float:
        """How rarely a right masker is as far off."""
        return p_value(self.count, self.trials, self.probability)

    @property
    def is_near(self) -> bool:
        """Whether it is so near its mean, where many are expected, that no p-value is needed.

        What has a p-value of `SUSPICION` is as rare as three standard deviations of a normal
        distribution, give or take the skewness.
        """
        p = float(self.probability)
        mean, variance = self.trials * p, self.trials * p * (1.0 - p)
        return variance > _MANY and abs(self.count - mean) < _NEAR * sqrt(variance)

    @property
    def suspicious(self) -> bool:
        """Whether its p-value is below `SUSPICION`."""
        return not self.is_near and self.p_value < SUSPICION


def fits(
    context: Context,
    case: Drawable,
    draw: Callable[[int], Masks],
    counts: Callable[[NDArray[Any], NDArray[Any]], Sequence[Tally]],
    *,
    told: Callable[[Sequence[Tally]], Sequence[Tally]] | None = None,
) -> None:
    """Each tally has its probability.

    Parameters
    ----------
    draw : so many masks of the case, or so many times its rows: inputs and labels.
    counts : the tallies of masks.
    told : of which tests it is reported what they see; None: of all.

    Raises
    ------
    Violation : one of the tallies is as far off as that tally of a right masker is with probability
        `ALPHA` at most; any of k tallies then with probability k · `ALPHA` at most.
    """
    first = counts(*draw(case.n))
    context.saw("tests", len(first))
    context.saw("trials", sum(tally.trials for tally in first))
    context.sees_what(partial(_sensitivities, first if told is None else told(first)))
    if not any(tally.suspicious for tally in first):
        return
    second = [tally for tally in counts(*draw(MORE * case.n)) if not tally.is_near]
    worst = min(second, key=lambda tally: tally.p_value, default=None)
    if worst is not None and worst.p_value < ALPHA:
        share, p = worst.count / worst.trials, worst.probability
        raise Violation(
            f"{worst.what}: {worst.count} of {worst.trials} ({share:.6g}), should be {p} "
            f"({float(p):.6g}): p-value {worst.p_value:.1e} [{case}]",
            worst.what,
        )


def _fewer(trials: int) -> int:
    """Rounded down to five bits, with which no more is seen: so that few are worked out."""
    zeros = max(trials.bit_length() - 5, 0)
    return trials >> zeros << zeros


def bluntest(tallies: Sequence[Tally]) -> Sequence[Tally]:
    """The one that sees least, since the least is expected of what it counts, or of the rest."""
    expected = [t.trials * min(t.probability, 1 - t.probability) for t in tallies]
    return [tallies[expected.index(min(expected))]] if tallies else []


def _sensitivities(tallies: Sequence[Tally]) -> list[Sensitivity]:
    """What the tests of one kind see: the same for all that have the same trials and p."""
    kinds = {(_fewer(t.trials), t.probability): t.what for t in reversed(tallies)}
    found = []
    for (trials, p), what in kinds.items():
        # Half of what may be missed for each look.
        half = (1.0 + SURE) / 2.0
        below, above = smallest_deviation(trials, p, SUSPICION, half)
        for other in (below, above):
            if other is not None and power(MORE * trials, p, Fraction(other), ALPHA) < half:
                raise AssertionError(f"{what}: the second look is too short")
        found.append(Sensitivity(what, trials, str(p), below, above))
    return found
