"""The layers of the encoder in balls, each with its pullback (chapter ENC).

``pull`` takes the gradient of the objective by a layer's result to those by what went into it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.training.balls import Ball, Rounding, magnitude, together
from mlm_conformance.training.special import density, distribution, erf

__all__ = ["gelu", "linear", "table_gradient"]

Array = NDArray[Any]
Three = Callable[[Ball], tuple[Ball, Ball, Ball]]

_STEEPEST = 1.13  # |gelu'| nowhere exceeds it


def linear(r: Rounding, x: Ball, weight: Ball, bias: Ball, terms: int) -> tuple[Ball, Three]:
    """x Wᵀ + b of x (n, in), W (out, in); ``terms``: positions in a sum over all of the update.

    The pullback gives the gradients by x, W and b.
    """
    y = r.add(r.mapped(x, weight.moved(np.transpose), more=1), bias)

    def pull(dy: Ball) -> tuple[Ball, Ball, Ball]:
        by_weight = r.matmul(dy.moved(np.transpose), x, terms)
        return r.mapped(dy, weight), by_weight, r.total(dy, 0, terms)

    return y, pull


def gelu(r: Rounding, x: Ball) -> tuple[Ball, Callable[[Ball], Ball]]:
    """x·Φ(x), with |gelu''| = |φ(x)(2 − x²)| < 0.8 and |gelu'''| = |φ(x)(x³ − 4x)| < 1."""
    wide = magnitude(x.value)
    phi, cap = density(x.value).astype(np.float64), distribution(x.value)
    value, slope = x.value * cap, cap + x.value * density(x.value)
    # 1 + erf rounds at the size of 1; x/√2 moves erf by less than half of its own rounding.
    cap_error = r.function * magnitude(erf(x.value)) / 2 + r.gamma(3)
    steep = np.minimum(magnitude(slope) + 0.8 * x.radius, _STEEPEST)
    rounded = x.size * cap_error + r.gamma(2) * (magnitude(value) + steep * x.radius)
    y = together(value, steep * x.radius, x.errors * steep.max(-1), rounded)

    bend = np.minimum(phi * np.abs(2.0 - wide**2) + x.radius, 0.8)
    slope_rounded = cap_error + x.size * phi * (r.function + r.gamma(5) * (1.0 + wide**2))
    slope_rounded = slope_rounded + r.gamma(2) * steep

    def pull(dy: Ball) -> Ball:
        across = magnitude(dy.value) * bend
        radius = dy.radius * steep + across * x.radius
        length = dy.errors * steep.max(-1) + across.max(-1) * x.errors
        more = dy.size * slope_rounded + r.gamma(1) * dy.size * steep
        return together(dy.value * slope, radius, length, more)

    return y, pull


def table_gradient(r: Rounding, rows: int, ids: Array, dy: Ball, terms: int) -> Ball:
    """The gradient by a table (rows, d) of which each position took the row of its id."""
    value = np.zeros((rows, dy.value.shape[-1]), dy.value.dtype)
    radius, size, length = np.zeros(value.shape), np.zeros(value.shape), np.zeros(rows)
    parts = ((value, dy.value), (radius, dy.radius), (size, dy.size), (length, dy.errors))
    for into, what in parts:
        np.add.at(into, ids, what)
    return together(value, radius, length, r.gamma(terms) * size)
