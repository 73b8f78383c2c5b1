"""Targets as the suite sees them: a child process, or a program that speaks frames.

A `Target` has ``hello()`` and ``call(port, **arguments)``; a call always comes back with an
`Answer`, whatever the target does.  `mlm_conformance.in_process` has the third kind.
"""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path
from typing import Any, Protocol

from mlm_conformance.answer import Answer, Hello, Kind, Raised, read_answer, read_hello
from mlm_conformance.child import Child, ChildEndedError
from mlm_conformance.in_process import InProcessTarget
from mlm_conformance.ports import check_arguments
from mlm_conformance.resolve import (
    DeviceMissing,
    FrameworkMissing,
    TargetError,
)
from mlm_conformance.wire import WireError, encode

__all__ = [
    "PROTOCOL",
    "Answer",
    "Hello",
    "InProcessTarget",
    "Raised",
    "Target",
    "TargetProcess",
    "open_target",
]

PROTOCOL = 1
EXEC = "exec:"


class Target(Protocol):
    """What a check may ask of a target."""

    restarts: int

    def hello(self) -> Hello: ...

    def call(
        self,
        port: str,
        /,
        *,
        measure_memory: bool = False,
        watch_random: bool = False,
        keep_results: bool = False,
        layout: str = "",
        **arguments: Any,
    ) -> Answer: ...

    @property
    def pid(self) -> int | None: ...

    def restart(self) -> None: ...

    def close(self) -> None: ...


def open_target(
    name: str,
    device: str = "cpu",
    *,
    in_process: bool = False,
    limit: float = 60.0,
    first_limit: float = 120.0,
) -> TargetProcess | InProcessTarget:
    """The target called ``name``: a backend, ``module:attribute`` or ``exec:COMMAND``."""
    if in_process:
        return InProcessTarget(name, device)
    return TargetProcess(name, device, limit=limit, first_limit=first_limit)


class TargetProcess:
    """A target in a child process, which is started when it is first needed.

    A process that dies, hangs or breaks the protocol is ended, with all that it started, and
    the next call starts a fresh one.  One call at a time.

    Parameters
    ----------
    target : a backend's name, ``module:attribute``, or ``exec:COMMAND`` for a program that
        speaks frames (``docs/protocol.md``); the command is split as a shell would split it,
        and no shell runs it.
    device : passed on to the target.
    limit : seconds for one call.
    first_limit : seconds for the start, and for the first call of each port, in which
        frameworks are loaded and kernels compiled.
    cwd : the child's current directory, in which ``module:attribute`` is looked up; None: ours.

    Attributes
    ----------
    restarts : how many processes were replaced because they could not go on.
    """

    def __init__(
        self,
        target: str,
        device: str = "cpu",
        *,
        limit: float = 60.0,
        first_limit: float = 120.0,
        cwd: Path | None = None,
    ) -> None:
        self.restarts = 0
        self._name = target
        self._device = device
        self._limit = limit
        self._first_limit = max(limit, first_limit)
        self._cwd = cwd
        self._command = _command(target, device)
        self._child: Child | None = None
        self._hello: Hello | None = None
        self._called: set[str] = set()
        self._lost = False

    def __enter__(self) -> TargetProcess:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def hello(self) -> Hello:
        """What the target says of itself; the answer is kept.

        Raises
        ------
        TargetError, FrameworkMissing, DeviceMissing : it cannot be used.
        """
        if self._hello is None:
            self._start()
        assert self._hello is not None
        return self._hello

    def call(
        self,
        port: str,
        /,
        *,
        measure_memory: bool = False,
        watch_random: bool = False,
        keep_results: bool = False,
        layout: str = "",
        **arguments: Any,
    ) -> Answer:
        """Call one port.

        Parameters
        ----------
        port : one that the target claims.
        measure_memory : also measure ``peak_growth``.
        watch_random : also watch the global random states.
        keep_results : also watch the results of the call before that asked for this.
        layout : how the arrays are to lie, one of `mlm_conformance.layouts.LAYOUTS`; "": in C
            order, where those of earlier calls lay.
        arguments : all those of the port; arrays cross as copies.

        Raises
        ------
        ValueError : a port that is not claimed, or other arguments than the port's.
        TargetError, FrameworkMissing, DeviceMissing : as `hello`, at the first use.
        """
        check_arguments(port, self.hello().claims, arguments)
        asked = {
            "measure_memory": measure_memory,
            "random_state": watch_random,
            "keep_results": keep_results,
            "layout": layout,
        }
        request = {"do": "call", "port": port, "args": arguments}
        frame = encode({**request, **{name: value for name, value in asked.items() if value}})
        limit = self._limit if port in self._called else self._first_limit
        self._called.add(port)
        started = time.monotonic()
        try:
            child = self._child or self._start()
            reply = child.exchange(frame, limit)
        except TimeoutError:
            text = f"gave no answer within {self._told(limit)}"
            return self._lose("timed_out", text, time.monotonic() - started)
        except ChildEndedError as error:
            return self._lose("died", str(error), time.monotonic() - started)
        except WireError as error:
            text = f"{port}: the reply is no frame: {error}"
            return self._lose("malformed", text, time.monotonic() - started)
        except (TargetError, FrameworkMissing, DeviceMissing) as error:
            text = f"cannot be started again: {error}"
            return self._lose("died", text, time.monotonic() - started)
        except BaseException:  # Ctrl-C, say: the reply would be taken for that of the next call
            self._lose("died", "", 0.0)
            raise
        return read_answer(port, reply, time.monotonic() - started, child.printed())

    @property
    def pid(self) -> int | None:
        """The number of its process; None where none runs, or an ``exec:`` program of its own."""
        return None if self._child is None or self._name.startswith(EXEC) else self._child.pid

    def restart(self) -> None:
        """Let the next call begin in a fresh process.  It does not count as a restart."""
        child, self._child = self._child, None
        if child is not None:
            child.leave()

    def close(self) -> None:
        """End the process.  The next call would start one."""
        self.restart()

    def abandon(self) -> None:
        """End the process, also from another thread while a call waits: that one `died`."""
        child = self._child
        if child is not None:
            child.kill()

    def _start(self) -> Child:
        """Start a process and greet it."""
        try:
            child = Child(self._command, self._cwd)
        except OSError as error:
            raise TargetError(f"the target {self._name} cannot be started: {error}") from None
        try:
            hello = self._greet(child)
        except BaseException:
            child.end()
            raise
        child.printed()  # banners and warnings of the import belong to no call
        self.restarts += self._lost
        self._lost = False
        self._child, self._hello = child, self._hello or hello
        return child

    def _greet(self, child: Child) -> Hello:
        request = encode({"do": "hello", "protocol": PROTOCOL, "device": self._device})
        try:
            reply = child.exchange(request, self._first_limit)
        except (TimeoutError, ChildEndedError, WireError) as error:
            what = str(error) or f"gave no answer within {self._told(self._first_limit)}"
            child.end()
            message = f"the target {self._name} does not answer hello: {what}"
            raise TargetError(message, child.printed()) from None
        return read_hello(self._name, reply)

    def _told(self, limit: float) -> str:
        """A limit in words; whoever set the time limit finds it there."""
        if limit == self._limit:
            return f"{limit:g} s"
        return f"{limit:g} s (the time limit is {self._limit:g} s, and longer for what comes first)"

    def _lose(self, kind: Kind, text: str, seconds: float) -> Answer:
        """Give the process up; the answer that says why."""
        child, self._child = self._child, None
        output = ""
        if child is not None:
            child.end()
            output = child.printed()
            self._lost = True
        return Answer(kind, text=text, seconds=seconds, output=output)


def _command(target: str, device: str) -> list[str]:
    if not target.startswith(EXEC):
        # -P: a file of the current directory must not shadow a module before the target loads.
        module = "mlm_conformance.worker"
        return [sys.executable, "-P", "-m", module, f"--device={device}", "--", target]
    try:
        command = shlex.split(target.removeprefix(EXEC))
    except ValueError as error:
        raise TargetError(f"the command of {target!r} cannot be split: {error}") from None
    if not command:
        raise TargetError(f"{target!r} has no command")
    return command
