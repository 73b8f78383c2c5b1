"""A child process that is spoken to in frames, each exchange with a time limit (POSIX)."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mlm_conformance.wire import TruncatedError, encode, read_frame, send

__all__ = ["Child", "ChildEndedError"]

# Threads that spin while they wait take the processor from the suite itself: small calls were
# seen to take 27 ms instead of 0.6 on a busy machine with two cores.
_QUIET = {"OMP_WAIT_POLICY": "PASSIVE"}

_TAIL = 2**16  # bytes of output that are kept
_PIPE = 2**18  # bytes; more leaves the cache and is no faster
_SLICE = 0.1  # seconds between two looks at whether the process still lives
_GRACE = 2.0  # seconds to end by itself after ``bye``


class ChildEndedError(Exception):
    """The process ended, or closed its side, before it had answered."""


class Child:
    """One process in a session of its own.

    Parameters
    ----------
    command : program and arguments; the environment is inherited, standard input is not.
        Threads that wait for work sleep, unless ``OMP_WAIT_POLICY`` says otherwise.
    cwd : its current directory; None: ours.

    Raises
    ------
    OSError : the program cannot be started.
    """

    def __init__(self, command: Sequence[str], cwd: Path | None = None) -> None:
        self._process = subprocess.Popen(
            command,
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=cwd,
            env={**_QUIET, **os.environ},
            start_new_session=True,
        )
        stdin, stdout, stderr = self._process.stdin, self._process.stdout, self._process.stderr
        assert stdin is not None
        assert stdout is not None
        assert stderr is not None
        self._files = (stdin, stdout, stderr)
        self._requests = _Timed(stdin.fileno(), select.POLLOUT, self._process)
        self._replies = _Timed(stdout.fileno(), select.POLLIN, self._process)
        self._printed = _Tail(stderr.fileno())
        self._is_over = False

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    def exchange(self, frame: Iterable[bytes | memoryview], limit: float) -> Any:
        """Send one encoded request; the message that comes back.

        Raises
        ------
        TimeoutError : none within ``limit`` seconds.
        ChildEndedError : the process ended or closed its side.
        WireError : what came back is no frame.

        After any of them the process is out of step: `end` it.
        """
        deadline = time.monotonic() + limit
        self._requests.deadline = self._replies.deadline = deadline
        try:
            # Where nobody reads any more, there may be last words to be read.
            with contextlib.suppress(BrokenPipeError):
                send(self._requests, frame)
            return read_frame(self._replies)
        except EOFError:
            raise ChildEndedError(self._fate()) from None
        except TruncatedError as error:
            raise ChildEndedError(f"{self._fate()} in the middle of a reply: {error}") from None

    def printed(self) -> str:
        """What was printed since the last time this was asked, at most its last 64 KiB."""
        return self._printed.take()

    def leave(self) -> None:
        """Say ``bye``, wait a little, and end whatever is left."""
        self._requests.deadline = time.monotonic() + _GRACE
        with contextlib.suppress(OSError, TimeoutError):
            send(self._requests, encode({"do": "bye"}))
        self._files[0].close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE)
        self.end()

    def end(self) -> None:
        """End the process and all others of its session's group.  Once is enough."""
        if self._is_over:
            return
        self._is_over = True
        self.kill()
        self._process.wait()
        self._printed.stop()
        for file in self._files:
            file.close()

    def kill(self) -> None:
        """Kill them all, and wait for nothing: whoever waits for a reply finds out."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _fate(self) -> str:
        """How it ended, once it has had the time to."""
        try:
            status = self._process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            return "closed its side of the pipe"
        if status >= 0:
            return f"ended with status {status}"
        return f"was ended by {_signal_name(-status)}"


def _signal_name(number: int) -> str:
    try:
        return f"{signal.Signals(number).name} (signal {number})"
    except ValueError:
        return f"signal {number}"


class _Timed:
    """One end of a pipe, read or written until a deadline."""

    def __init__(self, fd: int, event: int, process: subprocess.Popen[bytes]) -> None:
        self.deadline = 0.0
        self._fd = fd
        self._process = process
        self._poll = select.poll()
        self._poll.register(fd, event)
        os.set_blocking(fd, False)
        with contextlib.suppress(OSError, AttributeError):  # only Linux; else it is slower
            fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _PIPE)

    def readinto(self, buffer: memoryview, /) -> int:
        """Bytes read; 0 where the other side is closed, or ended with nothing left to read."""
        while True:
            # Asked before the read: whatever an ended process wrote is in the pipe by then.
            # Its descendants may hold the pipe open for ever.
            ended = self._process.poll() is not None
            try:
                return os.readv(self._fd, [buffer])
            except BlockingIOError:
                if ended:
                    return 0
            self._wait()

    def write(self, buffer: bytes | memoryview, /) -> int:
        """Bytes written, at least one."""
        while True:
            try:
                return os.write(self._fd, buffer)
            except BlockingIOError:
                if self._process.poll() is not None:
                    raise BrokenPipeError from None
            self._wait()

    def _wait(self) -> None:
        rest = self.deadline - time.monotonic()
        if rest <= 0:
            raise TimeoutError
        self._poll.poll(1000 * min(rest, _SLICE))


class _Tail:
    """Reads what a process prints, so that it never blocks, and keeps the end of it."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._kept = b""
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        os.set_blocking(fd, False)
        self._thread = threading.Thread(target=self._drain, daemon=True)
        self._thread.start()

    def take(self) -> str:
        """What was printed up to now, or the end of it; the next call begins anew."""
        self._read_some()
        with self._lock:
            kept, self._kept = self._kept, b""
        return kept.decode(errors="backslashreplace")

    def stop(self) -> None:
        """Read what is left of an ended process; then its pipe may be closed."""
        self._stopping.set()
        self._thread.join()
        self._fd = -1

    def _drain(self) -> None:
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        is_open = True
        while is_open and not self._stopping.is_set():
            # A descendant that left the group may hold the pipe open, so look up now and then.
            if poll.poll(1000 * _SLICE):
                is_open = self._read_some()
        self._read_some()

    def _read_some(self) -> bool:
        """Read what is there, but no more than a pipe holds; False once it is closed."""
        with self._lock:
            for _ in range(_PIPE // _TAIL if self._fd >= 0 else 0):
                try:
                    chunk = os.read(self._fd, _TAIL)
                except BlockingIOError:
                    return True
                if not chunk:
                    return False
                self._kept = (self._kept + chunk)[-_TAIL:]
        return True
