"""Gradient entries between two rationals, and correctly rounded (annex of GRA).

d log Pr(target) / d z_j = −e^{z_j − m} / S  (j ≠ target),   Σ_{k≠target} e^{z_k − m} / S
"""

from __future__ import annotations

import math
from decimal import ROUND_CEILING, ROUND_FLOOR
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_spec.errors import IdRangeError, InputError
from mlm_spec.exact.decimals import Between, context, exp_between
from mlm_spec.exact.likelihood import (
    FAR,
    LAST_DIGITS,
    QUARTER_STEP,
    SECOND_DIGITS,
    checked_row,
    differences,
    power_sum,
)
from mlm_spec.exact.powers import LOWEST, POWER_ERROR, fast_two_sum, powers
from mlm_spec.exact.rounding import Enclosure

__all__ = ["enclose_gradient", "rounded_gradient"]

Floats = NDArray[np.float64]

_NORMAL = -640.0  # e^-640 / V is a normal number for every V
_SPLIT = 2.0**27 + 1.0  # Veltkamp's constant: the upper half of a float64


def enclose_gradient(logits: NDArray[Any], target: int, entry: int) -> Enclosure:
    """d log Pr(target) / d logits[entry] at one position.

    Parameters
    ----------
    logits : float (V,), of any float dtype, converted exactly; -inf is probability 0.
    target, entry : 0 .. V - 1.

    Returns
    -------
    Enclosure : 0 where the logit is -inf, and where the target's is the only finite one.

    Raises
    ------
    ShapeError, DTypeError, IdRangeError, NotFiniteError, NoSupportError; ImpossibleTargetError
    where the target's logit is -inf: then log Pr has no gradient.

    Source: chapter GRA, annex.  Bound: the number is inside; ``float()`` is the float64 nearest
    to it.

    >>> float(enclose_gradient(np.array([0.0, 40.0]), 1, 1))
    4.248354255291589e-18
    """
    z = checked_row(logits, target, possible=True)
    if isinstance(entry, bool) or not isinstance(entry, int | np.integer):
        raise InputError("entry", repr(entry), "an integer")
    if not 0 <= entry < z.size:
        raise IdRangeError("entry", entry, f"an id in 0..{z.size - 1}")
    return _enclose(z, int(target), int(entry), SECOND_DIGITS)


def rounded_gradient(logits: NDArray[Any], target: int) -> Floats:
    """d log Pr(target) / d logits at one position, each entry the nearest float64: (V,).

    Parameters and errors as in `enclose_gradient`; UndecidedError as for ``float()`` of it.

    Source: chapter GRA, annex.  Bound: each entry is the float64 nearest to the real number, 2⁻⁵³
    of itself.

    >>> rounded_gradient(np.array([0.0, 0.0, -np.inf]), 0).tolist()
    [0.5, -0.5, 0.0]
    """
    z = checked_row(logits, target, possible=True)
    gradient = np.zeros(z.size)
    live = np.flatnonzero(z > -math.inf)
    gradient[live], sure = _by_floats(z[live])
    sure &= live != target
    for entry in live[~sure].tolist():
        gradient[entry] = float(_enclose(z, int(target), entry, SECOND_DIGITS))
    return gradient


def _by_floats(z: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """−p_j of finite logits, and where it is sure to be the nearest float64."""
    top = float(z.max())
    x, slip = differences(z, top)
    sums = power_sum(z, top, SECOND_DIGITS)
    share = 2 / (Fraction(sums.lower) + Fraction(sums.upper))  # 1/S, and how far off it may be
    inverse = float(share)
    rest = float(share - Fraction(inverse))
    off = POWER_ERROR + float(Fraction(sums.upper) / Fraction(sums.lower) - 1) + 2.0**-100
    inside = x >= _NORMAL
    value, sure = np.zeros(z.size), x < LOWEST
    exponent, high, low = powers(x[inside], slip[inside])
    product, error = _two_product(high, inverse)
    product, error = fast_two_sum(product, error + (high * rest + low * inverse))
    below, above = product + (error - off * product), product + (error + off * product)
    value[inside] = -np.ldexp(product + error, exponent)
    sure[inside] = below == above
    return value, sure


def _two_product(a: Floats, b: float) -> tuple[Floats, Floats]:
    """fl(a · b), and what it leaves of a · b, exactly (Dekker)."""
    product = a * b
    wide = a * _SPLIT
    upper = wide - (wide - a)
    lower = a - upper
    other = b * _SPLIT
    first = other - (other - b)
    second = b - first
    return product, lower * second - (((product - upper * first) - lower * first) - upper * second)


def _enclose(z: Floats, target: int, entry: int, digits: int) -> Enclosure:
    live = z[z > -math.inf]
    others = np.delete(z, target)
    others = others[others > -math.inf]
    if z[entry] == -math.inf or others.size == 0:
        return Enclosure(Fraction(0), Fraction(0))
    if live.min() == live.max():  # all p_j are 1/n, the one case that is rational
        exact = Fraction(int(entry == target)) - Fraction(1, live.size)
        return Enclosure(exact, exact)
    counted = others if entry == target else z[entry : entry + 1]
    share, finer = _share(counted, live, digits), None
    if share is None:
        lower, upper = Fraction(0), QUARTER_STEP
    else:
        lower, upper = Fraction(share.lower), Fraction(share.upper)
        last = 2 * digits > LAST_DIGITS
        finer = None if last else partial(_enclose, z, target, entry, 2 * digits)
    return Enclosure(lower, upper, finer) if entry == target else Enclosure(-upper, -lower, finer)


def _share(counted: Floats, live: Floats, digits: int) -> Between | None:
    """Σ e^z over the ones counted, divided by that over all; None if it is below 2^-1076."""
    base, top = float(counted.max()), float(live.max())
    gap = Fraction(base) - Fraction(top)
    if gap < FAR:
        return None
    down, up = context(digits, ROUND_FLOOR), context(digits, ROUND_CEILING)
    part, whole = power_sum(counted, base, digits), power_sum(live, top, digits)
    scale = exp_between(gap, digits)
    return Between(
        down.divide(down.multiply(part.lower, scale.lower), whole.upper),
        up.divide(up.multiply(part.upper, scale.upper), whole.lower),
    )
