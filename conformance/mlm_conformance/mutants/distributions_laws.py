"""Chapter DST by law and pool: maskers that are right under the usual law, from the usual pool."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from mlm_conformance.mutants.registry import Port, mutant_around
from mlm_conformance.mutants.sampling import pool_ids, with_policy
from mlm_spec import FixedCount, WholeWord

__all__ = [
    "a_counted_row_draws_one_id",
    "a_counted_row_has_one_kind",
    "a_listed_pool_is_the_regular_one",
    "counted_tokens_are_kept_less",
    "counts_draw_even_ids",
    "first_words_of_the_outer_rows_are_one",
    "pieces_share_kinds_where_words_are_selected",
    "single_pieces_are_kept_less",
    "single_pieces_are_kept_or_random_each",
    "single_pieces_draw_even_ids",
    "single_pieces_draw_the_id_of_their_word",
    "single_pieces_have_the_kind_of_their_word",
    "special_ids_are_in_no_pool",
    "the_last_id_of_a_list_is_not_drawn",
    "words_of_single_pieces_are_kept_less",
]

Call = dict[str, Any]


Change = Callable[[Any, Any], Any]


def _of_counts(call: Call, answer: Any, change: Change) -> Any:
    """The answer; under a fixed count with inputs that are changed where selected."""
    inputs, labels = answer
    if not isinstance(call["policy"].selection, FixedCount):
        return answer
    return np.where(labels != -100, change(inputs, labels), inputs), labels


def _of_pieces(call: Call, answer: Any, unit: str, change: Change) -> Any:
    """The answer; where single pieces are selected and have that unit, likewise."""
    inputs, labels = answer
    policy = call["policy"]
    if isinstance(policy.selection, WholeWord) or policy.corruption.unit != unit:
        return answer
    return np.where(labels != -100, change(inputs, labels), inputs), labels


def _numbers(call: Call, shape: tuple[int, ...]) -> Any:
    """Numbers in 0 … 1 that other tokens, or another n, change."""
    return np.random.default_rng([zlib.crc32(call["tokens"].tobytes()), call["n"]]).random(shape)


def _kept_less(call: Call) -> Change:
    """Half of what shows its token is masked, where anything is."""
    mask, masks = call["policy"].mask_id, call["policy"].corruption.mask > 0

    def change(inputs: Any, labels: Any) -> Any:
        kept = (inputs == labels) & (_numbers(call, inputs.shape) < 0.5) & masks
        return np.where(kept, mask, inputs)

    return change


def _even(call: Call) -> Change:
    """The last bit of a random id is lost."""

    def change(inputs: Any, labels: Any) -> Any:
        drawn = (inputs != labels) & (inputs != call["policy"].mask_id)
        return np.where(drawn, inputs - inputs % 2, inputs)

    return change


def _drawn_by(call: Call, numbers: Any) -> Change:
    """A random id is that of a number in 0 … 1."""
    policy = call["policy"]
    ids = pool_ids(policy, numbers * (policy.vocab_size - len(policy.special_ids)))

    def change(inputs: Any, labels: Any) -> Any:
        return np.where((inputs != labels) & (inputs != policy.mask_id), ids, inputs)

    return change


@mutant_around("MLM-DST-3", "sample", check="selected_positions_show_the_three_kinds_by_count")
def counted_tokens_are_kept_less(correct: Port, call: Call) -> Any:
    """Under a fixed count half of what should keep its token is masked."""
    return _of_counts(call, correct(**call), _kept_less(call))


@mutant_around(
    "MLM-DST-3", "sample_words", check="selected_positions_show_the_three_kinds_by_piece"
)
def single_pieces_are_kept_less(correct: Port, call: Call) -> Any:
    """Where single pieces are selected, half of what should keep its token is masked."""
    return _of_pieces(call, correct(**call), "token", _kept_less(call))


@mutant_around("MLM-DST-3", "sample_words", check="words_show_the_three_kinds_by_piece")
def words_of_single_pieces_are_kept_less(correct: Port, call: Call) -> Any:
    """Where single pieces are selected and words share kinds, half of what is kept is masked."""
    return _of_pieces(call, correct(**call), "word", _kept_less(call))


@mutant_around(
    "MLM-DST-4", "sample", check="random_ids_among_masked_ones_are_uniform_on_the_pool_by_count"
)
def counts_draw_even_ids(correct: Port, call: Call) -> Any:
    """Under a fixed count the last bit of a random id is lost."""
    return _of_counts(call, correct(**call), _even(call))


@mutant_around("MLM-DST-4", "sample_words")
def single_pieces_draw_even_ids(correct: Port, call: Call) -> Any:
    """Where single pieces are selected, the last bit of a random id is lost."""
    return _of_pieces(call, correct(**call), "token", _even(call))


@mutant_around("MLM-DST-11", "sample_words", check="a_word_is_kept_or_random_as_a_whole_by_piece")
def single_pieces_are_kept_or_random_each(correct: Port, call: Call) -> Any:
    """Where single pieces are selected, each that is not masked draws what else it shows."""
    mask = call["policy"].mask_id

    def change(inputs: Any, labels: Any) -> Any:
        kept = _numbers(call, inputs.shape) < 0.5
        return np.where((inputs != mask) & kept, labels, inputs)

    return _of_pieces(call, correct(**call), "word", change)


@mutant_around(
    "MLM-DST-12", "sample_words", check="pieces_of_a_word_show_kinds_of_their_own_by_piece"
)
def single_pieces_have_the_kind_of_their_word(correct: Port, call: Call) -> Any:
    """Where single pieces are selected, those of a word share a kind whatever the unit."""
    policy = call["policy"]
    if isinstance(policy.selection, WholeWord):
        return correct(**call)
    return correct(**with_policy(call, corruption=replace(policy.corruption, unit="word")))


@mutant_around(
    "MLM-DST-20", "sample_words", check="pieces_of_a_word_draw_ids_of_their_own_by_piece"
)
def single_pieces_draw_the_id_of_their_word(correct: Port, call: Call) -> Any:
    """Where single pieces are selected, those of a word that are random show one id."""
    inputs, labels = correct(**call)
    words = np.broadcast_to(call["word_id"] % inputs.shape[2], inputs.shape)
    numbers = np.take_along_axis(_numbers(call, inputs.shape), words, axis=2)
    return _of_pieces(call, (inputs, labels), "word", _drawn_by(call, numbers))


@mutant_around("MLM-DST-20", "sample", check="neighbours_draw_ids_of_their_own_by_count")
def a_counted_row_draws_one_id(correct: Port, call: Call) -> Any:
    """Under a fixed count all that is random in a row shows one id."""
    inputs, labels = correct(**call)
    numbers = _numbers(call, (*inputs.shape[:2], 1))
    return _of_counts(call, (inputs, labels), _drawn_by(call, numbers))


@mutant_around("MLM-DST-12", "sample", check="neighbours_show_kinds_of_their_own_by_count")
def a_counted_row_has_one_kind(correct: Port, call: Call) -> Any:
    """Under a fixed count the first selected position of a row says whether all of it is masked."""
    mask = call["policy"].mask_id

    def change(inputs: Any, labels: Any) -> Any:
        first = np.argmax(labels != -100, axis=-1)[..., None]
        masked = np.take_along_axis(inputs, first, axis=-1) == mask
        return np.where(masked, mask, np.where(inputs == mask, labels, inputs))

    return _of_counts(call, correct(**call), change)


@mutant_around("MLM-DST-4", "sample", check="ids_are_uniform_on_a_listed_pool")
def a_listed_pool_is_the_regular_one(correct: Port, call: Call) -> Any:
    """Random ids of a listed pool are any but the special ones."""
    listed = isinstance(call["policy"].pool, tuple)
    return correct(**(with_policy(call, pool="regular") if listed else call))


@mutant_around("MLM-DST-4", "sample", check="ids_are_uniform_on_a_listed_pool")
def the_last_id_of_a_list_is_not_drawn(correct: Port, call: Call) -> Any:
    """The last id of a listed pool is never drawn."""
    pool = call["policy"].pool
    several = isinstance(pool, tuple) and len(pool) > 1
    return correct(**(with_policy(call, pool=pool[:-1]) if several else call))


@mutant_around("MLM-DST-4", "sample", check="ids_are_uniform_on_the_whole_vocabulary")
def special_ids_are_in_no_pool(correct: Port, call: Call) -> Any:
    """The pool "all" has no special ids."""
    every = call["policy"].pool == "all" and len(call["policy"].special_ids) > 0
    return correct(**(with_policy(call, pool="regular") if every else call))


@mutant_around("MLM-DST-11", "sample_words", check="a_word_shows_one_kind_by_piece")
def pieces_share_kinds_where_words_are_selected(correct: Port, call: Call) -> Any:
    """Where single pieces are selected, each has a kind of its own."""
    policy = call["policy"]
    if isinstance(policy.selection, WholeWord):
        return correct(**call)
    return correct(**with_policy(call, corruption=replace(policy.corruption, unit="token")))


@mutant_around("MLM-DST-10", "sample_words", check="no_words_decide_one_another")
def first_words_of_the_outer_rows_are_one(correct: Port, call: Call) -> Any:
    """The first word of the last row is selected where that of the first row is."""
    inputs, labels = (array.copy() for array in correct(**call))
    able = call["eligible"] & ~np.isin(call["tokens"], call["policy"].special_ids)
    if len(able) < 2 or not able[[0, -1]].any(axis=1).all():
        return inputs, labels
    at = np.argmax(able, axis=1)
    word = able[-1] & (call["word_id"][-1] == call["word_id"][-1, at[-1]])
    chosen = (labels[:, 0, at[0]] != -100)[:, None]
    tokens = call["tokens"][-1, word]
    inputs[:, -1, word] = np.where(chosen, call["policy"].mask_id, tokens)
    labels[:, -1, word] = np.where(chosen, tokens, -100)
    return inputs, labels
