"""Chapter DST: every row of every mask beside every other, whoever made it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.cases.distributions import POOL
from mlm_conformance.cases.distributions_anywhere import WideDraw, WideParallelDraw
from mlm_conformance.cases.model import SampleCase, SampleParallelCase
from mlm_conformance.check import Context, check, table
from mlm_conformance.checks.common import sampled, sampled_in_parallel
from mlm_conformance.distributions.likeness import require_unlike
from mlm_conformance.distributions.makers import Maker
from mlm_conformance.distributions.relations import require_no_relation

__all__: list[str] = []  # importing the module registers its checks

Array = NDArray[Any]
#: What is fair at each place: whether it is selected, shows the mask id, or an id of the upper half
#: of the pool.
_SELECTED, _KINDS, _IDS = ("1/2", "1 0 0"), ("1", "1/2 0 1/2"), ("1", "0 1 0")


def _fair(policy: Any, rate: str, kinds: str, inputs: Array, labels: Array) -> NDArray[np.bool_]:
    """The bits, (…, T)."""
    if (rate, kinds) == _SELECTED:
        return np.asarray(labels != -100)
    if (rate, kinds) == _KINDS:
        return np.asarray(inputs == policy.mask_id)
    return np.asarray(inputs >= POOL[len(POOL) // 2])


def _register_rows(requirement: str, what: str, fair: tuple[str, str]) -> None:
    def judge(context: Context, case: SampleCase) -> None:
        bits = _fair(case.policy, *fair, *sampled(context, case, case.n))
        require_unlike(context, f"rows of {what}", bits.reshape(-1, bits.shape[-1]))

    judge.__name__ = f"no_two_rows_of_{what}_are_alike"
    recipes = table([WideDraw(*fair)])
    check(requirement, port="sample", recipes=recipes, needs=("pairs",))(judge)


def _register_makers(requirement: str, what: str, fair: tuple[str, str]) -> None:
    def judge(context: Context, case: SampleParallelCase) -> None:
        """Rows of all makers: none decides others, and no two are alike."""
        bits = _fair(case.policy, *fair, *sampled_in_parallel(context, case, case.n))
        rows = bits.reshape(-1, bits.shape[-1])
        require_no_relation(context, f"rows of {what} of all workers", rows)
        require_unlike(context, f"rows of {what} of all workers", rows)

    judge.__name__ = f"no_{what}_of_workers_decide_one_another"
    recipes = table([WideParallelDraw(*fair)])
    check(requirement, port="sample_parallel", recipes=recipes, needs=("pairs", "relations"))(judge)


def _register_concern(
    requirement: str,
    name: str,
    concerns: Callable[[Maker, Maker], bool],
    many: tuple[int, int, int],
) -> None:
    def judge(context: Context, case: SampleParallelCase) -> None:
        """Any row of one beside any row of the other; of a few makers, and of many."""
        _, labels = sampled_in_parallel(context, case, case.n)
        numbers = (case.epochs, case.ranks, case.workers)
        makers = [Maker(*at) for at in product(*map(range, numbers))]
        wanted = np.array([[concerns(a, b) for b in makers] for a in makers])
        rows = labels.shape[-2]
        pairs = np.repeat(np.repeat(wanted, rows, axis=0), rows, axis=1)
        bits = (labels != -100).reshape(-1, labels.shape[-1])
        require_unlike(context, f"rows of {name}", bits, pairs)

    judge.__name__ = f"no_row_of_{name}_is_like_another".replace(" ", "_")
    recipes = table([WideParallelDraw(*_SELECTED), WideParallelDraw(*_SELECTED, many, rows=1)])
    check(requirement, port="sample_parallel", recipes=recipes, needs=("pairs",))(judge)


_register_rows("MLM-DST-6", "masks", _SELECTED)
_register_rows("MLM-DST-12", "kinds", _KINDS)
_register_rows("MLM-DST-20", "ids", _IDS)
_register_makers("MLM-DST-6", "masks", _SELECTED)
_register_makers("MLM-DST-12", "kinds", _KINDS)
_register_makers("MLM-DST-20", "ids", _IDS)
_register_concern(
    "MLM-DST-17",
    "epochs",
    lambda a, b: (a.rank, a.worker) == (b.rank, b.worker) and a != b,
    many=(33, 1, 1),
)
_register_concern(
    "MLM-DST-18",
    "workers",
    lambda a, b: a.rank == b.rank and a.worker != b.worker,
    many=(3, 17, 1),
)
_register_concern("MLM-DST-19", "ranks", lambda a, b: a.rank != b.rank, many=(1, 9, 9))
