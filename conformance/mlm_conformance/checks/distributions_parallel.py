"""Chapter DST where masks are made in parallel: by workers, on ranks, in epochs."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import partial
from itertools import combinations, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.cases.distributions import ParallelDrawRecipe
from mlm_conformance.cases.model import SampleParallelCase, candidates
from mlm_conformance.check import Context, check, table
from mlm_conformance.checks.common import sampled_in_parallel
from mlm_conformance.distributions.judge import Tally, fits
from mlm_conformance.distributions.makers import Maker, tallies

__all__: list[str] = []  # importing the module registers its checks

Array = NDArray[Any]
_RECIPES = table([ParallelDrawRecipe("1/2", "4/5 1/10 1/10")])
_Concern = Callable[[Maker, Maker], bool]


def _apart(context: Context, case: SampleParallelCase, concerns: _Concern) -> None:
    """No two masks that the concern is about are more alike than chance, nor less."""
    makers = [Maker(*at) for at in product(*map(range, (case.epochs, case.ranks, case.workers)))]
    pairs = [(a, b) for a, b in combinations(makers, 2) if concerns(a, b)]
    rate = Fraction(case.policy.selection.rate)  # type: ignore[union-attr]

    def counts(inputs: Array, labels: Array) -> list[Tally]:
        chosen = (labels != -100)[..., _candidates(case, labels.shape[-2:])]
        return list(tallies(chosen, pairs, rate))

    fits(context, case, partial(sampled_in_parallel, context, case), counts)


def _candidates(case: SampleParallelCase, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    able = candidates(case)
    return np.tile(able, (shape[0] // len(able), 1))


@check("MLM-DST-17", port="sample_parallel", recipes=_RECIPES, needs=("trials",))
def no_epoch_repeats_another(context: Context, case: SampleParallelCase) -> None:
    """What one worker makes of the same rows, time after time."""
    _apart(context, case, lambda a, b: a.rank == b.rank and a.worker == b.worker)


@check("MLM-DST-18", port="sample_parallel", recipes=_RECIPES, needs=("trials",))
def no_worker_repeats_another(context: Context, case: SampleParallelCase) -> None:
    """Workers of one rank, in the same epoch and in different ones."""
    _apart(context, case, lambda a, b: a.rank == b.rank and a.worker != b.worker)


@check("MLM-DST-19", port="sample_parallel", recipes=_RECIPES, needs=("trials",))
def no_rank_repeats_another(context: Context, case: SampleParallelCase) -> None:
    """Ranks, whatever the worker and the epoch."""
    _apart(context, case, lambda a, b: a.rank != b.rank)
