"""One process for each implementation that is measured.

Frameworks disturb each other in one process (thread pools, allocators, some cannot even be loaded
together), and peak memory has a meaning only where one of them lives alone.  The processes wait
for their turn, so that the times are still taken in turns.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from benchmarks.memory import peak_of_call

__all__ = [
    "NotHereError",
    "NotRun",
    "Prepared",
    "Worker",
    "jax_device",
    "serve",
    "start",
    "torch_device",
]

_ROOT = Path(__file__).resolve().parent.parent
_LIMITS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
)


@dataclass(frozen=True)
class Prepared:
    """An implementation that is ready to be measured.

    Attributes
    ----------
    call : one whole call; it returns when the work is done, on a device too.
    about : what the result looks like, so that a reader sees that all did the same work.
    peak_bytes : the memory of the device; None: that of this process is measured.
    """

    call: Callable[[], object]
    about: Mapping[str, Any] = field(default_factory=dict)
    peak_bytes: Callable[[], int | None] | None = None


class NotHereError(Exception):
    """An implementation, or its device, is not on this machine.  The text says which."""


@dataclass(frozen=True)
class NotRun:
    """An implementation that is not measured, and why."""

    reason: str


class Worker:
    """The parent's end of one process."""

    def __init__(self, process: subprocess.Popen[str], messages: IO[str]) -> None:
        self._process = process
        self._messages = messages
        self.about: Mapping[str, Any] = self._answer()

    def seconds(self, calls: int) -> float:
        """The time of so many calls."""
        return float(self._ask(f"time {calls}"))

    def peak_bytes(self) -> int | None:
        """The memory one call needed beyond what was there before it."""
        found = self._ask("memory")
        return None if found is None else int(found)

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._messages.close()

    def _ask(self, line: str) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            status = self._process.wait()
            self._messages.seek(0)
            raise RuntimeError(f"a worker ended with status {status}:\n{self._messages.read()}")
        return json.loads(line)


def start(module: str, name: str, settings: Mapping[str, Any]) -> Worker | NotRun:
    """Start ``VARIANTS[name]`` of a module in a process with ``settings["threads"]`` threads.

    Raises
    ------
    RuntimeError : it broke.  A package that is not installed is no error: that is a `NotRun`.
    """
    threads = str(settings["threads"])
    paths = [_ROOT, _ROOT / "backends", _ROOT / "conformance"]
    environment = os.environ | dict.fromkeys(_LIMITS, threads)
    environment["PYTHONPATH"] = os.pathsep.join(map(str, paths))
    environment |= {"TF_CPP_MIN_LOG_LEVEL": "3", "OMP_WAIT_POLICY": "PASSIVE"}
    environment["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    if settings["device"] == "cpu":
        environment |= {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "benchmarks.worker", module, name, json.dumps(settings)]
    # Shown if the process breaks.  It lives as long as the worker, which closes it.
    messages = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": messages}
    process = subprocess.Popen(command, text=True, env=environment, **pipes)
    worker = Worker(process, messages)
    if "not_run" in worker.about:
        worker.close()
        return NotRun(worker.about["not_run"])
    return worker


def torch_device(settings: Mapping[str, Any]) -> Any:
    """PyTorch's device for the settings, and its threads set."""
    import torch

    torch.set_num_threads(settings["threads"])
    if settings["device"] == "cuda" and not torch.cuda.is_available():
        raise NotHereError("PyTorch finds no GPU")
    return torch.device(settings["device"])


def jax_device(settings: Mapping[str, Any]) -> Any:
    """JAX's device for the settings."""
    import jax

    try:
        return jax.devices(settings["device"])[0]
    except RuntimeError:
        raise NotHereError("JAX finds no GPU") from None


def serve(module: str, name: str, settings: Mapping[str, Any]) -> None:
    """The child's end: prepare, then time a call whenever asked."""
    # What libraries print must not mix with the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(value: object) -> None:
        answers.write(json.dumps(value) + "\n")
        answers.flush()

    if hasattr(os, "sched_setaffinity") and settings["device"] == "cpu":
        free = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, free[-int(settings["threads"]) :])
    try:
        found = importlib.import_module(module).VARIANTS[name](settings)
    except NotHereError as error:
        say({"not_run": str(error)})
        return
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith(("mlm_", "benchmarks")):
            raise
        say({"not_run": f"not installed: {error.name}"})
        return
    for _ in range(2):
        found.call()
    say(dict(found.about))
    for line in sys.stdin:
        if line.startswith("time "):
            begin = time.perf_counter()
            for _ in range(int(line.split()[1])):
                found.call()
            say(time.perf_counter() - begin)
        elif found.peak_bytes is not None:
            say(found.peak_bytes())
        else:
            say(peak_of_call(found.call))


if __name__ == "__main__":
    # Imported again under its own name, so that its classes are those the variants use.
    from benchmarks import worker

    worker.serve(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
