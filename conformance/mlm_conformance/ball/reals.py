"""Real numbers as an exact rational plus an enclosed rest, and their rounding.

A rest below 2⁻⁸⁰⁰⁰ counts by its sign alone.  A midpoint of two floats is a multiple of 2⁻¹⁰⁷⁵, so
an exact part p/q is one, or differs from all by at least 2⁻¹⁰⁷⁵/q, which is far more.  Without
this, log Pr = midpoint − exp(−10⁶) would need more than a million bits.  That sign is known once
the precision exceeds the bits of the exponent, a few thousand at most.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any, NamedTuple, TypeVar

from flint import arb, ctx, fmpq

__all__ = [
    "FIRST_PRECISION",
    "Ball",
    "Real",
    "UndecidedError",
    "ball",
    "decide",
    "exact_value",
    "nearest",
    "rational",
    "total",
]

FIRST_PRECISION, LAST_PRECISION = 128, 2**15  # bits
TINY_EXPONENT = 8000
TINY, TINY_ARB = fmpq(1, 2**TINY_EXPONENT), arb(2) ** -TINY_EXPONENT
LARGEST_DENOMINATOR_BITS = TINY_EXPONENT - 1076

T = TypeVar("T")


class UndecidedError(ArithmeticError):
    """The last precision does not tell which float64 is the nearest."""


class Ball(NamedTuple):
    """A real number between two rationals, and the float64 nearest to it."""

    nearest: float
    lower: Fraction
    upper: Fraction

    def contains(self, value: Fraction) -> bool:
        """Whether the number may be ``value``."""
        return self.lower <= value <= self.upper

    def error(self, value: float) -> Fraction:
        """How far ``value``, a finite float, may be from the number, at most."""
        exact = Fraction(value)
        return max(abs(exact - self.lower), abs(exact - self.upper))


class Real(NamedTuple):
    """exact + rest.

    Attributes
    ----------
    exact : fmpq.
    rest : arb.
    """

    exact: Any
    rest: Any

    def times(self, weight: float) -> Real:
        """The product with a float."""
        return Real(self.exact * rational(weight), self.rest * arb(weight))


def rational(value: float) -> Any:
    """The fmpq of a float."""
    return fmpq(*value.as_integer_ratio())


def exact_value(number: Any) -> Any:
    """The fmpq of an arb without radius."""
    mantissa, exponent = number.man_exp()
    return fmpq(mantissa) * fmpq(2) ** int(exponent)


def total(terms: list[Real]) -> Real:
    """The sum."""
    exact = sum((term.exact for term in terms), fmpq(0))
    return Real(exact, sum((term.rest for term in terms), arb(0)))


def decide(attempt: Callable[[], T]) -> T:
    """The result of ``attempt`` at the first precision at which it is decided.

    Raises
    ------
    UndecidedError : at the last precision too.
    """
    precision = FIRST_PRECISION
    while True:
        try:
            with ctx.workprec(precision):
                return attempt()
        except UndecidedError:
            if precision >= LAST_PRECISION:
                raise
        precision *= 2


def nearest(real: Real) -> float:
    """The nearest float64: ties to even, infinite beyond the range, never -0.0."""
    if real.exact == 0:  # 0 is no midpoint: a tiny rest rounds to 0 whatever its sign
        low, high = float(real.rest.lower()), float(real.rest.upper())
    else:
        lower, upper = _ends(real, margin=TINY)
        low, high = _to_float(lower), _to_float(upper)
    if low != high:
        raise UndecidedError(f"between {low!r} and {high!r} at {ctx.prec} bits")
    return low + 0.0


def ball(real: Real) -> Ball:
    """The number with its rational ends."""
    lower, upper = (Fraction(int(e.p), int(e.q)) for e in _ends(real, margin=fmpq(0)))
    return Ball(nearest(real), lower, upper)


def _ends(real: Real, margin: Any) -> tuple[Any, Any]:
    """Rational ends.  A tiny rest lies between ``margin`` and TINY, away from 0 by its sign.

    With a margin of 0 they enclose the number; with TINY they round as the number does.
    """
    exact, rest = real.exact, real.rest
    if rest.is_zero():
        return exact, exact
    if not rest.abs_upper() < TINY_ARB:
        return exact + exact_value(rest.lower()), exact + exact_value(rest.upper())
    if int(exact.q).bit_length() > LARGEST_DENOMINATOR_BITS:
        raise UndecidedError(f"a denominator of more than {LARGEST_DENOMINATOR_BITS} bits")
    if rest > 0:
        return exact + margin, exact + TINY
    if rest < 0:
        return exact - TINY, exact - margin
    return exact - TINY, exact + TINY


def _to_float(number: Any) -> float:
    """Python rounds the quotient of two integers correctly, denormals included."""
    try:
        return int(number.p) / int(number.q)
    except OverflowError:
        return math.inf if number > 0 else -math.inf
