"""Chapter COR: backends that show something else at selected positions, or at others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np

import mlm_spec
from mlm_conformance.mutants.in_place import taken
from mlm_conformance.mutants.inside import masked_from, shown_with, words_by
from mlm_conformance.mutants.registry import Port, mutant, mutant_around
from mlm_spec import (
    Corruption,
    MaskingPolicy,
    Span,
    Stream,
    corruption,
    masking,
    random_words,
    selection,
)
from mlm_spec.selection import Source
from mlm_spec.thresholds import below

__all__ = [
    "a_listed_pool_is_not_looked_at",
    "a_masker_that_corrupts_neighbours",
    "a_masker_that_draws_random_ids_anyway",
    "a_masker_that_draws_special_ids",
    "a_masker_whose_labels_are_its_inputs",
    "a_pool_of_one_is_not_drawn_from",
    "a_sample_is_left_in_the_tokens",
    "a_span_has_kinds_by_token",
    "a_special_first_piece_decides_the_kind",
    "a_tenth_is_masked_anyway",
    "an_id_past_the_last_is_drawn",
    "eligibility_is_used_up",
    "evaluation_sees_the_tokens",
    "nothing_is_kept",
    "originals_below_the_first_threshold",
    "padding_is_corrupted",
    "pieces_have_kinds_of_their_own",
    "pieces_of_a_word_show_one_random_id",
    "random_and_keep_are_swapped",
    "random_ids_are_never_shown",
    "random_ids_hit_other_positions",
    "special_ids_are_drawn",
    "targets_are_always_int64",
    "targets_are_labels",
    "targets_are_the_inputs",
    "the_earliest_start_decides",
    "the_kind_comes_from_the_span_stream",
    "the_mask_id_is_never_shown",
    "the_mask_id_overwrites_random_ids",
    "the_original_is_never_drawn",
    "the_second_draw_has_the_wrong_condition",
    "the_word_of_the_id_decides_the_kind",
    "the_word_of_the_selection_decides_the_kind",
    "tokens_are_masked_in_place",
]

Call = dict[str, Any]
_HF = "https://github.com/huggingface/transformers"
_WEIGHT_1, _WEIGHT_0 = "mask_weight_1_shows_the_mask_id", "a_kind_of_weight_0_is_never_shown"


@mutant_around("MLM-COR-1", "mask", url="https://github.com/AnswerDotAI/ModernBERT/issues/212")
def padding_is_corrupted(correct: Port, call: Call) -> Any:
    """Positions that are not eligible show the mask id, and are not selected."""
    batch = correct(**call)
    shown = np.where(call["eligible"], batch.inputs, call["policy"].mask_id)
    return batch._replace(inputs=shown.astype(batch.inputs.dtype))


@mutant_around("MLM-COR-1", "mask")
def random_ids_hit_other_positions(correct: Port, call: Call) -> Any:
    """Random ids are placed by a draw of their own, which does not look at the selection."""
    batch = correct(**call)
    w0, _, w2, _ = random_words(0, 0, call["sequence_id"], call["position"], Stream.DROPOUT)
    drawn = (w2 % np.uint32(call["policy"].vocab_size)).astype(batch.inputs.dtype)
    return batch._replace(inputs=np.where(w0 % 10 == 0, drawn, batch.inputs))


@mutant_around("MLM-COR-1", "sample", "sample_words", "sample_parallel")
def a_masker_that_corrupts_neighbours(correct: Port, call: Call) -> Any:
    """The position after a selected one is masked too, without a label."""
    inputs, labels = correct(**call)
    near = np.roll(labels != -100, 1, axis=-1) & (labels == -100)
    return np.where(near, call["policy"].mask_id, inputs), labels


@mutant_around("MLM-COR-2", "mask", url=f"{_HF}/issues/8619")
def targets_are_the_inputs(correct: Port, call: Call) -> Any:
    """Targets and inputs are one array, and it holds the corrupted tokens."""
    batch = correct(**call)
    return batch._replace(targets=batch.inputs)


@mutant_around("MLM-COR-2", "mask")
def targets_are_labels(correct: Port, call: Call) -> Any:
    """The targets are −100 where nothing is selected."""
    batch = correct(**call)
    return batch._replace(targets=np.where(batch.selected, batch.targets, -100))


@mutant_around("MLM-COR-2", "mask")
def targets_are_always_int64(correct: Port, call: Call) -> Any:
    """The targets of int32 tokens are int64."""
    batch = correct(**call)
    return batch._replace(targets=batch.targets.astype(np.int64))


@mutant_around("MLM-COR-2", "sample", "sample_words", "sample_parallel", url=f"{_HF}/issues/8619")
def a_masker_whose_labels_are_its_inputs(correct: Port, call: Call) -> Any:
    """The labels are taken from the tokens after they were corrupted."""
    inputs, labels = correct(**call)
    return inputs, np.where(labels == -100, -100, inputs)


def _policy(correct: Port, call: Call, changes: Callable[[MaskingPolicy], dict[str, Any]]) -> Any:
    """Masks by another policy, once the call has been checked."""
    return masked_from(
        correct,
        call,
        lambda source, policy, *key: (source, replace(policy, **changes(policy)), *key),
    )


def _weights(correct: Port, call: Call, change: Callable[[Corruption], tuple[Any, ...]]) -> Any:
    """Masks by a policy with other weights: mask, random and keep."""

    def other(old: Corruption) -> Corruption:
        mask, random, keep = change(old)
        return Corruption(mask, random, keep, unit=old.unit)

    return _policy(correct, call, lambda policy: {"corruption": other(policy.corruption)})


def _by_token(correct: Port, call: Call) -> Any:
    """Masks by a policy whose unit is the token."""

    def other(old: Corruption) -> Corruption:
        return Corruption(old.mask, old.random, old.keep)

    return _policy(correct, call, lambda policy: {"corruption": other(policy.corruption)})


@mutant_around("MLM-COR-3", "mask", url=f"{_HF}/pull/21834")
def the_second_draw_has_the_wrong_condition(correct: Port, call: Call) -> Any:
    """80/10/10 is 80/2/18: the weight of random ids is taken of what the mask left over."""
    return _weights(
        correct,
        call,
        lambda w: (w.mask, w.random * (1 - w.mask), 1 - w.mask - w.random * (1 - w.mask)),
    )


@mutant_around("MLM-COR-3", "mask")
def the_mask_id_overwrites_random_ids(correct: Port, call: Call) -> Any:
    """Random ids are placed first and the mask id over them, so only it and originals show."""
    return _weights(correct, call, lambda w: (w.mask, 0, w.random + w.keep))


@mutant_around("MLM-COR-3", "mask")
def random_and_keep_are_swapped(correct: Port, call: Call) -> Any:
    """The weight of random ids is taken for that of originals, and the other way round."""
    return _weights(correct, call, lambda w: (w.mask, w.keep, w.random))


@mutant("MLM-COR-3", "mask")
def the_word_of_the_selection_decides_the_kind(**call: Any) -> Any:
    """The kind is read from w0, which is small wherever something is selected."""
    return shown_with(call, random_words=words_by(lambda a, b, c, d: (a, a, c, d)))


@mutant("MLM-COR-3", "mask")
def the_word_of_the_id_decides_the_kind(**call: Any) -> Any:
    """The kind is read from w2, which also draws the random id."""
    return shown_with(call, random_words=words_by(lambda a, b, c, d: (a, c, c, d)))


@mutant("MLM-COR-3", "mask")
def originals_below_the_first_threshold(**call: Any) -> Any:
    """The three kinds are laid out from the other end of the words."""
    return shown_with(call, below=lambda words, p: below(~words, p))


@mutant_around("MLM-COR-4", "mask", check=_WEIGHT_1)
def the_mask_id_is_never_shown(correct: Port, call: Call) -> Any:
    """A position that should show the mask id keeps its token."""
    return _weights(correct, call, lambda w: (0, w.random, w.mask + w.keep))


@mutant_around("MLM-COR-4", "mask", check=_WEIGHT_0)
def nothing_is_kept(correct: Port, call: Call) -> Any:
    """A position that should keep its token shows a random id."""
    return _weights(correct, call, lambda w: (w.mask, w.random + w.keep, 0))


@mutant_around(
    "MLM-COR-4",
    "mask",
    check=_WEIGHT_0,
    url="https://github.com/facebookresearch/fairseq/pull/758",
)
def random_ids_are_never_shown(correct: Port, call: Call) -> Any:
    """A position that should show a random id keeps its token."""
    return _weights(correct, call, lambda w: (w.mask, 0, w.random + w.keep))


@mutant_around("MLM-COR-4", "mask", check=_WEIGHT_0)
def a_tenth_is_masked_anyway(correct: Port, call: Call) -> Any:
    """Some of the positions that should not show the mask id do."""
    return _weights(
        correct,
        call,
        lambda w: ((w.mask * 9 + 1) / 10, w.random * 9 / 10, w.keep * 9 / 10),
    )


@mutant_around("MLM-COR-4", "sample", "sample_words", "sample_parallel")
def a_masker_that_draws_random_ids_anyway(correct: Port, call: Call) -> Any:
    """A position that should keep its token shows a random id, and some masked ones do."""
    return _weights(
        correct,
        call,
        lambda w: (w.mask * 9 / 10, w.mask / 10 + w.random + w.keep, 0),
    )


@mutant_around("MLM-COR-5", "mask", url=f"{_HF}/issues/15342")
def special_ids_are_drawn(correct: Port, call: Call) -> Any:
    """Random ids come from the whole vocabulary, whatever the policy says."""
    return _policy(correct, call, lambda policy: {"pool": "all"})


@mutant("MLM-COR-5", "mask")
def an_id_past_the_last_is_drawn(**call: Any) -> Any:
    """The id V can be drawn, since the draw includes its upper end."""
    right = corruption.pool_ids

    def ids(policy: MaskingPolicy, index: Any) -> Any:
        known = right(policy, np.minimum(index, np.uint32(policy.pool_size - 1)))
        return np.where(index == policy.pool_size, policy.vocab_size, known)

    return shown_with(call, pool_ids=ids, pool_index=lambda w2, w3, size: w2 % np.uint32(size + 1))


@mutant_around("MLM-COR-5", "sample", "sample_words", "sample_parallel", url=f"{_HF}/issues/15342")
def a_masker_that_draws_special_ids(correct: Port, call: Call) -> Any:
    """Random ids come from the whole vocabulary."""
    return _policy(correct, call, lambda policy: {"pool": "all"})


@mutant_around("MLM-COR-6", "mask")
def the_original_is_never_drawn(correct: Port, call: Call) -> Any:
    """A random id that equals the original is replaced by the next id."""
    batch, policy = correct(**call), call["policy"]
    again = batch.selected & (batch.inputs == batch.targets)
    shown = np.where(again, (batch.inputs + 1) % policy.vocab_size, batch.inputs)
    return batch._replace(inputs=shown.astype(batch.inputs.dtype))


@mutant_around("MLM-COR-6", "mask")
def a_listed_pool_is_not_looked_at(correct: Port, call: Call) -> Any:
    """Random ids come from the regular ids, whatever pool the policy lists."""
    return _policy(correct, call, lambda policy: {"pool": "regular"})


@mutant_around("MLM-COR-7", "mask", url="https://github.com/google-research/bert/issues/910")
def pieces_have_kinds_of_their_own(correct: Port, call: Call) -> Any:
    """The kind is decided for each piece of a word."""
    return _by_token(correct, call)


@mutant("MLM-COR-7", "mask")
def a_special_first_piece_decides_the_kind(**call: Any) -> Any:
    """The kind is decided at the word's smallest position, be it a candidate or not."""
    right = selection.word_anchor
    return shown_with(
        call, word_anchor=lambda source, candidate: right(source, np.ones_like(candidate))
    )


@mutant("MLM-COR-7", "mask")
def pieces_of_a_word_show_one_random_id(**call: Any) -> Any:
    """The random id is drawn at the deciding position too."""
    right = selection.word_anchor

    def corrupt(source: Source, candidate: Any, selected: Any, policy: Any, *key: int) -> Any:
        if policy.corruption.unit != "word":
            return corruption.corrupt(source, candidate, selected, policy, *key)
        moved = replace(source, position=right(source, candidate))
        return corruption.corrupt(moved, candidate, selected, policy, *key)

    with patch.multiple(masking, corrupt=corrupt):
        return mlm_spec.mask(**call)


@mutant("MLM-COR-8", "mask")
def the_earliest_start_decides(**call: Any) -> Any:
    """Where spans overlap, the kind is that of the first."""

    def earliest(source: Source, law: Span, seed: int, epoch: int) -> Any:
        covered, anchor = selection.span_anchor(source, law, seed, epoch)
        for back in range(1, len(law.lengths)):
            start = source.position - np.uint32(back)
            w0, w1, _, _ = random_words(seed, epoch, source.sequence_id, start, Stream.SPAN)
            reaches = ~below(w1, sum(law.lengths[:back]))  # type: ignore[arg-type]
            covers = (source.position >= back) & below(w0, law.start) & reaches
            anchor = np.where(covers, start, anchor)
        return covered, anchor

    return shown_with(call, span_anchor=earliest)


@mutant("MLM-COR-8", "mask")
def the_kind_comes_from_the_span_stream(**call: Any) -> Any:
    """The kind is read from the word that decides the span's length."""

    def words(seed: int, epoch: int, sequence: Any, position: Any, stream: Stream) -> Any:
        _, w1, _, _ = random_words(seed, epoch, sequence, position, Stream.SPAN)
        w0, _, w2, w3 = random_words(seed, epoch, sequence, position, stream)
        return w0, w1, w2, w3

    return shown_with(call, random_words=words)


@mutant_around("MLM-COR-8", "mask")
def a_span_has_kinds_by_token(correct: Port, call: Call) -> Any:
    """The kind is decided for each position of a span."""
    return _by_token(correct, call)


@mutant_around("MLM-COR-9", "mask", "mask_step", url=f"{_HF}/issues/8619")
def tokens_are_masked_in_place(correct: Port, call: Call) -> Any:
    """The caller's tokens are overwritten by the inputs."""
    batch = correct(**call)
    taken(call["tokens"])[...] = batch.inputs
    return batch


@mutant_around("MLM-COR-9", "sample", "sample_words", "sample_parallel")
def a_sample_is_left_in_the_tokens(correct: Port, call: Call) -> Any:
    """The last mask is made in the caller's tokens, and its inputs stay there."""
    inputs, labels = correct(**call)
    taken(call["tokens"])[...] = inputs.reshape(-1, *call["tokens"].shape)[-1]
    return inputs, labels


@mutant_around("MLM-COR-9", "mask")
def eligibility_is_used_up(correct: Port, call: Call) -> Any:
    """What is selected is struck from the caller's eligible positions."""
    batch = correct(**call)
    taken(call["eligible"])[batch.selected] = False
    return batch


@mutant_around("MLM-COR-6", "mask")
def a_pool_of_one_is_not_drawn_from(correct: Port, call: Call) -> Any:
    """From a pool of one id nothing is drawn: the token stays."""
    batch, policy = correct(**call), call["policy"]
    if policy.pool_size != 1:
        return batch
    shown = np.where(batch.inputs == policy.mask_id, batch.inputs, call["tokens"])
    return batch._replace(inputs=shown.astype(batch.inputs.dtype))


@mutant_around("MLM-COR-4", "mask", check=_WEIGHT_1, url=f"{_HF}/pull/1633")
def evaluation_sees_the_tokens(correct: Port, call: Call) -> Any:
    """Positions are selected, and the inputs are the tokens."""
    return correct(**call)._replace(inputs=call["tokens"].copy())
