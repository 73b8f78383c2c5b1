"""Chapter DST: maskers with random numbers of their own, by which positions they select.

A simplified case has fewer rows, columns and candidates: checks take them from the case.
"""

from __future__ import annotations

from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.cases.distributions import DrawRecipe
from mlm_conformance.cases.model import SampleCase, candidates
from mlm_conformance.check import Context, check, table
from mlm_conformance.checks.common import renamed, sampled
from mlm_conformance.distributions.judge import Tally, fits
from mlm_conformance.distributions.pairs import couples, evenly

__all__: list[str] = []  # importing the module registers its checks

Array = NDArray[Any]
_BERT = "4/5 1/10 1/10"


def _rate(case: SampleCase) -> Fraction:
    return Fraction(case.policy.selection.rate)  # type: ignore[union-attr]


def _tally(what: str, chosen: Array, able: Array, p: Fraction) -> Tally:
    """Of candidates in (n, B, T): ``able`` is (B, T)."""
    return Tally(what, int((chosen & able).sum()), len(chosen) * int(able.sum()), p)


@check(
    "MLM-DST-1",
    port="sample",
    recipes=table(
        [
            DrawRecipe("3/20", _BERT),
            DrawRecipe("2/5", _BERT),
            DrawRecipe("3/20", _BERT, uneven=True),
        ]
    ),
    needs=("trials",),
)
def positions_are_selected_at_the_rate(context: Context, case: SampleCase) -> None:
    def counts(inputs: Array, labels: Array) -> list[Tally]:
        return [_tally("selected positions", labels != -100, candidates(case), _rate(case))]

    fits(context, case, partial(sampled, context, case), counts)


@check(
    "MLM-DST-2",
    port="sample",
    recipes=table([DrawRecipe("3/20", _BERT)]),
    needs=("trials",),
)
def every_place_is_selected_alike(context: Context, case: SampleCase) -> None:
    """Column by column, and row by row."""
    able, (rows, columns) = candidates(case), np.indices(case.tokens.shape)

    def counts(inputs: Array, labels: Array) -> list[Tally]:
        return [
            _tally(f"selected in {name} {i}", labels != -100, able & (at == i), _rate(case))
            for name, at in (("column", columns), ("row", rows))
            for i in range(int(at.max()) + 1)
        ]

    fits(context, case, partial(sampled, context, case), counts)


@check(
    "MLM-DST-2",
    port="sample",
    recipes=table([DrawRecipe("3/20", _BERT, uneven=True)]),
    needs=("trials",),
)
def candidates_are_selected_alike_whatever_is_beside_them(
    context: Context, case: SampleCase
) -> None:
    """Rows by how many candidates they have; first and last candidates, and those beside others."""
    able = candidates(case)
    many = np.broadcast_to(able.sum(axis=1, keepdims=True), able.shape)
    framed = np.pad(able, ((0, 0), (1, 1)))
    places = [(f"rows with {n} candidates", many == n) for n in np.unique(many[able])]
    places += [
        ("first candidates", np.cumsum(able, axis=1) == 1),
        ("last candidates", np.cumsum(able[:, ::-1], axis=1)[:, ::-1] == 1),
        ("candidates beside a position that is none", ~(framed[:, :-2] & framed[:, 2:])),
    ]

    def counts(inputs: Array, labels: Array) -> list[Tally]:
        chosen, rate = labels != -100, _rate(case)
        return [_tally(f"selected in {what}", chosen, able & at, rate) for what, at in places]

    fits(context, case, partial(sampled, context, case), counts)


@check(
    "MLM-DST-5",
    port="sample",
    recipes=table([DrawRecipe("3/20", _BERT)]),
    needs=("trials",),
)
def neighbours_are_independent(context: Context, case: SampleCase) -> None:
    """Pairs of columns that have no position in common, one, two and eight apart."""
    _both_selected(context, case, "apart")


@check(
    "MLM-DST-6",
    port="sample",
    recipes=table([DrawRecipe("3/20", _BERT, rows_alike=True)]),
    needs=("trials",),
)
def no_mask_repeats_another(context: Context, case: SampleCase) -> None:
    """Samples of one call, and rows of one batch that hold the same tokens."""
    _both_selected(context, case, "of")


def _both_selected(context: Context, case: SampleCase, pairs: str) -> None:
    """Pairs of candidates of the kinds that have this word in their names."""

    def counts(inputs: Array, labels: Array) -> list[Tally]:
        chosen, able = labels != -100, np.broadcast_to(candidates(case), labels.shape)
        return evenly(
            (f"{what}, both selected", (chosen[one] & chosen[other])[fair], _rate(case) ** 2)
            for what, one, other in couples(labels.shape)
            for fair in [able[one] & able[other]]
            if pairs in what.split()
        )

    fits(context, case, partial(sampled, context, case), counts)


@check(
    "MLM-DST-6",
    port="sample",
    recipes=table([DrawRecipe("3/20", _BERT, rows_alike=True)]),
    needs=("trials",),
)
def no_call_repeats_another(context: Context, case: SampleCase) -> None:
    """Calls that differ in their tokens alone."""

    def counts(inputs: Array, labels: Array) -> list[Tally]:
        _, later = sampled(context, renamed(case), len(labels))
        both = (labels != -100) & (later != -100)
        return [_tally("selected in both of two calls", both, candidates(case), _rate(case) ** 2)]

    fits(context, case, partial(sampled, context, case), counts)
