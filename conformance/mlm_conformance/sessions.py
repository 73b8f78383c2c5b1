"""The training sessions of a target, in the process that serves it.

A session is an object that lives between calls.  Over the wire it is a number, which the call that
opens it gives and every ``session.…`` call names.  It ends with `close`, or with its process.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from mlm_conformance.ports import OPENS, SESSION, MalformedAnswer

__all__ = ["METHODS", "Sessions"]

#: What a session may have; what it has is what it claims.
METHODS = tuple(port.removeprefix("session.") for port in SESSION if port != "session.close")


class Sessions:
    """Those that are open, by number.  A number is never used twice in one process."""

    def __init__(self) -> None:
        self._open: dict[int, Any] = {}
        self._last = 0

    def method(self, target: object, port: str) -> Callable[..., Any]:
        """What a call of ``port`` runs, by keyword."""
        if port in OPENS:
            return partial(self._begin, target, port)
        if port == "session.close":
            return self._close
        if port in SESSION:
            return partial(self._ask, port.removeprefix("session."))
        found: Callable[..., Any] = getattr(target, port)
        return found

    def _begin(self, target: Any, port: str, **arguments: Any) -> dict[str, Any]:
        made = getattr(target, port)(**arguments)
        has = {name: True for name in METHODS if callable(getattr(made, name, None))}
        if not has:
            kind = type(made).__qualname__
            raise MalformedAnswer(
                f"{port}: answered {kind}, which has none of the methods {', '.join(METHODS)}"
            )
        self._last += 1
        self._open[self._last] = made
        return {"session": self._last, **has}

    def _ask(self, name: str, session: int, **arguments: Any) -> Any:
        return getattr(self._found(session), name)(**arguments)

    def _close(self, session: int) -> None:
        """Let go of it; one with a ``close`` of its own is told."""
        made = self._found(session)
        del self._open[session]
        if callable(getattr(made, "close", None)):
            made.close()

    def _found(self, session: int) -> Any:
        if session not in self._open:
            known = ", ".join(map(str, self._open)) or "none"
            raise MalformedAnswer(f"there is no session {session} in this process; open: {known}")
        return self._open[session]
