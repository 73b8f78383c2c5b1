"""A training session as a check sees it: an object whose methods are calls of the target."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.answer import Answer
from mlm_conformance.check import Broken, Context, NotClaimed, Unmeasurable
from mlm_spec import MaskingPolicy

__all__ = ["Batch", "Run", "TrainingSession", "training_session"]

Array = NDArray[Any]
Arrays = dict[str, Array]
#: The arrays of a micro-batch by name (`mlm_spec.training.batch.TrainingBatch`).
Batch = Mapping[str, Array]


class Run(Protocol):
    """What makes updates and tells its state."""

    def step(self, batches: Sequence[Batch]) -> Arrays: ...

    def parameters(self) -> Arrays: ...

    def state(self) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class TrainingSession:
    """One open session.  A method that the target's lacks raises `NotClaimed`.

    Attributes
    ----------
    context : whose target it is.
    number : the session's, in the target's process.
    has : the names of its methods.
    """

    context: Context
    number: int
    has: frozenset[str]

    def evaluate(self, batches: Sequence[Batch]) -> Arrays:
        """``sum`` and ``count`` of the batches."""
        return self.result("evaluate", batches=_carried(batches))

    def gradients(self, batches: Sequence[Batch]) -> dict[str, Any]:
        """``sum``, ``count`` and ``gradients``, by name, of the loss of one update."""
        return self.result("gradients", batches=_carried(batches))

    def step(self, batches: Sequence[Batch]) -> Arrays:
        """One update by these micro-batches: ``loss``, ``count``, ``norm``, ``learning_rate``,
        ``status`` and ``update``."""
        return self.result("step", batches=_carried(batches))

    def parameters(self) -> Arrays:
        """The parameters by name."""
        return self.result("parameters")

    def state(self) -> dict[str, Any]:
        """``update``, ``exp_avg`` and ``exp_avg_sq`` by name, ``loss_scale``, and perhaps
        ``position``."""
        return self.result("state")

    def save(self, path: Path) -> None:
        """Write a checkpoint."""
        self.result("save", path=str(path))

    def load(self, path: Path) -> None:
        """Become what a checkpoint holds."""
        self.result("load", path=str(path))

    def result(self, name: str, **arguments: Any) -> dict[str, Any]:
        """The fields of a call that must succeed."""
        return self.context.result_of(f"session.{name}", self.answer(name, **arguments))

    def answer(
        self, name: str, *, watch: Mapping[str, bool] | None = None, **arguments: Any
    ) -> Answer:
        """A call, whatever comes of it; ``watch``: what `Context.answer` is to look at."""
        if name not in self.has:
            raise NotClaimed(f"its sessions have no {name}")
        about = {"session": self.number, **arguments}
        answer = self.context.answer(f"session.{name}", about, **(watch or {}))
        if answer.not_implemented and answer.raised is not None:
            raise NotClaimed(f"session.{name} is not implemented: {answer.raised.message}")
        return answer


@contextmanager
def training_session(
    context: Context,
    encoder: Mapping[str, Any],
    training: Mapping[str, Any],
    parameters: Mapping[str, Array],
    policy: MaskingPolicy | None = None,
    devices: tuple[int, int] | None = None,
) -> Iterator[TrainingSession]:
    """A session of the context's target, closed at the end unless its process is gone.

    ``devices``: along the rows and along the ids, for a `device_session`; None: a `session`.

    Raises
    ------
    NotClaimed : the target does not implement this configuration.
    Unmeasurable : it has not so many devices.
    Violation : it refuses it otherwise.
    """
    about = {"encoder": dict(encoder), "training": dict(training), "policy": policy}
    port = "session" if devices is None else "device_session"
    mesh = {} if devices is None else dict(zip(("rows", "ids"), devices, strict=True))
    answer = context.answer(port, {**about, "parameters": dict(parameters), **mesh})
    if answer.not_implemented and answer.raised is not None:
        raise NotClaimed(f"{port} is not implemented: {answer.raised.message}")
    if devices and answer.raised is not None and "DeviceError" in answer.raised.classes:
        raise Unmeasurable(f"{devices[0]} × {devices[1]} devices: {answer.raised.message}")
    found = context.result_of(port, answer)
    has = frozenset(name for name, flag in found.items() if name != "session" and np.all(flag))
    session = TrainingSession(context, int(found["session"]), has)
    is_gone = False
    try:
        yield session
    except Broken:
        is_gone = True  # with its process; the next call starts a fresh one
        raise
    finally:
        if not is_gone:
            context.target.call("session.close", session=session.number)


def _carried(batches: Sequence[Batch]) -> list[dict[str, Array]]:
    return [dict(batch) for batch in batches]
