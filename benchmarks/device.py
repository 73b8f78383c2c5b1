"""Every backend checked on a GPU, then the benchmarks on it: ``make device``.

Needs no installation: a Python that has NumPy, the frameworks with their GPU builds, and the
packages of the extra ``conformance``.  All output is kept, as it came, beside the results.  What
could not run fails: a machine without a GPU shows nothing about one.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tomllib
from pathlib import Path

from benchmarks.measure import RESULTS

__all__ = ["backends", "main", "verdict"]

_ROOT = Path(__file__).resolve().parent.parent
_NOT_RUN = 3  # the exit status of `mlm-spec` where a framework or a device is missing

# The figures of a training step: 16.8 million tokens masked; 15 % of 32,768 positions scored.
_BENCHMARKS = {
    "masking": ["--rows", "32768", "--columns", "512", "--rounds", "10"],
    "head": ["--positions", "32768", "--selected", "4915", "--dtype", "bfloat16", "--inner", "5"],
}


def settings() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--profile", default="ci")
    parser.add_argument("--results", type=Path, default=RESULTS / "device")
    return parser.parse_args()


def backends() -> dict[str, str]:
    """The backends that may have a device, by name, as ``module:attribute``."""
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found: dict[str, str] = project["entry-points"]["mlm_spec.backends"]
    return {name: target for name, target in found.items() if name != "numpy"}


def run_and_keep(command: list[str], file: Path) -> int:
    """Run one of our programs, its output shown and kept; its exit status."""
    folders = (_ROOT, _ROOT / "backends", _ROOT / "conformance")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, folders))}
    environment |= {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "PYTHONUNBUFFERED": "1"}
    with file.open("w", encoding="utf-8") as kept:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=_ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            kept.write(line)
        status = process.wait()
        kept.write(f"exit status {status}\n")
    return status


def verdict(statuses: dict[str, int]) -> int:
    """One exit status for all: a failure before an error before what did not run."""
    for worst in (1, 2, _NOT_RUN):
        if worst in statuses.values():
            return worst
    return 0 if statuses and not any(statuses.values()) else 2


def main() -> int:
    options = settings()
    folder: Path = options.results
    folder.mkdir(parents=True, exist_ok=True)
    statuses = {}
    for name, target in backends().items():
        command = ["mlm_conformance", "check", target, "--device", options.device]
        command += ["--profile", options.profile, "--json", str(folder / f"check-{name}.json")]
        statuses[f"check {name}"] = run_and_keep(command, folder / f"check-{name}.txt")
    if set(statuses.values()) != {_NOT_RUN}:
        for name, sizes in _BENCHMARKS.items():
            command = [f"benchmarks.{name}", *sizes, "--device", options.device]
            command += ["--results", str(folder)]
            statuses[name] = run_and_keep(command, folder / f"{name}.log")
    print()
    for name, status in statuses.items():
        said = "NOT RUN: no such device here, or no framework for it" if status == _NOT_RUN else ""
        print(f"{options.device}: {name}: exit status {status}  {said}".rstrip())
    if verdict(statuses) == _NOT_RUN:
        print(f"NOT RUN on {options.device}: nothing above says anything about it", file=sys.stderr)
    return verdict(statuses)


if __name__ == "__main__":
    sys.exit(main())
