"""Trainers on several devices in which what fills up counts, or is given out, or is cut away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mlm_conformance.mutants.device_trainer import SHARING, Sharing, filled, wrong
from mlm_spec.training.batch import TrainingBatch
from mlm_spec.training.parameters import BIAS, WORDS

__all__ = [
    "a_checkpoint_has_the_rows_that_fill_up",
    "a_checkpoint_keeps_the_moments_of_one_part",
    "a_part_of_ids_that_fill_up_divides_zero_by_zero",
    "a_row_that_fills_up_is_a_sequence",
    "a_vocabulary_is_cut_to_a_multiple",
    "gradients_have_the_rows_that_fill_up",
    "ids_that_fill_up_have_a_very_low_logit",
    "ids_that_fill_up_have_the_logit_0",
    "moments_have_the_rows_that_fill_up",
    "parameters_have_the_rows_that_fill_up",
    "rows_are_cut_to_a_multiple",
    "rows_fill_up_with_copies_of_the_last",
]

_UPDATE, _LOW = "an_update_is_not_that_of_what_fills_up", "no_number_stands_in_for_minus_infinity"
_NO_ID, _SHAPES = "a_part_may_have_no_id", "nothing_is_as_large_as_what_fills_up"
_FILE = "a_checkpoint_is_that_of_any_devices"
_TABLES = (WORDS, BIAS)


def _filled_with(sharing: Sharing, logit: float) -> Sharing:
    """Ids that fill the vocabulary up have this logit."""

    def logits(states: Any, parts: Sequence[Any]) -> list[Any]:
        found = SHARING.logits(states, parts)
        return [np.where(p.real, z, logit) for p, z in zip(parts, found, strict=True)]

    return replace(sharing, logits=logits)


@wrong("MLM-DST-29", _UPDATE)
def ids_that_fill_up_have_the_logit_0(sharing: Sharing) -> Sharing:
    """The rows of zeros that fill the table up are rows like others."""
    return _filled_with(sharing, 0.0)


@wrong("MLM-DST-29", _LOW)
def ids_that_fill_up_have_a_very_low_logit(sharing: Sharing) -> Sharing:
    """Ids that fill the vocabulary up have the logit −10⁹."""
    return _filled_with(sharing, -1e9)


@wrong("MLM-DST-29", _NO_ID)
def a_part_of_ids_that_fill_up_divides_zero_by_zero(sharing: Sharing) -> Sharing:
    """A part without a real id has the maximum −∞, and is shifted by it."""

    def normalisers(logits: Sequence[Any]) -> list[Any]:
        most = [z.max(axis=-1, keepdims=True) for z in logits]
        idle = sum(np.where(np.isinf(m), np.nan, 0.0) for m in most)
        return [top + idle for top in SHARING.normalisers(logits)]

    return replace(sharing, normalisers=normalisers)


@wrong("MLM-DST-29", _UPDATE)
def a_vocabulary_is_cut_to_a_multiple(sharing: Sharing) -> Sharing:
    """The last ids, where they fill no row of devices, are left out."""

    def parts(parameters: Any, devices: int) -> list[Any]:
        size = len(parameters[BIAS]) // devices * devices
        found = SHARING.parts(parameters, devices)
        return [p._replace(real=p.real & (p.ids < size)) for p in found]

    return replace(sharing, parts=parts)


@wrong("MLM-DST-29", _UPDATE)
def rows_are_cut_to_a_multiple(sharing: Sharing) -> Sharing:
    """The last rows of a micro-batch, where there are not enough for all devices, are left out."""

    def rows(batch: TrainingBatch, devices: int) -> TrainingBatch:
        return TrainingBatch(*(array[: len(array) // devices * devices] for array in batch))

    return replace(sharing, rows=rows)


def _with_copies(batch: TrainingBatch, devices: int) -> TrainingBatch:
    missing = -len(batch.inputs) % devices
    return TrainingBatch(*(np.concatenate([x, *[x[-1:]] * missing]) for x in batch))


@wrong("MLM-DST-29", _UPDATE)
def rows_fill_up_with_copies_of_the_last(sharing: Sharing) -> Sharing:
    """A micro-batch is filled up with its last row, in which positions are selected."""
    return replace(sharing, rows=_with_copies)


@wrong("MLM-DST-29", _FILE)
def a_row_that_fills_up_is_a_sequence(sharing: Sharing) -> Sharing:
    """The position of a run counts the rows that fill up, as if data had been consumed."""

    def masked(make: Any, given: Any, devices: int) -> TrainingBatch:
        batch = make(given)
        whole = _with_copies(batch, devices)
        whole.selected[len(batch.inputs) :] = False
        return whole

    return replace(sharing, masked=masked)


def _filled_up(arrays: Any, ids: int) -> dict[str, Any]:
    return {name: filled(x, ids) if name in _TABLES else x for name, x in arrays.items()}


@wrong("MLM-DST-29", _SHAPES)
def parameters_have_the_rows_that_fill_up(sharing: Sharing) -> Sharing:
    """Tables are given out as they lie."""

    def methods(trainer: Any, ids: int) -> dict[str, Any]:
        return {"parameters": lambda: _filled_up(trainer.parameters(), ids)}

    return replace(sharing, methods=methods)


@wrong("MLM-DST-29", _SHAPES)
def gradients_have_the_rows_that_fill_up(sharing: Sharing) -> Sharing:
    """The gradients of tables have rows of zeros at their end."""

    def methods(trainer: Any, ids: int) -> dict[str, Any]:
        def gradients(batches: Any) -> dict[str, Any]:
            found = trainer.gradients(batches)
            return {**found, "gradients": _filled_up(found["gradients"], ids)}

        return {"gradients": gradients}

    return replace(sharing, methods=methods)


@wrong("MLM-DST-29", _SHAPES)
def moments_have_the_rows_that_fill_up(sharing: Sharing) -> Sharing:
    """The moments of tables are given out as they lie."""

    def methods(trainer: Any, ids: int) -> dict[str, Any]:
        def state() -> dict[str, Any]:
            found: dict[str, Any] = trainer.state()
            return found | {n: _filled_up(found[n], ids) for n in ("exp_avg", "exp_avg_sq")}

        return {"state": state}

    return replace(sharing, methods=methods)


def _saving(sharing: Sharing, change: Any) -> Sharing:
    """What is saved is another state."""

    def methods(trainer: Any, ids: int) -> dict[str, Any]:
        def save(path: str | Path) -> None:
            kept, trainer._state = trainer._state, change(trainer._state, ids)
            try:
                trainer.save(path)
            finally:
                trainer._state = kept

        return {"save": save}

    return replace(sharing, methods=methods)


@wrong("MLM-DST-29", _FILE)
def a_checkpoint_has_the_rows_that_fill_up(sharing: Sharing) -> Sharing:
    """Tables are saved as they lie, to be read on as many devices."""

    def change(state: Any, ids: int) -> Any:
        groups = ("parameters", "exp_avg", "exp_avg_sq")
        return replace(state, **{g: _filled_up(getattr(state, g), ids) for g in groups})

    return _saving(sharing, change)


@wrong("MLM-DST-29", _FILE)
def a_checkpoint_keeps_the_moments_of_one_part(sharing: Sharing) -> Sharing:
    """The first device saves the moments that it has, and zeros for those of the others."""

    def change(state: Any, ids: int) -> Any:
        def own(name: str, array: Any) -> Any:
            size = -(-len(array) // ids)
            mine = np.arange(len(array)) < size
            return (array.T * mine).T if name in _TABLES else array

        return replace(state, exp_avg={n: own(n, x) for n, x in state.exp_avg.items()})

    return _saving(sharing, change)
