"""The objective on hidden states and an output layer, in ball arithmetic.

Floats are integers times a power of two, so the logits h · W_j + b_j are exact integers times one.
With g_ij = w_i (1[j = t_i] − p_ij), a sparse exact part e_ij plus a rest r_ij,

    grad_hidden_i = Σ_j g_ij W_j      grad_weight_j = Σ_i g_ij h_i      grad_bias_j = Σ_i g_ij

A bias gradient is the weight gradient of one more hidden unit, which is always 1.
"""

from __future__ import annotations

import math
from collections import defaultdict
from operator import methodcaller
from typing import Any, NamedTuple

import numpy as np
from flint import arb, arb_mat, fmpq, fmpz_mat
from numpy.typing import NDArray

from mlm_conformance.ball.reals import Real, decide, nearest, rational, total
from mlm_conformance.ball.scoring import upstream_weights
from mlm_conformance.ball.softmax import Levels, Softmax, levels_of_integers
from mlm_spec.batch import HeadResult

__all__ = ["head"]

Rows = list[list[float]]
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
    ids = targets[selected].tolist()
    if not ids:
        return _nothing_selected(hidden, weight, bias)
    offsets = None if bias is None else bias.astype(np.float64).tolist()
    every = _levels(states, matrix, offsets, ids)
    upstream = upstream_weights(None if weights is None else weights[selected], len(ids))
    nats, of_states, of_layer = decide(lambda: _answers(states, matrix, every, upstream))
    grad_hidden = np.zeros(hidden.shape)
    grad_hidden[selected] = of_states
    grad_bias = None if bias is None else of_layer[:, -1].copy()
    return HeadResult(
        np.float64(nats), np.int64(len(ids)), grad_hidden, of_layer[:, :-1].copy(), grad_bias
    )


def _nothing_selected(
    hidden: NDArray[Any], weight: NDArray[Any], bias: NDArray[Any] | None
) -> HeadResult:
    grad_bias = None if bias is None else np.zeros(bias.shape)
    return HeadResult(
        np.float64(0), np.int64(0), np.zeros(hidden.shape), np.zeros(weight.shape), grad_bias
    )


def _answers(
    states: Rows, matrix: Rows, every: list[Levels], weights: list[float]
) -> tuple[float, Floats, Floats]:
    """The sum, grad_hidden (N, d), and grad_weight beside grad_bias (V, d + 1)."""
    positions = [Softmax(levels) for levels in every]
    terms = [p.log_likelihood().times(w) for p, w in zip(positions, weights, strict=True)]
    signal = _signal(positions, weights)
    with_one = [[*state, 1.0] for state in states]
    return nearest(total(terms)), _of_states(signal, matrix), _of_layer(signal, with_one)


# --- logits ------------------------------------------------------------------------------------


def _levels(
    states: Rows, matrix: Rows, offsets: list[float] | None, ids: list[int]
) -> list[Levels]:
    """The exact logits of each position."""
    left, left_scale = _integers(states)
    right, right_scale = _integers(matrix)
    biases = [0.0] * len(matrix) if offsets is None else offsets
    (added,), added_scale = _integers([[0.0 if b == -math.inf else b for b in biases]])
    scale = max(left_scale + right_scale, added_scale)
    shift = scale - left_scale - right_scale
    products = (fmpz_mat(left) * fmpz_mat(right).transpose()).tolist()
    every = []
    for row, target in zip(products, ids, strict=True):
        logits = [
            None if b == -math.inf else (int(z) << shift) + (extra << scale - added_scale)
            for z, b, extra in zip(row, biases, added, strict=True)
        ]
        every.append(levels_of_integers(logits, scale, target))
    return every


def _integers(rows: Rows) -> tuple[list[list[int]], int]:
    """Integers and a scale: each float is its integer · 2^-scale."""
    fractions, exponents = np.frexp(np.array(rows))
    digits = (fractions * 2.0**53).astype(np.int64)  # exact: a float has 53 bits
    scale = 53 - int(exponents.min(initial=53))
    pairs = zip(digits.tolist(), (exponents + (scale - 53)).tolist(), strict=True)
    return [[d << shift for d, shift in zip(*row, strict=True)] for row in pairs], scale


# --- gradients ---------------------------------------------------------------------------------


class _Signal(NamedTuple):
    """The gradient of the sum by the logits, (N, V): exact parts by position and id, and rests."""

    exact: list[dict[int, Any]]
    rests: Any  # arb_mat


def _signal(positions: list[Softmax], weights: list[float]) -> _Signal:
    exact, rests = [], []
    for position, weight in zip(positions, weights, strict=True):
        row = _by_id(position, weight)
        exact.append({j: real.exact for j, real in enumerate(row) if real.exact != 0})
        rests.append([real.rest for real in row])
    return _Signal(exact, arb_mat(rests))


def _by_id(position: Softmax, weight: float) -> list[Real]:
    """One row of the gradient; 0 at logits of -inf."""
    gradient = position.gradient(weight)
    by_level = [*gradient.others, Real(fmpq(0), arb(0))]  # level -1: the last
    row = [by_level[level] for level in position.levels.level_of.tolist()]
    row[position.levels.target] = gradient.target
    return row


def _of_states(signal: _Signal, matrix: Rows) -> Floats:
    """Σ_j g_ij W_j, (N, d)."""
    exact: dict[tuple[int, int], Any] = defaultdict(fmpq)
    rationals = {j: list(map(rational, matrix[j])) for j in set().union(*signal.exact)}
    for i, row in enumerate(signal.exact):
        for j, part in row.items():
            for k, value in enumerate(rationals[j]):
                exact[i, k] += part * value
    return _rounded(signal.rests * _balls(matrix), exact)


def _of_layer(signal: _Signal, states: Rows) -> Floats:
    """Σ_i g_ij h_i, (V, d)."""
    exact: dict[tuple[int, int], Any] = defaultdict(fmpq)
    for row, state in zip(signal.exact, states, strict=True):
        rationals = list(map(rational, state))
        for j, part in row.items():
            for k, value in enumerate(rationals):
                exact[j, k] += part * value
    return _rounded(signal.rests.transpose() * _balls(states), exact)


def _balls(rows: Rows) -> Any:
    return arb_mat([list(map(arb, row)) for row in rows])


def _rounded(rests: Any, exact: dict[tuple[int, int], Any]) -> Floats:
    """The nearest floats of exact parts plus rests."""
    rows = rests.tolist()
    # Most have no exact part: both their ends are the same float, but for the ones listed.
    low, high = ([[float(end(rest)) for rest in row] for row in rows] for end in (_lower, _upper))
    found = np.array(low, np.float64)
    undecided = set(map(tuple, np.argwhere(found != np.array(high, np.float64)).tolist()))
    for i, k in undecided | exact.keys():
        found[i, k] = nearest(Real(exact.get((i, k), fmpq(0)), rows[i][k]))
    return found + 0.0


_lower, _upper = methodcaller("lower"), methodcaller("upper")
