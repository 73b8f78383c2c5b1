"""``mlm-spec mutants``: measure the matrix, print what is wrong with it, write it."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

from rich.console import Console

from mlm_conformance.matrix.measure import Fate, measure
from mlm_conformance.matrix.table import FORMAT, Matrix, markdown
from mlm_conformance.mutants.library import MUTANTS
from mlm_conformance.reports.files import write_atomically
from mlm_spec.text import SPEC_VERSION

__all__ = ["run"]


def run(
    profiles: Sequence[str], workers: int, json_path: str | None, markdown_path: str | None
) -> int:
    """Measure each profile; 0 if every one is good enough, else 1.

    Parameters
    ----------
    profiles : names, the one that is shown in full last.
    workers : processes.
    json_path, markdown_path : where the matrix and the page go; None: nowhere.
    """
    console = Console()
    matrices = [_measured(profile, workers) for profile in profiles]
    for matrix in matrices:
        dead = len(matrix.fates) - len(matrix.survivors)
        console.print(f"{matrix.profile}: {dead} of {len(matrix.fates)} killed", highlight=False)
        for fault in matrix.faults:
            console.print(f"  {fault}", markup=False, highlight=False, soft_wrap=True)
    if json_path is not None:
        record = {"format": FORMAT, "spec_version": SPEC_VERSION}
        body = {**record, "profiles": [matrix.to_json() for matrix in matrices]}
        write_atomically(json_path, json.dumps(body, indent=1, allow_nan=False) + "\n")
    if markdown_path is not None:
        write_atomically(markdown_path, markdown(matrices))
    return 1 if any(matrix.faults for matrix in matrices) else 0


def _measured(profile: str, workers: int) -> Matrix:
    shown, clock = Console(stderr=True), time.perf_counter()

    def say(done: int, fate: Fate) -> None:
        word = "killed" if fate.is_killed else "SURVIVES"
        line = f"[{done}/{len(MUTANTS)}] {profile} {fate.mutant}: {word}, first {fate.first}"
        shown.print(f"{line} ({time.perf_counter() - clock:.0f} s)", markup=False, soft_wrap=True)

    return Matrix(profile, tuple(measure(profile, workers, say=say)))
