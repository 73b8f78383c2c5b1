"""The layers of the encoder, forward and backward, one pair each (chapter ENC).

Arrays are float64 and have one row for a position: (N, d).  A backward function takes the gradient
of the objective's sum with respect to what the layer gave, and returns that with respect to what
the layer was given, and the `Terms` of the gradients of its weight and its bias.

**Rounding.**  Each function takes ``rounded`` and applies it to the result of every operation, as
if that were stored: to a linear map with its bias; to the mean, the centred values, the variance,
the inverse deviation, the normalized values and the result of LayerNorm; to Φ and the product of
GELU; and to the same in the backward direction.  `attention`, the residual sums, dropout, the
logits, their gradient, the log-likelihoods and the sum over positions in each gradient are treated
alike.  `identity` leaves all of it in float64.  A function that moves each number by about the unit
roundoff of a dtype shows what computing in that dtype may do to a result.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Floats",
    "Normalized",
    "Rounded",
    "Terms",
    "add_up",
    "gelu",
    "gelu_backward",
    "identity",
    "layer_norm",
    "layer_norm_backward",
    "linear",
    "linear_backward",
    "magnitudes",
]

Floats = NDArray[np.float64]
Rounded = Callable[[Floats], Floats]


def identity(values: Floats) -> Floats:
    """Every result as it is: the reference itself."""
    return values


class Terms(NamedTuple):
    """The gradient of a parameter as a sum over positions that has not been taken yet.

    Attributes
    ----------
    left : (N, out).
    right : (N, in), for a weight: the gradient is leftᵀ · right; None for a bias: it is Σ left.
    rows : integer (N,), for a table of embeddings: the row that each position has read.
    """

    left: Floats
    right: Floats | None = None
    rows: NDArray[np.integer] | None = None


def add_up(terms: Terms, shape: tuple[int, ...]) -> Floats:
    """The sum over positions, in the parameter's shape."""
    if terms.rows is not None:
        table = np.zeros(shape)
        np.add.at(table, terms.rows, terms.left)
        return table
    if terms.right is None:
        return np.asarray(terms.left.sum(axis=0))
    return terms.left.T @ terms.right


def magnitudes(terms: Terms) -> Terms:
    """The same terms without their signs."""
    right = None if terms.right is None else np.abs(terms.right)
    return Terms(np.abs(terms.left), right, terms.rows)


def linear(x: Floats, weight: Floats, bias: Floats, rounded: Rounded) -> Floats:
    """y = x · weightᵀ + bias: (N, in), (out, in), (out,) give (N, out)."""
    return rounded(x @ weight.T + bias)


def linear_backward(
    dy: Floats, x: Floats, weight: Floats, rounded: Rounded
) -> tuple[Floats, Terms, Terms]:
    """dx = dy · weight, the weight's terms dy ⊗ x, and the bias's dy."""
    return rounded(dy @ weight), Terms(dy, x), Terms(dy)


class Normalized(NamedTuple):
    """What LayerNorm keeps for its backward: (x − mean) / σ (N, d), and 1 / σ (N, 1)."""

    values: Floats
    inverse: Floats


def layer_norm(
    x: Floats, weight: Floats, bias: Floats, eps: float, rounded: Rounded
) -> tuple[Floats, Normalized]:
    """y = weight · (x − mean) / √(variance + eps) + bias, over the last axis.

    The variance is the biased one, Σ (x − mean)² / d, and eps stands inside the square root.
    """
    centred = rounded(x - rounded(x.mean(axis=-1, keepdims=True)))
    variance = rounded(np.square(centred).mean(axis=-1, keepdims=True))
    inverse = rounded(1.0 / np.sqrt(variance + eps))
    values = rounded(centred * inverse)
    return rounded(values * weight + bias), Normalized(values, inverse)


def layer_norm_backward(
    dy: Floats, kept: Normalized, weight: Floats, rounded: Rounded
) -> tuple[Floats, Terms, Terms]:
    """With x̂ the normalized values and g = dy · weight: dx = (g − mean g − x̂ · mean(g · x̂)) / σ."""
    g = rounded(dy * weight)
    mean = rounded(g.mean(axis=-1, keepdims=True))
    along = rounded((g * kept.values).mean(axis=-1, keepdims=True))
    dx = rounded(rounded(g - mean - kept.values * along) * kept.inverse)
    return dx, Terms(rounded(dy * kept.values)), Terms(dy)


def gelu(x: Floats, rounded: Rounded) -> tuple[Floats, Floats]:
    """x · Φ(x), and Φ(x), the distribution function of the standard normal.

    Φ(x) = erfc(−x / √2) / 2, which is (1 + erf(x / √2)) / 2 without its cancellation at x < 0.
    """
    scaled = (x * -math.sqrt(0.5)).reshape(-1).tolist()
    tails = np.fromiter(map(math.erfc, scaled), np.float64, len(scaled))  # NumPy has no erfc
    below = rounded(tails.reshape(x.shape) / 2.0)
    return rounded(x * below), below


def gelu_backward(dy: Floats, x: Floats, below: Floats, rounded: Rounded) -> Floats:
    """dx = dy · (Φ(x) + x · φ(x)), φ(x) = exp(−x² / 2) / √(2π)."""
    density = rounded(np.exp(np.square(x) * -0.5) / math.sqrt(2.0 * math.pi))
    return rounded(dy * rounded(below + x * density))
