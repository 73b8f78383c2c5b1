"""Chapter DST: maskers with random numbers of their own, by the distribution of their masks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.cases.distributions import POOL, SHAPE, DrawRecipe
from mlm_conformance.cases.model import SampleCase
from mlm_conformance.check import Context, check, table
from mlm_conformance.checks.common import sampled
from mlm_conformance.distributions.judge import Tally, fits
from mlm_spec import FixedCount

__all__: list[str] = []  # importing the module registers its checks

Array = NDArray[Any]
_BERT = "4/5 1/10 1/10"


def _rate(case: SampleCase) -> Fraction:
    return Fraction(case.policy.selection.rate)  # type: ignore[union-attr]


def _selected(labels: Array) -> NDArray[np.bool_]:
    chosen: NDArray[np.bool_] = labels != -100
    return chosen


@check(
    "MLM-DST-1",
    port="sample",
    recipes=table([DrawRecipe(rate, _BERT) for rate in ("3/20", "2/5")]),
    needs=("trials",),
)
def positions_are_selected_at_the_rate(context: Context, case: SampleCase) -> None:
    def counts(inputs: Array, labels: Array) -> list[Tally]:
        chosen = _selected(labels)
        return [Tally("selected positions", int(chosen.sum()), chosen.size, _rate(case))]

    fits(context, case, partial(sampled, context, case), counts)


@check(
    "MLM-DST-2",
    port="sample",
    recipes=table([DrawRecipe("3/20", _BERT)]),
    needs=("trials",),
)
def every_place_is_selected_alike(context: Context, case: SampleCase) -> None:
    """Column by column, and row by row."""

    def counts(inputs: Array, labels: Array) -> list[Tally]:
        chosen, rate = _selected(labels), _rate(case)
        found = []
        for name, axes in (("column", (0, 1)), ("row", (0, 2))):
            sums = chosen.sum(axis=axes)
            each = chosen.size // len(sums)
            found += [
                Tally(f"selected in {name} {i}", int(n), each, rate) for i, n in enumerate(sums)
            ]
        return found

    fits(context, case, partial(sampled, context, case), counts)


@check(
    "MLM-DST-3",
    port="sample",
    recipes=table([DrawRecipe("1", kinds) for kinds in (_BERT, "1/2 1/4 1/4")]),
    needs=("trials",),
)
def selected_positions_show_the_three_kinds(context: Context, case: SampleCase) -> None:
    """At rate 1, so that each position says something."""

    def counts(inputs: Array, labels: Array) -> list[Tally]:
        shares = case.policy.corruption
        same = Fraction(1, len(POOL))  # a random id is the original with this probability
        total = inputs.size
        masked = int((inputs == case.policy.mask_id).sum())
        kept = int((inputs == case.tokens).sum())
        kinds = (
            ("positions that show the mask id", masked, shares.mask),
            ("positions that show their token", kept, shares.keep + shares.random * same),
            (
                "positions that show another id",
                total - masked - kept,
                shares.random * (1 - same),
            ),
        )
        return [Tally(what, count, total, Fraction(p)) for what, count, p in kinds]

    fits(context, case, partial(sampled, context, case), counts)


@check(
    "MLM-DST-4",
    port="sample",
    recipes=table([DrawRecipe("1", "0 1 0")]),
    needs=("trials",),
)
def random_ids_are_uniform_on_the_pool(context: Context, case: SampleCase) -> None:
    def counts(inputs: Array, labels: Array) -> list[Tally]:
        drawn = np.bincount(inputs.reshape(-1), minlength=case.policy.vocab_size)
        share = Fraction(1, len(POOL))
        return [Tally(f"draws of id {i}", int(drawn[i]), inputs.size, share) for i in POOL]

    fits(context, case, partial(sampled, context, case), counts)


@check(
    "MLM-DST-5",
    port="sample",
    recipes=table([DrawRecipe("3/20", _BERT)]),
    needs=("trials",),
)
def neighbours_are_independent(context: Context, case: SampleCase) -> None:
    """Pairs of columns that have no position in common, one, two and eight apart."""

    def counts(inputs: Array, labels: Array) -> list[Tally]:
        chosen, rate = _selected(labels), _rate(case)
        found = []
        for apart in (1, 2, 8):
            left, right = (chosen[:, :, columns] for columns in _pairs(SHAPE[1], apart))
            both = left & right
            what = f"pairs {apart} apart, both selected"
            found.append(Tally(what, int(both.sum()), both.size, rate**2))
        return found

    fits(context, case, partial(sampled, context, case), counts)


def _pairs(columns: int, apart: int) -> tuple[list[int], list[int]]:
    left = [c for c in range(columns) if c // apart % 2 == 0]
    return left, [c + apart for c in left]


@check(
    "MLM-DST-6",
    port="sample",
    recipes=table([DrawRecipe("3/20", _BERT, rows_alike=True)]),
    needs=("trials",),
)
def no_mask_repeats_another(context: Context, case: SampleCase) -> None:
    """Samples of one call, and rows of one batch that hold the same tokens."""

    def counts(inputs: Array, labels: Array) -> list[Tally]:
        chosen, rate = _selected(labels), _rate(case)
        found = []
        for what, one, other in _twins(chosen):
            both = one & other
            found.append(
                Tally(f"selected in both of two {what}", int(both.sum()), both.size, rate**2)
            )
        return found

    fits(context, case, partial(sampled, context, case), counts)


def _twins(chosen: NDArray[np.bool_]) -> Iterator[tuple[str, Array, Array]]:
    yield "samples of one call", chosen[0::2], chosen[1::2]
    yield "rows of one batch", chosen[:, 0::2], chosen[:, 1::2]


@check(
    "MLM-DST-6",
    port="sample",
    recipes=table([DrawRecipe("3/20", _BERT, rows_alike=True)]),
    needs=("trials",),
)
def no_call_repeats_another(context: Context, case: SampleCase) -> None:
    """Calls that differ in their tokens alone."""
    ids = np.arange(case.policy.vocab_size)
    ids[list(POOL)] = np.roll(POOL, 1)
    other_case = replace(case, tokens=ids[case.tokens])

    def counts(inputs: Array, labels: Array) -> list[Tally]:
        _, later = sampled(context, other_case, len(labels))
        both = _selected(labels) & _selected(later)
        return [
            Tally("selected in both of two calls", int(both.sum()), both.size, _rate(case) ** 2)
        ]

    fits(context, case, partial(sampled, context, case), counts)


@check(
    "MLM-DST-7",
    port="sample",
    recipes=table([DrawRecipe("3/20", _BERT, law="count")]),
    needs=("trials",),
)
def a_fixed_count_is_exact_and_everywhere_alike(context: Context, case: SampleCase) -> None:
    law = case.policy.selection
    assert isinstance(law, FixedCount)
    size = round(law.rate * SHAPE[1])  # 9.6: no tie, so every rounding of the chapter agrees

    def counts(inputs: Array, labels: Array) -> list[Tally]:
        chosen = _selected(labels)
        context.equal(
            "selected positions of a sequence", chosen.sum(axis=2), np.full(chosen.shape[:2], size)
        )
        sums, each = chosen.sum(axis=(0, 1)), chosen.shape[0] * chosen.shape[1]
        share = Fraction(size, SHAPE[1])
        return [Tally(f"selected in column {i}", int(n), each, share) for i, n in enumerate(sums)]

    fits(context, case, partial(sampled, context, case), counts)


@check(
    "MLM-DST-12",
    port="sample",
    recipes=table([DrawRecipe("1", "1/2 0 1/2")]),
    needs=("trials",),
)
def neighbours_show_kinds_of_their_own(context: Context, case: SampleCase) -> None:
    """Pairs of columns, one, two and eight apart, and pairs of rows."""

    def counts(inputs: Array, labels: Array) -> list[Tally]:
        found, share = [], Fraction(case.policy.corruption.mask)
        for pair, one, other in _couples(inputs == case.policy.mask_id):
            both = one & other
            found.append(Tally(f"{pair}, both masked", int(both.sum()), both.size, share**2))
        return found

    fits(context, case, partial(sampled, context, case), counts)


@check(
    "MLM-DST-20",
    port="sample",
    recipes=table([DrawRecipe("1", "0 1 0")]),
    needs=("trials",),
)
def neighbours_draw_ids_of_their_own(context: Context, case: SampleCase) -> None:
    """Pairs of columns, one, two and eight apart, and pairs of rows; both with ids of the pool."""

    def counts(inputs: Array, labels: Array) -> list[Tally]:
        share = Fraction(1, len(POOL))
        return [
            Tally(f"{pair}, the same id", int((one == other)[fair].sum()), int(fair.sum()), share)
            for pair, one, other in _couples(inputs)
            for fair in [np.isin(one, POOL) & np.isin(other, POOL)]
        ]

    fits(context, case, partial(sampled, context, case), counts)


def _couples(array: Array) -> Iterator[tuple[str, Array, Array]]:
    """Pairs of places that have no place in common."""
    for apart in (1, 2, 8):
        left, right = _pairs(SHAPE[1], apart)
        yield f"pairs {apart} apart", array[:, :, left], array[:, :, right]
    yield "pairs of rows", array[:, 0::2], array[:, 1::2]
