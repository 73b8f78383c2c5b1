"""Several processes that work together, started here, with a time limit.

One that dies leaves the others waiting for it, and one that waits for ever ends nothing.  Both are
errors with what the processes said; none is left behind.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import IO

__all__ = ["ReplicaError", "run_replicas"]

_PAUSE = 0.02  # seconds between two looks
_LAST_WORDS = 1.0  # seconds for a traceback of a process that is stopped
_SHOWN = 4000  # characters of each output in a message


class ReplicaError(Exception):
    """A process ended with an error, or not in time.

    Attributes
    ----------
    rank : which of them.
    outputs : what each of them printed, both streams together.
    """

    def __init__(self, rank: int, what: str, outputs: Sequence[str]) -> None:
        self.rank, self.outputs = rank, list(outputs)
        texts = [f"--- replica {n} ---\n{text[-_SHOWN:]}" for n, text in enumerate(outputs)]
        super().__init__(f"replica {rank} of {len(outputs)} {what}\n" + "\n".join(texts))


def run_replicas(
    command: Sequence[str],
    count: int,
    seconds: float,
    environment: Mapping[str, str] | None = None,
) -> list[str]:
    """Run a command in ``count`` processes that know of each other.

    Parameters
    ----------
    command : what each of them runs.  It finds RANK, LOCAL_RANK, WORLD_SIZE, LOCAL_WORLD_SIZE,
        MASTER_ADDR and MASTER_PORT in its environment, as launchers in wide use set them.
    count : how many.
    seconds : time for all of it.
    environment : the rest of their environment; that of this process by default.

    Returns
    -------
    What each printed.

    Raises
    ------
    ReplicaError : one ended with another status than 0, or was not ready in time.  The others
        were stopped.

    >>> import sys
    >>> run_replicas([sys.executable, "-c", "import os; print(os.environ['RANK'])"], 2, 60)
    ['0\\n', '1\\n']
    """
    told = dict(os.environ if environment is None else environment)
    told |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
    told |= {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
    told["PYTHONFAULTHANDLER"] = "1"  # so that one that is stopped says where it was
    with ExitStack() as stack:
        files = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(count)]
        processes: list[subprocess.Popen[bytes]] = []
        stack.callback(_stop, processes)
        for rank, file in enumerate(files):
            own = told | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            processes.append(_start(command, own, file))
        failed = _wait(processes, time.monotonic() + seconds)
        if failed is not None:
            _stop(processes)
            rank, status = failed
            what = f"was not ready after {seconds:g} s" if status is None else _ended(status)
            raise ReplicaError(rank, what, [_text(file) for file in files])
        return [_text(file) for file in files]


def _start(
    command: Sequence[str], environment: Mapping[str, str], output: IO[bytes]
) -> subprocess.Popen[bytes]:
    """Start one in a session of its own, so that all that it starts can be ended with it."""
    return subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def _free_port() -> int:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return int(place.getsockname()[1])


def _wait(
    processes: Sequence[subprocess.Popen[bytes]], deadline: float
) -> tuple[int, int | None] | None:
    """The first that failed, with its status, or None for its status if it was late."""
    while True:
        found = [process.poll() for process in processes]
        for rank, status in enumerate(found):
            if status:
                return rank, status
        if None not in found:
            return None
        if time.monotonic() > deadline:
            return found.index(None), None
        time.sleep(_PAUSE)


def _stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """End those that still run, and all that they started."""
    running = [process for process in processes if process.poll() is None]
    for process in running:
        process.send_signal(signal.SIGABRT)
    end = time.monotonic() + _LAST_WORDS
    while time.monotonic() < end and any(process.poll() is None for process in running):
        time.sleep(_PAUSE)
    for process in processes:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue  # nothing of it is left
    for process in processes:
        process.wait()


def _ended(status: int) -> str:
    return f"ended with status {status}" if status > 0 else f"was ended by signal {-status}"


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode("utf-8", "replace")
