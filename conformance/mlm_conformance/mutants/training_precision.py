"""Trainers below float64 that keep or add up too little, or take an overflow for an update."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import ml_dtypes
import numpy as np

from mlm_conformance.mutants.trainer import Parts, inside, wrong
from mlm_spec.training import prediction
from mlm_spec.training.config import TrainingConfig
from mlm_spec.training.state import TrainingState

__all__ = [
    "a_narrow_first_moment",
    "a_narrow_second_moment",
    "a_skipped_update_counts",
    "a_skipped_update_decays_the_moments",
    "a_skipped_update_decays_the_parameters",
    "a_sum_in_a_narrow_dtype",
    "an_infinite_gradient_is_clipped",
    "clipping_before_the_scale_is_divided_out",
    "gradients_in_a_narrow_dtype",
    "masters_in_a_narrow_dtype",
    "masters_in_a_narrow_dtype_from_the_start",
    "scales_that_hold_are_never_used",
    "squares_may_overflow",
    "the_scale_counts_good_updates_in_a_row",
    "the_scale_doubles_one_update_late",
    "the_scale_falls_below_1",
    "the_scale_has_no_end",
    "the_scale_is_never_halved",
    "the_scale_is_quartered",
    "the_scale_stays_in_the_gradients",
    "weights_in_a_narrow_dtype",
]

_GRADIENTS = "losses_and_gradients_scatter_no_more_than_rounding"
_RUN, _KEPT = "a_run_scatters_no_more_than_rounding", "what_is_kept_is_kept_in_float32"
_SCALE, _BAD = "an_overflow_halves_the_scale", "an_update_that_is_not_finite_changes_nothing"
_GROWS, _LEAST = "the_scale_doubles_with_every_2000th_update", "the_scale_is_never_below_1"


def _short(x: Any) -> Any:
    """In bfloat16, and back."""
    return np.asarray(x).astype(ml_dtypes.bfloat16).astype(np.asarray(x).dtype)


def _all_short(arrays: Any) -> dict[str, Any]:
    return {name: _short(x) for name, x in arrays.items()}


def _is_narrow(parameters: Any) -> bool:
    """Whether a session computes below float64: it keeps float32 then."""
    return all(p.dtype == np.float32 for p in parameters.values())


def _keeping(parts: Parts, name: str) -> Parts:
    """Below float64, what an update leaves is kept in bfloat16."""

    def moved(*given: Any) -> Any:
        found = parts.adamw(*given)
        if not _is_narrow(found.parameters):
            return found
        return found._replace(**{name: _all_short(getattr(found, name))})

    return replace(parts, adamw=moved)


@wrong("MLM-TRN-8", _KEPT)
def masters_in_a_narrow_dtype(parts: Parts) -> Parts:
    """Below float64, parameters are bfloat16: there are no master weights."""
    return _keeping(parts, "parameters")


@wrong("MLM-TRN-8", _KEPT)
def a_narrow_first_moment(parts: Parts) -> Parts:
    """Below float64, the first moment is kept in bfloat16."""
    return _keeping(parts, "exp_avg")


@wrong("MLM-TRN-8", _KEPT)
def a_narrow_second_moment(parts: Parts) -> Parts:
    """Below float64, the second moment is kept in bfloat16, where it does not move at all."""
    return _keeping(parts, "exp_avg_sq")


@wrong("MLM-TRN-8", _RUN)
def masters_in_a_narrow_dtype_from_the_start(parts: Parts) -> Parts:
    """Below float64, parameters are bfloat16 from the moment that the session is opened."""

    def start(*given: Any) -> Any:
        state = parts.start(*given)
        if not _is_narrow(state.parameters):
            return state
        return replace(state, parameters=_all_short(state.parameters))

    return replace(_keeping(parts, "parameters"), start=start)


@wrong("MLM-ENC-12", _GRADIENTS)
def weights_in_a_narrow_dtype(parts: Parts) -> Parts:
    """Products are taken in bfloat16 below float64, as where a device is told it may."""

    def gradients(parameters: Any, *given: Any, **named: Any) -> Any:
        used = _all_short(parameters) if _is_narrow(parameters) else parameters
        return parts.gradients(used, *given, **named)

    return replace(parts, gradients=gradients)


@wrong("MLM-ENC-12", _GRADIENTS)
def gradients_in_a_narrow_dtype(parts: Parts) -> Parts:
    """Gradients of micro-batches are bfloat16 below float64."""

    def gradients(parameters: Any, *given: Any, **named: Any) -> Any:
        found = parts.gradients(parameters, *given, **named)
        if not _is_narrow(parameters):
            return found
        return found._replace(gradients=_all_short(found.gradients))

    return replace(parts, gradients=gradients)


@wrong("MLM-ENC-12", "a_long_sum_keeps_its_digits")
def a_sum_in_a_narrow_dtype(parts: Parts) -> Parts:
    """Below float64, log-likelihoods are added up in bfloat16, one after the other: from 256 of
    them on the sum stands still."""

    def added(nats: Iterable[float]) -> float:
        total = ml_dtypes.bfloat16(0.0)
        for value in nats:
            total = ml_dtypes.bfloat16(float(total) + value)
        return float(total)

    names = {name: getattr(math, name) for name in vars(math)}
    narrow = inside(parts, (prediction, "math", SimpleNamespace(**{**names, "fsum": added})))

    def value(parameters: Any, *given: Any, **named: Any) -> Any:
        which = narrow if _is_narrow(parameters) else parts
        return which.value(parameters, *given, **named)

    return replace(parts, value=value)


@wrong("MLM-TRN-9", _SCALE)
def the_scale_is_never_halved(parts: Parts) -> Parts:
    """Every update overflows like the first one."""
    return replace(parts, overflowed=lambda state, training: state)


@wrong("MLM-TRN-9", _SCALE)
def the_scale_is_quartered(parts: Parts) -> Parts:
    """An overflow divides the scale by four."""

    def overflowed(state: TrainingState, training: TrainingConfig) -> TrainingState:
        return parts.overflowed(parts.overflowed(state, training), training)

    return replace(parts, overflowed=overflowed)


@wrong("MLM-TRN-5", _BAD)
def a_skipped_update_decays_the_parameters(parts: Parts) -> Parts:
    """An update that overflowed is made with gradients of 0."""

    def overflowed(state: TrainingState, training: TrainingConfig) -> TrainingState:
        kept = parts.overflowed(state, training)
        decayed = {name: p * (1.0 - training.weight_decay) for name, p in kept.parameters.items()}
        return replace(kept, parameters=decayed)

    return replace(parts, overflowed=overflowed)


@wrong("MLM-TRN-5", _BAD)
def a_skipped_update_counts(parts: Parts) -> Parts:
    """An update that overflowed has a number."""

    def overflowed(state: TrainingState, training: TrainingConfig) -> TrainingState:
        return replace(parts.overflowed(state, training), update=state.update + 1)

    return replace(parts, overflowed=overflowed)


@wrong("MLM-TRN-5", _BAD)
def an_infinite_gradient_is_clipped(parts: Parts) -> Parts:
    """Nothing is looked at: a norm of infinity brings all that is finite to 0."""
    return replace(parts, is_held=lambda *given: True)


@wrong("MLM-TRN-5", _BAD)
def squares_may_overflow(parts: Parts) -> Parts:
    """The entries of the gradient are looked at, and not their squares, which a moment holds."""

    def is_held(gradients: Any, scale: float, precision: Any) -> bool:
        return all(np.isfinite(g).all() for g in gradients.values())

    return replace(parts, is_held=is_held)


@wrong("MLM-TRN-5", _BAD)
def a_skipped_update_decays_the_moments(parts: Parts) -> Parts:
    """An update that overflowed averages gradients of 0 into the moments."""

    def overflowed(state: TrainingState, training: TrainingConfig) -> TrainingState:
        kept = parts.overflowed(state, training)
        return replace(kept, exp_avg={n: training.beta1 * m for n, m in kept.exp_avg.items()})

    return replace(parts, overflowed=overflowed)


@wrong("MLM-TRN-9", _GROWS)
def the_scale_counts_good_updates_in_a_row(parts: Parts) -> Parts:
    """The scale doubles after 2000 updates since the session was opened."""
    made = [0]

    def grown(state: TrainingState, training: TrainingConfig) -> float:
        made[0] += 1
        return parts.grown(replace(state, update=made[0] - 1), training)

    return replace(parts, grown=grown)


@wrong("MLM-TRN-9", _GROWS)
def the_scale_doubles_one_update_late(parts: Parts) -> Parts:
    """The scale doubles with the updates after every 2000th."""
    return replace(
        parts, grown=lambda state, plan: parts.grown(replace(state, update=state.update - 1), plan)
    )


@wrong("MLM-TRN-9", _GROWS)
def the_scale_has_no_end(parts: Parts) -> Parts:
    """The scale doubles beyond 2³²."""

    def grown(state: TrainingState, training: TrainingConfig) -> float:
        return state.loss_scale * (2.0 if (state.update + 1) % 2000 == 0 else 1.0)

    return replace(parts, grown=grown)


@wrong("MLM-TRN-9", _LEAST)
def the_scale_falls_below_1(parts: Parts) -> Parts:
    """An overflow halves whatever scale there is."""

    def overflowed(state: TrainingState, training: TrainingConfig) -> TrainingState:
        if training.precision != "float16":
            return parts.overflowed(state, training)
        return replace(state, loss_scale=state.loss_scale / 2.0)

    return replace(parts, overflowed=overflowed)


@wrong("MLM-TRN-9", _RUN)
def clipping_before_the_scale_is_divided_out(parts: Parts) -> Parts:
    """Gradients are clipped while the loss scale is in them, which brings them to nothing."""

    def start(parameters: Any, encoder: Any, training: TrainingConfig) -> TrainingState:
        state = parts.start(parameters, encoder, training)
        scales.append(state.loss_scale)
        return state

    def scaled(gradients: Any, norm: float, most: float | None) -> Any:
        limit = None if most is None else most / scales[-1]
        return parts.clipped(gradients, norm, limit)

    scales: list[float] = []
    return replace(parts, start=start, clipped=scaled)


@wrong("MLM-TRN-9", _RUN)
def the_scale_stays_in_the_gradients(parts: Parts) -> Parts:
    """The loss scale is not divided out."""

    def start(parameters: Any, encoder: Any, training: TrainingConfig) -> TrainingState:
        state = parts.start(parameters, encoder, training)
        scales.append(state.loss_scale)
        return state

    def mean(found: Any) -> Any:
        return {name: scales[-1] * g for name, g in parts.mean(found).items()}

    scales: list[float] = []
    return replace(parts, start=start, mean=mean)


@wrong("MLM-TRN-9", _GROWS)
def scales_that_hold_are_never_used(parts: Parts) -> Parts:
    """Scales above 2¹⁵ are never used, though nothing overflows."""

    def is_held(mean: Any, scale: float, precision: str) -> bool:
        if precision == "float16" and scale > 2.0**15:
            return False
        return parts.is_held(mean, scale, precision)

    return replace(parts, is_held=is_held)
