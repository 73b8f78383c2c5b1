"""``mlm-spec mutants``: measure the matrix, print what is wrong with it, write it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from rich.console import Console

from mlm_conformance.matrix.measure import Fate, measure
from mlm_conformance.matrix.table import Matrix, as_json, markdown
from mlm_conformance.mutants.library import MUTANTS, Mutant
from mlm_conformance.mutants.wrapping import portable_mutants
from mlm_conformance.reports.files import write_atomically

__all__ = ["run"]


def run(
    profiles: Sequence[str],
    own: Sequence[str],
    around: Sequence[str],
    workers: int,
    json_path: str | None,
    markdown_path: str | None,
) -> int:
    """Measure each profile; 0 if every matrix is good enough, else 1.

    Parameters
    ----------
    profiles : names of those with a whole matrix, the one that the page shows last.
    own : names of those in which mutants meet only the requirement that they break.
    around : backends; a smaller set of mutants around each meets what it breaks, in the first of
        all these profiles.
    workers : processes.
    json_path, markdown_path : where the matrix and the page go; None: nowhere.

    Raises
    ------
    UnknownTarget, FrameworkMissing, DeviceMissing, TargetError : a backend cannot be used.
    """
    console = Console()
    elsewhere = {backend: portable_mutants(backend) for backend in around}  # or nothing is run
    empty = [*(Matrix(p, ()) for p in profiles), *(Matrix(p, (), True) for p in own)]
    matrices = [_measured(matrix, MUTANTS, workers) for matrix in empty]
    matrices += [
        _measured(Matrix(empty[0].profile, (), True, backend), mutants, workers)
        for backend, mutants in elsewhere.items()
    ]
    for matrix in matrices:
        dead = len(matrix.fates) - len(matrix.survivors)
        console.print(f"{matrix.name}: {dead} of {len(matrix.fates)} killed", highlight=False)
        for fault in matrix.faults:
            console.print(f"  {fault}", markup=False, highlight=False, soft_wrap=True)
    if json_path is not None:
        write_atomically(json_path, as_json(matrices))
    if markdown_path is not None:
        write_atomically(markdown_path, markdown(matrices))
    return 1 if any(matrix.faults for matrix in matrices) else 0


def _measured(empty: Matrix, mutants: Sequence[Mutant], workers: int) -> Matrix:
    shown, clock = Console(stderr=True), time.perf_counter()

    def say(done: int, fate: Fate) -> None:
        word = "killed" if fate.is_killed else "SURVIVES"
        line = f"[{done}/{len(mutants)}] {empty.name}: {fate.mutant} {word}, first {fate.first}"
        shown.print(f"{line} ({time.perf_counter() - clock:.0f} s)", markup=False, soft_wrap=True)

    found = measure(empty.profile, workers, mutants, empty.own, say=say)
    return replace(empty, fates=tuple(found))
