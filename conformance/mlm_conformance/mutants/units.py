"""Maskers for which what shares a kind depends on the law, and lists that are too short."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from mlm_conformance.mutants.in_place import taken
from mlm_conformance.mutants.inside import masked_from, shown_with
from mlm_conformance.mutants.registry import Port, mutant, mutant_around
from mlm_spec import Bernoulli, Span, WholeWord, corruption, selection

__all__ = [
    "a_step_knows_words_by_their_law_alone",
    "ineligible_pieces_lose_their_word",
    "places_of_no_span_are_moved",
    "rows_beyond_256_begin_again",
    "spans_know_no_words",
    "special_ids_beyond_32_are_candidates",
    "the_first_selected_piece_decides_the_kind",
]

Call = dict[str, Any]


def _by_token(call: Call) -> Call:
    shares = replace(call["policy"].corruption, unit="token")
    return {**call, "policy": replace(call["policy"], corruption=shares)}


@mutant("MLM-COR-7", "mask")
def the_first_selected_piece_decides_the_kind(**call: Any) -> Any:
    """The kind of a word is decided at the first of its pieces that is selected."""
    right = corruption._deciding_position

    def deciding(source: Any, candidate: Any, policy: Any, *key: int) -> Any:
        if policy.corruption.unit == "word":
            candidate = selection.select_positions(source, candidate, policy, *key)
        return right(source, candidate, policy, *key)

    return shown_with(call, _deciding_position=deciding)


@mutant_around("MLM-COR-7", "mask")
def spans_know_no_words(correct: Port, call: Call) -> Any:
    """Under the span law the pieces of a word have kinds of their own."""
    policy = call["policy"]
    spans = isinstance(policy.selection, Span) and policy.corruption.unit == "word"
    return correct(**(_by_token(call) if spans else call))


@mutant_around("MLM-ERR-12", "mask_step", check="a_good_mask_step_has_its_effect")
def a_step_knows_words_by_their_law_alone(correct: Port, call: Call) -> Any:
    """A step decides the kind of a word as one where words are selected, and nowhere else."""
    policy = call["policy"]
    words = isinstance(policy.selection, WholeWord) or policy.corruption.unit != "word"
    return correct(**(call if words else _by_token(call)))


@mutant_around("MLM-COR-9", "mask")
def ineligible_pieces_lose_their_word(correct: Port, call: Call) -> Any:
    """Where words share kinds and tokens are selected, ineligible ones are taken out in place."""
    batch, policy = correct(**call), call["policy"]
    if isinstance(policy.selection, Bernoulli) and policy.corruption.unit == "word":
        taken(call["word_id"])[~call["eligible"]] = -1
    return batch


@mutant_around("MLM-COR-9", "mask")
def places_of_no_span_are_moved(correct: Port, call: Call) -> Any:
    """Where spans share kinds, positions that are not eligible are set to 0 in place."""
    batch = correct(**call)
    if call["policy"].corruption.unit == "span":
        taken(call["position"])[~call["eligible"]] = 0
    return batch


@mutant_around("MLM-SEL-1", "mask", check="only_candidates_are_selected")
def special_ids_beyond_32_are_candidates(correct: Port, call: Call) -> Any:
    """The table of special ids has room for 32."""

    def change(source: Any, policy: Any, *key: int) -> Any:
        return source, replace(policy, special_ids=policy.special_ids[:32], pad_id=None), *key

    return masked_from(correct, call, change)


@mutant_around("MLM-SEL-9", "mask", check="rows_of_any_batch_may_come_in_any_order", profile="ci")
def rows_beyond_256_begin_again(correct: Port, call: Call) -> Any:
    """The number of a row has eight bits, and row 256 has the sequence of row 0."""
    ids = call["sequence_id"]
    return correct(**{**call, "sequence_id": ids[np.arange(len(ids)) % 256]})
