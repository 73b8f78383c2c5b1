"""The child process of a target: ``python -P -m mlm_conformance.worker TARGET --device D``.

It answers frames from its standard input on its standard output.  Both are moved away before
the target is loaded: the target finds an empty standard input, and what it prints goes to
standard error, so it can neither read nor corrupt the protocol.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import io
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from mlm_conformance.buffers import Buffers
from mlm_conformance.kept import KeptResults
from mlm_conformance.resolve import (
    DeviceMissing,
    FrameworkMissing,
    TargetError,
    resolve,
)
from mlm_conformance.serving import describe, encode_reply, failure, reply_to
from mlm_conformance.sessions import Sessions
from mlm_conformance.wire import Sink, Source, read_frame, send

__all__ = ["main"]

_POLL = 0.5  # seconds between two looks at the parent


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve one target until ``bye``, or until the parent is gone."""
    parser = argparse.ArgumentParser(prog="python -m mlm_conformance.worker")
    parser.add_argument("target")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args(arguments)
    parent = os.getppid()
    source, sink = _take_protocol()
    threading.Thread(target=_watch_parent, args=(parent,), daemon=True).start()
    target, hello = _open(options.target, options.device)
    _flush()
    if not _serve(source, sink, target, hello):
        _end_group()
    return 0


def _take_protocol() -> tuple[Source, Sink]:
    """Move the protocol off file descriptors 0 and 1."""
    incoming, outgoing = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # What was printed before a crash has to be out; no text may fail to print.
            stream.reconfigure(line_buffering=True, errors="backslashreplace")
    faulthandler.enable()
    source = io.BufferedReader(io.FileIO(incoming, "rb", closefd=False), 2**16)
    return source, io.FileIO(outgoing, "wb", closefd=False)


def _open(name: str, device: str) -> tuple[object, dict[str, Any]]:
    """The target and its ``hello``; no target and the reason, if there is none."""
    try:
        target = resolve(name, device)
        return target, describe(name, target)
    except (TargetError, FrameworkMissing, DeviceMissing) as error:
        return None, failure(error)


def _serve(source: Source, sink: Sink, target: object, hello: Mapping[str, Any]) -> bool:
    """Answer until ``bye`` (True) or until the parent is gone (False)."""
    process, buffers, kept, sessions = os.getpid(), Buffers(), KeptResults(), Sessions()
    while True:
        try:
            request = read_frame(source)
        except EOFError:
            return False
        if request.get("do") == "bye":
            return True
        reply = reply_to(target, hello, request, buffers, kept, sessions)
        _flush()
        if os.getpid() != process:
            os._exit(0)  # a fork of the target came back from the call; only one may answer
        try:
            send(sink, encode_reply(reply))
        except BrokenPipeError:
            return False


def _flush() -> None:
    """What the target printed belongs before the answer.  It may have closed or replaced these."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()


def _watch_parent(parent: int) -> None:
    """End with the parent, also in the middle of a call that would sleep for hours.

    Polled, because a signal at the parent's death would come at the end of the *thread* that
    started this process.  Code that never lets go of the interpreter lock is not interrupted.
    """
    while os.getppid() == parent:
        time.sleep(_POLL)
    _end_group()


def _end_group() -> None:
    """End this process and, if it leads its group, all that the target has started."""
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
