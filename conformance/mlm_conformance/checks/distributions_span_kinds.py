"""Chapter DST on spans: what the positions of one span show, and whether masks come again.

Where all spans have one length, the positions that a run ends with are its last span.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.cases.distributions import POOL, SpanDrawRecipe
from mlm_conformance.cases.model import SampleCase, candidates
from mlm_conformance.check import Context, Violation, check, table
from mlm_conformance.checks.common import sampled
from mlm_conformance.distributions.judge import Tally, fits
from mlm_conformance.distributions.proofs import proof
from mlm_conformance.distributions.spans import last_spans, last_spans_of_rows, rate
from mlm_spec import Span

__all__: list[str] = []  # importing the module registers its checks

Array = NDArray[Any]
_SAME = Fraction(1, len(POOL))  # a random id is the original one with this probability
_THIRDS = "1/3 1/3 1/3"


def _spans(kinds: str, unit: str = "span", *, holes: bool = False) -> SpanDrawRecipe:
    return SpanDrawRecipe("1/10", "0 0 1", kinds, unit, holes)


def _law(case: SampleCase) -> Span:
    law = case.policy.selection
    assert isinstance(law, Span)
    return law


def _ends(case: SampleCase, array: Array, labels: Array) -> tuple[Array, Array]:
    """What (n, B, T) holds at the first and at the last position of the last span of each row.

    Both are selected: a span over whose beginning nothing can be said is left out.
    """
    chosen, length = labels != -100, len(_law(case).lengths)
    sample, row, last = last_spans_of_rows(chosen, candidates(case), length).T
    whole = chosen[sample, row, last - length + 1]
    sample, row, last = sample[whole], row[whole], last[whole]
    return array[sample, row, last - length + 1], array[sample, row, last]


@check(
    "MLM-DST-3",
    port="sample",
    recipes=table([_spans("4/5 1/10 1/10"), _spans(_THIRDS)]),
    needs=("trials",),
)
def spans_show_the_three_kinds(context: Context, case: SampleCase) -> None:
    """By the last span of each row, which has one kind."""
    shares = case.policy.corruption

    def counts(inputs: Array, labels: Array) -> list[Tally]:
        _, shown = _ends(case, inputs, labels)
        _, own = _ends(case, labels, labels)
        kept = shares.keep + shares.random * _SAME
        return [
            Tally(f"spans that show {what}", int(seen.sum()), seen.size, Fraction(p))
            for what, seen, p in (
                ("the mask id", shown == case.policy.mask_id, shares.mask),
                ("their token", shown == own, kept),
            )
        ]

    fits(context, case, partial(sampled, context, case), counts)


@check(
    "MLM-DST-6",
    port="sample",
    recipes=table([SpanDrawRecipe("3/20", "8/15 4/15 2/15 1/15", rows_alike=True)]),
    needs=("trials",),
)
def no_spans_repeat_others(context: Context, case: SampleCase) -> None:
    """Two samples, two rows with the same tokens, two calls; in columns that no span ties."""
    law, able = _law(case), candidates(case)
    longest, even = len(law.lengths), len(able) // 2 * 2
    ids = np.arange(case.policy.vocab_size)
    ids[list(POOL)] = np.roll(POOL, 1)
    other_case = replace(case, tokens=ids[case.tokens])
    apart = np.zeros_like(able)
    apart[:, longest::longest] = able[:, longest::longest]
    both_rows = apart[0:even:2] & apart[1:even:2]

    def counts(inputs: Array, labels: Array) -> list[Tally]:
        chosen, (_, later) = labels != -100, sampled(context, other_case, len(labels))
        rows = chosen[:, 0:even:2] & chosen[:, 1:even:2]
        return [
            Tally(f"covered in both of two {what}", int(both.sum()), both.size, p)
            for what, both in (
                ("samples of one call", (chosen[0::2] & chosen[1::2])[:, apart]),
                ("rows of one batch", rows[:, both_rows]),
                ("calls", (chosen & (later != -100))[:, apart]),
            )
            if both.size
        ]

    p = rate(law, longest) ** 2
    fits(context, case, partial(sampled, context, case), counts)


@check(
    "MLM-DST-12",
    port="sample",
    recipes=table([_spans("1/2 0 1/2", "token")]),
    needs=("trials",),
)
def positions_of_a_span_show_kinds_of_their_own(context: Context, case: SampleCase) -> None:
    share = Fraction(case.policy.corruption.mask)

    def counts(inputs: Array, labels: Array) -> list[Tally]:
        one, other = _ends(case, inputs == case.policy.mask_id, labels)
        both = one & other
        what = "spans whose first and last position are masked"
        return [Tally(what, int(both.sum()), both.size, share**2)]

    fits(context, case, partial(sampled, context, case), counts)


@check(
    "MLM-DST-16",
    port="sample",
    recipes=table([_spans("1/2 0 1/2"), _spans("1/2 1/2 0"), _spans("1/2 0 1/2", holes=True)]),
    needs=(
        "spans that show the mask id",
        "spans that do not",
        "spans over a place that is no candidate",
    ),
)
def a_span_shows_one_kind(context: Context, case: SampleCase) -> None:
    """The mask id on a part of a span is proof of the contrary."""
    inputs, labels = sampled(context, case, case.n)
    chosen, length = labels != -100, len(_law(case).lengths)
    spans = last_spans(chosen, candidates(case), length)
    at = (spans[:, :1], spans[:, 1:2], spans[:, 2:] - np.arange(length)[::-1])
    shown, selected = inputs[at], chosen[at]
    masked = (shown == case.policy.mask_id) & selected
    some, others = masked.any(axis=1), (selected & ~masked).any(axis=1)
    context.saw("spans that show the mask id", (some & ~others).sum())
    context.saw("spans that do not", (others & ~some).sum())
    context.saw("spans over a place that is no candidate", (~selected[:, 1:-1]).any(axis=1).sum())
    several = int((selected.sum(axis=1) > 1).sum())
    if several:
        context.sees(proof("spans that show the mask id on a part", several))
    mixed = np.flatnonzero(some & others)
    if len(mixed):
        _, row, last = spans[mixed[0]].tolist()
        raise Violation(
            f"columns {last - length + 1} to {last} of row {row}, one span, show "
            f"{shown[mixed[0]].tolist()}: the mask id, {case.policy.mask_id}, on a part of it "
            f"({len(mixed)} such spans of {len(spans)}) [{case}]",
            "inputs",
        )


@check("MLM-DST-16", port="sample", recipes=table([_spans(_THIRDS)]), needs=("trials",))
def a_span_is_kept_or_random_as_a_whole(context: Context, case: SampleCase) -> None:
    """A random id may be the original one: a span that seems to be of both kinds is rare."""
    p = Fraction(case.policy.corruption.random) * _SAME * (1 - _SAME)

    def counts(inputs: Array, labels: Array) -> list[Tally]:
        first, last = _ends(case, inputs == labels, labels)
        _, masked = _ends(case, inputs == case.policy.mask_id, labels)
        mixed = first & ~last & ~masked
        what = "spans with their token on the first position and another id on the last"
        return [Tally(what, int(mixed.sum()), mixed.size, p)]

    fits(context, case, partial(sampled, context, case), counts)


@check("MLM-DST-20", port="sample", recipes=table([_spans("0 1 0")]), needs=("trials",))
def positions_of_a_span_draw_ids_of_their_own(context: Context, case: SampleCase) -> None:
    """First and last positions; both with ids of the pool."""

    def counts(inputs: Array, labels: Array) -> list[Tally]:
        one, other = _ends(case, inputs, labels)
        fair = np.isin(one, POOL) & np.isin(other, POOL)
        what = "spans whose first and last position show the same random id"
        return [Tally(what, int((one == other)[fair].sum()), int(fair.sum()), _SAME)]

    fits(context, case, partial(sampled, context, case), counts)
