"""Replicas of a trainer in parts, as threads of one process, each of which can be a wrong one.

`ReplicaTrainer` is what one replica has: a `Trainer` that shares what it finds with the others.  A
wrong one is registered by a function from the correct ways to share to those with one mistake:

    @wrong_replicas("MLM-DST-22", "an_update_of_replicas_is_that_of_one")
    def a_mean_of_means(sharing: Sharing) -> Sharing:
        \"\"\"Gradients are averaged over the replicas, each divided by its own count.\"\"\"
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import numpy as np

from mlm_conformance.mutants.registry import register_mutant
from mlm_conformance.mutants.trainer import CORRECT_PARTS, Parts, Trainer
from mlm_spec import CheckpointError, InputError, MaskingPolicy, MlmSpecError
from mlm_spec.training.batch import TrainingBatch, count_sequences
from mlm_spec.training.config import EncoderConfig
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


class ReplicaTrainer(Trainer):
    """What one replica has."""

    def __init__(self, sharing: Sharing, place: Place, address: str, *run: Any) -> None:
        super().__init__(sharing.parts(place), *run)
        self._sharing, self._place, self._address = sharing, place, address
        self._meeting = _meeting(address, place.size)
        self._shares: Shares = ()

    def evaluate(self, batches: Sequence[Any]) -> dict[str, Any]:
        """Sum and count of all."""
        own = self._agreed(lambda: self._masked(batches), InputError, (0.0, 0))
        found = super().evaluate(own)
        pairs = self._meeting.gather(self._place.rank, (found["sum"], found["count"]))
        pairs = self._sharing.evaluated(pairs, self._place)
        return {"sum": sum(s for s, _ in pairs), "count": sum(c for _, c in pairs)}

    def step(self, batches: Sequence[Any]) -> dict[str, Any]:
        """One update of all."""
        return self._sharing.report(super().step(batches), self._shares, self._place)

    def parameters(self) -> dict[str, Any]:
        """By name."""
        return dict(self._sharing.shown(super().parameters(), self._place))

    def state(self) -> dict[str, Any]:
        """All but the parameters."""
        found = super().state()
        shown = {n: self._sharing.shown(found[n], self._place) for n in ("exp_avg", "exp_avg_sq")}
        return {**found, **shown}

    def save(self, path: str) -> None:
        """Replica 0 writes."""

        def written() -> None:
            if self._place.rank == 0:
                super(ReplicaTrainer, self).save(path)

        self._agreed(written, CheckpointError)

    def load(self, path: str) -> None:
        """All read."""
        former = self._state
        try:
            self._agreed(lambda: super(ReplicaTrainer, self).load(path), CheckpointError)
        except MlmSpecError:
            self._state = former
            raise
        self._state = self._sharing.loaded(self._state, former, self._place)

    def close(self) -> None:
        """An address may come again."""
        _MEETINGS.pop(self._address, None)

    def _found(self, batches: Sequence[Any]) -> list[Gradients]:
        nothing = [_of_nothing(self._state, self._encoder)]
        masked = self._agreed(lambda: self._masked(batches), InputError, nothing, 0)
        own = super()._found(masked) or nothing
        self._shares = self._meeting.gather(self._place.rank, own)
        return self._sharing.combined(self._shares, self._place)

    def _consume(self, batches: Sequence[Any]) -> None:
        masked = self._masked(batches)
        own = sum(count_sequences(b.attention_mask, b.sequence_id) for b in masked)
        counts = self._meeting.gather(self._place.rank, own)
        consumed = self._sharing.consumed(counts, self._place)
        self._state = replace(self._state, position=self._state.position + consumed)

    def _masked(self, batches: Sequence[Any]) -> list[TrainingBatch]:
        """Each once, however often it is asked for."""
        once = super()._masked
        return [b if isinstance(b, TrainingBatch) else once([b])[0] for b in batches]

    def _agreed(self, work: Callable[[], Any], kind: type[MlmSpecError], *owed: Any) -> Any:
        """What ``work`` gives here, unless it is refused by one of all.

        ``owed`` : what one that refuses gives to others that go on without it.
        """
        error, found = None, None
        try:
            found = work()
        except MlmSpecError as refused:
            error = refused
        everyone = self._meeting.gather(self._place.rank, error is not None)
        other = self._sharing.refused(everyone, self._place)
        if error is not None:
            for nothing in owed if other is None else ():
                self._meeting.gather(self._place.rank, nothing)
            raise error
        if other is not None:
            raise kind("call", f"refused on replica {other}", "what every replica can do")
        return found


def _of_nothing(state: TrainingState, encoder: EncoderConfig) -> Gradients:
    zeros = {name: np.zeros(p.shape) for name, p in state.parameters.items()}
    return Gradients(np.float64(0.0), np.int64(0), zeros)


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
    ) -> ReplicaTrainer:
        place, run = Place(rank, size, sharded), (encoder, training, parameters, policy)
        return ReplicaTrainer(sharing, place, address, *run)

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
