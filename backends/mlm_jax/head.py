"""The output layer and the objective on it, at selected positions only (chapter HED).

Hidden states of selected positions are gathered into a static capacity first; logits of other
positions are never formed.  An overflow of the capacity is never silent: the sum is NaN, a step
says ``OVERFLOW``, a checked call raises.

>>> hidden, weight, bias = jnp.ones((1, 2, 3)), jnp.zeros((4, 3)), jnp.zeros(4)
>>> targets, selected = jnp.array([[1, 0]]), jnp.array([[True, False]])
>>> total, count = head_log_likelihood_sum(hidden, weight, bias, targets, selected, capacity=1)
>>> round(float(total), 6), int(count)
(-1.386294, 1)
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from mlm_jax import checking
from mlm_jax.objective import accumulator, log_likelihood, status_word
from mlm_spec.batch import HeadResult

__all__ = [
    "HeadStep",
    "head",
    "head_log_likelihood_sum",
    "head_step",
    "jitted_head_step",
    "rounded_capacity",
]

Array = Any  # jax.Array or numpy.ndarray
_Layer = tuple[jax.Array, jax.Array, jax.Array | None]

_FEWEST_SLOTS = 16  # below this, another program costs more than the rows it would save


class HeadStep(NamedTuple):
    """What `head_step` returns: the fields of a `HeadResult`, and the status, int32 ()."""

    sum: jax.Array
    count: jax.Array
    grad_hidden: jax.Array
    grad_weight: jax.Array
    grad_bias: jax.Array | None
    status: jax.Array


def head_log_likelihood_sum(
    hidden: Array,
    weight: Array,
    bias: Array | None,
    targets: Array,
    selected: Array,
    weights: Array | None = None,
    *,
    capacity: int,
) -> tuple[jax.Array, jax.Array]:
    """(sum, count) of logits = hidden · weightᵀ + bias at the selected positions.

    Differentiable in hidden, weight, bias and weights, in reverse mode.  The products keep the
    dtype of their factors and are accumulated in float32 (float64 for float64); float32 factors
    are never rounded to TF32.

    Parameters
    ----------
    hidden : float (..., d); NaN at unselected positions does not matter.
    weight : (V, d), in the dtype of hidden.
    bias : (V,), in the dtype of hidden, or None.
    targets, selected, weights : as in `mlm_jax.objective.log_likelihood_sum`, (...).
    capacity : static; memory is that of ``capacity`` rows of logits.

    Returns
    -------
    sum : nats, float32 () or float64 (); NaN if more positions are selected than ``capacity``.
    count : int32 (), of all selected positions.

    Raises
    ------
    ShapeError, DTypeError : when it is traced.

    Source: chapter HED.  Bound: that of chapter HED at the accumulation dtype, for any order of
    summation.
    """
    checking.check_head(hidden, weight, bias, targets, selected, weights)
    slots = min(max(checking.check_capacity(capacity), 1), max(selected.size, 1))
    rows = _gather(targets, selected, weights, slots, accumulator(hidden.dtype))
    layer = _layer(hidden, weight, bias)
    nats = _nats(layer, rows)
    count = jnp.sum(jnp.asarray(selected), dtype=jnp.int32)
    total = jnp.sum(rows.shares * nats)
    return jnp.where(count > capacity, jnp.nan, total), count


class _Rows(NamedTuple):
    """The selected positions, gathered: arrays (C,).

    Attributes
    ----------
    place : int32, in the flat batch; beyond its end for slots that are not used.
    target, shares : the target and the upstream weight, 0 for slots that are not used.
    used : bool.
    """

    place: jax.Array
    target: jax.Array
    shares: jax.Array
    used: jax.Array


def _gather(targets: Array, selected: Array, weights: Array | None, slots: int, wide: Any) -> _Rows:
    chosen = jnp.asarray(selected).reshape(-1)
    (place,) = jnp.nonzero(chosen, size=slots, fill_value=chosen.size)
    used = place < chosen.size
    target = _take(checking.as_positions(targets).reshape(-1), place)
    if weights is None:
        return _Rows(place, target, used.astype(wide), used)
    return _Rows(place, target, _take(jnp.asarray(weights).reshape(-1), place).astype(wide), used)


def _take(values: jax.Array, place: jax.Array) -> jax.Array:
    """Rows of values, zeros for places beyond the end; its transpose drops those."""
    return values.at[place].get(mode="fill", fill_value=0)


def _layer(hidden: Array, weight: Array, bias: Array | None) -> _Layer:
    return jnp.asarray(hidden), jnp.asarray(weight), None if bias is None else jnp.asarray(bias)


def _nats(layer: _Layer, rows: _Rows) -> jax.Array:
    """Log-likelihoods of the gathered rows: (C,)."""
    hidden, weight, bias = layer
    states = _take(hidden.reshape(-1, hidden.shape[-1]), rows.place)
    wide = accumulator(hidden.dtype)
    # HIGHEST: on a GPU float32 would otherwise be rounded to TF32.  Factors of 16 bits have
    # exact products in float32, whatever the precision.
    logits = lax.dot_general(
        states,
        weight,
        (((1,), (1,)), ((), ())),
        precision=lax.Precision.HIGHEST,
        preferred_element_type=wide,
    )
    if bias is not None:
        logits = logits + bias.astype(wide)
    return log_likelihood(logits, rows.target, rows.used)


def head_step(
    hidden: Array,
    weight: Array,
    bias: Array | None,
    targets: Array,
    selected: Array,
    weights: Array | None = None,
    *,
    capacity: int,
    limit: Array | int | None = None,
) -> HeadStep:
    """`head` without synchronisation, for use inside `jax.jit` (MLM-ERR-11, 12).

    Value and gradients are one program.  Unless the status is ``OK`` or ``EMPTY``, sum, count
    and gradients are zeros.

    Parameters
    ----------
    hidden, weight, bias, targets, selected, weights : as in `head_log_likelihood_sum`.
    capacity : static; so many rows are gathered.
    limit : more selected positions than this set ``OVERFLOW``; at most ``capacity``, which is
        also the default.  It may be an array: a limit that changes compiles nothing.

    Raises
    ------
    ShapeError, DTypeError : when it is traced.

    Source: chapters HED and ERR.  Bound: that of chapter HED at the accumulation dtype, for any
    order of summation.
    """
    checking.check_head(hidden, weight, bias, targets, selected, weights)
    slots = min(max(checking.check_capacity(capacity), 1), max(selected.size, 1))
    wide = accumulator(hidden.dtype)
    rows = _gather(targets, selected, weights, slots, wide)

    def weighted(layer: _Layer) -> tuple[jax.Array, jax.Array]:
        nats = _nats(layer, rows)
        return jnp.sum(rows.shares * nats), nats

    layer = _layer(hidden, weight, bias)
    total, pull, nats = jax.vjp(weighted, layer, has_aux=True)
    (gradients,) = pull(jnp.ones_like(total))
    finite = jnp.all(jnp.isfinite(nats)) & jnp.all(jnp.isfinite(rows.shares))
    finite &= jnp.isfinite(total) & jnp.all(jnp.isfinite(layer[1]))
    chosen, ids = jnp.asarray(selected), checking.as_positions(targets)
    most = capacity if limit is None else jnp.minimum(limit, capacity)
    status = status_word(chosen, ids, weight.shape[0], finite, most)
    nothing = checking.is_without_effect(status)
    results = (total, jnp.sum(chosen, dtype=jnp.int32), *gradients)
    kept = jax.tree.map(lambda x: jnp.where(nothing, jnp.zeros_like(x), x), results)
    return HeadStep(*kept, status)


jitted_head_step = jax.jit(head_step, static_argnames=("capacity",))


def head(
    hidden: Array,
    weight: Array,
    bias: Array | None,
    targets: Array,
    selected: Array,
    weights: Array | None = None,
    *,
    capacity: int | None = None,
) -> HeadResult:
    """(sum, count) of a head, and its three gradients; checked.

    Waits for the device twice: for the number of selected positions, and for the status.

    Parameters
    ----------
    hidden, weight, bias, targets, selected, weights : as in `head_log_likelihood_sum`; float64
        with x64 on.
    capacity : the most selected positions that are accepted; None: no limit.

    Returns
    -------
    HeadResult of JAX arrays: sum and count in the accumulation dtype and int32, gradients in the
    dtype of hidden; grad_bias None without a bias.

    Raises
    ------
    ShapeError, DTypeError, IdRangeError, NotFiniteError, NoSupportError, ImpossibleTargetError,
    CapacityError.

    Source: chapter HED.  Bound: that of chapter HED at the accumulation dtype, for any order of
    summation.
    """
    checking.check_head(hidden, weight, bias, targets, selected, weights)
    count = int(np.count_nonzero(np.asarray(selected)))
    limit = count if capacity is None else checking.check_capacity(capacity)
    arguments = (hidden, weight, bias, checking.narrow_ids(targets), selected, weights)
    slots = rounded_capacity(min(count, limit), selected.size)
    step = jitted_head_step(*arguments, capacity=slots, limit=np.int32(min(limit, slots)))
    original = (hidden, weight, bias, targets, selected, weights)
    checking.explain_head(int(step.status), *original, capacity=capacity)
    return HeadResult(*step[:5])


def rounded_capacity(count: int, positions: int) -> int:
    """A capacity for ``count`` of so many positions: few different ones, so few programs.

    >>> [rounded_capacity(count, 512) for count in (0, 77, 300)], rounded_capacity(3, 16)
    ([16, 128, 512], 16)
    """
    rounded = max(_FEWEST_SLOTS, 1 << max(count - 1, 0).bit_length())
    return max(min(rounded, positions), 1)
