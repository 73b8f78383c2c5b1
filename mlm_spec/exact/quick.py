"""Sums of powers by float64, in some thirty passes over the numbers.

e^z is w + v: w is an entry of a table, scaled by a power of two, and |v| < 2^-13.5 · w.  The w are
added exactly but for their lowest bits.  These and the v are small beside the sum, so that ordinary
additions do for them, if it is known through how many each term passes.

As in `mlm_spec.exact.powers`, nothing trusts the platform's exp or log, nor the order in which
NumPy adds floats.  The lines named below are those of the budget at 30 digits, annex of LIK.
"""

from __future__ import annotations

import math
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlm_spec.exact.decimals import Between, context
from mlm_spec.exact.powers import LEAST, fast_two_sum, table

__all__ = [
    "ADDITION_ERROR",
    "LANES",
    "LARGEST",
    "MOST",
    "SPLIT",
    "TERM_ERROR",
    "UNIT_BITS",
    "Constants",
    "Room",
    "Total",
    "accumulate",
    "constants",
    "powers_of",
    "quick_power_sum",
    "reduce",
    "room_for",
    "scale_between",
    "total",
    "tree",
]

Floats = NDArray[np.float64]

#: Where the largest number is beyond this, the differences from it are summed, which are exact.
LARGEST = 1024.0
#: More numbers than this are left to `mlm_spec.exact.powers`: sums in units of 2^-41 have 64 bits.
MOST = 2**22
#: So many numbers are worked on at once; eight arrays of them stay in a second-level cache.
LANES = 10240
#: |w + v − e^z| ≤ TERM_ERROR · e^z, e^z in the scale of a `Total` (lines 1 to 9).
TERM_ERROR = 2.0**-64
#: What the small parts lose by each addition they pass through, relative to the sum (line 11).
ADDITION_ERROR = 2.0**-66
#: (w + SPLIT) − SPLIT is the multiple of 2^-41 next to w, and the bits of w + SPLIT count it.
SPLIT = 2.0**11
#: `Total` counts in units of 2^-UNIT_BITS.
UNIT_BITS = 90

_STEPS = 4096
_SPLIT_BITS = 41
_ROUND = 1.5 * 2.0**52  # what is added to it is rounded to an integer, which its low bits show


class Constants(NamedTuple):
    """Made of `mlm_spec.exact.powers.table`.

    Attributes
    ----------
    patterns : uint64 (4096,): the bits of 2^(i/4096), rounded, less i · 2^40.
    corrections : float64 (4096,): what that rounding took away, divided by the rounded number.
    inverse : 4096 / ln 2, rounded.
    first, second : ln 2 / 4096 in two parts, of 30 bits and of 53.
    """

    patterns: NDArray[np.uint64]
    corrections: Floats
    inverse: float
    first: float
    second: float


@cache
def constants() -> Constants:
    """The constants, made at the first use."""
    made = table()
    near, taken = fast_two_sum(made.high, made.low)
    first, second, third = made.steps
    patterns = near.view(np.uint64) - (np.arange(_STEPS, dtype=np.uint64) << np.uint64(40))
    return Constants(patterns, taken / near, made.inverse, first, second + third)


class Room(NamedTuple):
    """What one block is worked on in, and the sums lane by lane; all float64 of one length.

    Attributes
    ----------
    w, v, n, r : as in the annex.
    place, found : room for indices, and for what a table has there.
    units : the sums of w + SPLIT, as integers modulo 2^64.
    low : the sums of all else.
    """

    w: Floats
    v: Floats
    n: Floats
    r: Floats
    place: Floats
    found: Floats
    units: Floats
    low: Floats


class Total(NamedTuple):
    """Σ e^z / 2^(shift/4096), in units of 2^-90, and by how many of them it may be off."""

    shift: int
    units: int
    off: int


def quick_power_sum(values: Floats, top: float, base: float, digits: int) -> Between:
    """Σ e^(values − base), some 2^-61 of it between the ends.

    Parameters
    ----------
    values : float64 (n,), at most `MOST` of them; -inf counts nothing.
    top : the largest of them.
    base : finite, |base − top| ≤ 3001.
    digits : of the decimals, 40 at most.

    Source: annex of LIK.  Bound: 2^-64 + D · 2^-66 of the sum to either side, for D additions.
    """
    further = Decimal(-base)
    if abs(top) > LARGEST:
        with np.errstate(over="ignore"):
            values = values - top  # exact from LEAST on (line 1)
        further, top = context(80).add(further, Decimal(top)), 0.0
    found = total(values, top)
    down, up = context(digits, ROUND_FLOOR), context(digits, ROUND_CEILING)
    scale = scale_between(found.shift, further, digits)
    low = down.divide(found.units - found.off, 2**UNIT_BITS)
    high = up.divide(found.units + found.off, 2**UNIT_BITS)
    return Between(down.multiply(low, scale.lower), up.multiply(high, scale.upper))


def scale_between(shift: int, further: Decimal, digits: int) -> Between:
    """2^(shift/4096) · e^further, both of moderate size, up to 40 digits."""
    here = context(digits)
    # The exponent is right to 60 places, and its power to half of the last one.
    power = here.exp(context(80).fma(shift, _step(), further))
    return Between(here.next_minus(power), here.next_plus(power))


@cache
def _step() -> Decimal:
    """ln 2 / 4096 to 80 digits."""
    wide = context(80)
    return wide.divide(wide.ln(Decimal(2)), _STEPS)


def total(values: Floats, top: float) -> Total:
    """The sum of the powers, in the scale of the largest.

    Parameters
    ----------
    values : float64 (n,), at most `MOST`, none above ``top``; -inf counts nothing.
    top : one of them, |top| ≤ `LARGEST`.

    Source: lines 1 to 12.  Bound: `Total.off`.
    """
    if values.min() < top + LEAST:
        values = values[values >= top + LEAST]
    shift = round(top * constants().inverse)
    blocks = -(-values.size // LANES)
    lanes = -(-values.size // blocks)
    room = room_for(lanes)
    for start in range(0, values.size, lanes):
        z = values[start : start + lanes]
        part = room if z.size == lanes else Room(*(array[: z.size] for array in room))
        reduce(z, shift, part)
        powers_of(part)
        accumulate(part)
    count = int(room.units.view(np.uint64).sum()) - values.size * _bits(SPLIT)
    units = (count % 2**64) << (UNIT_BITS - _SPLIT_BITS)
    units += int(math.ldexp(tree(room.low), UNIT_BITS))
    depth = blocks + (lanes - 1).bit_length()
    # One unit for what is below LEAST, and one for what int() has cut off.
    off = math.ceil(units * (TERM_ERROR + depth * ADDITION_ERROR)) + 2
    return Total(shift, units, off)


def _bits(x: float) -> int:
    return int(np.float64(x).view(np.int64))


def room_for(lanes: int) -> Room:
    """Room for blocks of so many numbers, the sums at 0."""
    arrays = np.empty((len(Room._fields), lanes))
    room = Room(*arrays)
    room.units[:] = room.low[:] = 0.0
    return room


def reduce(z: Floats, shift: int, room: Room) -> None:
    """z = n · ln 2 / 4096 + r, r within 2^-67 + 2^-72: sets r, and w to 1.5 · 2^52 + n − shift."""
    made, (w, _, n, r, *_) = constants(), room
    np.multiply(z, made.inverse, w)
    np.add(w, _ROUND - shift, w)
    np.subtract(w, _ROUND - shift, n)
    np.multiply(n, made.first, r)
    np.subtract(z, r, r)
    np.multiply(n, made.second, n)
    np.subtract(r, n, r)


def powers_of(room: Room) -> None:
    """w + v = 2^((n − shift)/4096) · e^r within `TERM_ERROR`, after `reduce`; n is lost."""
    made, (w, v, square, r, place, found, *_) = constants(), room
    where, bits = place.view(np.int64), w.view(np.uint64)
    np.bitwise_and(w.view(np.int64), _STEPS - 1, where)
    np.left_shift(bits, 40, bits)
    # Every place is in the table; with "clip", take needs no buffer.
    made.patterns.take(where, out=found.view(np.uint64), mode="clip")
    np.add(bits, found.view(np.uint64), bits)
    np.multiply(r, 1 / 24, v)
    np.add(v, 1 / 6, v)
    np.multiply(v, r, v)
    np.add(v, 0.5, v)
    np.multiply(r, r, square)
    np.multiply(v, square, v)
    np.add(v, r, v)
    made.corrections.take(where, out=found, mode="clip")
    np.add(v, found, v)
    np.multiply(v, w, v)


def accumulate(room: Room) -> None:
    """Add the multiples of 2^-41 next to the w to the units, all else to the low sums."""
    w, v, *_, leading, units, low = room
    counts = units.view(np.uint64)
    np.add(w, SPLIT, leading)
    np.add(counts, leading.view(np.uint64), counts)
    np.subtract(leading, SPLIT, leading)
    np.subtract(w, leading, w)
    np.add(v, w, v)
    np.add(low, v, low)


def tree(x: Floats) -> float:
    """The sum of an array, in halves: a number passes through ⌈log2 n⌉ additions.

    It overwrites the array.
    """
    while x.size > 1:
        half = x.size // 2
        x[:half] += x[x.size - half :]
        x = x[: x.size - half]
    return float(x[0])
