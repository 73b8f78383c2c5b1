"""The objective on hidden states and an output layer, in ball arithmetic.

Floats are integers times a power of two, so the logits h · W_j + b_j are exact integers times one.
With g_ij = w_i (1[j = t_i] − p_ij), a sparse exact part e_ij plus a rest r_ij,

    grad_hidden_i = Σ_j g_ij W_j      grad_weight_j = Σ_i g_ij h_i      grad_bias_j = Σ_i g_ij

Since Σ_j r_ij = 0 (so do g and e), W_0 is taken off all W_j before they meet the rests: a column
of equal weights then gives exactly 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from flint import arb, arb_mat, arf, fmpq, fmpz_mat
from numpy.typing import NDArray

from mlm_conformance.ball.reals import Real, decide, nearest, rational, total
from mlm_conformance.ball.scoring import upstream_weights
from mlm_conformance.ball.softmax import Levels, Softmax, levels_of_integers
from mlm_spec.batch import HeadResult

__all__ = ["head"]

Floats = NDArray[np.float64]


def head(
    hidden: NDArray[Any],
    weight: NDArray[Any],
    bias: NDArray[Any] | None,
    targets: NDArray[Any],
    selected: NDArray[np.bool_],
    weights: NDArray[Any] | None = None,
) -> HeadResult:
    """The objective on hidden · weightᵀ + bias, each number the float64 nearest to the real one.

    Parameters
    ----------
    hidden : float (B, T, d), any float dtype, converted exactly, as are the next two.
    weight : float (V, d).
    bias : float (V,), finite or -inf, or None.
    targets : integer (B, T).
    selected : bool (B, T).
    weights : float (B, T) or None, all ones.

    Returns
    -------
    HeadResult : float64 throughout, count int64; 0.0 where a position is not selected.

    Raises
    ------
    UndecidedError : see the package.
    """
    states, matrix = (x.astype(np.float64).tolist() for x in (hidden[selected], weight))
    offsets = None if bias is None else bias.astype(np.float64).tolist()
    ids = targets[selected].tolist()
    upstream = upstream_weights(None if weights is None else weights[selected], len(ids))
    layer = _Layer(states, matrix, _levels(states, matrix, offsets, ids), upstream)
    grad_hidden = np.zeros(hidden.shape)
    grad_hidden[selected] = _decided(layer.grad_hidden, (len(ids), weight.shape[1]))
    return HeadResult(
        np.float64(decide(lambda: nearest(layer.sum()))),
        np.int64(len(ids)),
        grad_hidden,
        _decided(layer.grad_weight, weight.shape),
        None if bias is None else _decided(layer.grad_bias, bias.shape),
    )
