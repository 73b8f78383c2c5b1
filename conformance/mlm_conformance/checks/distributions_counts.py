"""Chapter DST on fixed counts: how many positions, which ones, and which ones together."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.cases.counting import ROUNDINGS, FloatCountDraw
from mlm_conformance.cases.distributions import DrawRecipe
from mlm_conformance.cases.distributions_anywhere import (
    AnywhereCount,
    count_series,
    may_be_declined,
)
from mlm_conformance.cases.model import SampleCase
from mlm_conformance.check import Context, NotClaimed, check, table
from mlm_conformance.checks.common import renamed, sampled
from mlm_conformance.distributions.counts import Group, groups
from mlm_conformance.distributions.judge import Tally, fits
from mlm_conformance.distributions.proofs import proof

__all__: list[str] = []  # importing the module registers its checks

Array = NDArray[Any]
_BERT = "4/5 1/10 1/10"
_PLAIN = DrawRecipe("3/20", _BERT, law="count")
#: Rows of several lengths, and all that may be said of a count.
_TOLD: tuple[dict[str, Any], ...] = (
    {"rounding": "ceiling"},
    {},
    {"rounding": "half_even"},
    {"base": "all"},
    {"base": "all", "rounding": "half_even"},
    {"cap": 4},
    {"floor": 3},
    {"floor": 1, "cap": 5, "base": "all"},
)
_UNEVEN = [
    DrawRecipe("3/20", _BERT, law="count", uneven=True, counted=tuple(told.items()))
    for told in _TOLD
]


def _exact(context: Context, case: SampleCase, labels: Array) -> None:
    """Each sequence has its count, in every mask; one without a candidate has none."""
    want = np.zeros(len(case.tokens), np.int64)
    for group in groups(case):
        want[group.rows] = group.k
    found = (labels != -100).sum(axis=2)
    context.equal("selected positions of a sequence", found, np.broadcast_to(want, found.shape))


@check("MLM-DST-7", port="sample", recipes=table([_PLAIN]), needs=("trials",))
def a_fixed_count_is_exact_and_everywhere_alike(context: Context, case: SampleCase) -> None:
    def counts(inputs: Array, labels: Array) -> list[Tally]:
        _exact(context, case, labels)
        return [
            tally
            for group in groups(case)
            for tally in _alike(group, labels != -100, range(group.n))
        ]

    fits(context, case, partial(sampled, context, case), counts)


@check("MLM-DST-7", port="sample", recipes=table(_UNEVEN), needs=("sequences",))
def a_fixed_count_is_that_of_its_sequence(context: Context, case: SampleCase) -> None:
    """Rows of several lengths, at each rounding and base, with cap and floor."""
    n = max(1, case.n // 4)
    _, labels = sampled(context, case, n)
    context.saw("sequences", n * len(case.tokens))
    context.sees(proof("sequences with another count", n * len(case.tokens)))
    _exact(context, case, labels)


@check(
    "MLM-DST-7",
    port="sample",
    recipes=table([AnywhereCount(number) for number in range(3)]),
    needs=("sequences",),
    series=count_series,
)
def a_fixed_count_is_exact_at_any_rate_and_size(context: Context, case: SampleCase) -> None:
    """A law or a policy that few maskers can be asked for may be declined, and is left out."""
    try:
        _, labels = sampled(context, case, case.n)
    except NotClaimed:
        if not may_be_declined(case.policy):
            raise
        context.saw("declined")
        return
    trials = case.n * len(case.tokens)
    context.saw("sequences", trials)
    context.sees(proof("sequences with another count", trials))
    _exact(context, case, labels)


@check(
    "MLM-DST-7",
    port="sample",
    recipes=table([FloatCountDraw(rounding, i) for rounding in ROUNDINGS for i in range(2)]),
    needs=("sequences",),
)
def a_fixed_count_is_not_worked_out_in_floats(context: Context, case: SampleCase) -> None:
    """Of rates and lengths at which the product of floats is rounded to another number."""
    _, labels = sampled(context, case, case.n)
    context.saw("sequences", case.n * len(case.tokens))
    context.sees(proof("sequences with another count", case.n * len(case.tokens)))
    _exact(context, case, labels)


@check("MLM-DST-7", port="sample", recipes=table(_UNEVEN[1:2]), needs=("trials",))
def first_and_last_candidates_are_counted_alike(context: Context, case: SampleCase) -> None:
    def counts(inputs: Array, labels: Array) -> list[Tally]:
        return [
            tally
            for group in groups(case)
            if group.k
            for tally in _alike(group, labels != -100, (0, group.n - 1))
        ]

    fits(context, case, partial(sampled, context, case), counts)


def _alike(group: Group, chosen: Array, ranks: Any) -> Iterator[Tally]:
    own, share = group.selected(chosen), Fraction(group.k, group.n)
    for i in ranks:
        seen = own[:, :, i]
        yield Tally(f"selected at candidate {i} of {group.n}", int(seen.sum()), seen.size, share)


@check("MLM-DST-7", port="sample", recipes=table([_PLAIN]), needs=("trials",))
def counted_positions_are_any_of_the_candidates(context: Context, case: SampleCase) -> None:
    """Two candidates of a row, one, two and eight apart: both selected."""

    def counts(inputs: Array, labels: Array) -> list[Tally]:
        return [
            Tally(f"candidates {apart} apart, both selected", int(both.sum()), both.size, p)
            for group in groups(case)
            for apart in (1, 2, 8)
            if group.n > apart
            for both in [group.one_each(labels != -100, apart)]
            for p in [Fraction(group.k * (group.k - 1), group.n * (group.n - 1))]
        ]

    fits(context, case, partial(sampled, context, case), counts)


@check(
    "MLM-DST-6",
    port="sample",
    recipes=table([DrawRecipe("3/20", _BERT, law="count", rows_alike=True)]),
    needs=("trials",),
)
def no_counted_mask_repeats_another(context: Context, case: SampleCase) -> None:
    """One candidate of each row: in two samples, in two rows and in two calls."""

    def counts(inputs: Array, labels: Array) -> list[Tally]:
        _, later = sampled(context, renamed(case), len(labels))
        return [
            Tally(f"selected in both of two {what}", int(both.sum()), both.size, p)
            for group in groups(case)
            for p in [Fraction(group.k, group.n) ** 2]
            for what, both in _repeated(group, labels != -100, later != -100)
        ]

    fits(context, case, partial(sampled, context, case), counts)


def _repeated(group: Group, chosen: Array, later: Array) -> Iterator[tuple[str, Array]]:
    own = group.one_each(chosen)
    count, rows = own.shape
    yield "samples", own[0 : count - 1 : 2] & own[1::2]
    yield "rows", own[:, 0 : rows - 1 : 2] & own[:, 1::2]
    yield "calls", own & group.one_each(later)
