"""Processes side by side that end when they are told to."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

from mlm_conformance.outcomes import BadCallError

__all__ = ["ending"]


@contextmanager
def ending(pool: ProcessPoolExecutor) -> Iterator[ProcessPoolExecutor]:
    """The pool; on Ctrl-C, or any error, what waits in it is never begun.

    Raises
    ------
    BadCallError : the system ended one of its processes.
    """
    try:
        yield pool
    except BrokenProcessPool:
        pool.shutdown(wait=False, cancel_futures=True)
        raise BadCallError(
            "a worker process was ended by the system, for want of memory perhaps: "
            "nothing is known of what it was at; try fewer workers (-n 1)"
        ) from None
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()
