"""One update on the whole global batch, whatever its micro-batches (chapters TRN and OPT).

objective over all micro-batches → one division by N → norm → clipping → AdamW
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlm_spec.errors import ImpossibleTargetError, NoSupportError, NotFiniteError
from mlm_spec.policy import MaskingPolicy
from mlm_spec.training.batch import TrainingBatch, UpdateStatus, count_sequences
from mlm_spec.training.config import EncoderConfig, TrainingConfig
from mlm_spec.training.dropout import Dropout
from mlm_spec.training.gradients import Gradients, Objective, objective, objective_and_gradients
from mlm_spec.training.inputs import Fields, training_batch
from mlm_spec.training.layers import Rounded, identity
from mlm_spec.training.optimizer import adamw, clipped, global_norm, learning_rate
from mlm_spec.training.precision import is_held, next_loss_scale
from mlm_spec.training.state import TrainingState

__all__ = ["UpdateReport", "evaluate", "mean_gradients", "update"]

Arrays = Mapping[str, NDArray[Any]]


class UpdateReport(NamedTuple):
    """What an update did.

    Attributes
    ----------
    loss : −S/N, nats per selected token of the global batch; 0.0 of nothing.
    count : N, the selected positions of the global batch.
    norm : of the gradient of the loss, before clipping; 0.0 where nothing was changed.
    learning_rate : η_n; 0.0 where nothing was changed.
    status : what was found.
    update : the number of the last update that was made.
    """

    loss: float
    count: Any  # int
    norm: float
    learning_rate: float
    status: UpdateStatus
    update: int


def evaluate(
    parameters: Arrays,
    batches: Iterable[Fields],
    encoder: EncoderConfig,
    training: TrainingConfig,
    policy: MaskingPolicy | None = None,
    *,
    rounded: Rounded = identity,
) -> Objective:
    """(sum, count) over all batches, without dropout (MLM-TRN-7).

    Parameters
    ----------
    parameters : of the encoder.
    batches : masked ones, or tokens; as in `update`.
    encoder, training, policy : training gives the seed of the masks.
    rounded : what each intermediate result is passed through.

    Returns
    -------
    Objective : sum in nats, count of selected positions; 0.0 and 0 of nothing.

    Raises
    ------
    As `training_batch` and `mlm_spec.training.gradients.objective`.

    Source: chapters TRN and OBJ.  Bound: that of chapter ENC; the sum of the sums is rounded once.
    """
    masked = [training_batch(batch, encoder, policy, training.seed) for batch in batches]
    found = [objective(parameters, batch, encoder, rounded=rounded) for batch in masked]
    return Objective(
        np.float64(math.fsum(float(part.sum) for part in found)),
        np.int64(sum(int(part.count) for part in found)),
    )


def mean_gradients(
    state: TrainingState,
    micro_batches: Iterable[Fields],
    encoder: EncoderConfig,
    training: TrainingConfig,
    policy: MaskingPolicy | None = None,
    *,
    rounded: Rounded = identity,
) -> Gradients:
    """(S, N) and the gradient of the loss −S/N, with the dropout of the next update (MLM-TRN-1).

    Parameters
    ----------
    state, micro_batches, encoder, training, policy, rounded : as in `update`.

    Returns
    -------
    Gradients : sum and count over all micro-batches, and for each parameter
        −(Σ gradients of the sums)/N: not clipped; zeros where N = 0.

    Raises
    ------
    As `training_batch` and `mlm_spec.training.gradients.objective_and_gradients`.

    Source: chapter TRN.  Bound: for k micro-batches (k + 1) · 2⁻⁵³ of Σ|their gradients|/N, beside
    their own.
    """
    masked = [training_batch(batch, encoder, policy, training.seed) for batch in micro_batches]
    dropout = Dropout(training.seed, state.update + 1)
    totals = {name: np.zeros(p.shape) for name, p in state.parameters.items()}
    sums, count = [], 0
    for batch in masked:
        part = objective_and_gradients(
            state.parameters, batch, encoder, dropout=dropout, rounded=rounded
        )
        sums.append(float(part.sum))
        count += int(part.count)
        for name, total in totals.items():
            total += part.gradients[name]
    # One division, by the count of all: a mean of means would weigh a token by its company.
    mean = {name: total / -count if count else total for name, total in totals.items()}
    return Gradients(np.float64(math.fsum(sums)), np.int64(count), mean)


def update(
    state: TrainingState,
    micro_batches: Iterable[Fields],
    encoder: EncoderConfig,
    training: TrainingConfig,
    policy: MaskingPolicy | None = None,
    *,
    sequences: int | None = None,
    rounded: Rounded = identity,
) -> tuple[TrainingState, UpdateReport]:
    """The next update, number n = state.update + 1 (MLM-TRN-1 … 6).

    With S and N the sum and the count over all micro-batches,

        g = −(Σ gradients of the sums)/N;   clipped at max_grad_norm;   then AdamW with η_n

    N = 0, or a gradient that is not finite: parameters, moments and n stay what they are, and the
    status says so.  In every case the sequences count as consumed.

    Parameters
    ----------
    state : it is not changed.
    micro_batches : all of the update, of all replicas, in any split: `TrainingBatch`, or mappings
        as in `training_batch`.
    encoder, training : the configurations.
    policy : how tokens are masked; None where every batch comes masked.
    sequences : how many sequences of the run's order these are; None: as many as they show.
    rounded : what each intermediate result of the encoder is passed through.

    Returns
    -------
    The new state and an UpdateReport.

    Raises
    ------
    InputError : update n is beyond the last one; and as `training_batch` and
        `mlm_spec.training.gradients.objective_and_gradients`.  Then nothing happened.

    Source: chapters TRN and OPT.  Bound: those of the chapters at u = 2⁻⁵³.
    """
    n = state.update + 1
    rate = learning_rate(n, training)
    masked = [training_batch(batch, encoder, policy, training.seed) for batch in micro_batches]
    consumed = _consumed(masked) if sequences is None else sequences
    state = replace(state, position=state.position + consumed)
    found = _attempt(state, masked, encoder, training, rounded)
    if found is None or not is_held(found.gradients, state.loss_scale, training.precision):
        return _not_finite(state, found, training)
    count = int(found.count)
    if count == 0:
        return state, UpdateReport(0.0, 0, 0.0, 0.0, UpdateStatus.EMPTY, state.update)

    norm = global_norm(found.gradients)
    direction = clipped(found.gradients, norm, training.max_grad_norm)
    moved = adamw(state.parameters, direction, state.exp_avg, state.exp_avg_sq, n, training)
    scale = next_loss_scale(state.loss_scale, n, True, training.precision)
    report = UpdateReport(float(-found.sum) / count, count, norm, rate, UpdateStatus.OK, n)
    return TrainingState(*moved, n, scale, state.position), report


def _consumed(batches: Iterable[TrainingBatch]) -> int:
    return sum(count_sequences(batch.attention_mask, batch.sequence_id) for batch in batches)


def _attempt(
    state: TrainingState,
    batches: list[TrainingBatch],
    encoder: EncoderConfig,
    training: TrainingConfig,
    rounded: Rounded,
) -> Gradients | None:
    """The gradients; None where already the logits are no distribution that gives a chance."""
    try:
        return mean_gradients(state, batches, encoder, training, rounded=rounded)
    except (NotFiniteError, NoSupportError, ImpossibleTargetError):
        return None


def _not_finite(
    state: TrainingState, found: Gradients | None, training: TrainingConfig
) -> tuple[TrainingState, UpdateReport]:
    scale = next_loss_scale(state.loss_scale, state.update + 1, False, training.precision)
    count = int(found.count) if found else 0
    loss = float(-found.sum) / count if found and count else 0.0
    report = UpdateReport(loss, count, 0.0, 0.0, UpdateStatus.NOT_FINITE, state.update)
    return replace(state, loss_scale=scale), report
