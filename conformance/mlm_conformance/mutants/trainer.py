"""A trainer in parts, each of which can be a wrong one.

`Trainer` is a session of the reference's parts, correct as `CORRECT_PARTS` makes it.  A wrong
trainer is registered by a function from the correct parts to those with one mistake:

    @wrong("MLM-OPT-2", "the_first_update_is_that_of_adamw")
    def no_bias_correction(parts: Parts) -> Parts:
        \"\"\"The moments are used as they are.\"\"\"

The name then stands for the backend, so ``module:no_bias_correction`` is a target.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np

from mlm_conformance.mutants.registry import register_mutant
from mlm_spec import CheckpointError, InputError, MaskingPolicy, NotFiniteError
from mlm_spec.training.batch import TrainingBatch, UpdateStatus, count_sequences
from mlm_spec.training.checkpoint import Checkpoint
from mlm_spec.training.config import EncoderConfig, TrainingConfig
from mlm_spec.training.dropout import Dropout
from mlm_spec.training.gradients import Gradients, objective, objective_and_gradients
from mlm_spec.training.inputs import training_batch
from mlm_spec.training.optimizer import adamw, clipped, global_norm, learning_rate
from mlm_spec.training.precision import is_held, next_loss_scale
from mlm_spec.training.session import session as reference_session
from mlm_spec.training.state import TrainingState, initial_state

__all__ = [
    "CORRECT_PARTS",
    "Alone",
    "Parts",
    "Trainer",
    "backend",
    "correct_trainer",
    "inside",
    "mean_of_all",
    "with_batch",
    "wrong",
]

Arrays = Mapping[str, Any]


def mean_of_all(parts: Sequence[Gradients]) -> dict[str, Any]:
    """The gradients of −S/N; zeros where N is 0."""
    count = sum(int(part.count) for part in parts)
    names = parts[0].gradients
    total = {name: np.sum([p.gradients[name] for p in parts], axis=0) for name in names}
    return {name: g / -count if count else 0.0 * g for name, g in total.items()}


def _direction(parts: Parts, found: Sequence[Gradients], training: TrainingConfig) -> Any:
    """The clipped gradients, and the norm before."""
    mean = parts.mean(found)
    norm = parts.norm(mean)
    return parts.clipped(mean, norm, training.max_grad_norm), norm


def _unchanged(state: TrainingState, training: TrainingConfig) -> tuple[TrainingState, Any]:
    """An update of nothing."""
    return state, {"loss": 0.0, "norm": 0.0, "learning_rate": 0.0, "status": UpdateStatus.EMPTY}


def _loss(found: Sequence[Gradients]) -> float:
    return float(-sum(part.sum for part in found)) / sum(int(part.count) for part in found)


@dataclass(frozen=True, slots=True)
class Parts:
    """What a trainer is made of, each as its correct one."""

    masked: Callable[..., TrainingBatch]
    gradients: Callable[..., Gradients]
    value: Callable[..., Any]
    mean: Callable[..., dict[str, Any]]
    direction: Callable[..., Any]
    norm: Callable[..., float]
    clipped: Callable[..., Any]
    adamw: Callable[..., Any]
    rate: Callable[..., float]
    dropout: Callable[[int, int], Dropout | None]
    dropout_of_evaluation: Callable[[int, int], Dropout | None]
    nothing: Callable[..., Any]
    loss: Callable[..., float]
    after_gradients: Callable[[TrainingState], TrainingState]
    start: Callable[..., TrainingState]
    is_held: Callable[..., bool]
    overflowed: Callable[..., TrainingState]
    save: Callable[[Any, str, Checkpoint], None]
    load: Callable[[Any, str, Checkpoint], TrainingState]
    grown: Callable[[TrainingState, TrainingConfig], float]


def _save(session: Any, path: str, checkpoint: Checkpoint) -> None:
    """By the reference's session, which is given the state."""
    session._state = checkpoint.state
    session.save(path)


def _load(session: Any, path: str, checkpoint: Checkpoint) -> TrainingState:
    """By the reference's session, which gives the state."""
    session.load(path)
    state: TrainingState = session._state
    return state


def _overflowed(state: TrainingState, training: TrainingConfig) -> TrainingState:
    """An update whose gradients are not finite."""
    scale = next_loss_scale(state.loss_scale, state.update + 1, False, training.precision)
    return replace(state, loss_scale=scale)


def _grown(state: TrainingState, training: TrainingConfig) -> float:
    """The loss scale after the update that follows the state."""
    return next_loss_scale(state.loss_scale, state.update + 1, True, training.precision)


CORRECT_PARTS = Parts(
    training_batch, objective_and_gradients, objective, mean_of_all, _direction, global_norm,
    clipped, adamw, learning_rate, Dropout, lambda seed, update: None, _unchanged, _loss,
    lambda state: state, initial_state, is_held, _overflowed, _save, _load, _grown,
)  # fmt: skip


class Alone:
    """The group of a trainer that shares nothing with others."""

    def agreed(self, work: Callable[[], Any], kind: type[Exception], *owed: Any) -> Any:
        """What ``work`` gives, unless it is refused."""
        return work()

    def gradients(self, own: list[Gradients]) -> list[Gradients]:
        """Those that an update is made of."""
        return own

    def evaluated(self, own: tuple[Any, int]) -> tuple[Any, int]:
        """Sum and count."""
        return own

    def consumed(self, own: int) -> int:
        """How many sequences."""
        return own

    def writes(self) -> bool:
        """Whether this trainer writes its checkpoint."""
        return True

    def report(self, said: dict[str, Any]) -> dict[str, Any]:
        """What is said of an update."""
        return said

    def shown(self, arrays: Arrays) -> Arrays:
        """Parameters or moments as they are given out."""
        return arrays

    def loaded(self, found: TrainingState, former: TrainingState) -> TrainingState:
        """The state after a checkpoint was read."""
        return found

    def close(self) -> None:
        """Nobody is let go of."""


class Trainer:
    """A session of such parts, in a group with others or `Alone`."""

    def __init__(
        self,
        parts: Parts,
        encoder: Mapping[str, Any],
        training: Mapping[str, Any],
        parameters: Arrays,
        policy: MaskingPolicy | None,
        group: Any = None,
    ) -> None:
        self._parts, self._policy, self._group = parts, policy, group or Alone()
        self._encoder = EncoderConfig.from_mapping(encoder)
        self._training = TrainingConfig.from_mapping(training)
        self._files = reference_session(encoder, training, parameters, policy)
        self._state = parts.start(parameters, self._encoder, self._training)

    def evaluate(self, batches: Sequence[Any]) -> dict[str, Any]:
        """Sum and count."""
        dropout = self._parts.dropout_of_evaluation(self._training.seed, self._state.update + 1)
        about = {"dropout": dropout}
        found = [
            self._parts.value(self._state.parameters, batch, self._encoder, **about)
            for batch in self._agreed(batches, (0.0, 0))
        ]
        own = sum(f.sum for f in found), sum(f.count for f in found)
        return dict(zip(("sum", "count"), self._group.evaluated(own), strict=True))

    def gradients(self, batches: Sequence[Any]) -> dict[str, Any]:
        """Sum, count and gradients of the next update."""
        found = self._found(batches)
        gradients = self._parts.mean(found)
        self._state = self._parts.after_gradients(self._state)
        total = sum(f.sum for f in found)
        return {"sum": total, "count": sum(f.count for f in found), "gradients": gradients}

    def step(self, batches: Sequence[Any]) -> dict[str, Any]:
        """One update."""
        said: dict[str, Any] = self._group.report(self._step(batches))
        return said

    def _step(self, batches: Sequence[Any]) -> dict[str, Any]:
        n, parts, training = self._state.update + 1, self._parts, self._training
        rate = parts.rate(n, training)
        try:
            found = self._found(batches)
        except NotFiniteError:  # in the logits already
            self._consume(batches)
            return self._skipped(sum(int(b.selected.sum()) for b in self._masked(batches)))
        self._consume(batches)
        count = sum(int(f.count) for f in found)
        if not count:
            self._state, report = parts.nothing(self._state, training)
            return {**report, "count": 0, "update": self._state.update}
        old = self._state
        if not parts.is_held(parts.mean(found), old.loss_scale, training.precision):
            return self._skipped(count)
        direction, norm = parts.direction(parts, found, training)
        moved = parts.adamw(old.parameters, direction, old.exp_avg, old.exp_avg_sq, n, training)
        theta, m, v = moved
        scale = parts.grown(old, training)
        self._state = TrainingState(theta, m, v, n, scale, old.position)
        report = {"loss": parts.loss(found), "norm": norm, "learning_rate": rate, "status": 0}
        return {**report, "count": count, "update": n}

    def _skipped(self, count: int) -> dict[str, Any]:
        """An update that is not finite."""
        old = self._state
        self._state = self._parts.overflowed(old, self._training)
        report = {"loss": 0.0, "norm": 0.0, "learning_rate": 0.0, "count": count}
        return {**report, "status": UpdateStatus.NOT_FINITE, "update": old.update}

    def parameters(self) -> dict[str, Any]:
        """By name."""
        return dict(self._group.shown(self._state.parameters))

    def state(self) -> dict[str, Any]:
        """All but the parameters."""
        names = ("update", "exp_avg", "exp_avg_sq", "loss_scale", "position")
        found = {name: getattr(self._state, name) for name in names}
        return {n: self._group.shown(v) if n.startswith("exp") else v for n, v in found.items()}

    def save(self, path: str) -> None:
        """Write a checkpoint."""

        def written() -> None:
            if self._group.writes():
                self._parts.save(self._files, path, self._checkpoint())

        self._group.agreed(written, CheckpointError)

    def load(self, path: str) -> None:
        """Become what a checkpoint holds."""
        former = self._state

        def read() -> TrainingState:
            return self._parts.load(self._files, path, self._checkpoint())

        self._state = self._group.loaded(self._group.agreed(read, CheckpointError), former)

    def close(self) -> None:
        """Let go of the others."""
        self._group.close()

    def _consume(self, batches: Sequence[Any]) -> None:
        seen = sum(count_sequences(b.attention_mask, b.sequence_id) for b in self._masked(batches))
        position = self._state.position + self._group.consumed(seen)
        self._state = replace(self._state, position=position)

    def _checkpoint(self) -> Checkpoint:
        return Checkpoint(self._state, self._encoder, self._training, self._policy)

    def _masked(self, batches: Sequence[Any]) -> list[TrainingBatch]:
        about = (self._encoder, self._policy, self._training.seed)
        return [self._parts.masked(batch, *about) for batch in batches]

    def _found(self, batches: Sequence[Any]) -> list[Gradients]:
        state, encoder = self._state, self._encoder
        dropout = self._parts.dropout(self._training.seed, state.update + 1)
        nothing = [_of_nothing(state)]
        own = [
            self._parts.gradients(state.parameters, batch, encoder, dropout=dropout)
            for batch in self._agreed(batches, nothing, 0)
        ]
        found: list[Gradients] = self._group.gradients(own or nothing)
        return found

    def _agreed(self, batches: Sequence[Any], *owed: Any) -> list[TrainingBatch]:
        """The batches, masked, unless one of the group refuses its own."""
        found: list[TrainingBatch] = self._group.agreed(
            lambda: self._masked(batches), InputError, *owed
        )
        return found


def _of_nothing(state: TrainingState) -> Gradients:
    zeros = {name: np.zeros(p.shape) for name, p in state.parameters.items()}
    return Gradients(np.float64(0.0), np.int64(0), zeros)


def backend(parts: Parts) -> SimpleNamespace:
    """A backend whose one port is `session`."""

    def session(encoder: Any, training: Any, parameters: Any, policy: Any) -> Trainer:
        return Trainer(parts, encoder, training, parameters, policy)

    return SimpleNamespace(session=session)


correct_trainer = backend(CORRECT_PARTS)


def wrong(
    requirement: str, check: str, url: str = "", raises: str | None = None
) -> Callable[[Callable[[Parts], Parts]], Any]:
    """Register a mistake; its docstring says what is wrong."""

    def register(mistake: Callable[[Parts], Parts]) -> Any:
        register_mutant(mistake, requirement, ("session",), check, url or (), raises=raises)
        return backend(mistake(CORRECT_PARTS))

    return register


def with_batch(parts: Parts, how: Callable[[TrainingBatch], TrainingBatch]) -> Parts:
    """The encoder sees other batches."""

    def masked(*given: Any) -> TrainingBatch:
        return how(parts.masked(*given))

    return replace(parts, masked=masked)


def inside(parts: Parts, *changes: tuple[object, str, Any]) -> Parts:
    """While the encoder runs, names of its modules and classes are something else."""

    @contextmanager
    def changed() -> Iterator[None]:
        with ExitStack() as stack:
            for module, name, other in changes:
                stack.enter_context(patch.object(module, name, other))
            yield

    def within(function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*given: Any, **named: Any) -> Any:
            with changed():
                return function(*given, **named)

        return run

    return replace(parts, gradients=within(parts.gradients), value=within(parts.value))
