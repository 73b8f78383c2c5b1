"""Bounds for the output layer: its value and three gradients (chapter HED, "Bounds")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.bounds.accumulation import ANY_ORDER, Accumulation
from mlm_conformance.bounds.arithmetic import SLACK, Arithmetic, arithmetic, gamma
from mlm_conformance.bounds.scoring import sum_bound, value_bound
from mlm_conformance.bounds.softmax import probability_error, softmax
from mlm_spec import log_likelihood

__all__ = ["HeadBounds", "head_bounds"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class HeadBounds:
    """Bounds for the head's results; the arrays have the shapes of the gradients they bound."""

    sum: float
    grad_hidden: Floats  # (N, d)
    grad_weight: Floats  # (V, d)
    grad_bias: Floats  # (V,)


def head_bounds(
    hidden: Floats,
    weight: Floats,
    bias: Floats | None,
    targets: NDArray[Any],
    weights: Floats,
    gradient: Floats,
    dtype: str,
    declared: Accumulation = ANY_ORDER,
) -> HeadBounds:
    """|computed − true| for the head's value and gradients, any order of every summation.

    Logits, and their gradient, may be stored in the dtype of the inputs.

    Parameters
    ----------
    hidden : float64 (N, d), selected positions only.
    weight, bias : float64 (V, d), (V,).
    targets, weights : (N,).
    gradient : float64 (N, V), the true d sum / d logits.
    dtype : the name of the inputs' dtype.
    declared : how sums over the vocabulary are taken; those of products, in any order.
    """
    how = arithmetic(dtype, declared=declared)
    stored = arithmetic(dtype, dtype, declared)
    logits = hidden @ weight.T + (0.0 if bias is None else bias)
    delta = _logit_error(hidden, weight, bias, logits, stored)
    values, value_bounds = _perturbed_value(logits, delta, targets, how)
    total = sum_bound(values, value_bounds, weights, how)
    slip = _signal_error(logits, delta, gradient, weights, stored)

    ones = np.ones((hidden.shape[0], 1))
    return HeadBounds(
        total,
        _product_bound(gradient, slip, weight, stored),
        _product_bound(gradient.T, slip.T, hidden, stored),
        _product_bound(gradient.T, slip.T, ones, stored)[:, 0],
    )


def _product_bound(left: Floats, slip: Floats, right: Floats, stored: Arithmetic) -> Floats:
    """Entries of left @ right, where left is off by ``slip``, against the sum of magnitudes."""
    n = left.shape[1]
    sizes = (np.abs(left) + slip) @ np.abs(right)
    bound = slip @ np.abs(right) + gamma(n + 1, stored.unit) * sizes + n * stored.tiny
    bound = stored.stored(np.abs(left @ right), bound)
    result: Floats = bound * SLACK + gamma(n + 1, 2.0**-53) * sizes
    return result


def _logit_error(
    hidden: Floats, weight: Floats, bias: Floats | None, logits: Floats, stored: Arithmetic
) -> Floats:
    """δ_j: the error of a computed logit (N, V), with the reference's own float64 error."""
    sizes = np.abs(hidden) @ np.abs(weight).T
    offset = np.zeros(weight.shape[0]) if bias is None else np.where(np.isfinite(bias), bias, 0.0)
    sizes = sizes + np.abs(offset)
    n = hidden.shape[1] + 1
    delta = (gamma(n, stored.unit) + gamma(n, 2.0**-53)) * sizes + n * stored.tiny
    finite = np.where(np.isfinite(logits), np.abs(logits), 0.0)
    # Stored once after the product and once after the bias is added.
    before_bias = finite + np.abs(offset)
    delta = delta + stored.output_unit * (finite + before_bias + 2 * delta)
    result: Floats = (delta + 2 * stored.output_tiny) * SLACK
    return result


def _perturbed_value(
    logits: Floats, delta: Floats, targets: NDArray[Any], how: Arithmetic
) -> tuple[Floats, Floats]:
    """log Pr rises with the target's logit and falls with the others: exact end points.

    Returns the middle of the enclosure and its half width plus the arithmetic's bound, (N,) each.
    """
    column = targets[:, None].astype(np.intp)
    ends, arithmetic_bounds = [], []
    for sign in (-1.0, 1.0):
        moved = logits - sign * delta
        target = np.take_along_axis(logits + sign * delta, column, axis=-1)
        np.put_along_axis(moved, column, target, axis=-1)
        ends.append(log_likelihood(moved, targets))
        arithmetic_bounds.append(value_bound(moved, targets, how))
    true = log_likelihood(logits, targets)
    width = np.maximum(ends[1] - true, true - ends[0])
    return true, width + np.maximum(*arithmetic_bounds)


def _signal_error(
    logits: Floats, delta: Floats, gradient: Floats, weights: Floats, stored: Arithmetic
) -> Floats:
    """ε_ij: the error of d sum / d logits as it enters the matrix products (N, V)."""
    soft = softmax(logits)
    # log p_j moves by at most δ_j + log Σ_k p_k exp δ_k.
    spread = np.log((soft.p * np.exp(delta)).sum(axis=-1))[:, None]
    log_factor = delta + spread + probability_error(soft, stored)
    scale = np.abs(weights)[:, None]
    with np.errstate(invalid="ignore", over="ignore"):
        moved = np.where(soft.p > 0.0, soft.p * np.expm1(log_factor * SLACK), 0.0)
    bound = scale * (moved + stored.unit * soft.p)
    bound = bound + 4 * stored.unit * np.abs(gradient) + stored.tiny * (1.0 + scale)
    bound = stored.stored(np.abs(gradient), bound)
    result: Floats = bound * SLACK
    return result
