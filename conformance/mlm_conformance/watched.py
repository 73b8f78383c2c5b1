"""What happens to the files of a folder in the meantime, as the system counts it (Linux).

The system keeps a list of all that was made, changed, renamed and removed in a folder that is
watched.  It is read afterwards: nothing depends on who was quicker.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

__all__ = ["Event", "Unwatchable", "moments_without", "watching"]

# inotify(7)
_KINDS = {
    0x2: "changed",
    0x40: "moved away",
    0x80: "moved here",
    0x100: "made",
    0x200: "removed",
}
_OVERFLOW = 0x4000
_HEAD = struct.Struct("iIII")
_ROOM = 2**16


class Unwatchable(Exception):
    """This system does not say what happens in a folder."""


class Event(NamedTuple):
    """One thing that happened to a name: ``"changed"``, ``"moved away"``, ``"moved here"``,
    ``"made"`` or ``"removed"``."""

    what: str
    name: str


@contextmanager
def watching(folder: Path) -> Iterator[Callable[[], list[Event]]]:
    """What happened in the folder, in order, since it was last asked.

    Raises
    ------
    Unwatchable : the system does not tell, or lost count.
    """
    handle = _handle(folder)
    try:
        yield lambda: _read(handle)
    finally:
        os.close(handle)


def _handle(folder: Path) -> int:
    library = ctypes.CDLL(None, use_errno=True)
    if not hasattr(library, "inotify_init1"):
        raise Unwatchable("this system does not say what happens to a file in the meantime")
    handle = int(library.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
    mask = sum(_KINDS)
    if handle < 0 or library.inotify_add_watch(handle, os.fsencode(folder), mask) < 0:
        reason = os.strerror(ctypes.get_errno())
        if handle >= 0:
            os.close(handle)
        raise Unwatchable(f"the system does not watch a folder ({reason})")
    return handle


def _read(handle: int) -> list[Event]:
    found: list[Event] = []
    while True:
        try:
            block = os.read(handle, _ROOM)
        except BlockingIOError:
            return found
        at = 0
        while at < len(block):
            _, mask, _, length = _HEAD.unpack_from(block, at)
            at += _HEAD.size
            name = os.fsdecode(block[at : at + length].rstrip(b"\0"))
            at += length
            if mask & _OVERFLOW:
                raise Unwatchable("more happened in a folder than the system remembers")
            found += [Event(what, name) for bit, what in _KINDS.items() if mask & bit]


def moments_without(name: str, events: list[Event]) -> list[str]:
    """What happened to a file that was there, other than that another took its name in one step.

    Two files that exchange their names in one step are told of as a move here and then away.
    """
    own = [event.what for event in events if event.name == name]
    found, before = [], ""
    for what in own:
        if what != "moved here" and not (what == "moved away" and before == "moved here"):
            found.append(what)
        before = what
    return found
