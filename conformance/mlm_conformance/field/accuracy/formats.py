"""Rounding a real number to a float format, and measuring a float in its units.

The number is known by an `mlm_spec.Enclosure` and goes to each format directly.  By way of
float64 it would be rounded twice: 1 + 2^-8 + 2^-60 is above a tie of bfloat16, its float64 is
the tie itself, and the nearest even bfloat16 is then the wrong one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from mlm_spec import Enclosure, UndecidedError

__all__ = ["FORMATS", "Format", "rounded", "ulp"]


@dataclass(frozen=True, slots=True)
class Format:
    """A binary float format.

    Attributes
    ----------
    name : of the dtype.
    bits : of the significand, the hidden one included.
    least : the smallest positive number is 2^least.
    greatest : every finite number is below 2^(greatest + 1).
    """

    name: str
    bits: int
    least: int
    greatest: int

    @property
    def smallest_normal(self) -> Fraction:
        """From here on a float has all its bits."""
        return Fraction(2) ** (self.least + self.bits - 1)


#: By name, the widest first.
FORMATS: Mapping[str, Format] = {
    each.name: each
    for each in (
        Format("float64", 53, -1074, 1023),
        Format("float32", 24, -149, 127),
        Format("bfloat16", 8, -133, 127),
        Format("float16", 11, -24, 15),
    )
}


def rounded(number: Enclosure, form: Format) -> float:
    """The nearest number of the format, ties to even, infinite beyond its range; never -0.0.

    Raises
    ------
    UndecidedError : at the last precision the two ends still round apart.

    >>> from mlm_spec import Enclosure
    >>> above_a_tie = 1 + Fraction(1, 2**8) + Fraction(1, 2**60)
    >>> rounded(Enclosure(above_a_tie, above_a_tie), FORMATS["bfloat16"])
    1.0078125
    """
    now = number
    while (value := _nearest(now, form)) is None:
        if now.finer is None:
            raise UndecidedError(now)
        now = now.finer()
    return value + 0.0


def ulp(x: Fraction, form: Format) -> Fraction:
    """The distance of the format's numbers around x: 2^(e - bits + 1) for 2^e ≤ |x| < 2^(e + 1).

    >>> ulp(Fraction(3), FORMATS["float16"])
    Fraction(1, 512)
    """
    return Fraction(2) ** _step(x, form)


def _nearest(number: Enclosure, form: Format) -> float | None:
    """None where the two ends round apart."""
    lower, upper = number.lower, number.upper
    if isinstance(lower, float) or isinstance(upper, float):
        return float(lower) if lower == upper else None
    if lower == upper:
        return _to(lower, form, side=0)
    # The number is strictly inside, so an end that is a tie is rounded towards the inside.
    low, high = _to(lower, form, side=1), _to(upper, form, side=-1)
    return low if low == high else None


def _to(x: Fraction, form: Format, side: int) -> float:
    """What x (side 0), or a number just above it (1) or just below it (-1), is rounded to."""
    step = _step(x, form)
    whole, rest = divmod(x / Fraction(2) ** step, 1)
    half = Fraction(1, 2)
    at_tie = side > 0 or (side == 0 and whole % 2 == 1)
    whole += rest > half or (rest == half and at_tie)
    if abs(whole) * Fraction(2) ** step >= Fraction(2) ** (form.greatest + 1):
        return math.copysign(math.inf, whole)
    return math.ldexp(whole, step)


def _step(x: Fraction, form: Format) -> int:
    """The exponent of the ulp at x."""
    if x == 0:
        return form.least
    top, bottom = abs(x.numerator), x.denominator
    exponent = top.bit_length() - bottom.bit_length()
    if top << max(0, -exponent) < bottom << max(0, exponent):
        exponent -= 1
    return max(exponent - form.bits + 1, form.least)
