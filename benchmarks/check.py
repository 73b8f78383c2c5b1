"""What ``mlm-spec check`` costs: wall time, and peak memory with all its processes.

    python -m benchmarks.check [--backends numpy torch jax] [--profiles quick ci]

The backends take turns, and the fastest of the rounds counts: other work on the machine only adds.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import RESULTS, machine, megabytes, table, write
from benchmarks.memory import run_and_watch

__all__ = ["check", "main"]

# Seconds that each is meant to stay below, on two cores; in ci, 300 of them are for training.
_GOALS = {
    ("numpy", "quick"): 10,
    ("torch", "quick"): 10,
    ("jax", "quick"): 25,
    ("numpy", "ci"): 360,
    ("torch", "ci"): 360,
    ("jax", "ci"): 390,
}


def settings() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backends", nargs="+", default=["numpy", "torch", "jax"])
    parser.add_argument("--profiles", nargs="+", default=["quick", "ci"])
    parser.add_argument("--workers", type=int, default=1, help="mlm-spec check -n")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser.parse_args()


def main() -> None:
    options = settings()
    given = {"workers": options.workers, "rounds": options.rounds}
    record: dict[str, Any] = {"machine": machine(), "settings": given}
    runs = [
        check(backend, profile, options.workers)
        for _ in range(options.rounds)
        for profile in options.profiles
        for backend in options.backends
    ]
    record["results"] = [
        of_rounds([run for run in runs if (run["backend"], run["profile"]) == (backend, profile)])
        for profile in options.profiles
        for backend in options.backends
    ]
    write(options.results, "check", report(given, record["results"]), record)


def of_rounds(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The fastest of several runs of one command, with the times of all of them."""
    fastest = min(runs, key=lambda run: run["seconds"])
    worst = max(runs, key=lambda run: run["status"])
    outcome = {name: worst[name] for name in ("status", "requirements")}
    return {**fastest, **outcome, "every_seconds": [run["seconds"] for run in runs]}


def check(backend: str, profile: str, workers: int) -> dict[str, Any]:
    """Run it once; its cost, its exit status and how many checks had which outcome."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "report.json"
        command = [sys.executable, "-m", "mlm_conformance", "check", backend]
        command += ["--profile", profile, "-n", str(workers), "--json", str(file)]
        # A fresh folder: nothing is left behind, and no earlier failure is found.
        status, seconds, peak, output = run_and_watch(command, cwd=folder, env=dict(os.environ))
        outcomes = _outcomes(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else {}
    if not outcomes:
        print(output, file=sys.stderr)
    return {
        "backend": backend,
        "profile": profile,
        "status": status,
        "seconds": seconds,
        "peak_bytes": peak,
        "requirements": outcomes,
    }


def _outcomes(report: Mapping[str, Any]) -> dict[str, int]:
    return dict(collections.Counter(found["outcome"] for found in report["requirements"]))


def report(given: Mapping[str, int], results: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for found in results:
        goal = _GOALS.get((found["backend"], found["profile"]))
        counted = ", ".join(f"{n} {name}" for name, n in sorted(found["requirements"].items()))
        name = f"check {found['backend']} --profile {found['profile']}"
        row = [name, f"{found['seconds']:.1f}", f"{max(found['every_seconds']):.1f}"]
        row += ["" if goal is None else str(goal)]
        row += [megabytes(found["peak_bytes"]), str(found["status"]), counted or "no report"]
        rows.append(row)
    head = ["mlm-spec", "s", "slowest, s", "goal, s", "peak MB", "exit status", "requirements"]
    notes = [
        f"The fastest of {given['rounds']} rounds, -n {given['workers']}.  Peak: proportional",
        "memory (Pss) of the command and all its processes together, looked at once a second.",
    ]
    return "\n".join([table(head, rows), "", *notes])


if __name__ == "__main__":
    main()
