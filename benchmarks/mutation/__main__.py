"""``python -m benchmarks.mutation``: two hours on one core, for a record and a page."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from mlm_conformance.reports.files import write_atomically

from benchmarks.measure import RESULTS
from benchmarks.mutation.page import page
from benchmarks.mutation.record import explanations, faults, record, shares
from benchmarks.mutation.verdicts import read

ROOT = Path(__file__).resolve().parents[2]
PLACE = ROOT / "build" / "mutation"
FOLDERS = ("mlm_spec", "conformance", "backends", "benchmarks", "docs", "tests")
LEAST = 0.95


def main(arguments: list[str] | None = None) -> int:
    """0: every survivor is explained, every explanation has its survivor, and enough is noticed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mutation", description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the record goes")
    parser.add_argument("--markdown", type=Path, default=ROOT / "docs" / "mutation.md")
    parser.add_argument("--read", action="store_true", help="run nothing: judge what build/ has")
    options = parser.parse_args(arguments)
    if not options.read:
        copy_checkout(PLACE)
        run_tests(PLACE)
    mutants, explained = read(PLACE), explanations()
    versions = {name: metadata.version(name) for name in ("mutmut", "numpy")}
    found = record(mutants, explained, {"python": platform.python_version(), **versions})
    write_atomically(options.results / "mutation.json", json.dumps(found, indent=1) + "\n")
    write_atomically(options.markdown, page(found))
    wrong = faults(mutants, explained)
    noticed, run, _ = shares(found["modules"].values())
    missing = sum(count["not run"] for count in found["modules"].values())
    print(*wrong, f"{noticed} of {run} noticed, {missing} not run", sep="\n")
    return 1 if wrong or missing or noticed < LEAST * run else 0


def copy_checkout(place: Path) -> None:
    """A copy that can be changed: the folders, and once more what the mutants run in."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    shutil.copy2(ROOT / "pyproject.toml", place)
    for folder in FOLDERS:
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, place / folder, ignore=ignore)
    # Python remembers folders that are not there, so this one is there from the start.
    shutil.copytree(place / "conformance", place / "mutants" / "conformance")


def run_tests(place: Path) -> None:
    """mutmut, with one worker; the mutated package goes before an installed one."""
    mutants = place / "mutants"
    path = os.pathsep.join(map(str, (mutants, mutants / "conformance", mutants / "backends")))
    one = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    mutmut = Path(sys.executable).with_name("mutmut")
    subprocess.run(
        [mutmut, "run", "--max-children", "1"],
        cwd=place,
        env={**os.environ, **one, "PYTHONPATH": path},
        check=True,
    )


if __name__ == "__main__":
    sys.exit(main())
