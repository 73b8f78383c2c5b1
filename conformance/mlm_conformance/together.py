"""One target several times, each in a process of its own, and calls that all make together."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, Protocol

from mlm_conformance.answer import Answer

__all__ = ["Member", "Together"]

_GRACE = 5.0  # seconds for the others, once one process is gone
_LOST = ("died", "timed_out")


class Member(Protocol):
    """One of the targets."""

    def call(self, port: str, /, **arguments: Any) -> Answer: ...

    def close(self) -> None: ...

    def abandon(self) -> None:
        """End its process, also while a call waits for it."""


class Together:
    """Targets that are started when they are first needed, and kept.

    Where the process of one of them dies or is late, those that wait for it are ended too, and the
    next call starts fresh ones: none is left behind, and nothing waits for ever.

    Parameters
    ----------
    make : gives one more target.
    """

    def __init__(self, make: Callable[[], Member]) -> None:
        self._make = make
        self._members: list[Member] = []
        self._lock = threading.Lock()

    def call(self, port: str, each: Sequence[Mapping[str, Any]]) -> list[Answer]:
        """One call of ``port`` by as many targets as there are arguments, all at once."""
        members = self._first(len(each))
        with ThreadPoolExecutor(len(each)) as pool:
            calls = [
                pool.submit(member.call, port, **arguments)
                for member, arguments in zip(members, each, strict=True)
            ]
            try:
                self._watch(calls, members)
            except BaseException:  # Ctrl-C, say: nobody reads the answers
                for member in members:
                    member.abandon()
                raise
        answers = [call.result() for call in calls]
        if any(answer.kind in _LOST for answer in answers):
            self.close()  # who is left may wait for who is gone, in a later call too
        return answers

    def close(self) -> None:
        """End all processes.  The next call would start some."""
        members, self._members = self._members, []
        for member in members:
            member.close()

    def _first(self, count: int) -> list[Member]:
        with self._lock:
            while len(self._members) < count:
                self._members.append(self._make())
        return self._members[:count]

    def _watch(self, calls: Sequence[Future[Answer]], members: Sequence[Member]) -> None:
        """Wait for all answers, but not for those that wait for a process that is gone."""
        waiting = set(calls)
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            if waiting and any(_is_lost(call) for call in done):
                _, waiting = wait(waiting, timeout=_GRACE)
                for call, member in zip(calls, members, strict=True):
                    if call in waiting:
                        member.abandon()


def _is_lost(call: Future[Answer]) -> bool:
    return call.exception() is not None or call.result().kind in _LOST
