"""Peak memory: of one call in this process, and of a process with all its children (Linux)."""

from __future__ import annotations

import ctypes
import gc
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

__all__ = ["peak_of_call", "run_and_watch"]

_PROC = Path("/proc")
_PAUSE = 1.0  # seconds between two looks


def peak_of_call(call: Callable[[], object]) -> int | None:
    """Bytes of resident memory that ``call`` needed beyond what was there; None if not Linux.

    Freed pages are given back first, and the kernel's high-water mark is set to the present.
    """
    if not (_PROC / "self" / "clear_refs").exists():
        return None
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    (_PROC / "self" / "clear_refs").write_text("5", encoding="utf-8")
    before = _field("VmRSS")
    call()
    return max(_field("VmHWM") - before, 0)


def _field(name: str) -> int:
    for line in (_PROC / "self" / "status").read_text(encoding="utf-8").splitlines():
        if line.startswith(name + ":"):
            return 1024 * int(line.split()[1])
    raise LookupError(name)


def run_and_watch(command: list[str], **options: object) -> tuple[int, float, int | None, str]:
    """Run a program; its exit status, seconds, peak memory with its children, and output.

    The peak is the largest of the sums of proportional shares (Pss): pages that two processes share
    count once.  The kernel walks through all pages of a process to tell its share, so it is asked
    every `_PAUSE` seconds only, and a shorter peak may be missed; sooner at the start, or a short
    program would never be looked at.  None where the system does not tell.
    """
    start = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options
    )
    peak, output, pause = 0, "", 0.1
    while True:
        try:
            output = process.communicate(timeout=pause)[0]
            break
        except subprocess.TimeoutExpired:
            pause = min(2 * pause, _PAUSE)
            peak = max(peak, sum(_pss(pid) for pid in _family(process.pid)))
    return process.returncode, time.perf_counter() - start, peak or None, output


def _family(pid: int) -> list[int]:
    """A process and its descendants."""
    found, waiting = [], [pid]
    while waiting:
        parent = waiting.pop()
        found.append(parent)
        for tasks in (_PROC / str(parent) / "task").glob("*/children"):
            try:
                waiting += [int(child) for child in tasks.read_text(encoding="utf-8").split()]
            except OSError:
                continue  # it has ended since
    return found


def _pss(pid: int) -> int:
    try:
        text = (_PROC / str(pid) / "smaps_rollup").read_text(encoding="utf-8")
    except OSError:
        return 0  # it has ended since, or this is not Linux
    return sum(1024 * int(line.split()[1]) for line in text.splitlines() if line[:4] == "Pss:")
