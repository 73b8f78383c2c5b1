"""The update: from the totals of its micro-batches to the next state, in one program (chapter TRN).

Nothing waits for the host.  An update of nothing, and one with a gradient that is not finite, leave
parameters and moments as they were; a status says so.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mlm_jax.training.gradients import Totals
from mlm_jax.training.optimizer import Moments, Rule, adamw, clipped, global_norm, learning_rate
from mlm_jax.training.parameters import Parameters
from mlm_spec.batch import Status

__all__ = ["Report", "TrainingState", "apply_totals", "mean_gradients"]

_GOOD_UPDATES = 2000  # after so many, a loss scale doubles
_LARGEST_SCALE = 2.0**32


class TrainingState(NamedTuple):
    """All that an update changes; a pytree.

    Attributes
    ----------
    moments : parameters and moments, in the dtype that they are kept in.
    update : int32 ().  n, the number of the last update that was made.
    loss_scale : () of that dtype.  1 but for float16.
    """

    moments: Moments
    update: jax.Array
    loss_scale: jax.Array


class Report(NamedTuple):
    """What an update did: scalars on the device.

    Attributes
    ----------
    loss : −sum / count, in nats per selected position; 0 where nothing is selected.
    count : selected positions of the global batch.
    norm : of the gradient, before clipping; 0 unless the status is OK.
    learning_rate : of this update; 0 unless the status is OK.
    status : int32.  The bits of `mlm_spec.batch.Status`: NOT_FINITE, EMPTY and OVERFLOW.
    update : the number of the last update that was made: this one if the status is OK.
    """

    loss: jax.Array
    count: jax.Array
    norm: jax.Array
    learning_rate: jax.Array
    status: jax.Array
    update: jax.Array


@jax.jit
def mean_gradients(totals: Totals) -> Parameters:
    """The gradient of the loss −sum / count: the one division, by the global count.

    Zeros where nothing is selected.
    """
    divisor = -jnp.maximum(totals.count, 1).astype(totals.sum.dtype)
    return {name: g / divisor for name, g in totals.gradients.items()}


@partial(jax.jit, static_argnames="scaled", donate_argnames="state")
def apply_totals(
    state: TrainingState, totals: Totals, rule: Rule, *, scaled: bool
) -> tuple[TrainingState, Report]:
    """The next state, and a report.

    Parameters
    ----------
    state : its buffers are used for the result.
    totals : of all micro-batches.
    rule : of `make_rule`.
    scaled : static; whether the loss scale follows what happens (float16).
    """
    gradients = mean_gradients(totals)
    norm = global_norm(gradients)
    status = _status(totals, norm)
    good = status == 0
    number = state.update + 1
    rate = learning_rate(number, rule)
    moved = adamw(state.moments, clipped(gradients, norm, rule.limit), number, rate, rule)
    kept = jax.tree.map(lambda new, old: jnp.where(good, new, old), moved, state.moments)
    made = jnp.where(good, number, state.update)
    scale = _next_scale(state.loss_scale, status, made) if scaled else state.loss_scale
    loss = -totals.sum / jnp.maximum(totals.count, 1)
    shown = (jnp.where(good, x, 0) for x in (norm, rate))
    return TrainingState(kept, made, scale), Report(loss, totals.count, *shown, status, made)


def _status(totals: Totals, norm: jax.Array) -> jax.Array:
    """The first of EMPTY, OVERFLOW and NOT_FINITE that applies; 0 if none does.

    The gradient of nothing is 0, and that of a part of the selection is none at all.
    """
    # Second moments have to hold the squares, whatever the norm itself needs (MLM-TRN-5).
    fault = jnp.where(jnp.isfinite(jnp.square(norm)), 0, int(Status.NOT_FINITE))
    fault = jnp.where(totals.overflow, int(Status.OVERFLOW), fault)
    return jnp.where(totals.count == 0, int(Status.EMPTY), fault).astype(jnp.int32)


def _next_scale(scale: jax.Array, status: jax.Array, made: jax.Array) -> jax.Array:
    """Half of it after a gradient that is not finite; twice as much after every 2000th update."""
    doubles = (status == 0) & (made % _GOOD_UPDATES == 0)
    halves = status == int(Status.NOT_FINITE)
    changed = jnp.where(doubles, scale * 2, jnp.where(halves, scale / 2, scale))
    return jnp.clip(changed, 1, _LARGEST_SCALE)
