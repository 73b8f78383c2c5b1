"""Arrays of balls, and the arithmetic that keeps every conforming result inside.

A ball stands for a real number x and for all x̂ that a conforming implementation may have in its
place: |x − value| ≤ radius and |x̂ − value| ≤ radius.  For each operation

    radius = what the errors of the operands become + what rounding adds

An implementation rounds with unit roundoff u, and the values here are rounded themselves, with
2⁻⁵³.  Since γ_n(u) + γ_n(v) ≤ γ_n(u + v), one unit u + 2⁻⁵³ stands for both.  A sum of n terms in
any order costs γ_{n−1} of the sum of their magnitudes (Higham 2002, chapter 4).

Entry by entry, a matrix W passes errors on by Σ|W|, which grows with every layer by √d more than it
can in truth.  So a ball also knows the length of the error of each row, which W multiplies by no
more than its norm ‖W‖₂; the smaller of the two bounds counts.

Radii are computed from numbers ≥ 0 by sums and products, so what rounding does to them is relative
and far below 2⁻¹⁰; `inflated` covers it once, at the end.  Nothing here underflows: the cases see
to that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.bounds.arithmetic import SLACK, gamma

__all__ = ["Ball", "Rounding", "exact", "lengths", "magnitude", "rounding", "together"]

Array = NDArray[Any]
_OWN = 2.0**-53
_ULPS = 4.0  # accepted error of erf, exp, log, powers and roots: that of chapter LIK


@dataclass(frozen=True, slots=True)
class Ball:
    """An array of balls.

    Attributes
    ----------
    value : float64, or a longer float.
    radius : float64, of the same shape.
    length : float64 (...), bounds of the lengths of the errors along the last axis; None: those
        that the radii have.
    """

    value: Array
    radius: Array
    length: Array | None = None

    @property
    def size(self) -> Array:
        """The largest magnitude in each ball."""
        return magnitude(self.value) + self.radius

    @property
    def errors(self) -> Array:
        """The length of the error of each row."""
        return lengths(self.radius) if self.length is None else self.length

    def moved(self, how: Callable[[Array], Array], rows: Any = None) -> Ball:
        """The same balls in other places: ``how`` rearranges, selects or repeats.

        ``rows`` does the same for the lengths of rows, where rows stay what they are.
        """
        kept = None if rows is None or self.length is None else rows(self.length)
        return Ball(how(self.value), how(self.radius), kept)

    def inflated(self) -> Ball:
        """With what the rounding of the radii themselves may have cost."""
        return Ball(self.value, self.radius * SLACK)

    def __neg__(self) -> Ball:
        return Ball(-self.value, self.radius, self.length)


def exact(array: Any) -> Ball:
    """Numbers that everybody has alike."""
    value = np.asarray(array)
    return Ball(value, np.zeros(value.shape))


def together(value: Array, radius: Array, length: Array, rounded: Array) -> Ball:
    """A ball from two bounds of one error, entry by entry and by rows, and what rounding adds."""
    least = np.minimum(length, lengths(radius))
    return Ball(
        value,
        np.minimum(radius, length[..., None]) + rounded,
        least + lengths(rounded),
    )


def magnitude(value: Array) -> Array:
    """|value| in float64."""
    size: Array = np.abs(value).astype(np.float64)
    return size


def lengths(rows: Array) -> Array:
    """‖·‖₂ along the last axis, in float64."""
    found: Array = np.sqrt((magnitude(rows) ** 2).sum(-1))
    return found


@dataclass(frozen=True, slots=True)
class Rounding:
    """Arithmetic with unit roundoff ``unit``, the suite's own included."""

    unit: float

    def gamma(self, n: float) -> float:
        """γ_n."""
        return gamma(n, self.unit)

    @property
    def function(self) -> float:
        """The relative error of one value of erf, exp, log, a power or a root."""
        return 2 * _ULPS * self.unit

    def widened(self, a: Ball, roundings: float) -> Ball:
        """Each ball with the room of some more roundings of itself."""
        more = self.gamma(roundings) * a.size
        length = None if a.length is None else a.length + lengths(more)
        return Ball(a.value, a.radius + more, length)

    def add(self, *terms: Ball) -> Ball:
        """A sum in any order, broadcast."""
        value = sum((t.value for t in terms[1:]), terms[0].value)
        radius = sum((t.radius for t in terms[1:]), terms[0].radius)
        rounded = self.gamma(len(terms) - 1) * sum((t.size for t in terms[1:]), terms[0].size)
        if all(t.length is None for t in terms):
            return Ball(np.asarray(value), radius + rounded)
        length = sum((t.errors for t in terms[1:]), terms[0].errors)
        return together(np.asarray(value), radius, length, rounded)

    def times(self, a: Ball, b: Ball, roundings: float = 1) -> Ball:
        """Products, entry by entry, broadcast."""
        radius = a.radius * b.size + magnitude(a.value) * b.radius
        return Ball(a.value * b.value, radius + self.gamma(roundings) * a.size * b.size)

    def scaled(self, a: Ball, factor: Any, roundings: float = 2) -> Ball:
        """Products by a number that takes all but one of the roundings to compute."""
        size = float(abs(factor))
        length = None if a.length is None else a.length * size
        return self.widened(Ball(a.value * factor, a.radius * size, length), roundings)

    def gained(self, a: Ball, weight: Ball) -> Ball:
        """Rows times one exact row."""
        w = magnitude(weight.value)
        rounded = self.gamma(1) * a.size * w
        return together(a.value * weight.value, a.radius * w, a.errors * w.max(), rounded)

    def mapped(self, a: Ball, matrix: Ball, more: float = 0) -> Ball:
        """a @ matrix of an exact matrix."""
        w = magnitude(matrix.value)
        rounded = self.gamma(a.value.shape[-1] + more) * (a.size @ w)
        errors = a.errors[..., None]
        radius = np.minimum(a.radius @ w, errors * lengths(w.T))
        longest = a.errors * np.linalg.norm(matrix.value.astype(np.float64), 2)
        return together(a.value @ matrix.value, radius, longest, rounded)

    def matmul(self, a: Ball, b: Ball, terms: int = 0) -> Ball:
        """a @ b, as a part of a sum of ``terms`` where that is more."""
        size = magnitude(a.value)
        radius = a.radius @ b.size + size @ b.radius
        rows = a.radius @ (lengths(b.value) + b.errors)[..., None] + size @ b.errors[..., None]
        rounded = self.gamma(max(terms, a.value.shape[-1])) * (a.size @ b.size)
        return together(a.value @ b.value, radius, rows[..., 0], rounded)

    def inner(self, a: Ball, b: Ball) -> Ball:
        """a @ bᵀ: products of rows."""
        turned = b.moved(lambda x: x.swapaxes(-1, -2))
        radius = a.radius @ turned.size + magnitude(a.value) @ turned.radius
        by_rows = lengths(a.value)[..., :, None] * b.errors[..., None, :]
        by_rows = by_rows + a.errors[..., :, None] * (lengths(b.value) + b.errors)[..., None, :]
        rounded = self.gamma(a.value.shape[-1]) * (a.size @ turned.size)
        return Ball(a.value @ turned.value, np.minimum(radius, by_rows) + rounded)

    def total(self, a: Ball, axis: int, terms: int = 0, keepdims: bool = False) -> Ball:
        """A sum along an axis."""
        n = max(terms, a.value.shape[axis])
        sums = [np.asarray(x.sum(axis, keepdims=keepdims)) for x in (a.value, a.radius, a.size)]
        return Ball(sums[0], sums[1] + self.gamma(n - 1) * sums[2])

    def divided(self, a: Ball, b: Ball, roundings: float = 1) -> Ball:
        """a / b; an infinite radius where b may be 0."""
        value = a.value / b.value
        least = magnitude(b.value) - b.radius
        with np.errstate(divide="ignore", invalid="ignore"):
            off = (a.radius + magnitude(value) * b.radius) / least
        radius = np.where(least > 0.0, off, np.inf)
        return self.widened(Ball(value, radius), roundings)

    def root(self, a: Ball) -> Ball:
        """√a of balls ≥ 0, by its end points: its slope at 0 is infinite."""
        value = np.sqrt(a.value)
        middle, low = (
            value.astype(np.float64),
            np.sqrt(np.maximum(magnitude(a.value) - a.radius, 0)),
        )
        # (a + r) − a = (√(a + r) − √a)·(√(a + r) + √a), and the same below.
        above = np.sqrt(a.size) + middle
        below = middle + low
        with np.errstate(divide="ignore", invalid="ignore"):
            up = np.where(a.radius > 0.0, a.radius / above, 0.0)
            down = np.where(a.radius > 0.0, np.minimum(a.radius / below, middle), 0.0)
        radius = np.maximum(up, np.where(np.isnan(down), 0.0, down))
        return Ball(value, radius + self.function * (middle + radius))


def rounding(unit: float = _OWN) -> Rounding:
    """The arithmetic of an implementation with this unit roundoff, float64's if none is given."""
    return Rounding(unit + _OWN)
