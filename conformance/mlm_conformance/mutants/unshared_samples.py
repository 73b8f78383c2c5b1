"""Chapter DST: maskers that are wrong where one requirement alone looks."""

from __future__ import annotations

from fractions import Fraction
from math import frexp
from typing import Any

import numpy as np

from mlm_conformance.mutants.registry import Port, mutant_around
from mlm_conformance.mutants.sampling import is_bernoulli, with_policy
from mlm_conformance.mutants.spanning import all_masked, drawn, span_law, united
from mlm_spec import Bernoulli, Span, WholeWord

__all__ = [
    "lengths_are_smoothed",
    "one_masked_span_in_a_thousand_loses_its_end",
    "rates_below_a_half_have_five_bits",
    "rates_of_words_are_sixty_fourths",
    "spans_start_a_twentieth_more_often",
    "the_first_token_lends_its_rate_to_the_last",
]

Call = dict[str, Any]


def _at_rate(correct: Port, call: Call, rate: Fraction) -> Any:
    return correct(**with_policy(call, selection=Bernoulli(rate)))


@mutant_around("MLM-DST-1", "sample", check="positions_are_selected_at_the_rate")
def rates_below_a_half_have_five_bits(correct: Port, call: Call) -> Any:
    """A rate below 1/2 is a float of five bits: 2/5 is 13/32."""
    rate = call["policy"].selection.rate if is_bernoulli(call) else Fraction(1)
    if not 0 < rate < Fraction(1, 2):
        return correct(**call)
    step = Fraction(2) ** (frexp(rate)[1] - 5)
    return _at_rate(correct, call, round(rate / step) * step)


@mutant_around("MLM-DST-2", "sample", check="candidates_are_selected_alike_whatever_is_beside_them")
def the_first_token_lends_its_rate_to_the_last(correct: Port, call: Call) -> Any:
    """In a row that begins with [CLS] the first candidate has half the rate, the last the rest."""
    rate = call["policy"].selection.rate if is_bernoulli(call) else Fraction(1)
    if rate > Fraction(2, 3):
        return correct(**call)
    able = call["eligible"] & ~np.isin(call["tokens"], call["policy"].special_ids)
    several = ~able[:, :1] & (able.sum(axis=1, keepdims=True) > 1)
    first = able & several & (np.cumsum(able, axis=1) == 1)
    last = able & several & (np.cumsum(able[:, ::-1], axis=1)[:, ::-1] == 1)
    right = correct(**call)
    low, high = (_at_rate(correct, call, rate * Fraction(n, 2)) for n in (1, 3))
    return tuple(
        np.where(first, a, np.where(last, b, c)) for a, b, c in zip(low, high, right, strict=True)
    )


@mutant_around("MLM-DST-9", "sample_words", check="words_are_selected_at_the_rate")
def rates_of_words_are_sixty_fourths(correct: Port, call: Call) -> Any:
    """The rate of whole words is rounded to a multiple of 1/64."""
    law = call["policy"].selection
    if not isinstance(law, WholeWord):
        return correct(**call)
    return correct(**with_policy(call, selection=WholeWord(Fraction(round(law.rate * 64), 64))))


def _with_law(correct: Port, call: Call, law: Span) -> Any:
    return correct(**with_policy(call, selection=law))


@mutant_around("MLM-DST-13", "sample", check="each_position_is_covered_at_its_rate")
def spans_start_a_twentieth_more_often(correct: Port, call: Call) -> Any:
    """A span starts a twentieth more often than the policy says."""
    law = span_law(call)
    if law is None:
        return correct(**call)
    more = min(Fraction(1), law.start * Fraction(21, 20))
    return _with_law(correct, call, Span(more, law.lengths))


@mutant_around("MLM-DST-14", "sample", check="runs_have_the_lengths_of_united_spans")
def lengths_are_smoothed(correct: Port, call: Call) -> Any:
    """Where every length occurs, each but the ends gives a quarter to the two beside it."""
    law = span_law(call)
    if law is None or not all(law.lengths):
        return correct(**call)
    lengths = list(law.lengths)
    for place, share in list(enumerate(law.lengths))[1:-1]:
        for beside, part in ((-1, share / 8), (0, -share / 4), (1, share / 8)):
            lengths[place + beside] += part
    return _with_law(correct, call, Span(law.start, tuple(lengths)))


@mutant_around("MLM-DST-15", "sample")
def one_masked_span_in_a_thousand_loses_its_end(correct: Port, call: Call) -> Any:
    """Where all show the mask id, a span is now and then one shorter than it should be."""
    law = span_law(call)
    if law is None or call["policy"].corruption.mask != 1:
        return correct(**call)
    starts, lengths = drawn(call, law)
    lost = np.random.default_rng(call["n"]).random(starts.shape) < 0.001
    return all_masked(call, united(starts, lengths - lost))
