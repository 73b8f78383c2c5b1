"""Chapters OBJ to COR: words and masks that are wrong where one requirement alone looks."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any
from unittest.mock import patch

import numpy as np

from mlm_conformance.mutants.inside import covered
from mlm_conformance.mutants.registry import Port, mutant_around, mutant_with_state
from mlm_spec import (
    Bernoulli,
    Corruption,
    FixedCount,
    Span,
    WholeWord,
    masking,
    selection,
    split_words,
)

__all__ = [
    "a_batch_is_known_by_its_sorted_rows",
    "a_count_of_random_ids_draws_special_ones",
    "a_count_that_keeps_nothing_masks_the_upper_words",
    "a_rate_of_0_for_words_is_the_usual_one",
    "a_row_padded_on_the_left_is_cut_at_its_length",
    "a_row_shorter_than_a_span_has_none",
    "a_sequence_id_of_0_is_the_number_of_the_row",
    "a_share_of_0_for_random_ids_is_a_tenth",
    "a_tile_of_blocks_has_one_key",
    "equal_ranks_go_to_the_larger_position",
    "many_special_ids_are_not_looked_at",
    "nothing_to_change_is_nothing_selected",
    "rows_that_are_numbered_have_no_epoch",
    "single_tokens_end_at_column_512_below_rate_1",
    "spans_by_token_reach_in_from_before_position_0",
    "the_second_of_two_behind_padding_is_left_alone",
    "words_by_token_end_at_column_512",
]

Call = dict[str, Any]


@mutant_around("MLM-RNG-1", "random_words", check="words_are_threefry")
def a_tile_of_blocks_has_one_key(correct: Port, call: Call) -> Any:
    """Blocks are computed sixteen at a time, and all but the first tile by the key of block 0."""
    key = call["key"].copy()
    key[16:] = key[:1]
    return correct(**{**call, "key": key})


@mutant_around("MLM-OBJ-4", "mask")
def nothing_to_change_is_nothing_selected(correct: Port, call: Call) -> Any:
    """A policy that selects every candidate and keeps its token is taken for none at all."""
    policy, batch = call["policy"], correct(**call)
    idle = policy.corruption.keep == 1 and getattr(policy.selection, "rate", 0) == 1
    return batch._replace(selected=batch.selected & (not idle))


@mutant_around("MLM-RNG-2", "mask")
def rows_that_are_numbered_have_no_epoch(correct: Port, call: Call) -> Any:
    """Ids that count the rows are taken for ids that go on in every epoch, which is left out."""
    rows = np.arange(len(call["tokens"]), dtype=np.uint64)[:, None]
    numbered = (split_words(rows) == call["sequence_id"]).all()
    return correct(**{**call, "epoch": 0}) if numbered else correct(**call)


@mutant_around("MLM-RNG-3", "mask")
def a_sequence_id_of_0_is_the_number_of_the_row(correct: Port, call: Call) -> Any:
    """A sequence whose id is 0 is taken for one without, and numbered by its row."""
    ids = call["sequence_id"].copy()
    rows = np.broadcast_to(np.arange(len(ids), dtype=np.uint32)[:, None], ids.shape[:2])
    ids[..., 0] = np.where((ids == 0).all(axis=-1), rows, ids[..., 0])
    return correct(**{**call, "sequence_id": ids})


@mutant_around("MLM-SEL-1", "mask")
def many_special_ids_are_not_looked_at(correct: Port, call: Call) -> Any:
    """Of more than 64 special ids, the others are candidates like any token."""
    right = selection.candidates

    def rule(source: Any, policy: Any) -> Any:
        return right(source, replace(policy, special_ids=policy.special_ids[:64], pad_id=None))

    with patch.multiple(masking, candidates=rule):
        return correct(**call)


def _up_to_column_512(correct: Port, call: Call) -> Any:
    """The right masks of the first 512 columns, and nothing selected beyond."""
    eligible = call["eligible"].copy()
    eligible[:, 512:] = False
    return correct(**{**call, "eligible": eligible})


@mutant_around("MLM-SEL-2", "mask")
def single_tokens_end_at_column_512_below_rate_1(correct: Port, call: Call) -> Any:
    """Below rate 1, with kinds by token, a Bernoulli law has words for 512 columns only."""
    law, unit = call["policy"].selection, call["policy"].corruption.unit
    wrong = isinstance(law, Bernoulli) and law.rate < 1 and unit == "token"
    return _up_to_column_512(correct, call) if wrong else correct(**call)


@mutant_around("MLM-SEL-3", "mask")
def a_rate_of_0_for_words_is_the_usual_one(correct: Port, call: Call) -> Any:
    """A rate of 0 for whole words is taken for none given, and is 15 %."""
    law = call["policy"].selection
    if not isinstance(law, WholeWord) or law.rate:
        return correct(**call)
    return correct(**{**call, "policy": replace(call["policy"], selection=WholeWord("3/20"))})


@mutant_around("MLM-SEL-5", "mask", check="equal_words_go_to_the_smaller_position")
def equal_ranks_go_to_the_larger_position(correct: Port, call: Call) -> Any:
    """Of two equal words the one at the larger position comes first."""
    grouped = selection._grouped

    def backwards(source: Any, keys: Any, keys_in_group: int = 0) -> Any:
        if keys_in_group:  # words, which are no ranks
            return grouped(source, keys, keys_in_group)
        return grouped(source, (*keys[:-1], ~keys[-1]))

    with patch.multiple(selection, _grouped=backwards):
        return correct(**call)


@mutant_around("MLM-SEL-7", "mask")
def words_by_token_end_at_column_512(correct: Port, call: Call) -> Any:
    """Whole words whose pieces show kinds of their own end at column 512."""
    policy = call["policy"]
    wrong = isinstance(policy.selection, WholeWord) and policy.corruption.unit == "token"
    return _up_to_column_512(correct, call) if wrong else correct(**call)


@mutant_around("MLM-SEL-8", "mask")
def spans_by_token_reach_in_from_before_position_0(correct: Port, call: Call) -> Any:
    """Where no kind is decided at a start, positions below 0 wrap around and start spans too."""
    if call["policy"].corruption.unit == "span":
        return correct(**call)

    def anchor(source: Any, law: Span, *key: int) -> Any:
        return covered(source, law, *key, may_start=lambda start: True)

    with patch.multiple(selection, span_anchor=anchor):
        return correct(**call)


@mutant_with_state("MLM-SEL-9", "mask", check="masks_do_not_depend_on_batch_order_or_size")
def a_batch_is_known_by_its_sorted_rows(correct: Port) -> Port:
    """Masks are kept by the sorted rows of a batch, and given again in their first order."""
    known: dict[Any, Any] = {}

    def port(**call: Any) -> Any:
        arrays = [v for v in call.values() if isinstance(v, np.ndarray)]
        rows = sorted(tuple(a[row].tobytes() for a in arrays) for row in range(len(arrays[0])))
        rest = [v for v in call.values() if not isinstance(v, np.ndarray)]
        kind = (call["tokens"].shape, call["tokens"].dtype.name)
        return known.setdefault((*rest, kind, tuple(rows)), correct(**call))

    return port


def _is_padding(call: Call) -> Any:
    """Where the padding id stands; nowhere if there is none."""
    pad = call["policy"].pad_id
    return np.zeros(call["tokens"].shape, np.bool_) if pad is None else call["tokens"] == pad


@mutant_around("MLM-SEL-10", "mask")
def a_row_padded_on_the_left_is_cut_at_its_length(correct: Port, call: Call) -> Any:
    """But for a count, a row that begins with two pads is masked as if they were at its end."""
    pad, columns = _is_padding(call), np.arange(call["tokens"].shape[1])
    if isinstance(call["policy"].selection, FixedCount):
        return correct(**call)
    left = pad[:, :2].all(axis=1, keepdims=True)
    beyond = left & (columns >= (~pad).sum(axis=1, keepdims=True))
    return correct(**{**call, "eligible": call["eligible"] & ~beyond})


@mutant_around("MLM-SEL-11", "mask")
def the_second_of_two_behind_padding_is_left_alone(correct: Port, call: Call) -> Any:
    """Of two sequences in a row, one that begins behind two pads of the other is padding too."""
    pad, eligible = _is_padding(call), call["eligible"].copy()
    for row, ids in enumerate(call["sequence_id"].tolist()):
        names = list(map(tuple, ids))
        here = {name for name, padded in zip(names, pad[row], strict=True) if not padded}
        if len(here) == 2:
            second = next(column for column, name in enumerate(names) if name in here - {names[0]})
            if pad[row, max(second - 2, 0) : second].all():
                eligible[row] &= [name != names[second] for name in names]
    return correct(**{**call, "eligible": eligible})


@mutant_around("MLM-SEL-12", "mask")
def a_row_shorter_than_a_span_has_none(correct: Port, call: Call) -> Any:
    """Where a row has fewer tokens than the longest span, no span is drawn in it."""
    law = call["policy"].selection
    if not isinstance(law, Span):
        return correct(**call)
    short = (~_is_padding(call)).sum(axis=1, keepdims=True) < len(law.lengths)
    return correct(**{**call, "eligible": call["eligible"] & ~short})


@mutant_around("MLM-COR-3", "mask")
def a_count_that_keeps_nothing_masks_the_upper_words(correct: Port, call: Call) -> Any:
    """Of a fixed count of which nothing is kept, words below the share of random ids are random."""
    policy, batch = call["policy"], correct(**call)
    shares = policy.corruption
    if not isinstance(policy.selection, FixedCount) or shares.keep or not shares.mask:
        return batch
    other = replace(policy, corruption=Corruption(shares.random, shares.mask, 0, shares.unit))
    ids = correct(**{**call, "policy": replace(policy, corruption=Corruption(0, 1, 0))}).inputs
    below = correct(**{**call, "policy": other}).inputs == policy.mask_id
    shown = np.where(below, ids, policy.mask_id).astype(ids.dtype)
    return batch._replace(inputs=np.where(batch.selected, shown, batch.inputs))


@mutant_around("MLM-COR-4", "mask", check="a_kind_of_weight_0_is_never_shown")
def a_share_of_0_for_random_ids_is_a_tenth(correct: Port, call: Call) -> Any:
    """Of kinds by token, a share of 0 for random ids beside two others is taken for none given."""
    old = call["policy"].corruption
    if old.unit != "token" or old.random or not old.mask or not old.keep:
        return correct(**call)
    tenth = min(Fraction(1, 10), old.keep)
    shares = Corruption(old.mask, tenth, old.keep - tenth)
    return correct(**{**call, "policy": replace(call["policy"], corruption=shares)})


@mutant_around("MLM-COR-5", "mask", check="random_ids_lie_in_the_pool")
def a_count_of_random_ids_draws_special_ones(correct: Port, call: Call) -> Any:
    """A fixed count that shows random ids and nothing else draws them from the whole vocabulary."""
    policy = call["policy"]
    if not isinstance(policy.selection, FixedCount) or policy.corruption.random != 1:
        return correct(**call)
    return correct(**{**call, "policy": replace(policy, pool="all")})
