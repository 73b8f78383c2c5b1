"""Processes side by side that end when they are told to."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import active_children, get_context, parent_process
from threading import Thread
from typing import Any, TypeVar

from mlm_conformance.outcomes import BadCallError

__all__ = ["side_by_side"]

_Found = TypeVar("_Found")


@contextmanager
def side_by_side(
    workers: int, function: Callable[..., _Found], calls: Sequence[tuple[Any, ...]]
) -> Iterator[Iterator[Future[_Found]]]:
    """The futures of many calls in so many processes, each as soon as it is done.

    On Ctrl-C, or any error, the processes are ended at once: what they are at is nobody's.  They
    end, too, when this one is killed.

    Parameters
    ----------
    workers : processes.
    function : of a module, so that a fresh process finds it.
    calls : arguments, those of one call after the other.

    Raises
    ------
    BadCallError : the system ended one of the processes.
    """
    others = active_children()
    # A framework that has threads must not be forked.
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _end_with_the_command)
    try:
        with _without_interrupts():
            running = [pool.submit(function, *call) for call in calls]
        yield as_completed(running)
    except BaseException as error:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in active_children():
            if process not in others:
                process.kill()
        pool.shutdown()
        if not isinstance(error, BrokenProcessPool):
            raise
        raise BadCallError(
            "a worker process was ended by the system, for want of memory perhaps: "
            "nothing is known of what it was at; try fewer workers (-n 1)"
        ) from None
    pool.shutdown()


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Ctrl-C waits for the end of this, and never reaches a process that is started in it.

    A process inherits what is blocked, from its very first instruction on: whatever it imports,
    and whatever it is at, it prints no traceback and takes no Ctrl-C for an answer.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_with_the_command() -> None:
    """In a worker: watch the process that started it."""

    def watch() -> None:
        command = parent_process()
        assert command is not None
        command.join()
        os._exit(1)

    Thread(target=watch, daemon=True).start()
