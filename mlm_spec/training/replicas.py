"""Several processes that make one update together (chapter DST, on many devices).

The definition, and no fast way: each replica masks its own micro-batches, gives them to all others,
and makes the update of one process that has them all.  So replicas agree bit for bit with each
other, and with a single process that has the same micro-batches in the order of the ranks.
"""

from __future__ import annotations

import io
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_spec.errors import CheckpointError, DeviceError, InputError, MlmSpecError
from mlm_spec.policy import MaskingPolicy
from mlm_spec.training.batch import TrainingBatch
from mlm_spec.training.config import EncoderConfig, TrainingConfig
from mlm_spec.training.inputs import Fields, training_batch
from mlm_spec.training.session import Session
from mlm_spec.training.state import TrainingState

__all__ = ["ReplicaSession", "Replicas", "replica_session"]

_SECONDS = 60.0  # that one waits for the others
_GROUPS = ("parameters", "exp_avg", "exp_avg_sq")


class Replicas:
    """Processes that know each other, seen from one of them.

    Parameters
    ----------
    rank : which of them this one is, from 0.
    size : how many there are.
    address : ``host:port``, where replica 0 waits for the others; they must be trusted.
    """

    def __init__(self, rank: int, size: int, address: str) -> None:
        if not 0 <= rank < size:
            raise InputError("rank", rank, f"in 0..{size - 1}")
        self.rank, self.size = rank, size
        host, _, port = address.rpartition(":")
        place = (host, int(port))
        self._others = _accepted(place, size) if rank == 0 else [_connected(place, rank)]

    def gather(self, own: bytes) -> list[bytes]:
        """What all replicas have, in the order of their ranks."""
        if self.rank:
            self._others[0].send(own)
            return [self._others[0].receive() for _ in range(self.size)]
        found = [own, *(other.receive() for other in self._others)]
        for other in self._others:
            for part in found:
                other.send(part)
        return found

    def close(self) -> None:
        """Let go of the others."""
        for other in self._others:
            other.close()


class ReplicaSession:
    """A run of which each replica has its own micro-batches, perhaps none.

    Calls are made by all together, at least those with micro-batches or files, and all of them
    where each keeps only its part of the state.  What one of them refuses is refused by all, and
    nothing has happened on any.
    """

    def __init__(self, session: Session, replicas: Replicas, sharded: bool = False) -> None:
        self._session, self._replicas, self._sharded = session, replicas, sharded
        self._take_apart()

    def evaluate(self, batches: Iterable[Fields]) -> dict[str, Any]:
        """As `Session.evaluate`, of the batches of all."""
        with self._whole() as session:
            return session.evaluate(self._all(batches))

    def gradients(self, batches: Iterable[Fields]) -> dict[str, Any]:
        """As `Session.gradients`, of the micro-batches of all."""
        with self._whole() as session:
            return session.gradients(self._all(batches))

    def step(self, batches: Iterable[Fields]) -> dict[str, Any]:
        """As `Session.step`, of the micro-batches of all."""
        with self._whole() as session:
            return session.step(self._all(batches))

    def parameters(self) -> dict[str, NDArray[Any]]:
        """As `Session.parameters`; the same on all."""
        with self._whole() as session:
            return session.parameters()

    def state(self) -> dict[str, Any]:
        """As `Session.state`; the same on all."""
        with self._whole() as session:
            return session.state()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Replica 0 writes a checkpoint; else `CheckpointError`, on all."""
        with self._whole() as session, self._together(os.fspath(path), CheckpointError) as found:
            if self._replicas.rank == 0:
                session.save(path)
            found.append(b"written")

    def load(self, path: str | os.PathLike[str]) -> None:
        """Go on from a checkpoint, which all of them read; else `CheckpointError`, on all."""
        with self._whole() as session:
            former = session._state
            try:
                with self._together(os.fspath(path), CheckpointError) as found:
                    session.load(path)
                    found.append(b"read")
            except MlmSpecError:
                session._state = former
                raise

    def close(self) -> None:
        """Let go of the others."""
        self._replicas.close()

    @contextmanager
    def _whole(self) -> Iterator[Session]:
        """The session with all of its state, for a while."""
        if self._sharded:
            state = self._session._state
            parts = {group: getattr(state, group) for group in _GROUPS}
            everyone = [_arrays(p) for p in self._replicas.gather(_bytes(_flat(parts)))]

            def joined(group: str, name: str, own: NDArray[Any]) -> NDArray[Any]:
                return np.concatenate([parts[f"{group} {name}"] for parts in everyone])

            self._session._state = _mapped(state, joined)
        try:
            yield self._session
        finally:
            self._take_apart()

    def _take_apart(self) -> None:
        """Keep the part of every array that is this replica's, some rows."""
        if not self._sharded:
            return
        rank, size = self._replicas.rank, self._replicas.size

        def own(group: str, name: str, array: NDArray[Any]) -> NDArray[Any]:
            return np.array_split(array, size)[rank].copy()

        self._session._state = _mapped(self._session._state, own)

    def _all(self, batches: Iterable[Fields]) -> list[TrainingBatch]:
        """The micro-batches of all, masked by those who have them."""
        session, everyone = self._session, []
        about = (session._encoder, session._policy, session._training.seed)
        with self._together("batches", InputError) as found:
            found.append(_packed([training_batch(batch, *about) for batch in batches]))
            everyone = found
        return [batch for part in everyone for batch in _unpacked(part)]

    @contextmanager
    def _together(self, where: str, kind: type[MlmSpecError]) -> Iterator[list[bytes]]:
        """What is appended within becomes, on leaving, what all have; or an error of all."""
        own: list[bytes] = []
        error = None
        try:
            yield own
        except MlmSpecError as found:
            error = found
        everyone = self._replicas.gather(b"" if error else own[0])
        if error is not None:
            raise error
        if b"" in everyone:
            rank = everyone.index(b"")
            raise kind(where, f"refused on replica {rank}", "what every replica can use")
        own[:] = everyone


def replica_session(
    encoder: Mapping[str, Any],
    training: Mapping[str, Any],
    parameters: Mapping[str, NDArray[Any]],
    policy: MaskingPolicy | None = None,
    *,
    rank: int,
    size: int,
    address: str,
    sharded: bool = False,
) -> ReplicaSession:
    """A run that several processes make together, seen from one of them (port `replica_session`).

    Parameters
    ----------
    encoder, training, parameters, policy : as in `mlm_spec.training.session.session`; those of all
        replicas are the same.
    rank, size, address : as `Replicas` has them.
    sharded : whether each keeps only a part of every parameter and of its moments.

    Raises
    ------
    DeviceError : the others do not come within a minute.
    And as `session`.

    Source: chapter DST.  Bound: those of `mlm_spec.training.update.update`.
    """
    configs = EncoderConfig.from_mapping(encoder), TrainingConfig.from_mapping(training)
    run = Session(*configs, parameters, policy)
    return ReplicaSession(run, Replicas(rank, size, address), sharded)


class _Line:
    """A connection over which bytes go in pieces, each behind its length."""

    def __init__(self, place: socket.socket) -> None:
        place.settimeout(_SECONDS)
        self._file = place.makefile("rwb")
        place.close()  # the file has it

    def send(self, data: bytes) -> None:
        try:
            self._file.write(len(data).to_bytes(8, "little") + data)
            self._file.flush()
        except OSError as error:
            raise _gone(error) from None

    def receive(self) -> bytes:
        try:
            length = int.from_bytes(self._exactly(8), "little")
            return self._exactly(length)
        except OSError as error:
            raise _gone(error) from None

    def close(self) -> None:
        self._file.close()

    def _exactly(self, count: int) -> bytes:
        data = self._file.read(count)
        if len(data) < count:
            raise ConnectionError("it has ended")
        return data


def _accepted(place: tuple[str, int], size: int) -> list[_Line]:
    """The lines to replicas 1, 2, …"""
    found: dict[int, _Line] = {}
    with socket.create_server(place, backlog=size) as server:
        server.settimeout(_SECONDS)
        while len(found) < size - 1:
            try:
                line = _Line(server.accept()[0])
            except TimeoutError:
                raise _missing(size, len(found) + 1) from None
            found[int(line.receive())] = line
    return [found[rank] for rank in range(1, size)]


def _connected(place: tuple[str, int], rank: int) -> _Line:
    end = time.monotonic() + _SECONDS
    while True:
        try:
            line = _Line(socket.create_connection(place, _SECONDS))
        except ConnectionRefusedError:  # replica 0 is not there yet
            if time.monotonic() > end:
                raise _missing(rank + 1, 1) from None
            time.sleep(0.01)
        else:
            line.send(str(rank).encode())
            return line


def _gone(error: OSError) -> DeviceError:
    return DeviceError("replicas", f"gone ({error})", f"an answer within {_SECONDS:g} s")


def _missing(size: int, here: int) -> DeviceError:
    return DeviceError("replicas", f"only {here} of them", f"{size} within {_SECONDS:g} s")


def _mapped(state: TrainingState, how: Callable[[str, str, Any], Any]) -> TrainingState:
    """The state with other parameters and moments."""
    theta, m, v = (
        {name: how(group, name, array) for name, array in getattr(state, group).items()}
        for group in _GROUPS
    )
    return replace(state, parameters=theta, exp_avg=m, exp_avg_sq=v)


def _packed(batches: list[TrainingBatch]) -> bytes:
    return _bytes(_flat({str(number): b._asdict() for number, b in enumerate(batches)}))


def _unpacked(data: bytes) -> list[TrainingBatch]:
    arrays, names = _arrays(data), TrainingBatch._fields
    numbers = range(len(arrays) // len(names))
    return [TrainingBatch(*(arrays[f"{number} {name}"] for name in names)) for number in numbers]


def _flat(groups: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {f"{group} {name}": a for group, arrays in groups.items() for name, a in arrays.items()}


def _bytes(arrays: Mapping[str, Any]) -> bytes:
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **{name: np.asarray(a) for name, a in arrays.items()})
    return file.getvalue()


def _arrays(data: bytes) -> dict[str, NDArray[Any]]:
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return dict(arrays)
