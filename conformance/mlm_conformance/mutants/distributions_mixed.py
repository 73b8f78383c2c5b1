"""Chapter DST: maskers that are right where all positions are alike, and in one call alone.

Each of them has the right distribution at rate 1, or where every position is a candidate, or in one
mask.
"""

from __future__ import annotations

import zlib
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np

from mlm_conformance.mutants.correct import sample_with
from mlm_conformance.mutants.registry import Port, mutant_around
from mlm_conformance.mutants.sampling import is_bernoulli, shown, unselected, with_policy
from mlm_spec import FixedCount

__all__ = [
    "a_cap_is_not_looked_at",
    "a_count_is_always_rounded_half_up",
    "a_count_is_of_all_that_is_not_padding",
    "a_floor_is_not_looked_at",
    "a_row_draws_one_id_unless_all_is_random",
    "counted_positions_are_a_block",
    "counts_are_seeded_in_every_call",
    "counts_are_taken_in_four_bytes",
    "kept_or_random_is_said_for_a_row",
    "kinds_are_seeded_in_every_call",
    "kinds_come_twice",
    "no_count_is_above_20",
    "one_number_says_the_kind_and_the_id",
    "one_number_selects_and_says_the_kind",
    "random_ids_are_seeded_in_every_call",
    "random_ids_come_twice",
    "rates_of_counts_are_cut_to_two_digits",
    "short_rows_have_a_higher_rate",
    "the_first_candidate_is_left_out_of_the_count",
    "the_place_before_the_end_is_never_selected",
    "the_share_of_a_row_is_spent_on_its_candidates",
]

Call = dict[str, Any]
_RATES = "positions_are_selected_at_the_rate"
_BESIDE = "candidates_are_selected_alike_whatever_is_beside_them"
_SHARES = "selected_positions_show_the_three_kinds"
_KINDS = "neighbours_show_kinds_of_their_own"
_APART = "neighbours_draw_ids_of_their_own"
_AMONG = "random_ids_among_masked_ones_are_uniform_on_the_pool"
_TOGETHER = "counted_positions_are_any_of_the_candidates"
_ENDS = "first_and_last_candidates_are_counted_alike"
_ANY_COUNT = "a_fixed_count_is_exact_at_any_rate_and_size"
_EACH = "a_fixed_count_is_that_of_its_sequence"
_COUNTED = "no_counted_mask_repeats_another"


def _numbers(call: Call) -> Any:
    """A generator that other tokens, or another n, seed otherwise."""
    return np.random.default_rng([zlib.crc32(call["tokens"].tobytes()), call["n"], 1])


def _candidates(call: Call) -> Any:
    return call["eligible"] & ~np.isin(call["tokens"], call["policy"].special_ids)


def _with_kinds(call: Call, selected: Any, kind: Any, pick: Any) -> Any:
    """Selected positions show what two numbers in 0 … 1 say: their kinds, and random ids."""
    tokens = call["tokens"]
    return np.where(selected, shown(call, kind, pick), tokens), np.where(selected, tokens, -100)


@mutant_around("MLM-DST-3", "sample", check=_SHARES)
def one_number_selects_and_says_the_kind(correct: Port, call: Call) -> Any:
    """What is below the rate is selected, and what is below four fifths is masked: always."""
    if not is_bernoulli(call):
        return correct(**call)
    number, pick = _numbers(call).random((2, call["n"], *call["tokens"].shape))
    selected = (number < float(call["policy"].selection.rate)) & _candidates(call)
    return _with_kinds(call, selected, number, pick)


@mutant_around("MLM-DST-4", "sample", check=_AMONG)
def one_number_says_the_kind_and_the_id(correct: Port, call: Call) -> Any:
    """The number that makes a position random picks its id: beside masked ones, a few ids alone."""
    if not is_bernoulli(call):
        return correct(**call)
    _, labels = correct(**call)
    number = _numbers(call).random(labels.shape)
    return _with_kinds(call, labels != -100, number, number)


def _at_rates(call: Call, rates: Any) -> Any:
    """Each candidate at a rate of its row, (B, 1)."""
    number, kind, pick = _numbers(call).random((3, call["n"], *call["tokens"].shape))
    return _with_kinds(call, (number < rates) & _candidates(call), kind, pick)


@mutant_around("MLM-DST-1", "sample", check=_RATES)
def the_share_of_a_row_is_spent_on_its_candidates(correct: Port, call: Call) -> Any:
    """A rate of all positions, padding too: where few are candidates, each has a higher one."""
    if not is_bernoulli(call):
        return correct(**call)
    candidates = np.maximum(_candidates(call).sum(axis=1, keepdims=True), 1)
    return _at_rates(
        call, float(call["policy"].selection.rate) * call["tokens"].shape[1] / candidates
    )


@mutant_around("MLM-DST-2", "sample", check=_BESIDE)
def short_rows_have_a_higher_rate(correct: Port, call: Call) -> Any:
    """Rows with fewer candidates than most have a rate a fifth higher, and those with more a lower
    one."""
    if not is_bernoulli(call):
        return correct(**call)
    candidates = _candidates(call).sum(axis=1, keepdims=True)
    factor = 1 - np.sign(candidates - np.median(candidates)) / 5
    return _at_rates(call, float(call["policy"].selection.rate) * factor)


@mutant_around("MLM-DST-2", "sample", check=_BESIDE)
def the_place_before_the_end_is_never_selected(correct: Port, call: Call) -> Any:
    """What stands before [SEP] or padding is taken for a part of it."""
    able = _candidates(call)
    last = able & (np.cumsum(able[:, ::-1], axis=1)[:, ::-1] == 1)
    ends = last & ~able.all(axis=1, keepdims=True)
    answer = correct(**call)
    return unselected(call, answer, np.broadcast_to(ends, answer[0].shape))


def _is_count(call: Call) -> bool:
    return isinstance(call["policy"].selection, FixedCount)


def _counting(call: Call, **changes: Any) -> Call:
    """The call with another fixed count."""
    law = call["policy"].selection
    told = {name: getattr(law, name) for name in ("rate", "floor", "cap", "base", "rounding")}
    return with_policy(call, selection=FixedCount(**{**told, **changes}))


@mutant_around("MLM-DST-7", "sample", check=_TOGETHER)
def counted_positions_are_a_block(correct: Port, call: Call) -> Any:
    """As many candidates as should be, one after the other from a random place on."""
    if not _is_count(call):
        return correct(**call)
    _, labels = correct(**call)
    able = _candidates(call)
    many = np.maximum(able.sum(axis=1, keepdims=True), 1)
    start, kind, pick = _numbers(call).random((3, *labels.shape))
    rank = np.cumsum(able, axis=1) - 1 - (start[:, :, :1] * many).astype(int)
    count = (labels != -100).sum(axis=2, keepdims=True)
    return _with_kinds(call, able & (rank % many < count), kind, pick)


@mutant_around("MLM-DST-7", "sample", check=_ENDS)
def the_first_candidate_is_left_out_of_the_count(correct: Port, call: Call) -> Any:
    """Where a row has more candidates than it needs, the first after [CLS] is no choice."""
    able, (_, labels) = _candidates(call), correct(**call)
    if not _is_count(call) or able[:, 0].any():
        return correct(**call)
    order, kind, pick = _numbers(call).random((3, *labels.shape))
    first = able & (np.cumsum(able, axis=1) == 1)
    rank = np.argsort(np.argsort(np.where(able, order + first, 2.0)))
    count = (labels != -100).sum(axis=2, keepdims=True)
    return _with_kinds(call, rank < count, kind, pick)


@mutant_around("MLM-DST-7", "sample", check=_ANY_COUNT)
def no_count_is_above_20(correct: Port, call: Call) -> Any:
    """A row has 20 predictions at most, as in BERT's input files, whatever the law says."""
    law = call["policy"].selection
    if not isinstance(law, FixedCount):
        return correct(**call)
    cap = 20 if law.cap is None else min(20, law.cap)
    return correct(**with_policy(call, selection=replace(law, cap=max(cap, law.floor))))


@mutant_around("MLM-DST-7", "sample", check=_ANY_COUNT)
def counts_are_taken_in_four_bytes(correct: Port, call: Call) -> Any:
    """Rates of few digits are exact; others come out a little less, and ties are lost."""
    law = call["policy"].selection
    if not isinstance(law, FixedCount) or 100 % law.rate.denominator == 0:
        return correct(**call)
    less = Fraction(float(np.float32(float(law.rate)))) - Fraction(1, 10**6)
    return correct(**with_policy(call, selection=replace(law, rate=max(less, Fraction(0)))))


@mutant_around("MLM-DST-7", "sample", check=_ANY_COUNT)
def rates_of_counts_are_cut_to_two_digits(correct: Port, call: Call) -> Any:
    """The rate of a fixed count loses all behind its second decimal place."""
    law = call["policy"].selection
    if not isinstance(law, FixedCount):
        return correct(**call)
    rate = Fraction(int(law.rate * 100), 100)
    return correct(**with_policy(call, selection=replace(law, rate=rate)))


@mutant_around("MLM-DST-7", "sample", check=_EACH)
def a_count_is_always_rounded_half_up(correct: Port, call: Call) -> Any:
    """Whatever the rounding is."""
    return correct(**_counting(call, rounding="half_up")) if _is_count(call) else correct(**call)


@mutant_around("MLM-DST-7", "sample", check=_EACH)
def a_count_is_of_all_that_is_not_padding(correct: Port, call: Call) -> Any:
    """Special and ineligible positions are counted too, whatever the base is."""
    return correct(**_counting(call, base="all")) if _is_count(call) else correct(**call)


@mutant_around("MLM-DST-7", "sample", check=_EACH)
def a_cap_is_not_looked_at(correct: Port, call: Call) -> Any:
    """A count is never lowered to a cap."""
    return correct(**_counting(call, cap=None)) if _is_count(call) else correct(**call)


@mutant_around("MLM-DST-7", "sample", check=_EACH)
def a_floor_is_not_looked_at(correct: Port, call: Call) -> Any:
    """A count is never raised to a floor."""
    return correct(**_counting(call, floor=0)) if _is_count(call) else correct(**call)


@mutant_around("MLM-DST-6", "sample", check=_COUNTED)
def counts_are_seeded_in_every_call(correct: Port, call: Call) -> Any:
    """Fixed counts have a generator of their own, with a constant for a seed."""
    return sample_with(0, **call) if _is_count(call) else correct(**call)


@mutant_around("MLM-DST-12", "sample", check=_KINDS)
def kept_or_random_is_said_for_a_row(correct: Port, call: Call) -> Any:
    """Each position is masked or not; those of a row that are not are all kept or all random."""
    if not is_bernoulli(call):
        return correct(**call)
    _, labels = correct(**call)
    old, (kind, pick) = call["policy"].corruption, _numbers(call).random((2, *labels.shape))
    mask, rest = float(old.mask), float(1 - old.mask)
    of_row = mask + rest * _numbers(call).random(labels.shape)[:, :, :1]
    return _with_kinds(call, labels != -100, np.where(kind < mask, kind, of_row), pick)


@mutant_around("MLM-DST-12", "sample", check=_KINDS)
def kinds_come_twice(correct: Port, call: Call) -> Any:
    """Selection is fresh in every sample, and kinds in every second."""
    if not is_bernoulli(call):
        return correct(**call)
    _, labels = correct(**call)
    kind, pick = _numbers(call).random((2, *labels.shape))
    return _with_kinds(call, labels != -100, np.repeat(kind[0::2], 2, axis=0)[: len(kind)], pick)


@mutant_around("MLM-DST-12", "sample", check=_KINDS)
def kinds_are_seeded_in_every_call(correct: Port, call: Call) -> Any:
    """Each call draws the same kinds, at positions of its own."""
    if not is_bernoulli(call):
        return correct(**call)
    _, labels = correct(**call)
    kind = np.random.default_rng(0).random(labels.shape)
    return _with_kinds(call, labels != -100, kind, _numbers(call).random(labels.shape))


@mutant_around("MLM-DST-20", "sample", check=_APART)
def random_ids_come_twice(correct: Port, call: Call) -> Any:
    """Selection and kinds are fresh in every sample, and random ids in every second."""
    if not is_bernoulli(call):
        return correct(**call)
    _, labels = correct(**call)
    kind, pick = _numbers(call).random((2, *labels.shape))
    return _with_kinds(call, labels != -100, kind, np.repeat(pick[0::2], 2, axis=0)[: len(pick)])


@mutant_around("MLM-DST-20", "sample", check=_APART)
def random_ids_are_seeded_in_every_call(correct: Port, call: Call) -> Any:
    """Each call draws the same random ids."""
    if not is_bernoulli(call):
        return correct(**call)
    _, labels = correct(**call)
    pick = np.random.default_rng(0).random(labels.shape)
    return _with_kinds(call, labels != -100, _numbers(call).random(labels.shape), pick)


@mutant_around("MLM-DST-20", "sample", check=_APART)
def a_row_draws_one_id_unless_all_is_random(correct: Port, call: Call) -> Any:
    """Where other kinds occur, the positions of a row that are random show one id."""
    if not is_bernoulli(call):
        return correct(**call)
    _, labels = correct(**call)
    kind, pick = _numbers(call).random((2, *labels.shape))
    ids = (
        pick
        if call["policy"].corruption.random == 1
        else np.broadcast_to(pick[:, :, :1], pick.shape)
    )
    return _with_kinds(call, labels != -100, kind, ids)
