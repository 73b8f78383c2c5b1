"""Times taken in turns, their ratios in pairs, and the description of where they were taken."""

from __future__ import annotations

import datetime
import json
import os
import platform
import random
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.worker import NotRun, Worker, start

__all__ = [
    "RESULTS",
    "Rows",
    "cpus",
    "machine",
    "measure",
    "megabytes",
    "milliseconds",
    "nothing_ran",
    "ratio",
    "run_workers",
    "spread",
    "table",
    "write",
]

RESULTS = Path(__file__).resolve().parent / "results"
Rows = Sequence[Sequence[str]]

_PACKAGES = (
    "numpy",
    "torch",
    "jax",
    "jaxlib",
    "transformers",
    "accelerate",
    "optax",
    "keras",
    "keras-hub",
    "tensorflow",
    "hypothesis",
)


def run_workers(module: str, names: Sequence[str], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Start the variants of a module, each in its process, and `measure` them."""
    workers = {name: start(module, name, settings) for name in names}
    try:
        return measure(workers, settings["rounds"], settings["inner"])
    finally:
        for worker in workers.values():
            if isinstance(worker, Worker):
                worker.close()


def measure(workers: Mapping[str, Worker | NotRun], rounds: int, inner: int) -> dict[str, Any]:
    """Let every worker run in every round, in an order that changes from round to round.

    Times of one round are neighbours in time, so a ratio of two of them is a fair one even where
    the machine is not quiet.

    Returns
    -------
    For each name: ``seconds`` a call (one number a round), ``peak_bytes``, what the worker said of
    itself, or only ``not_run`` with the reason.
    """
    ready = {name: worker for name, worker in workers.items() if isinstance(worker, Worker)}
    results: dict[str, Any] = {
        name: {"not_run": worker.reason} if isinstance(worker, NotRun) else dict(worker.about)
        for name, worker in workers.items()
    }
    for name, worker in ready.items():
        results[name] |= {"seconds": [], "peak_bytes": worker.peak_bytes()}
    order = random.Random(0)
    for _ in range(rounds):
        names = list(ready)
        order.shuffle(names)
        for name in names:
            results[name]["seconds"].append(ready[name].seconds(inner) / inner)
    return results


def ratio(results: Mapping[str, Any], slower: str, faster: str) -> list[float] | None:
    """seconds(slower) / seconds(faster), round by round; None where one of them did not run."""
    first, second = results[slower].get("seconds"), results[faster].get("seconds")
    if not first or not second:
        return None
    return [a / b for a, b in zip(first, second, strict=True)]


def spread(values: Sequence[float] | None, digits: int = 2) -> str:
    """``median (smallest..largest)``."""
    if not values:
        return "not run"
    middle = statistics.median(values)
    return f"{middle:,.{digits}f} ({min(values):,.{digits}f}..{max(values):,.{digits}f})"


def milliseconds(seconds: Sequence[float]) -> list[float]:
    return [1e3 * s for s in seconds]


def megabytes(size: int | None) -> str:
    return "" if size is None else f"{size / 1e6:,.0f}"


def cpus() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def nothing_ran(results: Mapping[str, Any]) -> bool:
    return not any("seconds" in found for found in results.values())


def machine(device: str = "cpu") -> dict[str, Any]:
    """Where and when: processor, cores, load, system, versions.  No name, no path."""
    return {
        "device": _gpus() if device == "cuda" else [],
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes"),
        "cpu": _cpu_model(),
        "cores": cpus(),
        "load_average": [round(x, 2) for x in os.getloadavg()],
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: found for name in _PACKAGES if (found := _version(name))},
    }


def _cpu_model() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or "unknown"
    models = [line.split(":", 1)[1] for line in text.splitlines() if line.startswith("model name")]
    return models[0].strip() if models else "unknown"


def _gpus() -> list[str]:
    """Each GPU and its driver, as NVIDIA's own tool says; empty where that tool is not."""
    command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.splitlines() if done.returncode == 0 else []


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def table(head: Sequence[str], rows: Rows) -> str:
    """Columns, the first to the left and the others to the right."""
    lines = [list(head), *[list(row) for row in rows]]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def write(folder: Path, stem: str, text: str, record: Mapping[str, Any]) -> None:
    """Print a result, and keep it as ``stem.txt`` with its raw data as ``stem.json``."""
    from mlm_conformance.reports.files import write_atomically  # not on the path of `make device`

    where = record["machine"]
    lines = [f"{where['cpu']}, {where['cores']} cores, {where['system']}, {where['date']}"]
    lines += where["device"]
    lines.append(f"load average {where['load_average']}")
    packages = ", ".join(f"{name} {version}" for name, version in where["versions"].items())
    lines.append(f"Python {where['python']}, {packages}")
    whole = "\n".join(lines) + "\n\n" + text.rstrip() + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / f"{stem}.txt", whole)
    write_atomically(folder / f"{stem}.json", json.dumps(record, indent=1) + "\n")
    print(whole, end="")
