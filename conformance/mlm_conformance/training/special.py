"""erf and the normal distribution for arrays, in float64 or in whatever longer float comes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["density", "distribution", "erf"]

Array = NDArray[Any]
_BITS = 128  # more than any NumPy float has


def erf(x: Array) -> Array:
    """erf of each entry, in the dtype of x: within an ulp in float64, and in longer ones.

    >>> erf(np.array([0.0, 0.5])).tolist()
    [0.0, 0.5204998778130465]
    """
    if x.dtype == np.float64:
        found = [math.erf(v) for v in x.reshape(-1).tolist()]
        return np.array(found, dtype=np.float64).reshape(x.shape)
    flat = [_long_erf(v) for v in x.reshape(-1)]
    return np.array(flat, dtype=x.dtype).reshape(x.shape)


def _long_erf(x: Any) -> Any:
    """By ball arithmetic: the argument as two float64 that add up to it, the result likewise."""
    from flint import arb, ctx

    kept, ctx.prec = ctx.prec, _BITS
    try:
        high = float(x)
        found = (arb(high) + arb(float(x - high))).erf()
        near = float(found)
        return type(x)(near) + type(x)(float(found - arb(near)))
    finally:
        ctx.prec = kept


def distribution(x: Array) -> Array:
    """Φ(x) = (1 + erf(x / √2)) / 2."""
    found: Array = (1 + erf(x / np.sqrt(x.dtype.type(2)))) / 2
    return found


def density(x: Array) -> Array:
    """φ(x) = exp(−x² / 2) / √(2π)."""
    one = x.dtype.type(1)
    turn = 8 * np.arctan(one)
    found: Array = np.exp(-x * x / 2) / np.sqrt(turn)
    return found
