"""Chapter DST: maskers that deal out their choices, and maskers that do not know a word's name."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.mutants.registry import Port, mutant_around
from mlm_conformance.mutants.sampling import is_bernoulli, unselected

__all__ = [
    "a_word_ends_at_what_is_not_eligible",
    "each_batch_has_its_share_of_kinds",
    "each_batch_has_its_share_of_positions",
    "each_batch_has_its_share_of_random_ids",
    "each_batch_has_its_share_of_words",
    "each_eight_positions_have_their_share",
    "only_words_with_names_from_0_on_are_selected",
    "words_are_known_by_16_bits",
]

Call = dict[str, Any]
Array = NDArray[Any]
_APART = "neighbours_of_any_names_are_selected_apart"


def _numbers(call: Call) -> np.random.Generator:
    return np.random.default_rng([zlib.crc32(call["tokens"].tobytes()), call["n"]])


def _dealt(rng: np.random.Generator, groups: int, size: int, share: float) -> Array:
    """(groups, size), so many of each group as its share is, up or down by chance."""
    ranks = np.argsort(rng.random((groups, size)), axis=1)
    most = np.floor(size * share + rng.random(groups))
    chosen: Array = ranks < most[:, None]
    return chosen


def _corrupted(call: Call, rng: np.random.Generator, chosen: Array) -> Any:
    """Inputs and labels of other selected positions, which show what the policy says."""
    policy, tokens = call["policy"], np.broadcast_to(call["tokens"], chosen.shape)
    pool = np.setdiff1d(np.arange(policy.vocab_size), policy.special_ids)
    mask, random = float(policy.corruption.mask), float(policy.corruption.random)
    kind = rng.random(chosen.shape)
    shown = np.where(kind < mask + random, rng.choice(pool, size=chosen.shape), tokens)
    shown = np.where(kind < mask, policy.mask_id, shown)
    return np.where(chosen, shown, tokens), np.where(chosen, tokens, -100)


def _is_plain(call: Call) -> bool:
    """Whether all positions are candidates of a Bernoulli law, and the pool the usual one."""
    policy = call["policy"]
    all_able = call["eligible"].all() and not np.isin(call["tokens"], policy.special_ids).any()
    usual = policy.pool == "regular" and policy.corruption.unit == "token"
    return is_bernoulli(call) and bool(all_able) and usual


@mutant_around("MLM-DST-5", "sample", check="positions_are_not_dealt_out")
def each_batch_has_its_share_of_positions(correct: Port, call: Call) -> Any:
    """Of all positions of a batch as many are selected as the rate says, no more and no fewer."""
    if not _is_plain(call):
        return correct(**call)
    rng, shape = _numbers(call), (call["n"], *call["tokens"].shape)
    rate = float(call["policy"].selection.rate)
    dealt = _dealt(rng, shape[0], shape[1] * shape[2], rate)
    return _corrupted(call, rng, dealt.reshape(shape))


@mutant_around("MLM-DST-5", "sample")
def each_eight_positions_have_their_share(correct: Port, call: Call) -> Any:
    """Eight positions apart in a row have one of eight equal parts of the interval of chances."""
    if not _is_plain(call):
        return correct(**call)
    rng, shape = _numbers(call), (call["n"], *call["tokens"].shape)
    blocks = -(-shape[2] // 8)
    strata = np.argsort(rng.random((shape[0], shape[1] * blocks, 8)), axis=2)
    number = ((strata + rng.random(strata.shape)) / 8).reshape(*shape[:2], 8 * blocks)
    chosen = number[:, :, : shape[2]] < float(call["policy"].selection.rate)
    return _corrupted(call, rng, chosen)


@mutant_around("MLM-DST-12", "sample", check="kinds_are_not_dealt_out")
def each_batch_has_its_share_of_kinds(correct: Port, call: Call) -> Any:
    """Of the selected positions of a batch four fifths, say, show the mask id, no more."""
    inputs, labels = (array.copy() for array in correct(**call))
    policy = call["policy"]
    if policy.corruption.unit != "token" or policy.pool != "regular":
        return inputs, labels
    pool = np.setdiff1d(np.arange(policy.vocab_size), policy.special_ids)
    mask, random = float(policy.corruption.mask), float(policy.corruption.random)
    rng = _numbers(call)
    for sample, own in zip(inputs, labels, strict=True):
        at = np.flatnonzero((own != -100).reshape(-1))
        kinds = (rng.permutation(at.size) + rng.random()) / max(at.size, 1)
        shown = np.where(kinds < mask + random, rng.choice(pool, at.size), own.reshape(-1)[at])
        sample.reshape(-1)[at] = np.where(kinds < mask, policy.mask_id, shown)
    return inputs, labels


@mutant_around("MLM-DST-20", "sample", check="random_ids_are_not_dealt_out")
def each_batch_has_its_share_of_random_ids(correct: Port, call: Call) -> Any:
    """A batch takes its random ids from a shuffled pack, which has each id equally often."""
    inputs, labels = (array.copy() for array in correct(**call))
    policy, tokens = call["policy"], np.broadcast_to(call["tokens"], inputs.shape)
    if policy.corruption.mask or policy.corruption.keep or policy.pool != "regular":
        return inputs, labels
    pool = np.setdiff1d(np.arange(policy.vocab_size), policy.special_ids)
    rng, cells = _numbers(call), tokens[0].size
    packs = np.tile(pool, (len(inputs), -(-cells // pool.size)))
    drawn = rng.permuted(packs, axis=1)[:, :cells].reshape(inputs.shape)
    return np.where(labels != -100, drawn, tokens), labels


def _of_first_pieces(call: Call, names: Array, per_word: Array) -> Array:
    """What is said of each word, at all its pieces: those with one name in a row are one."""
    found = np.empty(per_word.shape, per_word.dtype)
    for row, own in enumerate(names):
        _, first, member = np.unique(own, return_index=True, return_inverse=True)
        found[:, row] = per_word[:, row][:, first[member]]
    return found


def _by_name(correct: Port, call: Call, names: Array) -> Any:
    """Words of other names, selected at their rate and masked."""
    if call["policy"].corruption.mask != 1:
        return correct(**call)
    rng, shape = _numbers(call), (call["n"], *call["tokens"].shape)
    chance = _of_first_pieces(call, names, rng.random(shape))
    able = call["eligible"] & ~np.isin(call["tokens"], call["policy"].special_ids)
    return _corrupted(call, rng, (chance < float(call["policy"].selection.rate)) & able)


@mutant_around("MLM-DST-10", "sample_words", check=_APART)
def words_are_known_by_16_bits(correct: Port, call: Call) -> Any:
    """Words of a row whose ids are alike in their low 16 bits are one word."""
    return _by_name(correct, call, call["word_id"] & 0xFFFF)


@mutant_around("MLM-DST-8", "sample_words", check="words_of_any_names_are_selected_whole")
def a_word_ends_at_what_is_not_eligible(correct: Port, call: Call) -> Any:
    """Behind a piece that is not eligible a new word begins."""
    ids = call["word_id"].astype(np.int64)
    return _by_name(correct, call, ids * 2**20 + np.cumsum(~call["eligible"], axis=1))


@mutant_around("MLM-DST-9", "sample_words", check="words_of_any_names_are_selected_at_the_rate")
def only_words_with_names_from_0_on_are_selected(correct: Port, call: Call) -> Any:
    """A negative id says that there is no word."""
    answer = correct(**call)
    return unselected(call, answer, np.broadcast_to(call["word_id"] < 0, answer[0].shape))


@mutant_around("MLM-DST-10", "sample_words", check="words_are_not_dealt_out")
def each_batch_has_its_share_of_words(correct: Port, call: Call) -> Any:
    """Of all words of a batch as many are selected as the rate says, no more and no fewer."""
    ids, policy = call["word_id"], call["policy"]
    if policy.corruption.mask != 1 or ids.min() < -1 or ids.max() > 64:
        return correct(**call)
    rng, shape = _numbers(call), (call["n"], *ids.shape)
    begins = np.ones(ids.shape, np.bool_)
    begins[:, 1:] = ids[:, 1:] != ids[:, :-1]
    begins &= ids >= 0
    per_word = np.zeros(shape, np.bool_)
    dealt = _dealt(rng, shape[0], int(begins.sum()), float(policy.selection.rate))
    per_word[:, begins] = dealt
    able = call["eligible"] & ~np.isin(call["tokens"], policy.special_ids)
    return _corrupted(call, rng, _of_first_pieces(call, ids, per_word) & able)
