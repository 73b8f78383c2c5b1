"""Chapter DST: what selected positions show, and whether they show it each for itself."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.cases.distributions import POOL, DrawRecipe
from mlm_conformance.cases.model import SampleCase
from mlm_conformance.check import Context, check, table
from mlm_conformance.checks.common import renamed, sampled
from mlm_conformance.distributions.judge import Tally, fits
from mlm_conformance.distributions.pairs import Shown, couples, evenly, kinds_of_both, same_ids

__all__: list[str] = []  # importing the module registers its checks

Array = NDArray[Any]
_BERT = "4/5 1/10 1/10"


def _shown(case: SampleCase, inputs: Array, labels: Array) -> Shown:
    return Shown(np.broadcast_to(case.tokens, inputs.shape), inputs, labels != -100)


@check(
    "MLM-DST-3",
    port="sample",
    recipes=table(
        [
            DrawRecipe("1", _BERT),
            DrawRecipe("1", "1/2 1/4 1/4"),
            DrawRecipe("3/20", _BERT, uneven=True),
        ]
    ),
    needs=("trials",),
)
def selected_positions_show_the_three_kinds(context: Context, case: SampleCase) -> None:
    """At rate 1, where each position says something; and at a rate, among the selected ones.

    What shows neither the mask id nor its token shows another id: the rest.
    """

    def counts(inputs: Array, labels: Array) -> list[Tally]:
        shares = case.policy.corruption
        same = Fraction(1, len(POOL))  # a random id is the original with this probability
        tokens, inputs, selected = _shown(case, inputs, labels)
        masked = (inputs == case.policy.mask_id)[selected]
        kept = (inputs == tokens)[selected]
        kinds = (
            ("positions that show the mask id", masked, shares.mask),
            ("positions that show their token", kept, shares.keep + shares.random * same),
        )
        return evenly((what, seen, Fraction(p)) for what, seen, p in kinds)

    fits(context, case, partial(sampled, context, case), counts)


@check(
    "MLM-DST-4",
    port="sample",
    recipes=table([DrawRecipe("1", "0 1 0")]),
    needs=("trials",),
)
def random_ids_are_uniform_on_the_pool(context: Context, case: SampleCase) -> None:
    def counts(inputs: Array, labels: Array) -> list[Tally]:
        ids, share = inputs[labels != -100], Fraction(1, len(POOL))
        return [Tally(f"draws of id {i}", int((ids == i).sum()), ids.size, share) for i in POOL]

    fits(context, case, partial(sampled, context, case), counts)


@check(
    "MLM-DST-4",
    port="sample",
    recipes=table([DrawRecipe("3/20", "1/2 1/2 0")]),
    needs=("trials",),
)
def random_ids_among_masked_ones_are_uniform_on_the_pool(
    context: Context, case: SampleCase
) -> None:
    """Positions that show neither the mask id nor their token: each other id alike."""

    def counts(inputs: Array, labels: Array) -> list[Tally]:
        tokens, inputs, selected = _shown(case, inputs, labels)
        random = selected & (inputs != case.policy.mask_id) & (inputs != tokens)
        ids, own, share = inputs[random], tokens[random], Fraction(1, len(POOL) - 1)
        return evenly(
            (f"draws of id {i} for another token", ids[own != i] == i, share) for i in POOL
        )

    fits(context, case, partial(sampled, context, case), counts)


@check(
    "MLM-DST-12",
    port="sample",
    recipes=table(
        [
            DrawRecipe("1", "1/2 0 1/2"),
            DrawRecipe("1/2", "1/3 1/3 1/3"),
        ]
    ),
    needs=("trials",),
)
def neighbours_show_kinds_of_their_own(context: Context, case: SampleCase) -> None:
    """Pairs of columns, one, two and eight apart, of rows, of samples and of calls."""

    def counts(inputs: Array, labels: Array) -> list[Tally]:
        return evenly(
            test
            for what, one, other in _twos(context, case, inputs, labels)
            for test in kinds_of_both(what, one, other, case.policy)
        )

    fits(context, case, partial(sampled, context, case), counts)


@check(
    "MLM-DST-20",
    port="sample",
    recipes=table([DrawRecipe("1", "0 1 0"), DrawRecipe("1", "1/2 1/2 0")]),
    needs=("trials",),
)
def neighbours_draw_ids_of_their_own(context: Context, case: SampleCase) -> None:
    """Pairs of columns, one, two and eight apart, of rows, of samples and of calls."""

    def counts(inputs: Array, labels: Array) -> list[Tally]:
        twos = _twos(context, case, inputs, labels)
        return evenly(same_ids(what, one, other) for what, one, other in twos)

    fits(context, case, partial(sampled, context, case), counts)


def _twos(
    context: Context, case: SampleCase, inputs: Array, labels: Array
) -> Iterator[tuple[str, Shown, Shown]]:
    """Places of one call, two by two; and those of a call beside those of another."""
    shown = _shown(case, inputs, labels)
    for what, one, other in couples(inputs.shape):
        yield what, shown.at(one), shown.at(other)
    later = renamed(case)
    again = _shown(later, *sampled(context, later, len(inputs)))
    yield "pairs of calls", shown.at(np.s_[::2]), again.at(np.s_[::2])  # as many as of samples
