"""Replicas of a trainer in parts, as threads of one process, each of which can be a wrong one.

Each is a `Trainer` that shares what it finds with a group.  A wrong one is registered by a function
from the correct ways to share to those with one mistake:

    @wrong_replicas("MLM-DST-22", "an_update_of_replicas_is_that_of_one")
    def a_mean_of_means(sharing: Sharing) -> Sharing:
        \"\"\"Gradients are averaged over the replicas, each divided by its own count.\"\"\"
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from mlm_conformance.mutants.registry import register_mutant
from mlm_conformance.mutants.trainer import CORRECT_PARTS, Parts, Trainer
from mlm_spec import MaskingPolicy, MlmSpecError
from mlm_spec.training.gradients import Gradients
from mlm_spec.training.state import TrainingState

__all__ = ["CORRECT_SHARING", "Place", "Sharing", "correct_replicas", "wrong_replicas"]

_SECONDS = 10.0  # that a replica waits for the others
Shares = Sequence[Sequence[Gradients]]


@dataclass(frozen=True, slots=True)
class Place:
    """Which replica this is."""

    rank: int
    size: int
    sharded: bool


class _Meeting:
    """Where threads that are replicas of each other exchange what they have."""

    def __init__(self, size: int) -> None:
        self._slots: list[Any] = [None] * size
        self._barrier = threading.Barrier(size, timeout=_SECONDS)

    def gather(self, rank: int, own: Any) -> list[Any]:
        """What all have, in the order of their ranks."""
        self._slots[rank] = own
        self._barrier.wait()
        found = list(self._slots)
        self._barrier.wait()  # nobody overwrites what another has yet to read
        return found


_MEETINGS: dict[str, _Meeting] = {}
_LOCK = threading.Lock()


def _meeting(address: str, size: int) -> _Meeting:
    with _LOCK:
        return _MEETINGS.setdefault(address, _Meeting(size))


def _all_of(shares: Shares, place: Place) -> list[Gradients]:
    return [one for own in shares for one in own]


def _nothing_refused(refused: Sequence[bool], place: Place) -> int | None:
    """The first replica that refuses, or None."""
    return next((rank for rank, no in enumerate(refused) if no), None)


@dataclass(frozen=True, slots=True)
class Sharing:
    """How replicas share, each part as its correct one.

    Attributes
    ----------
    parts : of the trainer, by the place of the replica.
    combined : the gradients that an update is made of, from those of all replicas.
    evaluated : sum and count, from those of all.
    consumed : how many sequences, from those of all.
    refused : the replica because of which a call is refused here.
    report : what is said of an update.
    shown : parameters and moments as they are given out.
    loaded : the state after a checkpoint was read, from it and the one before.
    """

    parts: Callable[[Place], Parts] = field(default=lambda place: CORRECT_PARTS)
    combined: Callable[[Shares, Place], list[Gradients]] = _all_of
    evaluated: Callable[[Sequence[tuple[Any, int]], Place], Any] = field(
        default=lambda pairs, place: pairs
    )
    consumed: Callable[[Sequence[int], Place], int] = field(default=lambda n, place: sum(n))
    refused: Callable[[Sequence[bool], Place], int | None] = _nothing_refused
    report: Callable[[dict[str, Any], Shares, Place], dict[str, Any]] = field(
        default=lambda report, shares, place: report
    )
    shown: Callable[[Mapping[str, Any], Place], Mapping[str, Any]] = field(
        default=lambda arrays, place: arrays
    )
    loaded: Callable[[TrainingState, TrainingState, Place], TrainingState] = field(
        default=lambda found, former, place: found
    )


CORRECT_SHARING = Sharing()


class _Group:
    """The others, seen from one replica, as `mlm_conformance.mutants.trainer.Alone` has none."""

    def __init__(self, sharing: Sharing, place: Place, address: str) -> None:
        self._sharing, self._place, self._address = sharing, place, address
        self._meeting = _meeting(address, place.size)
        self._shares: Shares = ()

    def agreed(self, work: Callable[[], Any], kind: type[MlmSpecError], *owed: Any) -> Any:
        """What ``work`` gives here, unless it is refused by one of all.

        ``owed`` : what one that refuses gives to others that go on without it.
        """
        error, found = None, None
        try:
            found = work()
        except MlmSpecError as refused:
            error = refused
        other = self._sharing.refused(self._gather(error is not None), self._place)
        if error is not None:
            for nothing in owed if other is None else ():
                self._gather(nothing)
            raise error
        if other is not None:
            raise kind("call", f"refused on replica {other}", "what every replica can do")
        return found

    def gradients(self, own: list[Gradients]) -> list[Gradients]:
        """Those that an update is made of."""
        self._shares = self._gather(own)
        return self._sharing.combined(self._shares, self._place)

    def evaluated(self, own: tuple[Any, int]) -> tuple[Any, int]:
        """Sum and count."""
        pairs = self._sharing.evaluated(self._gather(own), self._place)
        return sum(s for s, _ in pairs), sum(c for _, c in pairs)

    def consumed(self, own: int) -> int:
        """How many sequences."""
        return self._sharing.consumed(self._gather(own), self._place)

    def writes(self) -> bool:
        """Whether this replica writes the checkpoint."""
        return self._place.rank == 0

    def report(self, said: dict[str, Any]) -> dict[str, Any]:
        """What is said of an update."""
        return self._sharing.report(said, self._shares, self._place)

    def shown(self, arrays: Mapping[str, Any]) -> Mapping[str, Any]:
        """Parameters or moments as they are given out."""
        return self._sharing.shown(arrays, self._place)

    def loaded(self, found: TrainingState, former: TrainingState) -> TrainingState:
        """The state after a checkpoint was read."""
        return self._sharing.loaded(found, former, self._place)

    def close(self) -> None:
        """An address may come again."""
        _MEETINGS.pop(self._address, None)

    def _gather(self, own: Any) -> list[Any]:
        return self._meeting.gather(self._place.rank, own)


def replicas(sharing: Sharing) -> SimpleNamespace:
    """A backend whose one port is `replica_session`."""

    def replica_session(
        encoder: Any,
        training: Any,
        parameters: Any,
        policy: MaskingPolicy | None,
        rank: int,
        size: int,
        address: str,
        sharded: bool,
    ) -> Trainer:
        place, run = Place(rank, size, sharded), (encoder, training, parameters, policy)
        return Trainer(sharing.parts(place), *run, _Group(sharing, place, address))

    return SimpleNamespace(replica_session=replica_session)


correct_replicas = replicas(CORRECT_SHARING)


def wrong_replicas(
    requirement: str, check: str, url: str = "", raises: str | None = None
) -> Callable[[Callable[[Sharing], Sharing]], Any]:
    """Register a mistake; its docstring says what is wrong."""

    def register(mistake: Callable[[Sharing], Sharing]) -> Any:
        register_mutant(mistake, requirement, ("replica_session",), check, url or (), raises=raises)
        return replicas(mistake(CORRECT_SHARING))

    return register
