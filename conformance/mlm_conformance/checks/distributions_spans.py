"""Chapter DST on spans: what a union of random spans looks like."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.cases.distributions import SpanDrawRecipe
from mlm_conformance.cases.model import SampleCase, candidates
from mlm_conformance.check import Context, Violation, check, table
from mlm_conformance.checks.common import sampled
from mlm_conformance.distributions.judge import Tally, fits
from mlm_conformance.distributions.proofs import proof
from mlm_conformance.distributions.spans import (
    pattern_probability,
    rate,
    spaced,
    whole_runs,
    windows,
)
from mlm_spec import Span

__all__: list[str] = []  # importing the module registers its checks

Array = NDArray[Any]
_GEOMETRIC = "8/15 4/15 2/15 1/15"
_UNIFORM = "1/5 1/5 1/5 1/5 1/5"
#: Of 4 or of 12 positions.
_LONG = "0 0 0 1/2 0 0 0 0 0 0 0 1/2"
_LAWS = (
    SpanDrawRecipe("3/20", _GEOMETRIC),
    SpanDrawRecipe("1/10", _UNIFORM),
    SpanDrawRecipe("1/50", _LONG),
)
_HOLES = SpanDrawRecipe("3/20", _GEOMETRIC, holes=True)
_SHORT = (
    SpanDrawRecipe("1/10", "0 0 1"),
    SpanDrawRecipe("1/10", "0 1/2 1/2"),
    SpanDrawRecipe("1/10", "0 0 1", holes=True),
)


def _law(case: SampleCase) -> Span:
    law = case.policy.selection
    assert isinstance(law, Span)
    return law


def _others(case: SampleCase) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Places that are no candidates, by the reason."""
    yield "special tokens", case.eligible & ~candidates(case)
    yield "ineligible places", ~case.eligible


def _tally(what: str, seen: Array, p: Fraction) -> Iterator[Tally]:
    """Of these trials, if there are any."""
    if seen.size:
        yield Tally(what, int(seen.sum()), seen.size, p)


@check("MLM-DST-13", port="sample", recipes=table(_LAWS), needs=("trials",))
def each_position_is_covered_at_its_rate(context: Context, case: SampleCase) -> None:
    """Column by column, and by groups of columns that no span reaches two of."""
    law, longest, able = _law(case), len(_law(case).lengths), candidates(case)

    def counts(inputs: Array, labels: Array) -> list[Tally]:
        chosen, columns = labels != -100, range(labels.shape[2])
        groups = [(f"column {i}", [i]) for i in columns]
        groups += [
            (f"columns {i}, {i + longest} and so on", list(columns[i::longest]))
            for i in columns[longest : 2 * longest]
        ]
        return [
            tally
            for what, at in groups
            for tally in _tally(
                f"selected in {what}", chosen[:, :, at][:, able[:, at]], rate(law, at[0])
            )
        ]

    fits(context, case, partial(sampled, context, case), counts)


@check("MLM-DST-13", port="sample", recipes=table([_HOLES]), needs=("trials",))
def candidates_beside_others_are_covered_at_the_rate(context: Context, case: SampleCase) -> None:
    """Just before and just behind places that are none, and at the start of a row."""
    law, longest, able = _law(case), len(_law(case).lengths), candidates(case)
    none = np.zeros((len(able), 1), np.bool_)

    def counts(inputs: Array, labels: Array) -> list[Tally]:
        chosen, found = labels != -100, list[Tally]()
        for others, at in _others(case):
            before, behind = np.hstack([at[:, 1:], none]), np.hstack([none, at[:, :-1]])
            for what, beside in (("before", before), ("behind", behind)):
                own = chosen[:, spaced(able & beside, longest, longest)]
                found += _tally(f"selected just {what} {others}", own, rate(law, longest))
        for column in range(min(longest, able.shape[1])):
            own = chosen[:, able[:, column], column]
            found += _tally(f"selected in column {column}", own, rate(law, column))
        return found

    fits(context, case, partial(sampled, context, case), counts)


@check("MLM-DST-14", port="sample", recipes=table(_LAWS), needs=("trials",))
def runs_have_the_lengths_of_united_spans(context: Context, case: SampleCase) -> None:
    """Runs at the start of a row, at its end, and between; the long and rare ones together."""
    law, able = _law(case), candidates(case)

    def counts(inputs: Array, labels: Array) -> list[Tally]:
        chosen, found = labels != -100, list[Tally]()
        for what, pattern, places in _run_patterns(len(law.lengths), case.tokens.shape[1]):
            seen = [_shows(chosen, able, pattern, at) for at in places]
            p = pattern_probability(law, pattern, places[0])
            found += _tally(f"{what} selected", np.concatenate(seen, axis=1), p)
        return found

    fits(context, case, partial(sampled, context, case), counts)


_Pattern = tuple[str, tuple[bool, ...], list[int]]


def _run_patterns(longest: int, columns: int) -> Iterator[_Pattern]:
    """In words, as selected or not, and at which columns: those that a row has room for."""
    found: list[_Pattern] = []
    for run in range(1, longest + 1):
        text, yes, no = _run(run, longest)
        found.append((f"a row begins with {text}", (*yes, *no), [0]))
        found.append((f"a row ends with {text}", (*no, *yes), [columns - run - len(no)]))
    for run in range(1, longest + 2):
        text, yes, no = _run(run, longest + 1)
        pattern = (False, *yes, *no)
        found.append((f"inside a row are {text}", pattern, windows(columns, len(pattern), longest)))
    for what, pattern, places in found:
        if len(pattern) <= columns and places:
            yield what, pattern, places


def _run(run: int, most: int) -> tuple[str, tuple[bool, ...], tuple[bool, ...]]:
    """So many selected positions, and what is not: behind the most there may be more."""
    yes = (True,) * run
    return (f"exactly {run}", yes, (False,)) if run < most else (f"{run} or more", yes, ())


def _shows(
    chosen: NDArray[np.bool_], able: NDArray[np.bool_], pattern: Sequence[bool], at: int
) -> NDArray[np.bool_]:
    """Which rows have the pattern there, of those whose places there are candidates: (n, rows)."""
    own = slice(at, at + len(pattern))
    fits_there: NDArray[np.bool_] = (chosen[:, able[:, own].all(axis=1), own] == pattern).all(2)
    return fits_there


@check("MLM-DST-14", port="sample", recipes=table([_HOLES]), needs=("trials",))
def runs_go_on_behind_places_that_are_no_candidates(context: Context, case: SampleCase) -> None:
    """A span that reaches over such a place selects what it covers on both sides of it."""
    law, longest, able = _law(case), len(_law(case).lengths), candidates(case)
    between = np.zeros_like(able)
    between[:, 1:-1] = able[:, :-2] & able[:, 2:]

    def counts(inputs: Array, labels: Array) -> list[Tally]:
        chosen, found = labels != -100, list[Tally]()
        for others, at in _others(case):
            row, column = np.nonzero(spaced(at & between, longest + 1, longest + 2))
            before, behind = chosen[:, row, column - 1], chosen[:, row, column + 1]
            for what, one, other in (
                ("both neighbours", True, True),
                ("the one before alone", True, False),
                ("the one behind alone", False, True),
            ):
                seen = (before == one) & (behind == other)
                p = pattern_probability(law, (one, None, other), longest)
                found += _tally(f"{what} of {others} selected", seen, p)
        return found

    fits(context, case, partial(sampled, context, case), counts)


@check("MLM-DST-15", port="sample", recipes=table(_SHORT), needs=("runs",))
def no_run_is_shorter_than_a_span(context: Context, case: SampleCase) -> None:
    """One is proof."""
    _, labels = sampled(context, case, case.n)
    shortest = next(length for length, p in enumerate(_law(case).lengths, 1) if p > 0)
    runs = whole_runs(labels != -100, candidates(case))
    context.saw("runs", len(runs))
    if len(runs):
        context.sees(proof("runs shorter than a span", len(runs)))
    short = runs[runs[:, 3] - runs[:, 2] < shortest]
    if len(short):
        _, row, first, behind = short[0].tolist()
        raise Violation(
            f"columns {first} to {behind - 1} of row {row} are selected, and neither their "
            f"neighbours, where no span is shorter than {shortest} ({len(short)} such runs of "
            f"{len(runs)}) [{case}]",
            "selected",
        )
