"""Trainers whose state is not their own, or not what a checkpoint should hold."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from mlm_conformance.mutants.trainer import Parts, wrong
from mlm_spec.errors import CheckpointError
from mlm_spec.training import checkpoint as files
from mlm_spec.training.checkpoint import Checkpoint
from mlm_spec.training.dropout import Dropout
from mlm_spec.training.precision import first_loss_scale
from mlm_spec.training.state import TrainingState, initial_state
from mlm_spec.training.tensor_file import read_tensors, write_tensors

__all__ = [
    "a_broken_checkpoint_starts_anew",
    "a_checkpoint_in_float32",
    "a_checkpoint_of_another_run_is_taken",
    "a_checkpoint_with_the_decoder",
    "a_checkpoint_without_moments",
    "a_checkpoint_without_the_update",
    "a_failed_load_has_taken_the_parameters",
    "moments_are_exchanged_in_the_file",
    "sessions_share_their_state",
    "the_checksum_is_not_read",
    "the_checksum_is_that_of_the_tensors",
    "the_dropout_of_a_resumed_run_begins_again",
    "the_first_session_remembers_gradients",
    "the_loss_scale_begins_again",
    "the_policy_is_not_in_the_file",
    "the_position_begins_again",
    "the_position_is_lost",
    "the_resumed_run_skips_an_update",
    "updates_differ_in_their_last_bits",
    "zeros_lose_their_sign",
]

_BACK, _BROKEN = "a_checkpoint_brings_everything_back", "a_broken_checkpoint_is_refused"
_SAVED = "what_was_loaded_is_saved_again"


def _loading(parts: Parts, change: Callable[[TrainingState], TrainingState]) -> Parts:
    """What is loaded is not what was saved."""
    return replace(parts, load=lambda *given: change(parts.load(*given)))


@wrong("MLM-CKP-1", _BACK)
def a_checkpoint_without_moments(parts: Parts) -> Parts:
    """A resumed run begins with moments of 0."""

    def change(state: TrainingState) -> TrainingState:
        nothing = {n: 0.0 * m for n, m in state.exp_avg.items()}
        return replace(state, exp_avg=nothing, exp_avg_sq={n: 0.0 * m for n, m in nothing.items()})

    return _loading(parts, change)


@wrong("MLM-CKP-1", _BACK)
def a_checkpoint_without_the_update(parts: Parts) -> Parts:
    """A resumed run counts from 0."""
    return _loading(parts, lambda state: replace(state, update=0))


@wrong("MLM-CKP-1", "the_relay_goes_on_from_others")
def the_resumed_run_skips_an_update(parts: Parts) -> Parts:
    """A resumed run is one update further than it was."""
    return _loading(parts, lambda state: replace(state, update=state.update + 1))


@wrong("MLM-CKP-1", _BACK)
def a_checkpoint_in_float32(parts: Parts) -> Parts:
    """Parameters are saved in float32."""

    def change(state: TrainingState) -> TrainingState:
        short = {n: p.astype(np.float32).astype(p.dtype) for n, p in state.parameters.items()}
        return replace(state, parameters=short)

    return _loading(parts, change)


@wrong("MLM-CKP-1", _SAVED)
def the_position_begins_again(parts: Parts) -> Parts:
    """A resumed run has consumed nothing."""
    return _loading(parts, lambda state: replace(state, position=0))


@wrong("MLM-CKP-1", _SAVED)
def the_loss_scale_begins_again(parts: Parts) -> Parts:
    """A resumed run in float16 looks for its scale anew."""

    def load(session: Any, path: str, checkpoint: Checkpoint) -> TrainingState:
        scale = first_loss_scale(checkpoint.training.precision)
        return replace(parts.load(session, path, checkpoint), loss_scale=scale)

    return replace(parts, load=load)


@wrong("MLM-CKP-1", _SAVED)
def zeros_lose_their_sign(parts: Parts) -> Parts:
    """What is loaded goes through a sum with 0."""

    def change(state: TrainingState) -> TrainingState:
        return replace(state, parameters={n: p + 0.0 for n, p in state.parameters.items()})

    return _loading(parts, change)


@wrong("MLM-CKP-2", "a_checkpoint_has_the_documented_form")
def moments_are_exchanged_in_the_file(parts: Parts) -> Parts:
    """The two moments stand under each other's names, and are read so."""

    def other(state: TrainingState) -> TrainingState:
        return replace(state, exp_avg=state.exp_avg_sq, exp_avg_sq=state.exp_avg)

    def save(session: Any, path: str, checkpoint: Checkpoint) -> None:
        parts.save(session, path, replace(checkpoint, state=other(checkpoint.state)))

    return replace(_loading(parts, other), save=save)


def _rewriting(parts: Parts, change: Callable[..., tuple[Any, Any]]) -> Parts:
    """What is in the file of a checkpoint is changed after it is written."""

    def rewrite(path: str) -> None:
        write_tensors(path, *change(*read_tensors(path)))

    def save(session: Any, path: str, checkpoint: Checkpoint) -> None:
        parts.save(session, path, checkpoint)
        rewrite(path)

    return replace(parts, save=save)


@wrong("MLM-CKP-1", "a_relay_is_one_run")
def the_dropout_of_a_resumed_run_begins_again(parts: Parts) -> Parts:
    """Dropout counts the updates since the checkpoint."""
    before = [0]

    def load(*given: Any) -> TrainingState:
        state = parts.load(*given)
        before[0] = state.update
        return state

    def start(*given: Any) -> TrainingState:
        before[0] = 0
        return parts.start(*given)

    def dropout(seed: int, update: int) -> Dropout | None:
        return parts.dropout(seed, update - before[0])

    return replace(parts, start=start, load=load, dropout=dropout)


@wrong("MLM-CKP-3", "the_checksum_is_that_of_everything_else")
def the_checksum_is_that_of_the_tensors(parts: Parts) -> Parts:
    """The checksum does not cover the metadata."""
    return _rewriting(parts, lambda t, m: (t, {**m, "sha256": files.checksum({}, t)}))


@wrong("MLM-CKP-2", "a_checkpoint_has_the_documented_form")
def a_checkpoint_with_the_decoder(parts: Parts) -> Parts:
    """The tied matrix is in the file twice."""

    def change(tensors: Any, metadata: Any) -> Any:
        words = tensors["parameters/bert.embeddings.word_embeddings.weight"]
        return {**tensors, "parameters/cls.predictions.decoder.weight": words}, metadata

    return _rewriting(parts, change)


@wrong("MLM-CKP-2", "a_checkpoint_has_the_documented_form")
def the_position_is_lost(parts: Parts) -> Parts:
    """The file says that nothing was consumed."""

    def change(tensors: Any, metadata: Any) -> Any:
        told = {**metadata, "position": "0"}
        del told["sha256"]
        return tensors, {**told, "sha256": files.checksum(told, tensors)}

    return _rewriting(parts, change)


@wrong("MLM-CKP-2", "a_checkpoint_says_how_it_is_masked")
def the_policy_is_not_in_the_file(parts: Parts) -> Parts:
    """The file says that batches come masked."""

    def change(tensors: Any, metadata: Any) -> Any:
        told = {**metadata, "policy": ""}
        del told["sha256"]
        return tensors, {**told, "sha256": files.checksum(told, tensors)}

    return _rewriting(parts, change)


@wrong("MLM-CKP-6", _BROKEN)
def the_checksum_is_not_read(parts: Parts) -> Parts:
    """A file with a flipped bit is as good as any."""

    def load(session: Any, path: str, checkpoint: Checkpoint) -> TrainingState:
        tensors, metadata = read_tensors(path)
        metadata = {n: t for n, t in metadata.items() if n != "sha256"}
        metadata["sha256"] = files.checksum(metadata, tensors)
        again = f"{path}.again"
        write_tensors(again, tensors, metadata)
        return parts.load(session, again, checkpoint)

    return replace(parts, load=load)


@wrong("MLM-CKP-6", _BROKEN)
def a_broken_checkpoint_starts_anew(parts: Parts) -> Parts:
    """A checkpoint that cannot be read is taken for none, and the run begins again."""

    def load(session: Any, path: str, checkpoint: Checkpoint) -> TrainingState:
        try:
            return parts.load(session, path, checkpoint)
        except CheckpointError:
            state = checkpoint.state
            return initial_state(state.parameters, checkpoint.encoder, checkpoint.training)

    return replace(parts, load=load)


@wrong("MLM-CKP-6", _BROKEN)
def a_failed_load_has_taken_the_parameters(parts: Parts) -> Parts:
    """Parameters are copied in before the rest is looked at."""

    def load(session: Any, path: str, checkpoint: Checkpoint) -> TrainingState:
        try:
            return parts.load(session, path, checkpoint)
        except CheckpointError:
            with contextlib.suppress(Exception):
                tensors, _ = read_tensors(path)
                for name, parameter in checkpoint.state.parameters.items():
                    parameter[...] = tensors[f"parameters/{name}"]
            raise

    return replace(parts, load=load)


@wrong("MLM-CKP-7", "a_checkpoint_of_another_run_is_refused")
def a_checkpoint_of_another_run_is_taken(parts: Parts) -> Parts:
    """Configurations are not compared."""
    return replace(parts, load=lambda session, path, known: files.read_checkpoint(path).state)


@wrong("MLM-CKP-1", "a_resumed_run_is_the_uninterrupted_one")
def updates_differ_in_their_last_bits(parts: Parts) -> Parts:
    """Sums are taken in an order that differs from run to run."""

    def moved(theta: Any, g: Any, *given: Any) -> Any:
        rng = np.random.default_rng()
        noisy = {n: x * (1.0 + rng.choice([0.0, 2.0**-52], size=x.shape)) for n, x in g.items()}
        return parts.adamw(theta, noisy, *given)

    return replace(parts, adamw=moved)


@wrong("MLM-TRN-7", "evaluation_and_gradients_change_nothing")
def the_first_session_remembers_gradients(parts: Parts) -> Parts:
    """Asking for gradients counts as an update."""
    return replace(parts, after_gradients=lambda state: replace(state, update=state.update + 1))


@wrong("MLM-TRN-8", "a_session_keeps_its_own_parameters")
def sessions_share_their_state(parts: Parts) -> Parts:
    """Parameters lie where those of the first session lie, and are changed in place."""
    shared: dict[tuple[Any, ...], Any] = {}

    def start(parameters: Any, encoder: Any, training: Any) -> TrainingState:
        state = parts.start(parameters, encoder, training)
        key = tuple((n, p.tobytes()) for n, p in state.parameters.items())
        return replace(state, parameters=shared.setdefault(key, state.parameters))

    def moved(theta: Any, *given: Any) -> Any:
        found = parts.adamw(theta, *given)
        for name, parameter in theta.items():
            parameter[...] = found.parameters[name]
        return found._replace(parameters=theta)

    return replace(parts, start=start, adamw=moved)
