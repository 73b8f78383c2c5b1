"""LayerNorm in balls, with its pullback (chapter ENC)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.training.balls import Ball, Rounding, lengths, magnitude, together

__all__ = ["layer_norm"]

Array = NDArray[Any]
_APART = 4  # roundings of x·s⁻¹ − μ·s⁻¹, where x and μ are not subtracted first


def layer_norm(
    r: Rounding, x: Ball, weight: Ball, bias: Ball, eps: float, terms: int
) -> tuple[Ball, Callable[[Ball], tuple[Ball, Ball, Ball]]]:
    """(x − μ) / √(σ² + ε) · w + b of x (n, d).

    The pullback gives the gradients by x, w and b.
    """
    found = _normalised(r, x, eps)
    y = r.add(r.gained(found.unit, weight), bias)

    def pull(dy: Ball) -> tuple[Ball, Ball, Ball]:
        dx = _pulled(r, found, r.gained(dy, weight))
        return dx, r.total(r.times(dy, found.unit), 0, terms), r.total(dy, 0, terms)

    return y, pull


@dataclass(frozen=True, slots=True)
class _Normalised:
    """n = (x − μ)/s (N, d); 1/s (N, 1); and (|x| + |μ|)/s (N, d), s = √(σ² + ε)."""

    unit: Ball
    inverse: Ball
    apart: Array


def _normalised(r: Rounding, x: Ball, eps: float) -> _Normalised:
    """With x off by e, s is off by at most ‖e‖/√d: it is the length of (x − μ)/√d and √ε.

    By e, x ↦ n moves by no more than ‖e‖/s along the way: its derivative is (1 − nnᵀ/d)/s on what
    is orthogonal to 1, a contraction divided by s.
    """
    width = x.value.shape[-1]
    mean = x.value.mean(-1, keepdims=True)
    variance = ((x.value - mean) ** 2).mean(-1, keepdims=True)
    s = np.sqrt(variance + x.value.dtype.type(eps))
    unit = (x.value - mean) / s

    moved = x.errors[:, None] / np.sqrt(width)
    least = magnitude(s) - moved
    least = np.where(least > 0.0, least, np.nan)  # nothing is known; NaN is within no bound
    tilt = _tilt(r, x, mean, variance, eps)
    apart = (x.size + magnitude(mean) + moved) / least
    radius = (x.radius + x.radius.mean(-1, keepdims=True) + magnitude(unit) * moved) / least
    rounded = r.gamma(width + 1) * x.size.mean(-1, keepdims=True) / least
    rounded = rounded + r.gamma(_APART) * apart + (magnitude(unit) + radius) * tilt
    inverse = Ball(1 / s, (moved / least + tilt * (1 + moved / least)) / magnitude(s))
    return _Normalised(together(unit, radius, x.errors / least[:, 0], rounded), inverse, apart)


def _tilt(r: Rounding, x: Ball, mean: Array, variance: Array, eps: float) -> Array:
    """The relative error of a computed 1/s, that of E[x²] − μ² included (N, 1)."""
    width = x.value.shape[-1]
    squares = (x.size**2).mean(-1, keepdims=True) + magnitude(mean) ** 2 + eps
    exactly = magnitude(variance) + eps
    found: Array = r.gamma(width + 4) * squares / exactly / 2 + r.function + r.gamma(2)
    return found


def _pulled(r: Rounding, found: _Normalised, g: Ball) -> Ball:
    """(g − mean(g) − n·mean(g n)) / s; its linear part in g is a contraction, divided by s."""
    unit, width = found.unit, g.value.shape[-1]
    n, off = magnitude(unit.value), unit.radius
    along = (g.value * unit.value).mean(-1, keepdims=True)
    inner = g.value - g.value.mean(-1, keepdims=True) - unit.value * along

    turned = _mean(g.radius * unit.size) + _mean(magnitude(g.value) * off)
    radius = g.radius + _mean(g.radius) + n * turned + off * _mean(g.size * unit.size)
    turn = (2 * lengths(unit.value) + unit.errors) * unit.errors / width
    length = g.errors + turn * (lengths(g.value) + g.errors)
    # Σ g·x − μ·Σ g has the magnitude of x, not of x − μ.
    apart = found.apart
    rounded = r.gamma(width + 8) * (_mean(g.size) + apart * _mean(g.size * apart))
    whole = together(inner, radius, length, rounded + r.gamma(6) * g.size)

    by, wide = found.inverse, found.inverse.size
    radius = whole.radius * wide + magnitude(inner) * by.radius
    length = whole.errors * wide[:, 0] + lengths(inner) * by.radius[:, 0]
    return together(inner * by.value, radius, length, r.gamma(1) * whole.size * wide)


def _mean(x: Array) -> Array:
    found: Array = x.mean(-1, keepdims=True)
    return found
