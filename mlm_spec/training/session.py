"""The port `session` of the reference: a run that is fed batch by batch (docs/architecture.md)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_spec.errors import CheckpointError, PolicyError
from mlm_spec.policy import MaskingPolicy
from mlm_spec.training.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from mlm_spec.training.config import EncoderConfig, TrainingConfig
from mlm_spec.training.inputs import Fields
from mlm_spec.training.state import initial_state
from mlm_spec.training.update import evaluate, mean_gradients, update

__all__ = ["Session", "session"]

Arrays = Mapping[str, NDArray[Any]]


class Session:
    """A run.  Its state changes with `step` and `load`, and with nothing else."""

    def __init__(
        self,
        encoder: EncoderConfig,
        training: TrainingConfig,
        parameters: Arrays,
        policy: MaskingPolicy | None,
    ) -> None:
        if policy is not None and not isinstance(policy, MaskingPolicy):
            raise PolicyError("policy", f"a {type(policy).__name__}", "a MaskingPolicy or None")
        self._encoder, self._training, self._policy = encoder, training, policy
        self._state = initial_state(parameters, encoder, training)

    def evaluate(self, batches: Iterable[Fields]) -> dict[str, Any]:
        """Sum and count over all batches, without dropout."""
        found = evaluate(
            self._state.parameters, batches, self._encoder, self._training, self._policy
        )
        return found._asdict()

    def gradients(self, batches: Iterable[Fields]) -> dict[str, Any]:
        """Sum, count and the gradients of the loss −sum/count, with the next update's dropout."""
        found = mean_gradients(self._state, batches, self._encoder, self._training, self._policy)
        return found._asdict()

    def step(self, batches: Iterable[Fields], sequences: int | None = None) -> dict[str, Any]:
        """One update, of which these are the micro-batches; what it did."""
        self._state, report = update(
            self._state, batches, self._encoder, self._training, self._policy, sequences=sequences
        )
        return {**report._asdict(), "status": int(report.status)}

    def parameters(self) -> dict[str, NDArray[Any]]:
        """Copies of the parameters by name."""
        return _copies(self._state.parameters)

    def state(self) -> dict[str, Any]:
        """All of the state but the parameters."""
        state = self._state
        return {
            "update": state.update,
            "exp_avg": _copies(state.exp_avg),
            "exp_avg_sq": _copies(state.exp_avg_sq),
            "loss_scale": state.loss_scale,
            "position": state.position,
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a checkpoint, whole or not at all; else `CheckpointError`."""
        write_checkpoint(path, Checkpoint(self._state, self._encoder, self._training, self._policy))

    def load(self, path: str | os.PathLike[str]) -> None:
        """Go on from a checkpoint of the same configurations; else `CheckpointError`."""
        found = read_checkpoint(path)
        for name in ("encoder", "training", "policy"):
            theirs, ours = getattr(found, name), getattr(self, f"_{name}")
            if theirs != ours:
                got, expected = _difference(theirs, ours)
                raise CheckpointError(f"{os.fspath(path)}: {name}", got, expected)
        self._state = found.state


def session(
    encoder: Mapping[str, Any],
    training: Mapping[str, Any],
    parameters: Arrays,
    policy: MaskingPolicy | None = None,
) -> Session:
    """A run from the start (port `session`).

    Parameters
    ----------
    encoder, training : the fields of an `EncoderConfig` and a `TrainingConfig`.
    parameters : float arrays by name, all those of the encoder.
    policy : how tokens are masked inside the update; None where batches come masked.

    Raises
    ------
    ConfigError, PolicyError, and as `initial_state`.

    Source: chapters TRN and CKP.  Bound: those of `update`.
    """
    return Session(
        EncoderConfig.from_mapping(encoder),
        TrainingConfig.from_mapping(training),
        parameters,
        policy,
    )


def _copies(arrays: Arrays) -> dict[str, NDArray[Any]]:
    return {name: np.array(array) for name, array in arrays.items()}


def _difference(theirs: Any, ours: Any) -> tuple[str, str]:
    """The first field in which two configurations differ, as text."""
    if theirs is None or ours is None:
        return ("None" if theirs is None else "there"), ("None" if ours is None else "a policy")
    left, right = theirs.to_mapping(), ours.to_mapping()
    name = next(name for name in right if left[name] != right[name])
    return f"of {name} {left[name]!r}", f"{name} {right[name]!r}, as this session has it"
