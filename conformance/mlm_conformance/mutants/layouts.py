"""Maskers that are right on usual rows, and wrong on words, ids and lengths beside them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np

from mlm_conformance.mutants.inside import masked_from, selected_with
from mlm_conformance.mutants.registry import Port, mutant_around
from mlm_spec import MaskingPolicy, masking, selection
from mlm_spec.selection import Source

__all__ = [
    "a_sentence_is_one_word",
    "columns_from_512_on_are_not_masked",
    "first_pieces_belong_to_the_word_before",
    "sequences_are_told_apart_by_their_low_word",
    "the_mask_id_is_never_selected",
    "word_ids_are_cut_to_16_bits",
    "words_are_neighbouring_pieces",
    "words_with_a_negative_id_are_alone",
]

Call = dict[str, Any]


def _with_words(correct: Port, call: Call, change: Any) -> Any:
    """The right masks of other word ids."""

    def changed(source: Source, *rest: Any) -> Any:
        words = source.word_id
        return (source if words is None else replace(source, word_id=change(words)), *rest)

    return masked_from(correct, call, changed)


@mutant_around("MLM-SEL-2", "mask")
def the_mask_id_is_never_selected(correct: Port, call: Call) -> Any:
    """A token that is the mask id is no candidate, though the policy does not list it."""

    def candidates(source: Source, policy: MaskingPolicy) -> Any:
        return selection.candidates(source, policy) & (source.tokens != policy.mask_id)

    with patch.multiple(masking, candidates=candidates):
        return correct(**call)


@mutant_around("MLM-SEL-2", "mask")
def columns_from_512_on_are_not_masked(correct: Port, call: Call) -> Any:
    """A row is cut at 512 columns: nothing behind is selected."""
    eligible = call["eligible"].copy()
    eligible[:, 512:] = False
    return correct(**{**call, "eligible": eligible})


@mutant_around("MLM-SEL-11", "mask")
def sequences_are_told_apart_by_their_low_word(correct: Port, call: Call) -> Any:
    """Packed sequences whose ids share the low 32 bits are counted as one."""
    right = selection._grouped

    def grouped(source: Source, keys: Any, keys_in_group: int = 0) -> Any:
        ids = source.sequence_id.copy()
        ids[..., 1] = 0
        return right(replace(source, sequence_id=ids), keys, keys_in_group)

    return selected_with(call, _grouped=grouped)


@mutant_around("MLM-SEL-7", "mask")
def words_are_neighbouring_pieces(correct: Port, call: Call) -> Any:
    """A word id that comes back later in the row begins another word."""

    def runs(words: Any) -> Any:
        new = np.ones(words.shape, bool)
        new[:, 1:] = words[:, 1:] != words[:, :-1]
        return np.cumsum(new, axis=1).astype(np.int32)

    return _with_words(correct, call, runs)


@mutant_around("MLM-SEL-7", "mask")
def words_with_a_negative_id_are_alone(correct: Port, call: Call) -> Any:
    """Each piece with a negative word id is a word of its own."""

    def alone(words: Any) -> Any:
        own = 10**6 + np.broadcast_to(np.arange(words.shape[1], dtype=np.int32), words.shape)
        return np.where(words < 0, own, words).astype(np.int32)

    return _with_words(correct, call, alone)


@mutant_around("MLM-SEL-7", "mask")
def word_ids_are_cut_to_16_bits(correct: Port, call: Call) -> Any:
    """Words whose ids are 2¹⁶ apart are one word."""
    return _with_words(correct, call, lambda words: (words % 2**16).astype(np.int32))


@mutant_around("MLM-SEL-7", "mask", url="https://github.com/huggingface/transformers/pull/39485")
def a_sentence_is_one_word(correct: Port, call: Call) -> Any:
    """Pieces that touch are one word, and in this text all of them touch."""
    return _with_words(correct, call, np.zeros_like)


@mutant_around(
    "MLM-SEL-6",
    "mask",
    url="https://github.com/NVIDIA/NeMo/blob/8cfedd7203/nemo/collections/nlp/data/"
    "language_modeling/lm_bert_dataset.py",
)
def first_pieces_belong_to_the_word_before(correct: Port, call: Call) -> Any:
    """The mark of a word's first piece is read as that of a continuation."""
    return _with_words(correct, call, lambda words: np.roll(words, 1, axis=1))
