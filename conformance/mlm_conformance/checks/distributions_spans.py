"""Chapter DST on spans: what a union of random spans looks like."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.cases.distributions import SpanDrawRecipe
from mlm_conformance.cases.model import SampleCase
from mlm_conformance.check import Context, Violation, check, table
from mlm_conformance.checks.common import sampled
from mlm_conformance.distributions.judge import Tally, fits
from mlm_conformance.distributions.spans import pattern_probability, rate, whole_runs, windows
from mlm_spec import Span

__all__: list[str] = []  # importing the module registers its checks

Array = NDArray[Any]
_GEOMETRIC = "8/15 4/15 2/15 1/15"
_UNIFORM = "1/5 1/5 1/5 1/5 1/5"
_LAWS = (SpanDrawRecipe("3/20", _GEOMETRIC), SpanDrawRecipe("1/10", _UNIFORM))


def _law(case: SampleCase) -> Span:
    law = case.policy.selection
    assert isinstance(law, Span)
    return law


@check("MLM-DST-13", port="sample", recipes=table(_LAWS), needs=("trials",))
def each_position_is_covered_at_its_rate(context: Context, case: SampleCase) -> None:
    """Column by column, and by groups of columns that no span reaches two of."""
    law, longest = _law(case), len(_law(case).lengths)

    def counts(inputs: Array, labels: Array) -> list[Tally]:
        chosen, columns = labels != -100, range(labels.shape[2])
        groups = [(f"column {i}", [i]) for i in columns]
        groups += [
            (f"columns {i}, {i + longest} and so on", list(columns[i::longest]))
            for i in columns[longest : 2 * longest]
        ]
        return [
            Tally(f"selected in {what}", int(own.sum()), own.size, rate(law, at[0]))
            for what, at in groups
            for own in [chosen[:, :, at]]
        ]

    fits(context, case, partial(sampled, context, case), counts)


@check("MLM-DST-14", port="sample", recipes=table(_LAWS), needs=("trials",))
def runs_have_the_lengths_of_united_spans(context: Context, case: SampleCase) -> None:
    """Runs at the start of a row, at its end, and between."""
    law, columns = _law(case), case.tokens.shape[1]
    longest = len(law.lengths)

    def counts(inputs: Array, labels: Array) -> list[Tally]:
        chosen, found = labels != -100, []
        for run in range(1, longest + 3):
            yes = (True,) * run
            for what, pattern, places in (
                ("a row begins with", (*yes, False), [0]),
                ("a row ends with", (False, *yes), [columns - run - 1]),
                ("between others are", (False, *yes, False), windows(columns, run + 2, longest)),
            ):
                seen = np.stack([_shows(chosen, pattern, at) for at in places])
                p = pattern_probability(law, pattern, places[0])
                text = f"{what} exactly {run} selected"
                found.append(Tally(text, int(seen.sum()), seen.size, p))
        return found

    fits(context, case, partial(sampled, context, case), counts)


def _shows(chosen: NDArray[np.bool_], pattern: tuple[bool, ...], at: int) -> NDArray[np.bool_]:
    """Which rows have the pattern there: (n, B)."""
    fits_there: NDArray[np.bool_] = (chosen[:, :, at : at + len(pattern)] == pattern).all(axis=2)
    return fits_there


def _runs(case: SampleCase, labels: Array) -> Array:
    return whole_runs(
        labels != -100, case.eligible & ~np.isin(case.tokens, case.policy.special_ids)
    )


@check(
    "MLM-DST-15",
    port="sample",
    recipes=table([SpanDrawRecipe("1/10", "0 0 1"), SpanDrawRecipe("1/10", "0 1/2 1/2")]),
    needs=("runs",),
)
def no_run_is_shorter_than_a_span(context: Context, case: SampleCase) -> None:
    """One is proof."""
    _, labels = sampled(context, case, case.n)
    shortest = next(length for length, p in enumerate(_law(case).lengths, 1) if p > 0)
    runs = _runs(case, labels)
    context.saw("runs", len(runs))
    short = runs[runs[:, 3] - runs[:, 2] < shortest]
    if len(short):
        _, row, first, behind = short[0].tolist()
        raise Violation(
            f"columns {first} to {behind - 1} of row {row} are selected, and neither their "
            f"neighbours, where no span is shorter than {shortest} ({len(short)} such runs of "
            f"{len(runs)}) [{case}]",
            "selected",
        )


@check(
    "MLM-DST-16",
    port="sample",
    recipes=table(
        [SpanDrawRecipe("1/10", "0 0 1", kinds, "span") for kinds in ("1/2 0 1/2", "1/2 1/2 0")]
    ),
    needs=("spans that show the mask id", "spans that do not"),
)
def a_span_shows_one_kind(context: Context, case: SampleCase) -> None:
    """Where all spans have one length, the last positions of a run are its last span."""
    inputs, labels = sampled(context, case, case.n)
    length, runs = len(_law(case).lengths), _runs(case, labels)
    runs = runs[runs[:, 3] - runs[:, 2] >= length]
    last = runs[:, 3:] - np.arange(length, 0, -1)
    shown = inputs[runs[:, :1], runs[:, 1:2], last]
    masked = shown == case.policy.mask_id
    context.saw("spans that show the mask id", masked.all(axis=1).sum())
    context.saw("spans that do not", (~masked).all(axis=1).sum())
    mixed = np.flatnonzero(masked.any(axis=1) & ~masked.all(axis=1))
    if len(mixed):
        _, row, _, behind = runs[mixed[0]].tolist()
        raise Violation(
            f"columns {behind - length} to {behind - 1} of row {row}, one span, show "
            f"{shown[mixed[0]].tolist()}: the mask id, {case.policy.mask_id}, on a part of it "
            f"({len(mixed)} such spans of {len(runs)}) [{case}]",
            "inputs",
        )
