"""An interval around a real number, and the float64 nearest to that number."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction

from mlm_spec.errors import UndecidedError

__all__ = ["Enclosure", "nearest"]

_OVERFLOW = Fraction(2) ** 1024 - Fraction(2) ** 970  # what rounds to infinity, from here on


@dataclass(frozen=True, slots=True)
class Enclosure:
    """A real number between two rationals.

    ``float()`` is the float64 nearest to the number, whatever it takes to decide which that is.

    Attributes
    ----------
    lower, upper : the number lies strictly between them, or is both of them.  -inf for the
        logarithm of 0.
    finer : gives a narrower one; None where the last precision is reached.
    """

    lower: Fraction | float
    upper: Fraction | float
    finer: Callable[[], Enclosure] | None = field(default=None, repr=False, compare=False)

    def __float__(self) -> float:
        """The nearest float64, ties to even, -inf below the range; never -0.0.

        Raises
        ------
        UndecidedError : at the last precision the two ends still round apart.
        """
        now = self
        while (value := nearest(now.lower, now.upper)) is None:
            if now.finer is None:
                raise UndecidedError(now)
            now = now.finer()
        return value


def nearest(lower: Fraction | float, upper: Fraction | float) -> float | None:
    """The float64 nearest to every number strictly between the two; None if there is no such.

    A number strictly inside is no tie where an end is one: it is rounded away from that end.
    Both ends equal: the number itself, ties to even.
    """
    if isinstance(lower, float) or isinstance(upper, float):
        return -math.inf if lower == upper == -math.inf else None
    value = _divided(lower)
    if value == _divided(upper):  # rounding keeps the order, so all between round to it too
        return value + 0.0
    from_below, from_above = _rounded(lower, up=True), _rounded(upper, up=False)
    return from_below if from_below == from_above else None


def _rounded(x: Fraction, up: bool) -> float:
    """What numbers just above (or just below) x round to."""
    if abs(x) >= _OVERFLOW:
        inside = abs(x) == _OVERFLOW and up == (x < 0)
        return math.copysign(sys.float_info.max if inside else math.inf, _sign(x))
    near = _divided(x)
    exact = Fraction(near)
    if exact == x:
        return near
    other = math.nextafter(near, math.inf if x > exact else -math.inf)
    if math.isinf(other) or 2 * x != exact + Fraction(other):
        return near
    return max(near, other) if up else min(near, other)


def _divided(x: Fraction) -> float:
    """The nearest float64, ties to even: a quotient of Python's integers is rounded correctly."""
    try:
        return x.numerator / x.denominator
    except OverflowError:
        return math.copysign(math.inf, _sign(x))


def _sign(x: Fraction) -> int:
    return 1 if x > 0 else -1
