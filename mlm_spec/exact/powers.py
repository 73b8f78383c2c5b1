"""exp of float64 numbers from +, −, ×, rint and ldexp alone, with a proven error (annex of LIK).

Nothing here trusts the platform's exp or log.  What is used of IEEE 754 is that these operations
round to nearest, that a sum with its rounding error is exact (Knuth's and Dekker's TwoSum), and
that a product is exact where the factors have few bits.
"""

from __future__ import annotations

import decimal
import math
from decimal import Decimal
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "BLOCK",
    "LEAST",
    "LOWEST",
    "POWER_ERROR",
    "UNIT_BITS",
    "Powers",
    "Table",
    "powers",
    "table",
    "total",
]

Floats = NDArray[np.float64]

#: What `powers` takes: −760 ≤ x ≤ 0.  e^-760 is less than half of the smallest float64.
LOWEST = -760.0
#: Arguments below this are left out of sums; e^LEAST < 2^-158.
LEAST = -110.0
#: |computed − e^x| ≤ POWER_ERROR · e^x for LOWEST ≤ x ≤ 0 (lines 1 to 9 of the budget at
#: 60 digits in the annex).
POWER_ERROR = 2.0**-75
#: `total` counts in units of 2^-UNIT_BITS.
UNIT_BITS = 94

_STEPS = 4096  # e^x = 2^(n/4096) · e^r with |r| ≤ ln 2 / 8192
_HIGH_BITS = 46
#: So many numbers of 47 bits add up in an int64, and their arrays stay in a cache.
BLOCK = 4096


class Table(NamedTuple):
    """Constants of the reduction, each from 80 decimal digits.

    Attributes
    ----------
    high, low : float64 (4096,): 2^(i/4096) = high + low; high has 26 bits.
    inverse : 4096 / ln 2, rounded.
    steps : ln 2 / 4096 in three parts; the first two have 30 bits each.
    """

    high: Floats
    low: Floats
    inverse: float
    steps: tuple[float, float, float]


@cache
def table() -> Table:
    """The constants; made at the first use, in some ten milliseconds."""
    wide = decimal.Context(prec=80)
    ln2 = wide.ln(Decimal(2))
    values = [wide.exp(wide.divide(wide.multiply(ln2, i), _STEPS)) for i in range(_STEPS)]
    high = [_cut(value, 25) for value in values]
    low = [float(wide.subtract(v, Decimal(h))) for v, h in zip(values, high, strict=True)]
    step = wide.divide(ln2, _STEPS)
    first = _cut(step, 42)
    second = _cut(wide.subtract(step, Decimal(first)), 72)
    third = float(wide.subtract(step, wide.add(Decimal(first), Decimal(second))))
    inverse = float(wide.divide(_STEPS, ln2))
    return Table(np.array(high), np.array(low), inverse, (first, second, third))


def _cut(value: Decimal, bits: int) -> float:
    """The largest multiple of 2^-bits that is not above ``value``; exact."""
    return float(math.floor(value * 2**bits)) / 2.0**bits


class Powers(NamedTuple):
    """2^exponent · (high + low), high in [1/2, 4): e^x within `POWER_ERROR`.

    Attributes
    ----------
    exponent : int64 (n,).
    high, low : float64 (n,), |low| ≤ 2^-50 · high.
    """

    exponent: NDArray[np.int64]
    high: Floats
    low: Floats


def powers(x: Floats, slip: Floats) -> Powers:
    """e^(x + slip).

    Parameters
    ----------
    x : float64 (n,), LOWEST ≤ x ≤ 0.
    slip : float64 (n,), |slip| ≤ 2^-44: what a subtraction has rounded away.
    """
    constants = table()
    first, second, third = constants.steps
    n = x * constants.inverse
    np.rint(n, out=n)
    whole = n.astype(np.int64)
    place = whole & (_STEPS - 1)
    # r = x − n ln 2 / 4096 as rest + more; the first difference is exact, and so is the sum.
    rest, more = two_sum(x - n * first, n * -second)
    n *= third
    more += slip
    more -= n
    # e^(rest + more) − 1 − rest
    square = rest * rest
    tail = rest * (1 / 120)
    tail += 1 / 24
    tail *= rest
    tail += 1 / 6
    tail *= rest
    tail += 0.5
    tail *= square
    square *= 0.5
    square += rest
    square *= more
    square += more
    tail += square
    # (high + low)(1 + rest + tail): short factors first, whose product is exact.
    high, low = constants.high[place], constants.low[place]
    short = rest.astype(np.float32).astype(np.float64)
    small = rest - short
    small += tail
    small *= high
    rest += tail
    rest *= low
    small += low
    small += rest
    sum_, error = fast_two_sum(high, high * short)
    sum_, last = fast_two_sum(sum_, small)
    last += error
    whole >>= 12
    return Powers(whole, sum_, last)


def total(x: Floats, slip: Floats) -> int:
    """Σ e^(x + slip) in units of 2^-94, whatever the order.

    Off by at most 2^-75 of itself, and one unit for each number (lines 10 and 11 of the budget at
    60 digits in the annex).

    Parameters
    ----------
    x, slip : as in `powers`, x ≥ LEAST, at most BLOCK of them.
    """
    exponent, high, low = powers(x, slip)
    exponent += _HIGH_BITS
    scale = _two_to(exponent)
    high *= scale  # exact: nothing comes near the end of the range
    low *= scale
    upper = np.rint(high)
    high -= upper
    high += low
    high *= 2.0 ** (UNIT_BITS - _HIGH_BITS)
    np.rint(high, out=high)
    shifted = int(upper.astype(np.int64).sum()) << (UNIT_BITS - _HIGH_BITS)
    return shifted + int(high.astype(np.int64).sum())


def _two_to(exponent: NDArray[np.int64]) -> Floats:
    """2^exponent for normal numbers, by its bits; takes the array it is given."""
    exponent += 1023
    exponent <<= 52
    return exponent.view(np.float64)


def two_sum(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    """fl(a + b), and what it leaves of a + b, exactly (Knuth)."""
    s = a + b
    back = s - a
    return s, (a - (s - back)) + (b - back)


def fast_two_sum(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    """As `two_sum`, where |a| ≥ |b| (Dekker)."""
    s = a + b
    return s, b - (s - a)
