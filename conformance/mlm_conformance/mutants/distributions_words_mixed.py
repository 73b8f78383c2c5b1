"""Chapter DST on whole words: maskers that are right at rate 1, or in one call alone."""

from __future__ import annotations

import zlib
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.mutants.registry import Port, mutant_around
from mlm_conformance.mutants.sampling import shown
from mlm_spec import Corruption

__all__ = [
    "a_word_draws_one_id_unless_all_is_random",
    "ids_of_words_are_alike_in_every_call",
    "kept_or_random_is_said_for_a_word",
    "kinds_of_words_are_alike_in_every_call",
    "one_number_selects_a_word_and_says_its_kind",
    "words_are_kept_as_a_whole_where_all_are_selected",
    "words_are_of_one_kind_where_all_are_selected",
    "words_are_selected_alike_in_every_call",
]

Call = dict[str, Any]
Array = NDArray[Any]


def _numbers(call: Call, seed: int | None = None) -> Any:
    """A generator that other tokens, or another n, seed otherwise; or always alike."""
    own = zlib.crc32(call["tokens"].tobytes())
    return np.random.default_rng([own, call["n"]] if seed is None else seed)


def _of_words(call: Call, numbers: Array) -> Array:
    """The number of its word's first piece, for each position of (n, B, T)."""
    ids = call["word_id"]
    begins = np.ones(ids.shape, np.bool_)
    begins[:, 1:] = ids[:, 1:] != ids[:, :-1]
    first = np.maximum.accumulate(np.where(begins, np.arange(ids.shape[1]), 0), axis=1)
    return np.take_along_axis(numbers, np.broadcast_to(first, numbers.shape), axis=2)


def _with_kinds(call: Call, labels: Array, kind: Array, pick: Array) -> Any:
    """Selected positions show what two numbers in 0 … 1 say: their kinds, and random ids."""
    if call["policy"].corruption.unit == "word":
        kind = _of_words(call, kind)
    return np.where(labels != -100, shown(call, kind, pick), call["tokens"]), labels


def _selected(call: Call, numbers: Array) -> Array:
    """Labels of the words whose number is below the rate."""
    rate = float(call["policy"].selection.rate)
    chosen = (_of_words(call, numbers) < rate) & call["eligible"]
    return np.where(chosen, call["tokens"], -100)


def _shape(call: Call) -> tuple[int, ...]:
    return (call["n"], *call["tokens"].shape)


@mutant_around("MLM-DST-3", "sample_words")
def one_number_selects_a_word_and_says_its_kind(correct: Port, call: Call) -> Any:
    """What is below the rate is selected, and what is below four fifths is masked: always."""
    number, pick = _numbers(call).random((2, *_shape(call)))
    return _with_kinds(call, _selected(call, number), number, pick)


@mutant_around("MLM-DST-10", "sample_words", check="words_are_selected_independently")
def words_are_selected_alike_in_every_call(correct: Port, call: Call) -> Any:
    """Words are selected by a generator that each call seeds with a constant."""
    kind, pick = _numbers(call).random((2, *_shape(call)))
    return _with_kinds(call, _selected(call, _numbers(call, 5).random(_shape(call))), kind, pick)


@mutant_around("MLM-DST-11", "sample_words", check="a_word_shows_one_kind")
def words_are_of_one_kind_where_all_are_selected(correct: Port, call: Call) -> Any:
    """At a rate below 1 kinds are drawn for each piece."""
    old = call["policy"].corruption
    if call["policy"].selection.rate == 1:
        return correct(**call)
    kinds = Corruption(old.mask, old.random, old.keep)
    return correct(**{**call, "policy": replace(call["policy"], corruption=kinds)})


@mutant_around("MLM-DST-11", "sample_words", check="a_word_is_kept_or_random_as_a_whole")
def words_are_kept_as_a_whole_where_all_are_selected(correct: Port, call: Call) -> Any:
    """At a rate below 1 each piece of a word that is not masked draws what else it shows."""
    old, (_, labels) = call["policy"].corruption, correct(**call)
    whole, each, pick = _numbers(call).random((3, *_shape(call)))
    if call["policy"].selection.rate == 1 or old.unit != "word":
        return correct(**call)
    mask = float(old.mask)
    kinds = Corruption(old.mask, old.random, old.keep)
    pieces = {**call, "policy": replace(call["policy"], corruption=kinds)}
    masked = _of_words(call, whole) < mask
    kind = np.where(masked, 0.0, mask + (1 - mask) * each)
    return _with_kinds(pieces, labels, kind, pick)


@mutant_around("MLM-DST-12", "sample_words")
def kept_or_random_is_said_for_a_word(correct: Port, call: Call) -> Any:
    """Each piece is masked or not; those of a word that are not are all kept or all random."""
    _, labels = correct(**call)
    kind, rest, pick = _numbers(call).random((3, *labels.shape))
    mask = float(call["policy"].corruption.mask)
    whole = mask + (1 - mask) * _of_words(call, rest)
    return _with_kinds(call, labels, np.where(kind < mask, kind, whole), pick)


@mutant_around("MLM-DST-12", "sample_words")
def kinds_of_words_are_alike_in_every_call(correct: Port, call: Call) -> Any:
    """Kinds are drawn by a generator that each call seeds with a constant."""
    _, labels = correct(**call)
    kind = _numbers(call, 5).random(labels.shape)
    return _with_kinds(call, labels, kind, _numbers(call).random(labels.shape))


@mutant_around("MLM-DST-20", "sample_words")
def ids_of_words_are_alike_in_every_call(correct: Port, call: Call) -> Any:
    """Random ids are drawn by a generator that each call seeds with a constant."""
    _, labels = correct(**call)
    pick = _numbers(call, 5).random(labels.shape)
    return _with_kinds(call, labels, _numbers(call).random(labels.shape), pick)


@mutant_around("MLM-DST-20", "sample_words")
def a_word_draws_one_id_unless_all_is_random(correct: Port, call: Call) -> Any:
    """Where other kinds occur, the pieces of a word that are random show one id."""
    _, labels = correct(**call)
    kind, pick = _numbers(call).random((2, *labels.shape))
    ids = pick if call["policy"].corruption.random == 1 else _of_words(call, pick)
    return _with_kinds(call, labels, kind, ids)
