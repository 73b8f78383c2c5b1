"""Chapter DST: maskers whose masks are possible, and have another distribution."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from mlm_conformance.mutants.correct import sample_with, sample_words
from mlm_conformance.mutants.registry import Port, mutant_around
from mlm_conformance.mutants.sampling import is_bernoulli, pool_ids, unselected, with_policy
from mlm_spec import Bernoulli, Corruption, FixedCount, MaskingPolicy

__all__ = [
    "a_count_of_its_own_each_time",
    "a_masker_seeds_itself_in_every_call",
    "all_rows_have_one_mask",
    "all_rows_show_one_kind",
    "columns_are_favoured_in_turns",
    "columns_of_the_first_half_are_favoured",
    "counted_positions_come_from_the_first_half",
    "each_sample_comes_twice",
    "kept_tokens_are_not_counted",
    "neighbours_draw_one_id",
    "neighbours_share_a_decision",
    "neighbours_show_one_kind",
    "one_point_less_is_masked",
    "one_point_more_is_selected",
    "random_ids_by_remainder",
    "random_is_drawn_with_the_wrong_condition",
    "the_eighth_column_shares_with_the_first",
    "the_first_column_is_never_selected",
    "the_last_id_is_never_drawn",
    "the_last_row_is_never_selected",
]

Call = dict[str, Any]
_RATES = "positions_are_selected_at_the_rate"
_PLACES = "every_place_is_selected_alike"
_IDS = "random_ids_are_uniform_on_the_pool"
_NEIGHBOURS = "neighbours_are_independent"
_SAMES = "no_mask_repeats_another"
_CALLS = "no_call_repeats_another"
_COUNTS = "a_fixed_count_is_exact_and_everywhere_alike"
_SHARES = "selected_positions_show_the_three_kinds"
_KINDS = "neighbours_show_kinds_of_their_own"
_APART = "neighbours_draw_ids_of_their_own"
_TF = "https://github.com/huggingface/transformers/pull/21834"
_WORKERS = "https://github.com/huggingface/transformers/pull/36497"


def _places(answer: Any) -> tuple[Any, Any, Any]:
    """Sample, row and column of every entry."""
    count, rows, columns = answer[0].shape
    return np.ogrid[:count, :rows, :columns]  # type: ignore[return-value]


@mutant_around("MLM-DST-1", "sample", check=_RATES)
def one_point_more_is_selected(correct: Port, call: Call) -> Any:
    """The rate is one hundredth higher."""
    if not is_bernoulli(call):
        return correct(**call)
    rate = min(Fraction(1), call["policy"].selection.rate + Fraction(1, 100))
    return correct(**with_policy(call, selection=Bernoulli(rate)))


@mutant_around("MLM-DST-1", "sample", check=_RATES)
def kept_tokens_are_not_counted(correct: Port, call: Call) -> Any:
    """A position that keeps its token is not selected."""
    answer = correct(**call)
    return unselected(call, answer, answer[0] == call["tokens"])


@mutant_around("MLM-DST-2", "sample", check=_PLACES)
def the_first_column_is_never_selected(correct: Port, call: Call) -> Any:
    """Masking begins at the second column."""
    answer = correct(**call)
    _, _, column = _places(answer)
    return unselected(call, answer, np.broadcast_to(column == 0, answer[0].shape))


@mutant_around("MLM-DST-2", "sample", check=_PLACES)
def the_last_row_is_never_selected(correct: Port, call: Call) -> Any:
    """Masking ends before the last row."""
    answer = correct(**call)
    _, row, _ = _places(answer)
    last = row == answer[0].shape[1] - 1
    return unselected(call, answer, np.broadcast_to(last, answer[0].shape))


@mutant_around("MLM-DST-2", "sample", check=_PLACES)
def columns_of_the_first_half_are_favoured(correct: Port, call: Call) -> Any:
    """Half of a row has a higher rate and half a lower one: the mean is right."""
    if not is_bernoulli(call) or call["policy"].selection.rate > Fraction(1, 2):
        return correct(**call)
    rate = call["policy"].selection.rate
    high, low = (
        correct(**with_policy(call, selection=Bernoulli(rate * factor)))
        for factor in (Fraction(3, 2), Fraction(1, 2))
    )
    _, _, column = _places(high)
    first = column < high[0].shape[2] // 2
    return tuple(np.where(first, a, b) for a, b in zip(high, low, strict=True))


@mutant_around("MLM-DST-2", "sample", check=_PLACES)
def columns_are_favoured_in_turns(correct: Port, call: Call) -> Any:
    """In long rows two columns of four have a rate higher by a tenth, and two a lower one."""
    rate = call["policy"].selection.rate if is_bernoulli(call) else Fraction(1)
    if rate > Fraction(9, 10) or call["tokens"].shape[1] <= 16:
        return correct(**call)
    high, low = (
        correct(**with_policy(call, selection=Bernoulli(rate * factor)))
        for factor in (Fraction(11, 10), Fraction(9, 10))
    )
    _, _, column = _places(high)
    return tuple(np.where(column % 4 % 3 == 0, a, b) for a, b in zip(high, low, strict=True))


def _kinds(correct: Port, call: Call, mask: Fraction, random: Fraction) -> Any:
    old = call["policy"].corruption
    if not (old.mask and old.random and old.keep):
        return correct(**call)
    kinds = Corruption(old.mask + mask, old.random + random, old.keep - mask - random)
    return correct(**with_policy(call, corruption=kinds))


@mutant_around("MLM-DST-3", "sample", check=_SHARES)
def one_point_less_is_masked(correct: Port, call: Call) -> Any:
    """One in a hundred selected positions keeps its token that should show the mask id."""
    return _kinds(correct, call, Fraction(-1, 100), Fraction(0))


@mutant_around("MLM-DST-3", "sample", check=_SHARES, url=_TF)
def random_is_drawn_with_the_wrong_condition(correct: Port, call: Call) -> Any:
    """A tenth of what is not masked becomes random, in place of a tenth of all."""
    old = call["policy"].corruption
    right = (1 - old.mask) * old.random
    return _kinds(correct, call, Fraction(0), right - old.random)


def _redrawn(call: Call, answer: Any, change: Any) -> Any:
    """The answer with other random ids: ``change(ids)``, where everything is random."""
    inputs, labels = answer
    if call["policy"].corruption.random != 1:
        return answer
    return np.where(labels == -100, inputs, change(inputs)), labels


@mutant_around("MLM-DST-4", "sample", check=_IDS)
def the_last_id_is_never_drawn(correct: Port, call: Call) -> Any:
    """The upper end of the draw is left out twice."""
    last = call["policy"].vocab_size - 1
    return _redrawn(call, correct(**call), lambda ids: np.where(ids == last, last - 1, ids))


@mutant_around("MLM-DST-4", "sample", check=_IDS)
def random_ids_by_remainder(correct: Port, call: Call) -> Any:
    """Five bits by a remainder: the first four ids of the pool come twice as often."""
    policy: MaskingPolicy = call["policy"]
    size = policy.vocab_size - len(policy.special_ids)
    bits = np.random.default_rng(call["n"]).integers(32, size=(call["n"], *call["tokens"].shape))
    return _redrawn(call, correct(**call), lambda ids: pool_ids(policy, bits % size))


def _joined(call: Call, answer: Any, apart: int) -> Any:
    """Each candidate has the decision of the one so many columns before it, pair by pair."""
    inputs, labels = (array.copy() for array in answer)
    tokens = np.broadcast_to(call["tokens"], inputs.shape)
    able = call["eligible"] & ~np.isin(call["tokens"], call["policy"].special_ids)
    right = [c for c in range(apart, labels.shape[2]) if c // apart % 2]
    left = [c - apart for c in right]
    pairs = able[:, left] & able[:, right]
    before, after = labels[:, :, left] != -100, labels[:, :, right] != -100
    kept = inputs[:, :, left] == tokens[:, :, left]
    alike = np.where(kept, tokens[:, :, right], inputs[:, :, left])
    for where, shown, label in (
        (pairs & before & ~after, alike, tokens[:, :, right]),
        (pairs & ~before & after, tokens[:, :, right], -100),
    ):
        inputs[:, :, right] = np.where(where, shown, inputs[:, :, right])
        labels[:, :, right] = np.where(where, label, labels[:, :, right])
    return inputs, labels


@mutant_around("MLM-DST-5", "sample", check=_NEIGHBOURS)
def neighbours_share_a_decision(correct: Port, call: Call) -> Any:
    """One draw decides two neighbouring positions."""
    return _joined(call, correct(**call), 1) if is_bernoulli(call) else correct(**call)


@mutant_around("MLM-DST-5", "sample", check=_NEIGHBOURS)
def the_eighth_column_shares_with_the_first(correct: Port, call: Call) -> Any:
    """Eight decisions are drawn at once, and used twice."""
    return _joined(call, correct(**call), 8) if is_bernoulli(call) else correct(**call)


@mutant_around("MLM-DST-6", "sample", check=_SAMES, url=_WORKERS)
def each_sample_comes_twice(correct: Port, call: Call) -> Any:
    """Two workers have one seed: every second mask is the one before it."""
    return tuple(np.repeat(array[0::2], 2, axis=0)[: len(array)] for array in correct(**call))


@mutant_around("MLM-DST-6", "sample", check=_SAMES)
def all_rows_have_one_mask(correct: Port, call: Call) -> Any:
    """The mask of the first row is every row's."""
    _, labels = correct(**call)
    chosen = np.broadcast_to(labels[:, :1] != -100, labels.shape) & call["eligible"]
    tokens = np.broadcast_to(call["tokens"], labels.shape)
    shown = np.where(chosen, call["policy"].mask_id, tokens)
    return shown, np.where(chosen, tokens, -100)


@mutant_around("MLM-DST-6", "sample", check=_CALLS)
def a_masker_seeds_itself_in_every_call(correct: Port, call: Call) -> Any:
    """The seed is a constant of the masker, so each call draws the same masks."""
    return sample_with(0, **call)


@mutant_around("MLM-DST-7", "sample", check=_COUNTS)
def a_count_of_its_own_each_time(correct: Port, call: Call) -> Any:
    """A fixed count is a rate: about as many, and seldom exactly."""
    if not isinstance(call["policy"].selection, FixedCount):
        return correct(**call)
    return correct(**with_policy(call, selection=Bernoulli(call["policy"].selection.rate)))


@mutant_around("MLM-DST-7", "sample", check=_COUNTS)
def counted_positions_come_from_the_first_half(correct: Port, call: Call) -> Any:
    """The count is exact, and only the first half of a row is looked at."""
    if not isinstance(call["policy"].selection, FixedCount):
        return correct(**call)
    rate, half = call["policy"].selection.rate, call["tokens"].shape[1] // 2
    able = call["eligible"].copy()
    able[:, half:] = False
    law = type(call["policy"].selection)(min(Fraction(1), 2 * rate))
    return correct(**{**with_policy(call, selection=law), "eligible": able})


def _by_pairs(call: Call) -> Call:
    """The call with columns two by two as words, which kinds are drawn for."""
    columns = np.arange(call["tokens"].shape[1], dtype=np.int32) // 2
    old = call["policy"].corruption
    kinds = Corruption(old.mask, old.random, old.keep, "word")
    words = np.broadcast_to(columns, call["tokens"].shape).copy()
    return {**with_policy(call, corruption=kinds), "word_id": words}


@mutant_around("MLM-DST-12", "sample", check=_KINDS)
def neighbours_show_one_kind(correct: Port, call: Call) -> Any:
    """One draw decides the kind of two neighbouring positions."""
    return sample_words(**_by_pairs(call)) if is_bernoulli(call) else correct(**call)


@mutant_around("MLM-DST-12", "sample", check=_KINDS)
def all_rows_show_one_kind(correct: Port, call: Call) -> Any:
    """Kinds are drawn for one row, and all rows have them."""
    inputs, labels = correct(**call)
    tokens = np.broadcast_to(call["tokens"], inputs.shape)
    masked = np.broadcast_to(inputs[:, :1] == call["policy"].mask_id, inputs.shape)
    shown = np.where(inputs == call["policy"].mask_id, tokens, inputs)
    shown = np.where(masked, call["policy"].mask_id, shown)
    return np.where(labels == -100, inputs, shown), labels


@mutant_around("MLM-DST-20", "sample", check=_APART)
def neighbours_draw_one_id(correct: Port, call: Call) -> Any:
    """One random id is drawn for two neighbouring positions."""
    pairs = np.arange(call["tokens"].shape[1]) // 2 * 2
    return _redrawn(call, correct(**call), lambda ids: ids[:, :, pairs])
