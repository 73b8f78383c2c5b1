"""A run in a process of its own, to be killed: it resumes from its checkpoint and says what it did.

    python training_run.py CHECKPOINT UPDATES [MOMENT]

Before each update it reads a line, and goes on without once there are none left.  With MOMENT it
kills itself while it writes its first checkpoint: at C call number N (``N``), or when the C
function NAME is called, or has returned, for the K-th time (``c_call:NAME:K``,
``c_return:NAME:K``).
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from training_cases import started, step

__all__ = ["main"]


def dying(save: Callable[[str], None], moment: str) -> Callable[[str], None]:
    """``save``, until its moment has come."""
    if moment.isdigit():
        moment = f"c_call::{moment}"
    at, name, left = moment.split(":")
    remaining = int(left)

    def count(frame: Any, event: str, called: Any) -> None:
        nonlocal remaining
        if event == at and name in ("", called.__name__):
            remaining -= 1
            if remaining == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def save_and_count(path: str) -> None:
        sys.setprofile(count)
        save(path)
        sys.setprofile(None)

    return save_and_count


def main(path: str, updates: str, moment: str = "") -> None:
    run = started(learning_rate=2e-2, schedule="constant")
    save = dying(run.save, moment) if moment else run.save
    if os.path.exists(path):
        run.load(path)
    print("from", run.state()["update"], flush=True)
    while run.state()["update"] < int(updates):
        sys.stdin.readline()
        step(run)
        save(path)
        print("made", run.state()["update"], flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
