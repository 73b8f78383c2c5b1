"""The output layer and the objective on it, at selected positions only (chapter HED)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_spec.batch import HeadResult
from mlm_spec.checking import FLOATS, check_array, check_finite, check_logits, check_weights
from mlm_spec.likelihood import log_likelihood, logit_gradient
from mlm_spec.objective import check_selection

__all__ = ["check_layer", "head"]


def head(
    hidden: NDArray[Any],
    weight: NDArray[Any],
    bias: NDArray[Any] | None,
    targets: NDArray[Any],
    selected: NDArray[np.bool_],
    weights: NDArray[Any] | None = None,
) -> HeadResult:
    """(sum, count) of logits = hidden · weightᵀ + bias, and its three gradients.

    The hidden states of selected positions are gathered first: logits of other positions are
    never formed, and their hidden states never looked at.

    Parameters
    ----------
    hidden : float64, float32, bfloat16 or float16 (B, T, d).
    weight : (V, d), in the dtype of hidden.
    bias : (V,), in the dtype of hidden, or None.
    targets : int32 or int64 (B, T); looked at only where selected.
    selected : bool (B, T).
    weights : float32 or float64 (B, T), upstream weights; None is all ones.

    Returns
    -------
    HeadResult : sum float64 in nats, count int, gradients in the dtype of hidden, computed in
        float64 and rounded once.

    Raises
    ------
    ShapeError, DTypeError, IdRangeError, NotFiniteError, NoSupportError, ImpossibleTargetError.

    Source: chapter HED.  Bound: those of its section "Bounds" at u = 2⁻⁵³, and one rounding to
    the dtype of the inputs.

    >>> result = head(np.ones((1, 1, 2)), np.zeros((4, 2)), np.zeros(4),
    ...               np.array([[1]]), np.array([[True]]))
    >>> round(float(result.sum), 6), result.grad_bias.tolist()
    (-1.386294, [-0.25, 0.75, -0.25, -0.25])
    """
    check_layer(hidden, weight, bias)
    check_finite("weight", weight)
    rows, columns, _ = hidden.shape
    check_selection(targets, selected, (rows, columns), weight.shape[0], "weight")
    upstream = check_weights(weights, selected)
    check_finite("hidden", hidden, selected)
    at = np.nonzero(selected)
    states, matrix = hidden[at].astype(np.float64), weight.astype(np.float64)
    logits = states @ matrix.T
    if bias is not None:
        logits += bias.astype(np.float64)
    ids = targets[at]
    check_logits(logits, ids, np.argwhere(selected), "hidden @ weight.T + bias")

    total = math.fsum((upstream[at] * log_likelihood(logits, ids)).tolist())
    signal = upstream[at][:, None] * logit_gradient(logits, ids)  # (N, V)
    grad_hidden = np.zeros(hidden.shape, hidden.dtype)
    grad_hidden[at] = (signal @ matrix).astype(hidden.dtype)
    grad_weight = (signal.T @ states).astype(hidden.dtype)
    grad_bias = None if bias is None else signal.sum(axis=0).astype(hidden.dtype)
    return HeadResult(np.float64(total), np.int64(ids.size), grad_hidden, grad_weight, grad_bias)


def check_layer(hidden: object, weight: object, bias: object) -> None:
    """Shapes and dtypes: all that is known without looking at values."""
    states = check_array("hidden", hidden, ("B", "T", "d"), FLOATS)
    own = (states.dtype.name,)
    matrix = check_array("weight", weight, ("V", states.shape[2]), own)
    if bias is not None:
        check_array("bias", bias, (matrix.shape[0],), own)
