"""The objective on given logits: Σ_{i∈A(x)} log Pr(x_i | x̄) (chapters OBJ, LIK, GRA).

`log_likelihood_sum` is differentiable and belongs inside `jax.value_and_grad`; `score_step` adds
the gradient and a status word; `score` checks its arguments and raises.

>>> logits = jnp.zeros((1, 2, 4))
>>> targets, selected = jnp.array([[3, 0]]), jnp.array([[True, False]])
>>> total, count = log_likelihood_sum(logits, targets, selected)
>>> round(float(total), 6), int(count)
(-1.386294, 1)
>>> jax.grad(lambda z: log_likelihood_sum(z, targets, selected)[0])(logits)[0].tolist()
[[-0.25, -0.25, -0.25, 0.75], [0.0, 0.0, 0.0, 0.0]]
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from mlm_jax import checking
from mlm_spec.batch import ScoreResult, Status

__all__ = [
    "ScoreStep",
    "accumulator",
    "jitted_score_step",
    "log_likelihood",
    "log_likelihood_sum",
    "score",
    "score_step",
    "status_word",
]

Array = Any  # jax.Array or numpy.ndarray


class ScoreStep(NamedTuple):
    """What `score_step` returns: the fields of a `ScoreResult`, and the status, int32 ()."""

    log_likelihood: jax.Array
    sum: jax.Array
    count: jax.Array
    grad_logits: jax.Array
    status: jax.Array


def accumulator(dtype: Any) -> Any:
    """The dtype that sums are kept in: float64 for float64, else float32 (MLM-OBJ-12)."""
    return jnp.float64 if dtype == jnp.float64 else jnp.float32


@jax.custom_vjp
def log_likelihood(logits: jax.Array, targets: jax.Array, selected: jax.Array) -> jax.Array:
    """log Pr(target) at selected positions, 0.0 elsewhere.

    With m the largest logit, e_j = exp(z_j − m), and S the sum of all e_j: where the target has
    the largest logit, log p = −log1p(Σ_{j≠t} e_j), else (z_t − m) − log S.  Neither form
    cancels, so log p keeps its relative accuracy also where p is nearly 1.

    The gradient is written out, not derived: the first form is right only where z_t = m and says
    nothing of how it changes with z_t; and 1 − p_t is S less e_t, without a subtraction.

    Parameters
    ----------
    logits : float (..., V); -inf is probability 0.
    targets : integer (...).
    selected : bool (...).

    Returns
    -------
    nats, float64 (...) for float64 logits, else float32.  NaN where a selected position has no
    log-likelihood (a target outside the vocabulary, NaN or +inf logits, no finite logit), -inf
    where its target has logit -inf: a compiled program cannot raise, and must not guess.
    """
    return _forward(logits, targets, selected)[0]


def _forward(
    logits: jax.Array, targets: jax.Array, selected: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    row, target, scored = _rows(logits, targets, selected)
    top = jnp.max(row, axis=-1)
    power = jnp.exp(row - top[..., None])
    others = jnp.sum(jnp.where(_is_target(row, target), 0, power), axis=-1)
    lead = jnp.take_along_axis(row, target[..., None], axis=-1)[..., 0]
    total = others + jnp.exp(lead - top)
    # others = 0 has a case of its own, for the sign: log 1 is 0.0, not -0.0.
    likely = jnp.where(others > 0, -jnp.log1p(others), 0)
    value = jnp.where(lead == top, likely, (lead - top) - jnp.log(total))
    # total is NaN with any NaN, any +inf, or -inf throughout; also in a vocabulary of one.
    value = jnp.where(scored & ~jnp.isnan(total), value, jnp.where(selected, jnp.nan, 0))
    return value, (logits, targets, selected, top, others, total)


def _backward(saved: tuple[jax.Array, ...], upstream: jax.Array) -> tuple[jax.Array, None, None]:
    logits, targets, selected, top, others, total = saved
    row, target, scored = _rows(logits, targets, selected)
    power = jnp.exp(row - top[..., None])
    numerator = jnp.where(_is_target(row, target), others[..., None], -power)
    gradient = numerator * (upstream / total)[..., None]
    return jnp.where(scored[..., None], gradient, 0).astype(logits.dtype), None, None


log_likelihood.defvjp(_forward, _backward)


def _rows(
    logits: jax.Array, targets: jax.Array, selected: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Logits in the accumulation dtype, targets, and where they count.

    Elsewhere they are zeros: NaN times zero is NaN, so what must not matter is replaced, not
    multiplied away.
    """
    scored = selected & (targets >= 0) & (targets < logits.shape[-1])
    row = jnp.where(scored[..., None], logits.astype(accumulator(logits.dtype)), 0)
    return row, jnp.where(scored, targets, 0).astype(jnp.int32), scored


def _is_target(row: jax.Array, target: jax.Array) -> jax.Array:
    return lax.broadcasted_iota(jnp.int32, row.shape, row.ndim - 1) == target[..., None]


def log_likelihood_sum(
    logits: Array, targets: Array, selected: Array, weights: Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """(sum, count): Σ wᵢ log pᵢ over the selected positions, and how many they are.

    Differentiable in the logits and the weights, in reverse mode; what stands at unselected
    positions never matters.  Maximise the sum.  See `log_likelihood` for bad values.

    Parameters
    ----------
    logits : float (..., V), float16 and bfloat16 converted exactly first.
    targets : int32 or int64 (...), the original tokens.
    selected : bool (...).
    weights : float32 or float64 (...), upstream weights; None is all ones.

    Returns
    -------
    sum : nats, float64 () for float64 logits, else float32.
    count : int32 (), whatever the weights.

    Raises
    ------
    ShapeError, DTypeError : when it is traced.

    Source
    ------
    Devlin et al. 2018, §3.1; MLM-OBJ-1 to MLM-OBJ-3.

    Source: chapters OBJ and LIK.  Bound: that of chapter LIK at the accumulation dtype, for any
    order of summation.
    """
    checking.check_score(logits, targets, selected, weights)
    z, ids, chosen = jnp.asarray(logits), checking.as_positions(targets), jnp.asarray(selected)
    shares = _shares(weights, chosen, accumulator(z.dtype))
    total = jnp.sum(shares * log_likelihood(z, ids, chosen))
    return total, jnp.sum(chosen, dtype=jnp.int32)


def score_step(
    logits: Array,
    targets: Array,
    selected: Array,
    weights: Array | None = None,
    *,
    capacity: Array | int | None = None,
    divisor: Array | float = 1.0,
) -> ScoreStep:
    """`score` without synchronisation, for use inside `jax.jit` (MLM-ERR-11, 12).

    Value and gradient are one program.  Unless the status is ``OK`` or ``EMPTY``, sum, count,
    log-likelihoods and gradient are zeros.

    Parameters
    ----------
    logits, targets, selected, weights : as in `log_likelihood_sum`.
    capacity : more selected positions than this set ``OVERFLOW``; None: no limit.  Nothing is
        sized by it here, so it may be an array.
    divisor : the gradient is that of sum / divisor.

    Raises
    ------
    ShapeError, DTypeError : when it is traced.

    Source: chapters OBJ, LIK, GRA and ERR.  Bound: as `score`.
    """
    checking.check_score(logits, targets, selected, weights)
    z, ids, chosen = jnp.asarray(logits), checking.as_positions(targets), jnp.asarray(selected)
    shares = _shares(weights, chosen, accumulator(z.dtype))

    def weighted(z: jax.Array) -> tuple[jax.Array, jax.Array]:
        nats = log_likelihood(z, ids, chosen)
        return jnp.sum(shares * nats), nats

    total, pull, nats = jax.vjp(weighted, z, has_aux=True)
    (gradient,) = pull((1 / jnp.asarray(divisor)).astype(total.dtype))
    finite = jnp.all(jnp.isfinite(nats)) & jnp.all(jnp.isfinite(shares)) & jnp.isfinite(total)
    status = status_word(chosen, ids, z.shape[-1], finite, capacity)
    results = (nats, total, jnp.sum(chosen, dtype=jnp.int32), gradient)
    nothing = checking.is_without_effect(status)
    return ScoreStep(*(jnp.where(nothing, jnp.zeros_like(x), x) for x in results), status)


jitted_score_step = jax.jit(score_step)


def score(
    logits: Array,
    targets: Array,
    selected: Array,
    weights: Array | None = None,
    *,
    capacity: int | None = None,
) -> ScoreResult:
    """The pair (sum, count), each position's log-likelihood, and d sum / d logits; checked.

    Waits for the device once.

    Parameters
    ----------
    logits : float64 (with x64 on), float32, bfloat16 or float16 (..., V); -inf is legal.
    targets : int32 or int64 (...); looked at only where selected.
    selected : bool (...).
    weights : float32 or float64 (...); None is all ones.
    capacity : the most selected positions that are accepted; None: no limit.

    Returns
    -------
    ScoreResult of JAX arrays: log_likelihood, sum and count in the accumulation dtype and int32,
    grad_logits in the dtype of the logits.

    Raises
    ------
    ShapeError, DTypeError, IdRangeError, NotFiniteError, NoSupportError, ImpossibleTargetError,
    CapacityError.

    Source: chapters OBJ, LIK and GRA.  Bound: those of chapters LIK and GRA at the accumulation
    dtype, for any order of summation.
    """
    checking.check_score(logits, targets, selected, weights)
    ids = checking.narrow_ids(targets)
    step = jitted_score_step(logits, ids, selected, weights, capacity=capacity)
    checking.explain_score(int(step.status), logits, targets, selected, weights, capacity)
    return ScoreResult(*step[:4])


def status_word(
    selected: jax.Array,
    targets: jax.Array,
    vocab_size: int,
    finite: jax.Array,
    capacity: Array | int | None,
) -> jax.Array:
    """The status of a step on a selection: int32 ().

    One bit says why a step is without effect, the first of ``OVERFLOW``, ``ID_RANGE`` and
    ``NOT_FINITE`` that applies: what came after it has been computed from nothing.  ``EMPTY``
    stands beside it.

    Parameters
    ----------
    selected, targets : bool and integer (...).
    vocab_size : V.
    finite : bool (): every number that matters is one.
    capacity : the most selected positions that fit, or None.
    """
    count = jnp.sum(selected, dtype=jnp.int32)
    unknown = jnp.any(selected & ((targets < 0) | (targets >= vocab_size)))
    status = _bit(~finite, Status.NOT_FINITE)
    status = jnp.where(unknown, jnp.int32(int(Status.ID_RANGE)), status)
    if capacity is not None:
        status = jnp.where(count > capacity, jnp.int32(int(Status.OVERFLOW)), status)
    return status | _bit(count == 0, Status.EMPTY)


def _bit(condition: jax.Array, bit: Status) -> jax.Array:
    return jnp.where(condition, jnp.int32(int(bit)), jnp.int32(0))


def _shares(weights: Array | None, selected: jax.Array, dtype: Any) -> jax.Array:
    """Upstream weights, 0 where not selected: NaN there must not matter."""
    held = 1 if weights is None else jnp.asarray(weights).astype(dtype)
    return jnp.where(selected, held, 0).astype(dtype)
