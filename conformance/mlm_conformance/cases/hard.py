"""Positions on which log-softmax programs go wrong, by family: (logits (V,), target)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from decimal import Context, Decimal, localcontext
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from mlm_spec import enclose

__all__ = ["FAMILIES", "Position", "near_a_middle"]

Position = tuple[NDArray[np.float64], int]
Rng = np.random.Generator


def _normal(rng: Rng, size: int) -> Position:
    return rng.normal(0, rng.choice([0.1, 1, 3, 10, 50]), size), int(rng.integers(size))


def _likely(rng: Rng, size: int) -> Position:
    z, t = rng.normal(0, 1, size), int(rng.integers(size))
    z[t] = z.max() + rng.choice([10 ** rng.uniform(-2, 2.85), 0.0])
    return z, t


def _certain(rng: Rng, size: int) -> Position:
    """1 − p is below the range of float64, or nearly."""
    z, t = rng.normal(0, 1, size), int(rng.integers(size))
    z[t] = z.max() + rng.uniform(690, 760)
    return z, t


def _ties(rng: Rng, size: int) -> Position:
    z = np.full(size, rng.normal(0, 100))
    z[rng.integers(size)] -= rng.choice([0, 1e-16, 1e-8, 1.0])
    return z, int(rng.integers(size))


def _barred(rng: Rng, size: int) -> Position:
    z = rng.normal(0, 3, size)
    z[rng.random(size) < 0.5] = -np.inf
    z[rng.integers(size)] = 0.0
    return z, int(rng.choice(np.flatnonzero(np.isfinite(z))))


def _spread(rng: Rng, size: int) -> Position:
    return rng.uniform(-1e4, 1e4, size), int(rng.integers(size))


def _offset(rng: Rng, size: int) -> Position:
    shift = rng.choice([1e4, -1e6, 1e8, 1e12, 2.0**52])
    return rng.normal(0, 3, size) + shift, int(rng.integers(size))


def _denormal(rng: Rng, size: int) -> Position:
    z = rng.integers(-(2**20), 2**20, size) * 5e-324 * 10.0 ** rng.integers(0, 6)
    return z, int(rng.integers(size))


def _huge(rng: Rng, size: int) -> Position:
    z = rng.choice([-1, 1], size) * rng.uniform(0.1, 1.79e308, size)
    return z * rng.choice([1, 1e-300, 1e-5]), int(rng.integers(size))


def _underflowing(rng: Rng, size: int) -> Position:
    """Each of the others underflows, or nearly; all of them together need not."""
    z, t = rng.uniform(-745, rng.choice([-744.5, -650.0, 0.0]), size), int(rng.integers(size))
    z[t] = 0.0
    return z, t


def _near_a_middle(rng: Rng, size: int) -> Position:
    z, _ = near_a_middle(rng.normal(0, 2, 2), min(max(size, 3), 12))
    return z, 0


def near_a_middle(start: NDArray[np.float64], size: int) -> tuple[NDArray[np.float64], Fraction]:
    """Logits that bring log Pr of the first id ever nearer to the middle of two floats.

    With T = e^(z_0 − middle), each further id gets the float below log(T − Σ e^z), so that of what
    is missing only the rounding of that logarithm is left: some 45 bits less each time.

    Parameters
    ----------
    start : float64 (2,), the first logits.
    size : how many in the end, 3 or more.

    Returns
    -------
    The logits, and the middle.
    """
    wide, z = Context(prec=600), start.tolist()
    value = float(enclose(np.array(z), 0))
    middle = (Fraction(value) + Fraction(math.nextafter(value, -math.inf))) / 2
    gap = Fraction(z[0]) - middle
    wanted = wide.exp(wide.divide(Decimal(gap.numerator), Decimal(gap.denominator)))
    while len(z) < size:
        with localcontext(wide):
            missing = wanted - sum(wide.exp(Decimal(v)) for v in z)
        z.append(math.nextafter(float(wide.ln(missing)), -math.inf))
    return np.array(z), middle


FAMILIES: Mapping[str, Callable[[Rng, int], Position]] = {
    "normal": _normal,
    "likely": _likely,
    "certain": _certain,
    "ties": _ties,
    "barred ids": _barred,
    "spread": _spread,
    "offset": _offset,
    "denormal": _denormal,
    "huge": _huge,
    "underflowing": _underflowing,
    "near a middle": _near_a_middle,
}
