"""Chapter DST where masks are made in parallel: by workers, on ranks, in epochs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from itertools import combinations, product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.cases.distributions import ParallelDrawRecipe
from mlm_conformance.cases.model import SampleParallelCase
from mlm_conformance.check import Context, Violation, check, table
from mlm_conformance.checks.common import sampled_in_parallel
from mlm_conformance.distributions.judge import Tally, fits

__all__: list[str] = []  # importing the module registers its checks

Array = NDArray[Any]
_RECIPES = table([ParallelDrawRecipe("1/2", "4/5 1/10 1/10")])
#: Of that many positions at rate 1/2, two masks are equal with probability 2⁻⁵⁰⁰.
_PROOF = 500


class _Maker(NamedTuple):
    """Who made a mask, and when."""

    epoch: int
    rank: int
    worker: int

    def __str__(self) -> str:
        return f"epoch {self.epoch}, rank {self.rank}, worker {self.worker}"


_Concern = Callable[[_Maker, _Maker], bool]


def _apart(context: Context, case: SampleParallelCase, concerns: _Concern) -> None:
    """No two masks that the concern is about are more alike than chance, nor less."""
    makers = [_Maker(*at) for at in product(*map(range, (case.epochs, case.ranks, case.workers)))]
    pairs = [(a, b) for a, b in combinations(makers, 2) if concerns(a, b)]
    rate = Fraction(case.policy.selection.rate)  # type: ignore[union-attr]

    def counts(inputs: Array, labels: Array) -> list[Tally]:
        chosen = (labels != -100)[..., _candidates(case, labels.shape[-2:])]
        return list(_tallies(chosen, pairs, rate))

    fits(context, case, partial(sampled_in_parallel, context, case), counts)


def _candidates(case: SampleParallelCase, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    able = case.eligible & ~np.isin(case.tokens, case.policy.special_ids)
    return np.tile(able, (shape[0] // len(able), 1))


def _tallies(
    chosen: NDArray[np.bool_], pairs: list[tuple[_Maker, _Maker]], rate: Fraction
) -> Iterator[Tally]:
    """Positions that both masks of a pair select.

    Raises
    ------
    Violation : two large masks are equal.
    """
    for a, b in pairs:
        one, other = chosen[a], chosen[b]
        if rate == Fraction(1, 2) and one.size >= _PROOF and (one == other).all():
            raise Violation(f"the masks of {a} and {b} are equal at all {one.size} candidates")
        both = int((one & other).sum())
        yield Tally(f"selected by both of {a} and {b}", both, one.size, rate**2)


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
