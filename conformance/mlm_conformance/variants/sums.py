"""Sums of the last axis in a floating-point format, each in an order of its own: (N, V) → (N,).

Nothing here leaves the dtype of the terms, unless it says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "compensated",
    "exactly",
    "in_lanes",
    "one_by_one",
    "pairwise",
    "permuted",
    "tree",
]

Array = NDArray[Any]
Sum = Callable[[Array], Array]


def one_by_one(terms: Array) -> Array:
    """From the first to the last."""
    # A running sum has no choice of order, unlike a sum.
    return np.cumsum(terms, axis=-1, dtype=terms.dtype)[..., -1]


def tree(terms: Array) -> Array:
    """Neighbours in pairs, until one number is left."""
    while (n := terms.shape[-1]) > 1:
        pairs = terms[..., : n - n % 2]
        folded = pairs[..., 0::2] + pairs[..., 1::2]
        terms = np.concatenate([folded, terms[..., n - n % 2 :]], axis=-1)
    return terms[..., 0]


def pairwise(terms: Array, block: int = 128) -> Array:
    """Halves, down to blocks that are added one by one."""
    n = terms.shape[-1]
    if n <= block:
        return one_by_one(terms)
    return pairwise(terms[..., : n // 2], block) + pairwise(terms[..., n // 2 :], block)


def in_lanes(terms: Array, lanes: int = 16) -> Array:
    """Every ``lanes``-th term into one sum, and then a tree over the lanes."""
    short = -terms.shape[-1] % lanes
    filled = np.concatenate([terms, np.zeros((*terms.shape[:-1], short), terms.dtype)], axis=-1)
    by_lane = filled.reshape(*terms.shape[:-1], -1, lanes)
    return tree(np.cumsum(by_lane, axis=-2, dtype=terms.dtype)[..., -1, :])


def compensated(terms: Array) -> Array:
    """Kahan: what a step rounds away enters the next."""
    total, lost = np.zeros_like(terms[..., 0]), np.zeros_like(terms[..., 0])
    for j in range(terms.shape[-1]):
        step = terms[..., j] - lost
        new = total + step
        lost = (new - total) - step
        total = new
    return total


def exactly(terms: Array) -> Array:
    """The nearest number to the exact sum."""
    sums = [math.fsum(row) for row in terms.reshape(-1, terms.shape[-1]).tolist()]
    return np.array(sums).reshape(terms.shape[:-1]).astype(terms.dtype)


def permuted(order: str) -> Sum:
    """One by one, in another order: ``rising``, ``falling`` or ``backwards``."""

    def total(terms: Array) -> Array:
        if order == "backwards":
            return one_by_one(terms[..., ::-1])
        rising = np.sort(terms, axis=-1)
        return one_by_one(rising if order == "rising" else rising[..., ::-1])

    return total
