"""Exact tails of the binomial distribution, and what a test of it can see.

A tail is a regularised incomplete beta function (Abramowitz and Stegun 1964, 26.5.24), which
python-flint encloses; no approximation decides anything.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import cache

from flint import arb, ctx

__all__ = ["at_least", "at_most", "p_value", "power", "region", "smallest_deviation"]

_BITS = 128


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


def _beta(x: Fraction, a: int, b: int) -> float:
    """I_x(a, b), the upper end of its enclosure."""
    if x in (0, 1):
        return float(x)
    with ctx.workprec(_BITS):
        ratio = arb(x.numerator) / arb(x.denominator)
        return min(1.0, float(ratio.beta_lower(arb(a), arb(b), regularized=True).upper()))


def p_value(count: int, trials: int, p: Fraction) -> float:
    """Twice the smaller tail: how rarely a right masker is as far off, on either side."""
    return min(1.0, 2 * min(at_most(count, trials, p), at_least(count, trials, p)))


@cache
def region(trials: int, p: Fraction, alpha: float) -> tuple[int, int]:
    """The least and the largest count whose `p_value` is at least ``alpha``."""
    low = _first(trials, lambda k: 2 * at_most(k, trials, p) >= alpha)
    high = trials - _first(trials, lambda k: 2 * at_least(trials - k, trials, p) >= alpha)
    return low, high


def _first(trials: int, holds: Callable[[int], bool]) -> int:
    """The least k in 0 … trials with ``holds(k)``, which then holds for all above."""
    below, above = -1, trials
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
        if power(trials, p, Fraction(end), alpha) < sure:
            return None
        found, missed = Fraction(end), p
        for _ in range(24):
            middle = (found + missed) / 2
            middle = Fraction(round(middle * 2**40), 2**40)
            if power(trials, p, middle, alpha) >= sure:
                found = middle
            else:
                missed = middle
        return float(found)

    return nearest(0), nearest(1)
