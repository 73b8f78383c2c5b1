"""The log-likelihood between two rationals (annex of LIK).

With a pivot r, the target if it attains the maximum m, else the first maximum,

    log Pr = lead − tail,   lead = z_t − m,   tail = log(1 + Σ_{j≠r} e^{z_j − m}).

lead is an exact rational.  tail > 0 unless no other logit is finite, and then it is 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_spec.checking import FLOATS, check_array, check_logits
from mlm_spec.errors import DTypeError, IdRangeError, InputError, NotFiniteError, ShapeError
from mlm_spec.exact.decimals import Between, context, exp_between, log1p_between, power_of_ten
from mlm_spec.exact.powers import BLOCK, LEAST, POWER_ERROR, UNIT_BITS, total
from mlm_spec.exact.quick import MOST, quick_power_sum
from mlm_spec.exact.rounding import Enclosure

__all__ = [
    "FAR",
    "FIRST_DIGITS",
    "LAST_DIGITS",
    "QUARTER_STEP",
    "SECOND_DIGITS",
    "checked_row",
    "differences",
    "enclose",
    "enclose_sum",
    "power_sum",
]

Floats = NDArray[np.float64]

#: Decimal digits of the first precision, at which sums come from `mlm_spec.exact.quick`.
FIRST_DIGITS = 30
#: Of the second, at which powers come from `mlm_spec.exact.powers`.
SECOND_DIGITS = 60
#: Of the last: each is twice the one before, and at this one a float is undecided or decided.
LAST_DIGITS = 1920

#: A gap beyond which everything is below 2^-1076: e^-3000 · V is, for every V that fits a memory.
FAR = -3000
#: 2^-1076, a quarter of the smallest float64: no float and no tie of two lies between a lead, which
#: is a multiple of 2^-1074, and one step of this size below it.
QUARTER_STEP = Fraction(1, 2**1076)


def enclose(logits: NDArray[Any], target: int) -> Enclosure:
    """log Pr(target) at one position.

    Parameters
    ----------
    logits : float (V,), of any float dtype, converted exactly; -inf is probability 0.
    target : 0 .. V - 1.

    Returns
    -------
    Enclosure : ``float()`` of it is the float64 nearest to the real number.  0.0 where the
        target's is the only finite logit, -inf where the target's is -inf.

    Raises
    ------
    ShapeError, DTypeError, IdRangeError, NotFiniteError, NoSupportError.

    Source: chapter LIK, annex; ever narrower intervals as in Ziv (1991).  Bound: the number is
    inside, and ``float()`` of it is the float64 nearest to it.

    >>> float(enclose(np.array([0.0, 40.0]), 1))
    -4.248354255291589e-18
    """
    z = checked_row(logits, target)
    if z[target] == -math.inf:
        return Enclosure(-math.inf, -math.inf)
    first = int(z.argmax())
    pivot = target if z[target] == z[first] else first
    value, top = float(z[target]), float(z[pivot])
    z[pivot] = z[-1]  # z is a copy, and what is summed has no order
    return _enclose(Fraction(value) - Fraction(top), top, z[:-1], FIRST_DIGITS)


def enclose_sum(
    logits: NDArray[Any], targets: Sequence[int] | NDArray[Any], weights: Any = None
) -> Enclosure:
    """Σ_i w_i · log Pr_i(target_i) over N positions.

    With positive weights it is no rational number unless it is 0, so it can be rounded.  With
    weights of both signs it may be one (log p_a − log p_b is z_a − z_b), and where that is the
    middle between two floats, ``float()`` is undecided.

    Parameters
    ----------
    logits : float (N, V).
    targets : integer (N,).
    weights : float (N,), finite; None is all ones.

    Raises
    ------
    As `enclose`; DTypeError for targets that are no integers; ShapeError for another number of
    targets or weights; NotFiniteError for a weight.

    Source: chapter LIK, annex.  Bound: the number is inside; ``float()`` is the float64 nearest
    to it.

    >>> float(enclose_sum(np.zeros((3, 4)), [0, 1, 2]))
    -4.1588830833596715
    """
    ids = np.asarray(targets)
    if ids.size and ids.dtype.kind not in "iu":
        raise DTypeError("targets", f"of dtype {ids.dtype}", "integers")
    shares = np.ones(len(ids)) if weights is None else np.asarray(weights, dtype=np.float64)
    if np.ndim(logits) != 2 or ids.shape != (len(logits),) or shares.shape != ids.shape:
        shapes = f"{np.shape(logits)}, {ids.shape}, {shares.shape}"
        raise ShapeError("logits, targets, weights", f"of shapes {shapes}", "(N, V), (N,), (N,)")
    if not np.isfinite(shares).all():
        raise NotFiniteError("weights", shares[~np.isfinite(shares)][0], "finite numbers")
    terms = [enclose(z, int(t)) for z, t in zip(logits, ids, strict=True)]
    return _summed(terms, [Fraction(w) for w in shares.tolist()])


def checked_row(logits: NDArray[Any], target: int, possible: bool = False) -> Floats:
    """One row, checked, in float64; with ``possible`` the target needs a finite logit too."""
    z = check_array("logits", logits, ("V",), FLOATS)
    if z.size == 0:
        raise ShapeError("logits", "without a vocabulary", "at least one id")
    if isinstance(target, bool) or not isinstance(target, int | np.integer):
        raise InputError("target", repr(target), "an integer")
    if not 0 <= target < z.size:
        raise IdRangeError("target", target, f"an id in 0..{z.size - 1}")
    wide = z.astype(np.float64)
    # The largest logit is NaN or +inf where any is; as a target it is possible where one is.
    largest = int(wide.argmax())
    chosen = int(target) if possible else largest
    if not (math.isfinite(wide[largest]) and math.isfinite(wide[chosen])):
        check_logits(wide[None], np.array([chosen]), np.zeros((1, 0), np.intp))
    return wide


def _enclose(lead: Fraction, top: float, rest: Floats, digits: int) -> Enclosure:
    runner_up = float(rest.max(initial=-math.inf))
    if runner_up == -math.inf:
        return Enclosure(lead, lead)
    if runner_up - top < FAR:
        return Enclosure(lead - QUARTER_STEP, lead)
    tail = log1p_between(_share(rest, runner_up, top, digits), digits)
    last = 2 * digits > LAST_DIGITS
    finer = None if last else partial(_enclose, lead, top, rest, 2 * digits)
    return Enclosure(lead - Fraction(tail.upper), lead - Fraction(tail.lower), finer)


def _share(rest: Floats, runner_up: float, top: float, digits: int) -> Between:
    """Σ e^(rest − top), the sum taken relative to the runner-up."""
    if digits == FIRST_DIGITS and rest.size <= MOST:
        return quick_power_sum(rest, runner_up, top, digits)
    down, up = context(digits, ROUND_FLOOR), context(digits, ROUND_CEILING)
    scale = exp_between(Fraction(runner_up) - Fraction(top), digits)
    powers = power_sum(rest, runner_up, digits)
    return Between(down.multiply(powers.lower, scale.lower), up.multiply(powers.upper, scale.upper))


def power_sum(values: Floats, top: float, digits: int) -> Between:
    """Σ e^(values − top), none above ``top``, which is one of them; -inf counts nothing.

    Up to `SECOND_DIGITS` by floats, with the budget of the annex; else term by term in decimals.
    """
    return _by_floats(values, top) if digits <= SECOND_DIGITS else _by_decimals(values, top, digits)


def _by_floats(values: Floats, top: float) -> Between:
    units = 0
    for start in range(0, values.size, BLOCK):
        x, slip = differences(values[start : start + BLOCK], top)
        near = x >= LEAST
        units += total(x, slip) if near.all() else total(x[near], slip[near])
    # Lines 10 and 11 at 60 digits: relative error, one unit a term, and what was left out.
    off = math.ceil(units * POWER_ERROR) + values.size + 1
    down, up = context(SECOND_DIGITS, ROUND_FLOOR), context(SECOND_DIGITS, ROUND_CEILING)
    return Between(down.divide(units - off, 2**UNIT_BITS), up.divide(units + off, 2**UNIT_BITS))


def differences(values: Floats, top: float) -> tuple[Floats, Floats]:
    """values − top, rounded, and what that left out, exactly; far below only very negative."""
    with np.errstate(over="ignore", invalid="ignore"):
        x = values - top
        back = x - values
        slip = values - (x - back)
        back += top
        slip -= back
    slip[~np.isfinite(slip)] = 0.0
    return x, slip


def _by_decimals(values: Floats, top: float, digits: int) -> Between:
    down, up = context(digits, ROUND_FLOOR), context(digits, ROUND_CEILING)
    low = high = Decimal(0)
    exact_top, reach = Fraction(top), -(digits + 10) * 3  # e^-3 < 1/10
    distinct, counts = np.unique(values[values > -math.inf], return_counts=True)
    for value, count in zip(distinct.tolist()[::-1], counts.tolist()[::-1], strict=True):
        x = Fraction(value) - exact_top
        if x < reach:
            high = up.add(high, up.multiply(values.size, power_of_ten(-(digits + 10))))
            break
        power = exp_between(x, digits)
        low = down.add(low, down.multiply(power.lower, count))
        high = up.add(high, up.multiply(power.upper, count))
    return Between(low, high)


def _summed(terms: list[Enclosure], weights: list[Fraction]) -> Enclosure:
    used = [(term, w) for term, w in zip(terms, weights, strict=True) if w]
    if any(term.upper == -math.inf for term, _ in used):
        signs = {w > 0 for term, w in used if term.upper == -math.inf}
        if signs != {True}:
            raise InputError("weights", "negative at a log-likelihood of -inf", "above 0 there")
        return Enclosure(-math.inf, -math.inf)
    lower = sum((w * (t.lower if w > 0 else t.upper) for t, w in used), Fraction(0))
    upper = sum((w * (t.upper if w > 0 else t.lower) for t, w in used), Fraction(0))
    finer = partial(_finer_sum, used) if any(term.finer for term, _ in used) else None
    return Enclosure(lower, upper, finer)


def _finer_sum(used: list[tuple[Enclosure, Fraction]]) -> Enclosure:
    return _summed([t.finer() if t.finer else t for t, _ in used], [w for _, w in used])
