"""The objective of a micro-batch and its gradient, and how micro-batches add up (chapter TRN).

A micro-batch gives sums: of log-likelihoods, of selected positions, of gradients.  Nothing is
divided before the sums of all micro-batches are there, since only they have the global count.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mlm_jax.masking import mask_step
from mlm_jax.objective import status_word
from mlm_jax.thresholds import MaskingPlan
from mlm_jax.training.batches import TokenBatch
from mlm_jax.training.dropout import Places, dropper, keep_all
from mlm_jax.training.encoder import encode, selected_sum
from mlm_jax.training.layout import Layout
from mlm_jax.training.parameters import Parameters
from mlm_spec.batch import Status
from mlm_spec.training.batch import TrainingBatch
from mlm_spec.training.config import EncoderConfig

__all__ = ["Totals", "add_gradients", "add_objective", "no_totals"]

_STATIC = ("encoder", "compute", "capacity", "layout")


class Totals(NamedTuple):
    """Sums over the micro-batches of an update.

    Attributes
    ----------
    sum : Σ log Pr, in nats, () in the dtype of the parameters.
    count : int32 (), selected positions.
    overflow : bool (), a micro-batch had more selected positions than its capacity.
    gradients : of the sum, by name; empty where none are wanted.
    """

    sum: jax.Array
    count: jax.Array
    overflow: jax.Array
    gradients: Parameters


@partial(jax.jit, static_argnames=("gradients", "layout"))
def no_totals(parameters: Parameters, *, gradients: bool, layout: Layout) -> Totals:
    """The totals of no micro-batch."""
    dtype = next(iter(parameters.values())).dtype
    zeros = {name: jnp.zeros_like(x) for name, x in parameters.items()} if gradients else {}
    none = Totals(jnp.zeros((), dtype), jnp.int32(0), jnp.bool_(False), zeros)
    return _left(layout, none)


def _left(layout: Layout, totals: Totals) -> Totals:
    """Totals that lie as those before them, so that one program serves all micro-batches."""
    gradients = {name: layout.left(g, name) for name, g in totals.gradients.items()}
    return Totals(*map(layout.left, totals[:3]), gradients)


@partial(jax.jit, static_argnames=_STATIC, donate_argnames="totals")
def add_gradients(
    totals: Totals,
    parameters: Parameters,
    batch: TrainingBatch | TokenBatch,
    plan: MaskingPlan | None,
    keys: jax.Array,
    scale: jax.Array,
    *,
    encoder: EncoderConfig,
    compute: Any,
    capacity: int,
    layout: Layout,
) -> Totals:
    """Totals with one more micro-batch.

    Parameters
    ----------
    totals : so far; its buffers are used for the result.
    parameters : by name.
    batch : masked, or of tokens, which are masked here.
    plan : how tokens are masked; None for a masked batch.
    keys : of `mlm_jax.training.dropout.site_keys`.
    scale : () of the parameters' dtype, a power of two: of the loss.  float16 alone looks at it.
    encoder, compute, capacity, layout : static; capacity is that of selected positions, a power
        of two or all positions.
    """
    masked = _masked(batch, plan)
    share = _share(scale, capacity) if compute == jnp.float16 else jnp.ones_like(scale)

    def weighted(parameters: Parameters) -> tuple[jax.Array, jax.Array]:
        places = Places(masked.sequence_id, masked.position)
        drop = dropper(keys, places, encoder.hidden_dropout, encoder.attention_dropout)
        hidden = encode(parameters, masked, encoder, compute, drop)
        total = selected_sum(parameters, hidden, masked, encoder, compute, capacity, layout.by_row)
        return share * total, total

    gradients, total = jax.grad(weighted, has_aux=True)(parameters)
    added = {name: totals.gradients[name] + g / share for name, g in gradients.items()}
    return _left(layout, Totals(*_counted(totals, total, masked, encoder, capacity), added))


@partial(jax.jit, static_argnames=_STATIC, donate_argnames="totals")
def add_objective(
    totals: Totals,
    parameters: Parameters,
    batch: TrainingBatch | TokenBatch,
    plan: MaskingPlan | None,
    *,
    encoder: EncoderConfig,
    compute: Any,
    capacity: int,
    layout: Layout,
) -> Totals:
    """As `add_gradients`, without gradients and without dropout: evaluation."""
    masked = _masked(batch, plan)
    hidden = encode(parameters, masked, encoder, compute, keep_all)
    total = selected_sum(parameters, hidden, masked, encoder, compute, capacity, layout.by_row)
    counted = _counted(totals, total, masked, encoder, capacity)
    return _left(layout, Totals(*counted, totals.gradients))


def _share(scale: jax.Array, capacity: int) -> jax.Array:
    """What the sum is multiplied by where gradients flow in float16; a power of two.

    It is the loss that is scaled, a mean.  The sum is larger by the number of selected positions
    and would overflow at any useful scale, so it is first divided by about as many.
    """
    return scale * scale.dtype.type(2.0 ** -(capacity.bit_length() - 1))


def _masked(batch: TrainingBatch | TokenBatch, plan: MaskingPlan | None) -> TrainingBatch:
    if isinstance(batch, TrainingBatch):
        return batch
    assert plan is not None
    source = (batch.tokens, batch.sequence_id, batch.position, batch.word_id, batch.eligible)
    step = mask_step(*source, plan, batch.key)
    # Padding has nothing to predict from, whatever the caller calls eligible.
    return TrainingBatch(step.inputs, step.targets, step.selected, *batch[3:-1])


def _counted(
    totals: Totals, total: jax.Array, batch: TrainingBatch, encoder: EncoderConfig, capacity: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    chosen = batch.selected
    status = status_word(chosen, batch.targets, encoder.vocab_size, jnp.isfinite(total), capacity)
    overflow = (status & int(Status.OVERFLOW)) != 0
    count = jnp.sum(chosen, dtype=jnp.int32)
    return totals.sum + total, totals.count + count, totals.overflow | overflow
