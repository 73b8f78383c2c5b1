"""The command ``mlm-spec train`` in forks of one process, to be killed.

    python train_run.py [MODULE ...]

For each line of standard input, a JSON array [COUNT, SECONDS, *ARGUMENTS], a fork runs the command
and is killed before it changes a file for the COUNT-th time (0: never), or after so many SECONDS
(0: never).  Then its exit status, negative after a signal, is printed, with how many changes it
made if it came to its end, and how long it took.  What takes long to load is loaded once.
"""

from __future__ import annotations

import importlib
import io
import json
import os
import select
import signal
import sys
import time
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from mlm_conformance.cli import main as command
from mlm_conformance.train import command as _loaded  # noqa: F401  before the first fork

__all__ = ["main"]

_OF_FOLDERS = ("open", "replace", "mkdir", "rmdir", "unlink", "chmod", "fsync")
_OF_FILES = ("write", "flush", "close", "__exit__")


def changes_files(called: Any) -> bool:
    """Whether a function of C may change what is on the disk."""
    owner = called.__self__
    if isinstance(owner, ModuleType):
        return owner.__name__ in ("posix", "_io") and called.__name__ in _OF_FOLDERS
    return isinstance(owner, io.IOBase) and called.__name__ in _OF_FILES


def live(count: int, arguments: Sequence[str], told: int) -> None:
    """One life, in a process of its own; how many changes it made goes to ``told``."""
    changes, before = 0, ""

    def look(frame: Any, event: str, called: Any) -> None:
        nonlocal changes, before
        if event == "c_call" and changes_files(called):
            # Of the many arrays of a checkpoint the first one counts.
            changes += (before, called.__name__) != ("write", "write")
            before = called.__name__
            if changes == count:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(look)
    status = command(list(arguments))
    sys.setprofile(None)
    os.write(told, str(changes).encode())
    os._exit(status)


def lived(count: int, seconds: float, arguments: Sequence[str]) -> tuple[int, int]:
    """Status and number of changes of one life."""
    tells, told = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        live(count, arguments, told)
    os.close(told)
    if seconds and not select.select([tells], [], [], seconds)[0]:
        os.kill(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with open(tells, "rb") as pipe:
        return status, int(pipe.read() or 0)


def main(*modules: str) -> None:
    for name in modules:
        importlib.import_module(name)
    for line in sys.stdin:
        count, seconds, *arguments = json.loads(line)
        started = time.monotonic()
        print(*lived(count, seconds, arguments), time.monotonic() - started, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
