"""Chapter ERR on sessions: trainers that read what is no micro-batch, and some that remember it.

What a wrong one does with bad input is mostly to make it good, and to go on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np

from mlm_conformance.mutants.registry import register_mutant
from mlm_conformance.mutants.trainer import Parts, Trainer, correct_trainer, wrong
from mlm_spec import InputError, NotFiniteError
from mlm_spec.training.batch import TrainingBatch
from mlm_spec.training.config import EncoderConfig
from mlm_spec.training.gradients import Objective

__all__ = [
    "a_batch_without_an_attention_mask_is_all_real",
    "a_refused_batch_is_clipped",
    "a_refused_update_has_consumed_its_sequences",
    "a_refused_update_has_learned_from_the_first",
    "a_refused_update_has_moved_its_number",
    "all_targets_are_looked_at_in_training",
    "an_epoch_counts_in_64_bits",
    "evaluations_of_no_number_are_nan",
    "evaluations_of_no_number_are_perfect",
    "ids_of_inputs_are_clamped",
    "masks_may_be_integers",
    "padding_that_is_selected_is_left_out",
    "positions_beyond_the_table_are_its_last",
    "the_first_micro_batch_is_looked_at",
    "types_at_padding_are_not_looked_at",
    "unknown_fields_of_a_batch_are_passed_over",
]

_BATCH, _TOKENS = "a_bad_micro_batch_is_refused", "a_bad_micro_batch_of_tokens_is_refused"
_RUN = "a_refused_call_changes_nothing_of_a_run"


def _reading(parts: Parts, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Parts:
    """Micro-batches are made good, as far as that goes, before they are looked at."""

    def masked(given: Any, *about: Any) -> TrainingBatch:
        try:
            return parts.masked(given, *about)
        except InputError:
            if not isinstance(given, Mapping):
                raise
            return parts.masked(change(dict(given)), *about)

    return replace(parts, masked=masked)


def _valued(parts: Parts, sum: float) -> Parts:
    """Evaluations that are not finite have this sum."""

    def value(parameters: Any, batch: TrainingBatch, *about: Any, **named: Any) -> Any:
        try:
            return parts.value(parameters, batch, *about, **named)
        except NotFiniteError:
            return Objective(np.float64(sum), np.int64(batch.selected.sum()))

    return replace(parts, value=value)


@wrong("MLM-ERR-23", "what_is_no_number_is_no_sum")
def evaluations_of_no_number_are_perfect(parts: Parts) -> Parts:
    """A step's sum of 0 is given out, and its status is not looked at."""
    return _valued(parts, 0.0)


@wrong("MLM-ERR-23", "what_is_no_number_is_no_sum")
def evaluations_of_no_number_are_nan(parts: Parts) -> Parts:
    """Logits that are not finite have a sum that is none."""
    return _valued(parts, np.nan)


def _clamped(given: Any, name: str, size: int, where: Any = True) -> Any:
    """The field with its ids brought into the table, where that can be."""
    ids = given.get(name)
    if isinstance(ids, np.ndarray) and ids.dtype.name in ("int32", "int64"):
        return {**given, name: np.where(where, np.clip(ids, 0, size - 1), ids)}
    return given


def _sized(parts: Parts, name: str, size: str) -> Parts:
    """The ids of a field are clamped."""

    def masked(given: Any, encoder: EncoderConfig, *about: Any) -> TrainingBatch:
        if isinstance(given, Mapping):
            given = _clamped(given, name, getattr(encoder, size))
        return parts.masked(given, encoder, *about)

    return replace(parts, masked=masked)


@wrong("MLM-ERR-21", _BATCH)
def ids_of_inputs_are_clamped(parts: Parts) -> Parts:
    """An id beyond the vocabulary is its last one."""
    return _sized(parts, "inputs", "vocab_size")


@wrong("MLM-ERR-21", _BATCH)
def positions_beyond_the_table_are_its_last(parts: Parts) -> Parts:
    """A position beyond the table has the embedding of the last row."""
    return _sized(parts, "position_ids", "max_position_embeddings")


@wrong("MLM-ERR-21", _BATCH)
def types_at_padding_are_not_looked_at(parts: Parts) -> Parts:
    """A token type at padding may be any integer."""

    def masked(given: Any, encoder: EncoderConfig, *about: Any) -> TrainingBatch:
        fields = given if isinstance(given, Mapping) else {}
        names = ("attention_mask", "token_type_ids")
        real, types = (np.asarray(fields.get(name)) for name in names)
        if types.shape == real.shape and real.dtype == bool:
            given = _clamped(given, "token_type_ids", encoder.type_vocab_size, ~real)
        return parts.masked(given, encoder, *about)

    return replace(parts, masked=masked)


@wrong("MLM-ERR-21", _BATCH)
def padding_that_is_selected_is_left_out(parts: Parts) -> Parts:
    """A selected position of padding counts as not selected."""

    def change(given: dict[str, Any]) -> dict[str, Any]:
        if not {"selected", "attention_mask"} <= set(given):
            return given
        chosen, real = given["selected"], given["attention_mask"]
        masks = isinstance(chosen, np.ndarray) and isinstance(real, np.ndarray)
        if masks and chosen.dtype == real.dtype == bool and chosen.shape == real.shape:
            return {**given, "selected": chosen & real}
        return given

    return _reading(parts, change)


@wrong("MLM-ERR-21", _BATCH)
def unknown_fields_of_a_batch_are_passed_over(parts: Parts) -> Parts:
    """A field that nobody knows is ignored."""

    def change(given: dict[str, Any]) -> dict[str, Any]:
        return {n: v for n, v in given.items() if n in TrainingBatch._fields}

    return _reading(parts, change)


@wrong("MLM-ERR-21", _BATCH)
def a_batch_without_an_attention_mask_is_all_real(parts: Parts) -> Parts:
    """Where no attention mask is given there is no padding."""

    def change(given: dict[str, Any]) -> dict[str, Any]:
        shape: Any = getattr(given.get("inputs"), "shape", ())
        return {"attention_mask": np.ones(shape, np.bool_), **given}

    return _reading(parts, change)


@wrong("MLM-ERR-21", _BATCH)
def masks_may_be_integers(parts: Parts) -> Parts:
    """A mask of integers is true where it is not 0."""

    def change(given: dict[str, Any]) -> dict[str, Any]:
        for name in {"selected", "attention_mask", "eligible"} & set(given):
            if isinstance(given[name], np.ndarray) and given[name].dtype.kind in "iu":
                given[name] = given[name] != 0
        return given

    return _reading(parts, change)


@wrong("MLM-ERR-21", _BATCH)
def the_first_micro_batch_is_looked_at(parts: Parts) -> Parts:
    """An id beyond the vocabulary is noticed in the first micro-batch of a session only."""
    seen: list[int] = []

    def masked(given: Any, encoder: EncoderConfig, *about: Any) -> TrainingBatch:
        if seen and isinstance(given, Mapping):
            given = _clamped(given, "inputs", encoder.vocab_size)
        seen.append(1)
        return parts.masked(given, encoder, *about)

    return replace(parts, masked=masked)


@wrong("MLM-ERR-21", _TOKENS)
def an_epoch_counts_in_64_bits(parts: Parts) -> Parts:
    """An epoch is what its last 64 bits say."""

    def change(given: dict[str, Any]) -> dict[str, Any]:
        epoch = given.get("epoch")
        return {**given, "epoch": epoch % 2**64} if type(epoch) is int else given

    return _reading(parts, change)


@wrong("MLM-ERR-21", "targets_that_are_not_selected_are_no_error")
def all_targets_are_looked_at_in_training(parts: Parts) -> Parts:
    """A target of −100 is refused, also where nothing is selected."""

    def masked(*given: Any) -> TrainingBatch:
        batch = parts.masked(*given)
        if (batch.targets < 0).any():
            raise InputError("targets", "below 0", "ids")
        return batch

    return replace(parts, masked=masked)


# --- what is left of a refused call


def remembering(requirement: str, check: str) -> Callable[..., Any]:
    """Register what happens to a trainer when it refuses micro-batches."""

    def register(happens: Callable[[Trainer, list[Any]], None]) -> SimpleNamespace:
        register_mutant(happens, requirement, ("session",), check, ())
        return SimpleNamespace(
            session=lambda **call: _Around(correct_trainer.session(**call), happens)
        )

    return register


class _Around:
    """A trainer to which something happens."""

    def __init__(self, inner: Trainer, happens: Callable[[Trainer, list[Any]], None]) -> None:
        self._inner, self._happens = inner, happens

    def step(self, batches: list[Any]) -> Any:
        """As the trainer's."""
        try:
            return self._inner.step(batches)
        except InputError:
            self._happens(self._inner, batches)
            raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


@remembering("MLM-ERR-22", _RUN)
def a_refused_update_has_moved_its_number(trainer: Trainer, batches: list[Any]) -> None:
    """An update that is refused is counted."""
    state = trainer._state
    trainer._state = replace(state, update=state.update + 1)


@remembering("MLM-ERR-22", _RUN)
def a_refused_update_has_consumed_its_sequences(trainer: Trainer, batches: list[Any]) -> None:
    """The rows of a refused update are not read again."""
    state = trainer._state
    trainer._state = replace(state, position=state.position + len(batches))


@remembering("MLM-ERR-22", _RUN)
def a_refused_update_has_learned_from_the_first(trainer: Trainer, batches: list[Any]) -> None:
    """The micro-batches before the bad one have moved the parameters."""
    if len(batches) > 1:
        trainer.step(batches[:-1])


@remembering("MLM-ERR-22", _RUN)
def a_refused_batch_is_clipped(trainer: Trainer, batches: list[Any]) -> None:
    """Ids of the caller's micro-batches are brought into range, and then refused."""
    for batch in batches:
        ids = batch.get("inputs") if isinstance(batch, Mapping) else None
        if isinstance(ids, np.ndarray) and ids.dtype.kind == "i":
            np.clip(ids, 0, 3, out=ids)
