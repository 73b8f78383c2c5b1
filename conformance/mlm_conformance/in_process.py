"""A target in this very process, for a debugger (``--in-process``)."""

from __future__ import annotations

import os
from typing import Any

from mlm_conformance.answer import Answer, Hello, read_answer, read_hello
from mlm_conformance.buffers import Buffers
from mlm_conformance.kept import KeptResults
from mlm_conformance.ports import check_arguments
from mlm_conformance.resolve import TargetError, resolve
from mlm_conformance.serving import carried_reply, describe, placed, serve_call
from mlm_conformance.sessions import Sessions
from mlm_conformance.wire import carried

__all__ = ["InProcessTarget"]


class InProcessTarget:
    """A target in this process, for a debugger.

    Requests and replies are what they would be at the other end of a pipe, so arrays are copies
    here too and the same answers are malformed.  There is no time limit, a crash ends the suite,
    and what the target prints is not caught.

    Parameters
    ----------
    target : a backend's name, ``module:attribute``, or the object itself.
    device : passed on to a target that is named.

    Raises
    ------
    TargetError, FrameworkMissing, DeviceMissing : it cannot be used.
    """

    def __init__(self, target: object, device: str = "cpu") -> None:
        self.restarts = 0
        self._asked = target
        self._device = device
        self._name = target if isinstance(target, str) else type(target).__name__
        if self._name.startswith("exec:"):
            raise TargetError(
                f"{self._name} is a program of its own; it cannot run in this process"
            )
        self._target: Any = None
        self._buffers, self._kept, self._sessions = Buffers(), KeptResults(), Sessions()
        self.restart()
        self._hello = read_hello(self._name, describe(self._name, self._target))

    def __enter__(self) -> InProcessTarget:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def hello(self) -> Hello:
        """What the target says of itself."""
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
        """As `TargetProcess.call`, without a time limit."""
        check_arguments(port, self._hello.claims, arguments)
        reply = serve_call(
            self._target,
            port,
            placed(self._buffers, port, carried(arguments), layout),
            measure_memory=measure_memory,
            random_state=watch_random,
            kept=self._kept if keep_results else None,
            layout=layout,
            sessions=self._sessions,
        )
        return read_answer(port, carried_reply(reply), 0.0, "")

    @property
    def pid(self) -> int:
        """The number of this process."""
        return os.getpid()

    def restart(self) -> None:
        """Make a named target anew, without sessions.  Its modules stay as they are."""
        self._sessions = Sessions()
        is_name = isinstance(self._asked, str)
        self._target = resolve(str(self._asked), self._device) if is_name else self._asked

    def close(self) -> None:
        """Nothing is open."""

    def abandon(self) -> None:
        """What runs in this process cannot be ended."""
