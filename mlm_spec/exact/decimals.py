"""exp and log of a rational, between decimals of any precision.

All that rounds is asked of a context of our own: the caller's, which an application may have set to
few digits, has no say.  Python's decimal rounds exp and ln correctly, so one step in the last place
to either side encloses the real value.  `digits` is the precision of all that is computed.
"""

from __future__ import annotations

import decimal
from decimal import Decimal
from fractions import Fraction
from functools import cache
from typing import NamedTuple

__all__ = ["Between", "context", "exp_between", "log1p_between", "power_of_ten", "quotient"]


class Between(NamedTuple):
    """Two decimals with a real number between them."""

    lower: Decimal
    upper: Decimal


@cache
def context(digits: int, rounding: str = decimal.ROUND_HALF_EVEN) -> decimal.Context:
    """So many digits, and exponents without an end that matters."""
    return decimal.Context(
        prec=digits,
        rounding=rounding,
        Emax=decimal.MAX_EMAX,
        Emin=decimal.MIN_EMIN,
        clamp=0,
        traps=[decimal.InvalidOperation, decimal.DivisionByZero, decimal.Overflow],
    )


def power_of_ten(exponent: int) -> Decimal:
    """10^exponent, exactly."""
    return Decimal((0, (1,), exponent))


def quotient(x: Fraction, digits: int) -> Between:
    """A rational, rounded down and up."""
    ends = [
        context(digits, how).divide(Decimal(x.numerator), Decimal(x.denominator))
        for how in (decimal.ROUND_FLOOR, decimal.ROUND_CEILING)
    ]
    return Between(*ends)


def exp_between(x: Fraction, digits: int) -> Between:
    """e^x."""
    here, (low, high) = context(digits), quotient(x, digits)
    return Between(here.next_minus(here.exp(low)), here.next_plus(here.exp(high)))


def log1p_between(x: Between, digits: int) -> Between:
    """log(1 + x) for numbers x > 0, without cancellation where x is small."""
    down, up = (context(digits, how) for how in (decimal.ROUND_FLOOR, decimal.ROUND_CEILING))
    if x.upper < power_of_ten(-digits // 2):  # the series is right to as many digits then
        return Between(_series(x.lower, down, up)[0], _series(x.upper, down, up)[1])
    # 1 + x keeps as many digits behind the point as x has in front of its own precision.
    more = digits + max(0, -x.lower.adjusted())
    here, above = context(more), context(more, decimal.ROUND_CEILING)
    total = context(more, decimal.ROUND_FLOOR).add(1, x.lower)
    log = here.ln(total)
    # Logarithms are slow.  The second one is at most the first and, with d = 1 + x.upper − total,
    # d / total, since log(1 + d/total) ≤ d/total.
    further = above.divide(above.subtract(above.add(1, x.upper), total), total)
    return Between(down.plus(here.next_minus(log)), up.add(here.next_plus(log), further))


def _series(x: Decimal, down: decimal.Context, up: decimal.Context) -> Between:
    """x − x²/2 < log(1 + x) < x − x²/2 + x³/3, for 0 < x < 1."""
    low = down.subtract(x, up.divide(up.multiply(x, x), 2))
    cube = up.divide(up.multiply(up.multiply(x, x), x), 3)
    high = up.add(up.subtract(x, down.divide(down.multiply(x, x), 2)), cube)
    return Between(low, high)
