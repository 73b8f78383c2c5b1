"""Exact tails of the binomial distribution, and what a test of it can see.

A tail is a regularised incomplete beta function (Abramowitz and Stegun 1964, 26.5.24), which
python-flint encloses; no approximation decides anything.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import cache, lru_cache
from math import sqrt
from statistics import NormalDist

from flint import arb, ctx

__all__ = ["at_least", "at_most", "p_value", "power", "region", "smallest_deviation"]

#: Precisions that are tried in turn, and how many bits of a tail are enough.  Its upper end counts:
#: a p-value that is too large by 2⁻³² of itself rejects nobody.
_BITS, _ENOUGH = (64, 128, 256), 32
#: How near the smallest deviation is found: by this part of itself.
_GRAIN = Fraction(1, 2**12)


def at_most(count: int, trials: int, p: Fraction) -> float:
    """Pr(X ≤ count) for X binomial.

    >>> at_most(0, 3, Fraction(1, 2))
    0.125
    """
    if count < 0:
        return 0.0
    if count >= trials:
        return 1.0
    return _beta(1 - p, trials - count, count + 1)


def at_least(count: int, trials: int, p: Fraction) -> float:
    """Pr(X ≥ count), not 1 − Pr(X < count): right where it is tiny."""
    if count <= 0:
        return 1.0
    if count > trials:
        return 0.0
    return _beta(p, count, trials - count + 1)


@lru_cache(2**14)  # most counts of most maskers are those of others
def _beta(x: Fraction, a: int, b: int) -> float:
    """I_x(a, b), the upper end of its enclosure.

    Raises
    ------
    ArithmeticError : no precision that is tried makes the enclosure narrow enough.
    """
    if x in (0, 1):
        return float(x)
    for bits in _BITS:
        with ctx.workprec(bits):
            ratio = arb(x.numerator) / arb(x.denominator)
            found = ratio.beta_lower(arb(a), arb(b), regularized=True)
            if found.is_finite() and found.rel_accuracy_bits() >= _ENOUGH:
                return min(1.0, float(found.upper()))
    raise ArithmeticError(f"I_x(a, b) for x = {x}, a = {a}, b = {b} is not known: {found}")


def p_value(count: int, trials: int, p: Fraction) -> float:
    """Twice the smaller tail: how rarely a right masker is as far off, on either side."""
    low = count <= trials * p
    tail = at_most(count, trials, p) if low else at_least(count, trials, p)
    if tail < 0.5:  # the two tails overlap in one count, so the other is more than a half
        return 2 * tail
    other = at_least(count, trials, p) if low else at_most(count, trials, p)
    return min(1.0, 2 * min(tail, other))


@cache
def region(trials: int, p: Fraction, alpha: float) -> tuple[int, int]:
    """The least and the largest count whose `p_value` is at least ``alpha``."""
    spread = NormalDist().inv_cdf(alpha / 2) * sqrt(trials * float(p * (1 - p)))
    mean = trials * float(p)
    low = _first(trials, lambda k: 2 * at_most(k, trials, p) >= alpha, round(mean + spread))
    high = trials - _first(
        trials,
        lambda k: 2 * at_least(trials - k, trials, p) >= alpha,
        round(trials - mean + spread),
    )
    return low, high


def _first(trials: int, holds: Callable[[int], bool], guess: int) -> int:
    """The least k in 0 … trials with ``holds(k)``, which then holds for all above.

    It is looked for around ``guess``, in steps that double, and then between the last two.
    """
    below, above = -1, trials
    at, step = min(max(guess, 0), trials), 1
    while below < at < above:
        if holds(at):
            above, at = at, at - step
        else:
            below, at = at, at + step
        step *= 2
    while above - below > 1:
        middle = (below + above) // 2
        if holds(middle):
            above = middle
        else:
            below = middle
    return above


def power(trials: int, p: Fraction, other: Fraction, alpha: float) -> float:
    """How surely a masker with ``other`` in place of ``p`` has a p-value below ``alpha``."""
    low, high = region(trials, p, alpha)
    return at_most(low - 1, trials, other) + at_least(high + 1, trials, other)


@cache
def smallest_deviation(
    trials: int, p: Fraction, alpha: float, sure: float
) -> tuple[float | None, float | None]:
    """The nearest probabilities below and above ``p`` that are found with probability ``sure``.

    None where there is none: 0 or 1 itself would be missed.
    """

    def nearest(end: int) -> float | None:
        found, missed = Fraction(end), p
        if power(trials, p, found, alpha) < sure:
            return None
        for other in _guesses(trials, p, end, alpha, sure):
            if power(trials, p, other, alpha) >= sure:
                found = other
            else:
                missed = other
        while abs(found - missed) > _GRAIN * abs(found - p):
            middle = Fraction(round((found + missed) / 2 * 2**40), 2**40)
            if power(trials, p, middle, alpha) >= sure:
                found = middle
            else:
                missed = middle
        return float(found)

    return nearest(0), nearest(1)


def _guesses(trials: int, p: Fraction, end: int, alpha: float, sure: float) -> list[Fraction]:
    """Two probabilities that most likely lie beside the one whose power is ``sure``, or none.

    In units of the normal distribution the power is nearly a straight line, so that two steps of
    Newton's method come close.
    """
    low, high = region(trials, p, alpha)
    edge = (low - 0.5) if end == 0 else (high + 0.5)
    units, away = NormalDist(), (-1.0 if end == 0 else 1.0)
    found = edge / trials
    for _ in range(3):
        if not 0.0 < found < 1.0:
            return []
        reached = power(trials, p, Fraction(found), alpha)
        missing = units.inv_cdf(sure) - units.inv_cdf(min(max(reached, 1e-300), 1.0 - 2.0**-53))
        found += away * missing * sqrt(found * (1.0 - found) / trials)
    grain = float(_GRAIN) / 3 * (found - float(p))
    return [Fraction(x) for x in (found - grain, found + grain) if 0.0 < x < 1.0]
