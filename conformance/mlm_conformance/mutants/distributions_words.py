"""Chapter DST on whole words: maskers whose words are cut, favoured, or drawn together."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.mutants.registry import Port, mutant_around
from mlm_conformance.mutants.sampling import with_policy
from mlm_spec import Corruption, WholeWord

__all__ = [
    "a_word_is_cut_at_a_budget",
    "a_word_is_selected_with_any_of_its_pieces",
    "each_mask_of_words_comes_twice",
    "kept_and_random_are_drawn_for_each_piece",
    "kinds_are_drawn_for_each_piece",
    "long_words_are_never_selected",
    "neighbouring_words_share_a_decision",
    "one_kind_for_a_word_whatever_the_unit",
    "one_random_id_for_a_word",
    "one_word_in_a_hundred_is_kept_in_place_of_masked",
    "one_word_in_a_thousand_is_split",
    "pieces_are_selected_one_by_one",
    "the_last_piece_of_a_long_word_is_left_out",
    "the_last_piece_of_a_long_word_shows_its_own_kind",
    "the_last_word_is_never_selected",
    "two_piece_words_are_favoured",
    "words_of_one_id_share_a_decision",
]

Call = dict[str, Any]
Array = NDArray[Any]
_SPANBERT = (
    "https://github.com/facebookresearch/SpanBERT/blob/0670d8b/pretraining/fairseq/data/masking.py"
)
_WHOLE = "words_are_selected_whole"
_RATE = "words_are_selected_at_the_rate"
_INDEPENDENT = "words_are_selected_independently"
_PARTS = "a_word_shows_one_kind"
_LEFT = "a_word_is_kept_or_random_as_a_whole"


class _Layout(NamedTuple):
    """Of each position: the column of its word's first piece, which piece it is, of how many,
    and which word of its row; int (B, T)."""

    first: Array
    piece: Array
    size: Array
    place: Array


def _layout(call: Call) -> _Layout:
    ids = call["word_id"]
    columns = np.broadcast_to(np.arange(ids.shape[1]), ids.shape)
    begins = np.ones(ids.shape, np.bool_)
    begins[:, 1:] = ids[:, 1:] != ids[:, :-1]
    first = np.maximum.accumulate(np.where(begins, columns, 0), axis=1)
    size = (first[:, :, None] == first[:, None, :]).sum(axis=2)
    return _Layout(first, columns - first, size, np.cumsum(begins, axis=1) - 1)


def _at_first(layout: _Layout, array: Array) -> Array:
    """What an (n, B, T) array holds at the first piece of each position's word."""
    return np.take_along_axis(array, np.broadcast_to(layout.first, array.shape), axis=2)


def _draws(call: Call, answer: Any) -> Array:
    """A number in 0 … 1 for each word of each mask, at all of its pieces."""
    rng = np.random.default_rng(int(call["tokens"].sum()) + call["n"])
    return _at_first(_layout(call), rng.random(answer[0].shape))


def _with_selected(call: Call, answer: Any, chosen: Array) -> Any:
    """The answer with just these positions selected; what comes new is masked."""
    inputs, labels = answer
    tokens = np.broadcast_to(call["tokens"], inputs.shape)
    chosen = chosen & call["eligible"]
    new = chosen & (labels == -100)
    shown = np.where(new, call["policy"].mask_id, np.where(chosen, inputs, tokens))
    return shown, np.where(chosen, tokens, -100)


def _rate(call: Call) -> Fraction:
    return Fraction(call["policy"].selection.rate)


@mutant_around("MLM-DST-3", "sample_words")
def one_word_in_a_hundred_is_kept_in_place_of_masked(correct: Port, call: Call) -> Any:
    """A word shows the mask id a hundredth less often, and its token more often."""
    old = call["policy"].corruption
    if not old.mask or not old.keep:
        return correct(**call)
    less = Fraction(1, 100)
    kinds = Corruption(old.mask - less, old.random, old.keep + less, old.unit)
    return correct(**with_policy(call, corruption=kinds))


@mutant_around("MLM-DST-8", "sample_words", check=_WHOLE)
def one_word_in_a_thousand_is_split(correct: Port, call: Call) -> Any:
    """Now and then the last piece of a word is not selected with the rest."""
    answer, layout = correct(**call), _layout(call)
    last = (layout.piece == layout.size - 1) & (layout.size > 1)
    return _with_selected(
        call, answer, (answer[1] != -100) & ~(last & (_draws(call, answer) < 0.001))
    )


@mutant_around("MLM-DST-8", "sample_words", check=_WHOLE)
def the_last_piece_of_a_long_word_is_left_out(correct: Port, call: Call) -> Any:
    """A word has at most six pieces."""
    answer = correct(**call)
    return _with_selected(call, answer, (answer[1] != -100) & (_layout(call).piece < 6))


@mutant_around("MLM-DST-8", "sample_words", check=_WHOLE)
def pieces_are_selected_one_by_one(correct: Port, call: Call) -> Any:
    """Words are not looked at."""
    single = np.broadcast_to(
        np.arange(call["tokens"].shape[1], dtype=np.int32), call["tokens"].shape
    )
    return correct(**{**call, "word_id": single.copy()})


@mutant_around("MLM-DST-8", "sample_words", check=_WHOLE, url=_SPANBERT)
def a_word_is_cut_at_a_budget(correct: Port, call: Call) -> Any:
    """No more positions of a row are selected than its length times the rate, rounded up."""
    answer = correct(**call)
    chosen = answer[1] != -100
    budget = -(-_rate(call) * chosen.shape[2] // 1)
    return _with_selected(call, answer, chosen & (np.cumsum(chosen, axis=2) <= int(budget)))


@mutant_around("MLM-DST-9", "sample_words", check=_RATE)
def two_piece_words_are_favoured(correct: Port, call: Call) -> Any:
    """Words of two pieces are selected a tenth more often."""
    answer, size = correct(**call), _layout(call).size
    if _rate(call) == 1:  # more often than always there is none
        return answer
    more = (size == 2) & (_draws(call, answer) < float(_rate(call) / 10 / (1 - _rate(call))))
    return _with_selected(call, answer, (answer[1] != -100) | more)


@mutant_around("MLM-DST-9", "sample_words", check=_RATE)
def a_word_is_selected_with_any_of_its_pieces(correct: Port, call: Call) -> Any:
    """Each piece is drawn on its own, and brings the whole word with it."""
    rng = np.random.default_rng(int(call["tokens"].sum()))
    answer, ids = correct(**call), call["word_id"]
    drawn = rng.random(answer[0].shape) < float(_rate(call))
    same = (ids[:, :, None] == ids[:, None, :]).astype(np.int32)
    return _with_selected(call, answer, np.einsum("nbt,bts->nbs", drawn, same) > 0)


@mutant_around("MLM-DST-9", "sample_words", check=_RATE)
def long_words_are_never_selected(correct: Port, call: Call) -> Any:
    """A word of more than six pieces is beyond the budget."""
    answer = correct(**call)
    return _with_selected(call, answer, (answer[1] != -100) & (_layout(call).size <= 6))


@mutant_around("MLM-DST-9", "sample_words", check=_RATE)
def the_last_word_is_never_selected(correct: Port, call: Call) -> Any:
    """A word ends where the next one begins, and the last one does not end."""
    answer, place = correct(**call), _layout(call).place
    words = np.where(call["eligible"], place, -1)
    return _with_selected(
        call, answer, (answer[1] != -100) & (place < words.max(axis=1, keepdims=True))
    )


@mutant_around("MLM-DST-10", "sample_words", check=_INDEPENDENT)
def neighbouring_words_share_a_decision(correct: Port, call: Call) -> Any:
    """Every second word goes with the one before it."""
    return correct(**{**call, "word_id": (_layout(call).place // 2).astype(np.int32)})


@mutant_around("MLM-DST-10", "sample_words", check=_INDEPENDENT)
def words_of_one_id_share_a_decision(correct: Port, call: Call) -> Any:
    """Word ids are drawn for the whole batch at once, whose rows all begin at 0."""
    answer, ids = correct(**call), call["word_id"]
    names, member = np.unique(ids, return_inverse=True)
    rng = np.random.default_rng(int(call["tokens"].sum()))
    drawn = rng.random((call["n"], names.size)) < float(_rate(call))
    chosen = drawn[:, member.reshape(ids.shape)]
    return _with_selected(call, answer, chosen & call["eligible"])


@mutant_around("MLM-DST-10", "sample_words", check=_INDEPENDENT)
def each_mask_of_words_comes_twice(correct: Port, call: Call) -> Any:
    """Every second mask is the one before it."""
    return tuple(np.repeat(array[0::2], 2, axis=0)[: len(array)] for array in correct(**call))


def _unit(call: Call, unit: str) -> Call:
    old = call["policy"].corruption
    return with_policy(call, corruption=Corruption(old.mask, old.random, old.keep, unit))  # type: ignore[arg-type]


@mutant_around("MLM-DST-11", "sample_words", check=_PARTS)
def kinds_are_drawn_for_each_piece(correct: Port, call: Call) -> Any:
    """The unit "word" is read as "token"."""
    return correct(**_unit(call, "token"))


@mutant_around("MLM-DST-11", "sample_words", check=_PARTS)
def the_last_piece_of_a_long_word_shows_its_own_kind(correct: Port, call: Call) -> Any:
    """What is decided for a word reaches six of its pieces."""
    whole, (others, _) = correct(**call), correct(**_unit(call, "token"))
    return np.where(_layout(call).piece < 6, whole[0], others), whole[1]


@mutant_around("MLM-DST-11", "sample_words", check=_LEFT)
def kept_and_random_are_drawn_for_each_piece(correct: Port, call: Call) -> Any:
    """A word is masked as a whole; if it is not, each piece draws what else it shows."""
    old, (inputs, labels) = call["policy"].corruption, correct(**call)
    if not old.random or not old.keep:
        return inputs, labels
    rest = old.random + old.keep
    kinds = Corruption(0, old.random / rest, old.keep / rest)
    others, _ = correct(**with_policy(call, corruption=kinds, selection=WholeWord(1)))
    free = (labels != -100) & (inputs != call["policy"].mask_id)
    return np.where(free, others, inputs), labels


@mutant_around("MLM-DST-12", "sample_words")
def one_kind_for_a_word_whatever_the_unit(correct: Port, call: Call) -> Any:
    """The unit "token" is read as "word"."""
    return correct(**_unit(call, "word"))


@mutant_around("MLM-DST-20", "sample_words")
def one_random_id_for_a_word(correct: Port, call: Call) -> Any:
    """The id that replaces the first piece replaces all of them."""
    inputs, labels = correct(**call)
    if call["policy"].corruption.random != 1:
        return inputs, labels
    return np.where(labels == -100, inputs, _at_first(_layout(call), inputs)), labels
