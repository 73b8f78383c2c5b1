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
from mlm_spec.errors import IdRangeError, InputError, NotFiniteError, ShapeError
from mlm_spec.exact.decimals import Between, context, exp_between, log1p_between
from mlm_spec.exact.powers import BLOCK, LEAST, POWER_ERROR, UNIT_BITS, total
from mlm_spec.exact.rounding import Enclosure

__all__ = [
    "FAR",
    "FIRST_DIGITS",
    "LAST_DIGITS",
    "QUARTER_STEP",
    "checked_row",
    "differences",
    "enclose",
    "enclose_sum",
    "power_sum",
]

Floats = NDArray[np.float64]

#: Decimal digits of the first precision, at which powers come from `mlm_spec.exact.powers`.
FIRST_DIGITS = 60
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

    Source
    ------
    The annex of chapter LIK; the decision by ever narrower intervals is that of Ziv (1991).

    >>> float(enclose(np.array([0.0, 40.0]), 1))
    -4.248354255291589e-18
    """
    z = checked_row(logits, target)
    if z[target] == -math.inf:
        return Enclosure(-math.inf, -math.inf)
    return _enclose(z, target, FIRST_DIGITS)


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
    As `enclose`; ShapeError for another number of targets or weights; NotFiniteError for a weight.

    >>> float(enclose_sum(np.zeros((3, 4)), [0, 1, 2]))
    -4.1588830833596715
    """
    ids = np.asarray(targets)
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
    chosen = int(target) if possible else int(wide.argmax())
    check_logits(wide[None], np.array([chosen]), np.zeros((1, 0), np.intp))
    return wide


def _enclose(z: Floats, target: int, digits: int) -> Enclosure:
    top = float(z.max())
    pivot = target if z[target] == top else int(z.argmax())
    lead = Fraction(float(z[target])) - Fraction(top)
    rest = z.copy()
    rest[pivot] = -math.inf
    runner_up = float(rest.max())
    if runner_up == -math.inf:
        return Enclosure(lead, lead)
    gap = Fraction(runner_up) - Fraction(top)
    if gap < FAR:
        return Enclosure(lead - QUARTER_STEP, lead)
    tail = _tail(rest, runner_up, gap, digits)
    last = 2 * digits > LAST_DIGITS
    finer = None if last else partial(_enclose, z, target, 2 * digits)
    return Enclosure(lead - Fraction(tail.upper), lead - Fraction(tail.lower), finer)


def _tail(rest: Floats, runner_up: float, gap: Fraction, digits: int) -> Between:
    """log(1 + Σ e^(rest − top)), the sum taken relative to the runner-up."""
    down, up = context(digits, ROUND_FLOOR), context(digits, ROUND_CEILING)
    powers, scale = power_sum(rest, runner_up, digits), exp_between(gap, digits)
    share = Between(
        down.multiply(powers.lower, scale.lower), up.multiply(powers.upper, scale.upper)
    )
    return log1p_between(share, digits)


def power_sum(values: Floats, top: float, digits: int) -> Between:
    """Σ e^(values − top), none above ``top``, which is one of them; -inf counts nothing.

    At `FIRST_DIGITS` by floats, with the error of the annex; else term by term in decimals.
    """
    return _by_floats(values, top) if digits == FIRST_DIGITS else _by_decimals(values, top, digits)


def _by_floats(values: Floats, top: float) -> Between:
    units = 0
    for start in range(0, values.size, BLOCK):
        x, slip = differences(values[start : start + BLOCK], top)
        near = x >= LEAST
        units += total(x, slip) if near.all() else total(x[near], slip[near])
    # Lines 10 and 11 of the annex: relative error, one unit a term, and what was left out.
    off = math.ceil(units * POWER_ERROR) + values.size + 1
    unit = Decimal(2) ** -UNIT_BITS
    down, up = context(FIRST_DIGITS, ROUND_FLOOR), context(FIRST_DIGITS, ROUND_CEILING)
    return Between(
        down.multiply(Decimal(units - off), unit), up.multiply(Decimal(units + off), unit)
    )


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
            high = up.add(high, Decimal(values.size) * Decimal(10) ** -(digits + 10))
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
