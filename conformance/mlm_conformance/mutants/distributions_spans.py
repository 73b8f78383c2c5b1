"""Chapter DST on spans: maskers whose spans have other lengths, places or kinds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.mutants.registry import Port, mutant_around
from mlm_conformance.mutants.spanning import all_masked, drawn, span_law, united
from mlm_spec import Corruption, Span

__all__ = [
    "a_budget_cuts_the_last_span",
    "kinds_are_drawn_for_each_token_of_a_span",
    "lengths_are_one_longer",
    "no_span_is_longer_than_ten",
    "one_span_in_a_thousand_loses_its_end",
    "positions_have_the_rates_of_spans_one_by_one",
    "spans_beyond_the_end_are_left_out",
    "spans_never_touch",
    "the_first_positions_have_the_full_rate",
    "the_longest_length_is_never_drawn",
    "the_start_is_the_rate_over_the_mean_length",
    "uniform_lengths_for_geometric",
]

Call = dict[str, Any]
Array = NDArray[Any]
_RATES = "each_position_is_covered_at_its_rate"
_RUNS = "runs_have_the_lengths_of_united_spans"
_SPANBERT = (
    "https://github.com/facebookresearch/SpanBERT/blob/0670d8b/pretraining/fairseq/data/masking.py"
)


def _with_law(correct: Port, call: Call, law: Span) -> Any:
    return correct(**{**call, "policy": replace(call["policy"], selection=law)})


def _as_often(correct: Port, call: Call, change: Callable[[tuple[Fraction, ...]], Any]) -> Any:
    """Other lengths, and so many starts that the rate away from the first positions is the same."""
    law = span_law(call)
    if law is None:
        return correct(**call)
    lengths = tuple(change(law.lengths))
    return _with_law(correct, call, Span.with_rate(law.rate_at(len(law.lengths)), lengths))


@mutant_around("MLM-DST-13", "sample", check=_RATES)
def the_first_positions_have_the_full_rate(correct: Port, call: Call) -> Any:
    """Spans start before the first position too."""
    law = span_law(call)
    if law is None:
        return correct(**call)
    more = len(law.lengths) - 1
    wide = {name: np.pad(call[name], ((0, 0), (more, 0)), mode="edge") for name in _ROWS}
    return tuple(array[..., more:] for array in correct(**{**call, **wide}))


_ROWS = ("tokens", "eligible")


@mutant_around("MLM-DST-13", "sample", check=_RATES)
def spans_beyond_the_end_are_left_out(correct: Port, call: Call) -> Any:
    """A span that would reach beyond its row is not drawn."""
    law = span_law(call)
    if law is None:
        return correct(**call)
    starts, lengths = drawn(call, law)
    fits = np.arange(starts.shape[2]) + lengths <= starts.shape[2]
    return all_masked(call, united(starts & fits, lengths))


@mutant_around("MLM-DST-13", "sample", check=_RATES)
def the_start_is_the_rate_over_the_mean_length(correct: Port, call: Call) -> Any:
    """Starts are as many as if no two spans ever met."""
    law = span_law(call)
    if law is None:
        return correct(**call)
    mean = sum((m * p for m, p in enumerate(law.lengths, 1)), Fraction(0))
    return _with_law(correct, call, Span(law.rate_at(len(law.lengths)) / mean, law.lengths))


@mutant_around("MLM-DST-14", "sample", check=_RUNS)
def lengths_are_one_longer(correct: Port, call: Call) -> Any:
    """The number of further positions is taken for the length."""
    return _as_often(correct, call, lambda lengths: (0, *lengths))


@mutant_around("MLM-DST-14", "sample", check=_RUNS)
def uniform_lengths_for_geometric(correct: Port, call: Call) -> Any:
    """All lengths are equally likely."""
    return _as_often(correct, call, lambda old: [Fraction(1, len(old))] * len(old))


@mutant_around("MLM-DST-14", "sample", check=_RUNS)
def the_longest_length_is_never_drawn(correct: Port, call: Call) -> Any:
    """The upper end of the draw is left out."""
    return _as_often(
        correct, call, lambda old: [p / (1 - old[-1]) for p in old[:-1]] if old[-1] < 1 else old
    )


@mutant_around("MLM-DST-14", "sample", check=_RUNS)
def spans_never_touch(correct: Port, call: Call) -> Any:
    """A span that would touch or overlap the one before it is not drawn."""
    law = span_law(call)
    if law is None:
        return correct(**call)
    starts, lengths = drawn(call, law)
    chosen = np.zeros(starts.shape, np.bool_)
    free = np.zeros(starts.shape[:2], np.int64)  # the first column that may start a span
    for column in range(starts.shape[2]):
        begins = starts[..., column] & (free <= column)
        free = np.where(begins, column + lengths[..., column] + 1, free)
        chosen[..., column] = begins | (column < free - 1)
    return all_masked(call, chosen)


@mutant_around("MLM-DST-14", "sample", check=_RUNS)
def positions_have_the_rates_of_spans_one_by_one(correct: Port, call: Call) -> Any:
    """Each position is selected on its own, as often as a span would cover it."""
    law = span_law(call)
    if law is None:
        return correct(**call)
    tokens, n = call["tokens"], call["n"]
    rates = np.array([float(law.rate_at(column)) for column in range(tokens.shape[1])])
    numbers = np.random.default_rng(int(tokens.sum()) + n).random((n, *tokens.shape))
    return all_masked(call, (numbers < rates) & ~np.isin(tokens, call["policy"].special_ids))


@mutant_around("MLM-DST-15", "sample", url=_SPANBERT)
def a_budget_cuts_the_last_span(correct: Port, call: Call) -> Any:
    """No more positions of a row are selected than its length times the rate, rounded up."""
    law = span_law(call)
    inputs, labels = correct(**call)
    if law is None:
        return inputs, labels
    chosen = labels != -100
    budget = -(-law.rate_at(len(law.lengths)) * chosen.shape[2] // 1)
    kept = chosen & (np.cumsum(chosen, axis=2) <= int(budget))
    tokens = np.broadcast_to(call["tokens"], inputs.shape)
    return np.where(kept, inputs, tokens), np.where(kept, labels, -100)


@mutant_around("MLM-DST-15", "sample")
def one_span_in_a_thousand_loses_its_end(correct: Port, call: Call) -> Any:
    """Now and then a span is one shorter than it should be."""
    law = span_law(call)
    if law is None:
        return correct(**call)
    starts, lengths = drawn(call, law)
    lost = np.random.default_rng(call["n"]).random(starts.shape) < 0.001
    return all_masked(call, united(starts, lengths - lost))


@mutant_around("MLM-DST-16", "sample", check="a_span_shows_one_kind")
def kinds_are_drawn_for_each_token_of_a_span(correct: Port, call: Call) -> Any:
    """The unit "span" is read as "token"."""
    old = call["policy"].corruption
    kinds = Corruption(old.mask, old.random, old.keep)
    return correct(**{**call, "policy": replace(call["policy"], corruption=kinds)})


@mutant_around("MLM-DST-13", "sample", check=_RATES)
def no_span_is_longer_than_ten(correct: Port, call: Call) -> Any:
    """What is longer than ten has the length ten."""
    law = call["policy"].selection
    if not isinstance(law, Span) or len(law.lengths) <= 10:
        return correct(**call)
    lengths = (*law.lengths[:9], sum(law.lengths[9:], Fraction(0)))
    return _with_law(correct, call, Span(law.start, lengths))
