"""Chapter SEL, the laws: backends that select other positions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np

import mlm_spec
from mlm_conformance.mutants.inside import (
    count_law,
    counted,
    covered,
    is_there,
    selected_with,
    streams,
    words_by,
)
from mlm_conformance.mutants.registry import Port, mutant, mutant_around
from mlm_spec import Bernoulli, FixedCount, MaskingPolicy, Span, Stream, masking, selection
from mlm_spec.selection import Source
from mlm_spec.thresholds import below

__all__ = [
    "a_count_leaves_one_as_context",
    "a_count_with_one_more",
    "a_count_without_its_cap",
    "a_count_without_its_floor",
    "a_masker_that_selects_padding",
    "a_masker_that_selects_special_ids",
    "a_rate_of_1_selects_nothing",
    "a_special_first_piece_decides",
    "bernoulli_ends_at_column_512",
    "eligibility_is_not_looked_at",
    "equal_words_go_by_column",
    "halves_go_to_even",
    "halves_go_up",
    "only_candidates_are_counted",
    "only_candidates_start_spans",
    "only_first_pieces_are_selected",
    "padding_is_counted",
    "padding_is_selected",
    "pieces_decide_apart",
    "ranks_are_those_of_the_token_stream",
    "something_is_always_selected",
    "spans_one_too_long",
    "spans_reach_in_from_before_position_0",
    "spans_start_in_the_token_stream",
    "special_ids_are_counted",
    "special_ids_are_selected",
    "the_ceiling_is_rounded",
    "the_first_candidates_are_selected",
    "the_largest_words_are_selected",
    "the_last_piece_decides",
    "the_longest_span_is_never_drawn",
    "the_number_of_the_word_decides",
    "the_rank_stream_selects",
    "the_rate_is_that_of_visible_changes",
    "the_rest_is_selected",
    "the_second_word_selects",
    "the_word_of_the_start_is_that_of_the_length",
    "words_are_decided_in_the_token_stream",
    "words_are_ranked_in_float32",
]

Call = dict[str, Any]
_HF = "https://github.com/huggingface/transformers"
_SMALLEST, _TIES = "the_smallest_words_are_selected", "equal_words_go_to_the_smaller_position"


def _candidates(rule: Callable[[Source, Any], Any], correct: Port, call: Call) -> Any:
    """Masks with another rule for candidates."""
    with patch.multiple(masking, candidates=rule):
        return correct(**call)


@mutant_around("MLM-SEL-1", "mask")
def eligibility_is_not_looked_at(correct: Port, call: Call) -> Any:
    """Whatever is not a special id may be selected."""
    return _candidates(lambda s, p: ~np.isin(s.tokens, p.special_ids), correct, call)


@mutant_around("MLM-SEL-1", "mask", url="https://github.com/AnswerDotAI/ModernBERT/issues/212")
def special_ids_are_selected(correct: Port, call: Call) -> Any:
    """Whatever is eligible may be selected."""
    return _candidates(lambda s, p: s.eligible.copy(), correct, call)


@mutant_around("MLM-SEL-1", "mask", url=f"{_HF}/issues/11155")
def padding_is_selected(correct: Port, call: Call) -> Any:
    """Padding is a candidate too."""
    right = selection.candidates
    return _candidates(lambda s, p: right(s, p) | (s.tokens == p.pad_id), correct, call)


@mutant_around("MLM-SEL-1", "sample", "sample_words", "sample_parallel", url=f"{_HF}/issues/11155")
def a_masker_that_selects_padding(correct: Port, call: Call) -> Any:
    """Padding is a candidate too."""
    right = selection.candidates
    return _candidates(lambda s, p: right(s, p) | (s.tokens == p.pad_id), correct, call)


@mutant_around("MLM-SEL-1", "sample", "sample_words", "sample_parallel", url=f"{_HF}/issues/1307")
def a_masker_that_selects_special_ids(correct: Port, call: Call) -> Any:
    """Every position may be selected."""
    return _candidates(lambda s, p: np.ones_like(s.eligible), correct, call)


@mutant("MLM-SEL-2", "mask")
def the_second_word_selects(**call: Any) -> Any:
    """The selection looks at w1, which also decides the kind."""
    return selected_with(call, random_words=words_by(lambda a, b, c, d: (b, a, c, d)))


@mutant("MLM-SEL-2", "mask")
def the_rank_stream_selects(**call: Any) -> Any:
    """Bernoulli selection looks at stream 2."""
    return selected_with(call, random_words=streams(token=Stream.RANK))


@mutant(
    "MLM-SEL-2",
    "mask",
    url="https://github.com/NVIDIA/NeMo/blob/8cfedd7203/nemo/collections/nlp/data/"
    "language_modeling/lm_bert_dataset.py",
)
def the_rest_is_selected(**call: Any) -> Any:
    """A position is selected where its word is not below the threshold."""
    return selected_with(call, below=lambda words, p: ~below(words, p))


@mutant("MLM-SEL-2", "mask")
def the_rate_is_that_of_visible_changes(**call: Any) -> Any:
    """The rate is multiplied by the weight of the mask id."""
    policy = call["policy"]
    share = policy.corruption.mask if isinstance(policy, MaskingPolicy) else 1
    return selected_with(call, below=lambda words, p: below(words, p * share))


@mutant_around("MLM-SEL-3", "mask")
def something_is_always_selected(correct: Port, call: Call) -> Any:
    """A row with nothing selected gets its first candidate."""
    batch, policy = correct(**call), call["policy"]
    candidate = call["eligible"] & ~np.isin(call["tokens"], policy.special_ids)
    for row in np.flatnonzero(~batch.selected.any(axis=1) & candidate.any(axis=1)):
        batch.selected[row, candidate[row].argmax()] = True
    return batch


@mutant("MLM-SEL-3", "mask")
def a_rate_of_1_selects_nothing(**call: Any) -> Any:
    """The threshold 2³² is stored in 32 bits, as 0."""
    return selected_with(
        call, below=lambda words, p: words < np.uint32(mlm_spec.threshold(p) % 2**32)
    )


@mutant("MLM-SEL-3", "mask")
def a_count_leaves_one_as_context(**call: Any) -> Any:
    """A fixed count never takes the last candidate."""
    right = selection.fixed_count
    return selected_with(call, fixed_count=lambda law, n, a: min(right(law, n, a), max(a - 1, 0)))


def _counts(call: Call, change: Callable[[FixedCount], FixedCount]) -> Any:
    """The reference's masks, where fixed counts follow another law."""
    right = selection.fixed_count
    return selected_with(call, fixed_count=lambda law, n, a: right(change(law), n, a))


@mutant("MLM-SEL-4", "mask")
def halves_go_to_even(**call: Any) -> Any:
    """Half up is rounded as Python 3 rounds."""
    other = {"half_up": "half_even"}
    return _counts(call, lambda law: count_law(law, rounding=other.get(law.rounding, law.rounding)))


@mutant("MLM-SEL-4", "mask")
def halves_go_up(**call: Any) -> Any:
    """Half even is rounded as Python 2 rounds."""
    other = {"half_even": "half_up"}
    return _counts(call, lambda law: count_law(law, rounding=other.get(law.rounding, law.rounding)))


@mutant("MLM-SEL-4", "mask")
def the_ceiling_is_rounded(**call: Any) -> Any:
    """A count that is to be rounded up goes to the nearest integer."""
    other = {"ceiling": "half_up"}
    return _counts(call, lambda law: count_law(law, rounding=other.get(law.rounding, law.rounding)))


@mutant("MLM-SEL-4", "mask")
def a_count_without_its_floor(**call: Any) -> Any:
    """The floor is not looked at."""
    return _counts(call, lambda law: count_law(law, floor=0))


@mutant("MLM-SEL-4", "mask")
def a_count_without_its_cap(**call: Any) -> Any:
    """The cap is not looked at."""
    return _counts(call, lambda law: count_law(law, cap=None))


@mutant("MLM-SEL-4", "mask")
def a_count_with_one_more(**call: Any) -> Any:
    """One position more than the count is selected."""
    right = selection.fixed_count
    return selected_with(call, fixed_count=lambda law, n, a: min(right(law, n, a) + 1, a))


@mutant("MLM-SEL-4", "mask")
def special_ids_are_counted(**call: Any) -> Any:
    """The share is taken of all positions where the policy says eligible."""
    return counted(call, base="all")


@mutant("MLM-SEL-4", "mask")
def only_candidates_are_counted(**call: Any) -> Any:
    """The share is taken of the candidates where the policy says all."""
    return counted(call, base="eligible")


@mutant("MLM-SEL-4", "mask")
def padding_is_counted(**call: Any) -> Any:
    """The share of all positions is also taken of padding."""
    return counted(call, pad_is_known=False)


@mutant("MLM-SEL-5", "mask", check=_SMALLEST)
def the_largest_words_are_selected(**call: Any) -> Any:
    """Ranks are counted from the largest word."""
    return selected_with(call, random_words=words_by(lambda a, b, c, d: (~a, b, c, d)))


@mutant("MLM-SEL-5", "mask", check=_SMALLEST)
def the_first_candidates_are_selected(**call: Any) -> Any:
    """The count is right, and nothing is random."""

    def words(seed: int, epoch: int, sequence: Any, position: Any, stream: Stream) -> Any:
        return position, position, position, position

    return selected_with(call, random_words=words)


@mutant("MLM-SEL-5", "mask", check=_SMALLEST)
def ranks_are_those_of_the_token_stream(**call: Any) -> Any:
    """Ranks are taken from stream 0."""
    return selected_with(call, random_words=streams(rank=Stream.TOKEN))


@mutant("MLM-SEL-5", "mask", check=_TIES)
def equal_words_go_by_column(**call: Any) -> Any:
    """Equal words are left in the order of columns, as a stable sort leaves them."""
    right = selection._grouped
    return selected_with(
        call, _grouped=lambda source, keys, keys_in_group=0: right(source, keys[:2], keys_in_group)
    )


@mutant("MLM-SEL-5", "mask", check=_TIES)
def words_are_ranked_in_float32(**call: Any) -> Any:
    """Words are turned into floats in 0 … 1 before they are sorted, and many become equal."""
    right = selection._grouped

    def grouped(source: Any, keys: Any, keys_in_group: int = 0) -> Any:
        other, word, position = keys
        return right(source, (other, (word / 2**32).astype(np.float32), ~position), keys_in_group)

    return selected_with(call, _grouped=grouped)


def _anchor(call: Call, anchor: Callable[[Source, Any], Any]) -> Any:
    """The reference's masks, with another deciding position for words."""
    return selected_with(call, word_anchor=anchor)


@mutant("MLM-SEL-6", "mask", url=f"{_HF}/issues/11768")
def pieces_decide_apart(**call: Any) -> Any:
    """Each piece of a word is selected on its own."""
    return _anchor(call, lambda source, candidate: source.position)


@mutant("MLM-SEL-6", "mask")
def only_first_pieces_are_selected(**call: Any) -> Any:
    """Of a selected word, only the deciding piece is selected."""
    right = selection.select_positions

    def select(source: Source, candidate: Any, policy: Any, *key: int) -> Any:
        if source.word_id is None:
            return right(source, candidate, policy, *key)
        first = selection.word_anchor(source, candidate) == source.position
        return right(source, candidate, policy, *key) & first

    with patch.multiple(masking, select_positions=select):
        return mlm_spec.mask(**call)


@mutant("MLM-SEL-7", "mask")
def a_special_first_piece_decides(**call: Any) -> Any:
    """The word's smallest position decides, be it a candidate or not."""
    right = selection.word_anchor
    return _anchor(call, lambda source, candidate: right(source, np.ones_like(candidate)))


@mutant("MLM-SEL-7", "mask")
def the_last_piece_decides(**call: Any) -> Any:
    """The word's largest candidate position decides."""
    right = selection.word_anchor
    return _anchor(call, lambda source, c: ~right(replace(source, position=~source.position), c))


def _words(source: Source) -> Any:
    assert source.word_id is not None
    return source.word_id.astype(np.uint32)


@mutant("MLM-SEL-7", "mask")
def the_number_of_the_word_decides(**call: Any) -> Any:
    """The word id is taken for a position."""
    return _anchor(call, lambda source, candidate: _words(source))


@mutant("MLM-SEL-7", "mask")
def words_are_decided_in_the_token_stream(**call: Any) -> Any:
    """The decision for a word is taken from stream 0."""
    return selected_with(call, random_words=streams(rank=Stream.TOKEN))


def _spans(call: Call, change: Callable[[Span], Span]) -> Any:
    """The reference's masks, with another law of spans."""
    right = selection.span_anchor
    return selected_with(
        call, span_anchor=lambda source, law, *key: right(source, change(law), *key)
    )


@mutant("MLM-SEL-8", "mask")
def spans_one_too_long(**call: Any) -> Any:
    """A span's length is 2 plus the number of thresholds that its word reaches."""
    return _spans(call, lambda law: Span(law.start, (0, *law.lengths)))


@mutant("MLM-SEL-8", "mask")
def the_longest_span_is_never_drawn(**call: Any) -> Any:
    """The last threshold is left out, so the longest length goes to the one before."""

    def shorter(law: Span) -> Span:
        *rest, last = law.lengths
        return Span(law.start, (*rest[:-1], rest[-1] + last)) if rest else law

    return _spans(call, shorter)


@mutant("MLM-SEL-8", "mask")
def spans_start_in_the_token_stream(**call: Any) -> Any:
    """Starts and lengths are drawn from stream 0."""
    return selected_with(call, random_words=streams(span=Stream.TOKEN))


@mutant("MLM-SEL-8", "mask")
def the_word_of_the_start_is_that_of_the_length(**call: Any) -> Any:
    """A span's length is drawn from w0, which has just been small."""
    return selected_with(call, random_words=words_by(lambda a, b, c, d: (a, a, c, d)))


@mutant("MLM-SEL-8", "mask")
def spans_reach_in_from_before_position_0(**call: Any) -> Any:
    """Positions below 0 wrap around and start spans too."""

    def anchor(source: Source, law: Span, *key: int) -> Any:
        return covered(source, law, *key, may_start=lambda start: True)

    return selected_with(call, span_anchor=anchor)


@mutant("MLM-SEL-8", "mask")
def only_candidates_start_spans(**call: Any) -> Any:
    """No span starts at an ineligible or special position."""
    special = getattr(call["policy"], "special_ids", ())

    def anchor(source: Source, law: Span, *key: int) -> Any:
        able = source.eligible & ~np.isin(source.tokens, special)
        return covered(source, law, *key, may_start=lambda start: is_there(source, able, start))

    return selected_with(call, span_anchor=anchor)


@mutant_around("MLM-SEL-2", "mask")
def bernoulli_ends_at_column_512(correct: Port, call: Call) -> Any:
    """Under a Bernoulli law nothing is selected from column 512 on."""
    if not isinstance(call["policy"].selection, Bernoulli):
        return correct(**call)
    eligible = call["eligible"].copy()
    eligible[:, 512:] = False
    return correct(**{**call, "eligible": eligible})
