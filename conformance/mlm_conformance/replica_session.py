"""A training session of several replicas, as a check sees it: one session of all."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.answer import Answer
from mlm_conformance.check import Broken, Context, NotClaimed, Unmeasurable
from mlm_conformance.training_session import Batch
from mlm_spec import MaskingPolicy

__all__ = ["ReplicaSession", "alone", "dealt", "flat", "replica_session"]

Array = NDArray[Any]
Shares = Sequence[Sequence[Batch]]
_PORT = "replica_session"
_LOST = ("died", "timed_out")


def alone() -> dict[str, Any]:
    """What `replica_session` is told where there is one replica."""
    return {"rank": 0, "size": 1, "address": free_address(), "sharded": False}


def free_address() -> str:
    """``host:port`` at which the first replica may wait for the others."""
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{place.getsockname()[1]}"


def dealt(batches: Sequence[Batch], size: int) -> list[list[Batch]]:
    """Micro-batches dealt out to replicas: where there are few, some get none."""
    return [list(batches[rank::size]) for rank in range(size)]


@dataclass(frozen=True, slots=True)
class ReplicaSession:
    """The sessions of all replicas.  A method that one of them lacks raises `NotClaimed`.

    Each call is made by all of them, and answered by the first; `results` has what each says.

    Attributes
    ----------
    context : whose target it is.
    numbers : of the session in each process.
    has : the names of the methods that all have.
    """

    context: Context
    numbers: tuple[int, ...]
    has: frozenset[str]

    @property
    def size(self) -> int:
        """How many replicas there are."""
        return len(self.numbers)

    def evaluate(self, batches: Sequence[Batch]) -> dict[str, Any]:
        """``sum`` and ``count`` of the batches, dealt out."""
        return self.shared("evaluate", dealt(batches, self.size))

    def gradients(self, batches: Sequence[Batch]) -> dict[str, Any]:
        """``sum``, ``count`` and ``gradients`` of the loss of one update."""
        return self.shared("gradients", dealt(batches, self.size))

    def step(self, batches: Sequence[Batch]) -> dict[str, Any]:
        """One update by these micro-batches, dealt out."""
        return self.shared("step", dealt(batches, self.size))

    def shared(self, name: str, shares: Shares) -> dict[str, Any]:
        """A call in which each replica has its own micro-batches."""
        return self.results(name, _given(shares))[0]

    def parameters(self) -> dict[str, Any]:
        """The parameters by name."""
        return self.results("parameters")[0]

    def state(self) -> dict[str, Any]:
        """All of the state but the parameters."""
        return self.results("state")[0]

    def save(self, path: Path) -> None:
        """Write a checkpoint, together."""
        self.results("save", [{"path": str(path)}] * self.size)

    def load(self, path: Path) -> None:
        """Become what a checkpoint holds."""
        self.results("load", [{"path": str(path)}] * self.size)

    def everything(self) -> list[dict[str, Array]]:
        """Parameters and state of each replica, as arrays by name."""
        pairs = zip(self.results("parameters"), self.results("state"), strict=True)
        return [flat({"parameters": own, **state}) for own, state in pairs]

    def results(
        self, name: str, given: Sequence[Mapping[str, Any]] | None = None
    ) -> list[dict[str, Any]]:
        """The fields of a call that must succeed on all."""
        answers = self.answers(name, given)
        return [self.context.result_of(f"session.{name}", answer) for answer in answers]

    def answers(self, name: str, given: Sequence[Mapping[str, Any]] | None = None) -> list[Answer]:
        """A call of all, whatever comes of it."""
        if name not in self.has:
            raise NotClaimed(f"its replicas have no {name}")
        own = given or [{}] * self.size
        each = [{"session": n, **one} for n, one in zip(self.numbers, own, strict=True)]
        return _asked(self.context, f"session.{name}", each)


def _given(shares: Shares) -> list[dict[str, Any]]:
    return [{"batches": [dict(batch) for batch in own]} for own in shares]


@contextmanager
def replica_session(
    context: Context,
    size: int,
    encoder: Mapping[str, Any],
    training: Mapping[str, Any],
    parameters: Mapping[str, Array],
    policy: MaskingPolicy | None = None,
    *,
    sharded: bool = False,
) -> Iterator[ReplicaSession]:
    """A session of so many replicas, closed at the end unless their processes are gone.

    Raises
    ------
    NotClaimed : the target does not implement this configuration.
    Unmeasurable : it has not the devices.
    Violation : it refuses it otherwise.
    """
    run = {"encoder": dict(encoder), "training": dict(training), "parameters": dict(parameters)}
    group = {"size": size, "address": free_address(), "sharded": sharded}
    each = [{**run, "policy": policy, "rank": rank, **group} for rank in range(size)]
    answers = _asked(context, _PORT, each)
    for answer in answers:
        if answer.raised is not None and answer.not_implemented:
            raise NotClaimed(f"{_PORT} is not implemented: {answer.raised.message}")
        if answer.raised is not None and "DeviceError" in answer.raised.classes:
            raise Unmeasurable(f"{size} replicas: {answer.raised.message}")
    found = [context.result_of(_PORT, answer) for answer in answers]
    names = [{n for n, flag in one.items() if n != "session" and np.all(flag)} for one in found]
    numbers = tuple(int(one["session"]) for one in found)
    session = ReplicaSession(context, numbers, frozenset(set.intersection(*names)))
    is_gone = False
    try:
        yield session
    except Broken:
        is_gone = True  # with their processes
        raise
    finally:
        if not is_gone:
            assert context.together is not None
            context.together.call("session.close", [{"session": n} for n in numbers])


def _asked(context: Context, port: str, each: Sequence[Mapping[str, Any]]) -> list[Answer]:
    """The answers of all; one that is dead or late is `Broken`, with what each printed."""
    if context.together is None:
        raise Unmeasurable("this run has no second process of the target")
    answers = context.together.call(port, each)
    lost = [rank for rank, answer in enumerate(answers) if answer.kind in _LOST]
    if lost:
        told = [f"--- replica {n} ---\n{_told(a)}" for n, a in enumerate(answers)]
        first = min(lost, key=lambda rank: answers[rank].seconds)  # the others waited for it
        said = f"{port} on replica {first} of {len(each)} {answers[first].text}"
        raise Broken("\n".join([said, *told]))
    return answers


def _told(answer: Answer) -> str:
    said = answer.kind if answer.raised is None else f"raised {answer.raised.message}"
    return f"{said}\n{answer.output}".strip()


def flat(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Arrays by name, those of a field that holds names under both."""
    found: dict[str, Any] = {}
    for name, value in fields.items():
        inner = value if isinstance(value, Mapping) else {"": value}
        found |= {f"{name} {key}".strip(): array for key, array in inner.items()}
    return found
