"""Chapter RNG: backends with other random words, or other decisions from the same words."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any
from unittest.mock import patch

import numpy as np

import mlm_spec
from mlm_conformance.mutants.inside import keyed, masked_from, selected_with, shown_with
from mlm_conformance.mutants.registry import Port, mutant, mutant_around, mutant_with_state
from mlm_spec import (
    Span,
    Stream,
    WholeWord,
    corruption,
    port,
    random_words,
    selection,
    threefry4x32,
    thresholds,
)
from mlm_spec.thresholds import below

__all__ = [
    "a_cache_without_the_epoch",
    "a_float_times_the_size",
    "a_refused_word_gives_index_0",
    "a_word_modulo_the_size",
    "advances_the_global_generator",
    "compares_in_float32",
    "counter_without_its_tag",
    "counts_its_calls",
    "draws_from_the_global_generator",
    "epoch_added_to_the_seed",
    "epoch_cut_to_32_bits",
    "every_epoch_has_the_same_masks",
    "kinds_have_16_bits",
    "kinds_of_words_are_float32",
    "lengths_of_spans_are_float32",
    "no_key_after_the_last_round",
    "no_parity_constant",
    "one_key_for_all_blocks",
    "one_rotation_is_off_by_one",
    "pool_is_descending",
    "position_cut_to_16_bits",
    "rate_1_misses_the_last_word",
    "rates_of_words_have_16_bits",
    "rotations_off_by_one",
    "seed_cut_to_32_bits",
    "sequence_id_cut_to_32_bits",
    "starts_of_spans_have_16_bits",
    "streams_are_one",
    "the_last_word_only",
    "threshold_itself_is_below",
    "threshold_rounds_down",
    "threshold_wraps_to_0",
    "twelve_rounds",
    "words_are_compared_signed",
    "words_backwards",
    "words_of_the_seed_swapped",
    "words_of_the_sequence_id_swapped",
]

Call = dict[str, Any]
_KNOWN, _BLOCKS = "words_are_the_published_known_answers", "words_are_threefry"
_SAME = "the_same_call_gives_the_same_answer"
_EDGE = "the_word_below_the_threshold_is_the_last_selected"
_EXTREME = "extreme_probabilities_are_exact"
_AT_THE_WORD = "a_decision_turns_at_its_word"
_INDEX = "random_ids_come_from_the_two_try_index"
_REFUSED = "a_refused_word_gives_way_to_the_next"
_ROTATIONS = ((10, 26), (11, 21), (13, 27), (23, 5), (6, 20), (17, 11), (25, 10), (18, 20))
_PARITY = 0x1BD11BDA


def _threefry(
    key: Any,
    counter: Any,
    rounds: int = 20,
    turns: Any = _ROTATIONS,
    parity: int = _PARITY,
    injections: int = 5,
) -> Any:
    """Threefry4x32 as the formula of MLM-RNG-1 has it, with its constants open to change."""
    port.random_words(key, counter)  # refuses what it should
    keys = [key[:, i].astype(np.uint32) for i in range(4)]
    keys.append(keys[0] ^ keys[1] ^ keys[2] ^ keys[3] ^ np.uint32(parity))
    x = [counter[:, i] + keys[i] for i in range(4)]
    for r in range(rounds):
        first, second = (1, 3) if r % 2 == 0 else (3, 1)
        for left, right, turn in zip((0, 2), (first, second), turns[r % 8], strict=True):
            x[left] = x[left] + x[right]
            x[right] = (x[right] << np.uint32(turn) | x[right] >> np.uint32(32 - turn)) ^ x[left]
        step = (r + 1) // 4
        if r % 4 == 3 and step <= injections:
            x = [x[i] + keys[(step + i) % 5] for i in range(4)]
            x[3] = x[3] + np.uint32(step)
    return np.stack(x, axis=-1)


@mutant("MLM-RNG-1", "random_words", check=_KNOWN)
def twelve_rounds(key: Any, counter: Any) -> Any:
    """Threefry4x32 has 12 rounds here."""
    return _threefry(key, counter, rounds=12)


@mutant("MLM-RNG-1", "random_words", check=_KNOWN)
def rotations_off_by_one(key: Any, counter: Any) -> Any:
    """The table of rotations begins one round late."""
    return _threefry(key, counter, turns=_ROTATIONS[1:] + _ROTATIONS[:1])


@mutant("MLM-RNG-1", "random_words", check=_KNOWN)
def no_key_after_the_last_round(key: Any, counter: Any) -> Any:
    """The injection of the key after the last round is missing."""
    return _threefry(key, counter, injections=4)


@mutant("MLM-RNG-1", "random_words", check=_KNOWN)
def no_parity_constant(key: Any, counter: Any) -> Any:
    """The fifth word of the key is the parity alone."""
    return _threefry(key, counter, parity=0)


@mutant("MLM-RNG-1", "random_words", check=_KNOWN)
def words_backwards(key: Any, counter: Any) -> Any:
    """The four words come in reverse."""
    return threefry4x32(key, counter)[:, ::-1].copy()


@mutant("MLM-RNG-1", "random_words", check=_BLOCKS)
def one_key_for_all_blocks(key: Any, counter: Any) -> Any:
    """The first key is used for every counter, so one block alone is right."""
    first = np.broadcast_to(key[:1], key.shape) if np.ndim(key) == 2 else key
    return threefry4x32(first, counter)


@mutant("MLM-RNG-1", "random_words", check=_BLOCKS)
def one_rotation_is_off_by_one(key: Any, counter: Any) -> Any:
    """The first rotation of the last pair is 19, not 18."""
    return _threefry(key, counter, turns=(*_ROTATIONS[:7], (19, 20)))


@mutant_around("MLM-RNG-2", "mask")
def seed_cut_to_32_bits(correct: Port, call: Call) -> Any:
    """The high word of the seed is lost."""
    return keyed(correct, call, lambda seed, epoch: (seed % 2**32, epoch))


@mutant_around("MLM-RNG-2", "mask")
def epoch_cut_to_32_bits(correct: Port, call: Call) -> Any:
    """The high word of the epoch is lost."""
    return keyed(correct, call, lambda seed, epoch: (seed, epoch % 2**32))


@mutant_around("MLM-RNG-2", "mask")
def epoch_added_to_the_seed(correct: Port, call: Call) -> Any:
    """The epoch is added to the seed, so runs with neighbouring seeds share masks."""
    return keyed(correct, call, lambda seed, epoch: ((seed + epoch) % 2**64, 0))


@mutant_around("MLM-RNG-2", "mask", url="https://github.com/huggingface/transformers/pull/36497")
def every_epoch_has_the_same_masks(correct: Port, call: Call) -> Any:
    """The epoch does not enter the key."""
    return keyed(correct, call, lambda seed, epoch: (seed, 0))


@mutant_around("MLM-RNG-2", "mask")
def words_of_the_seed_swapped(correct: Port, call: Call) -> Any:
    """The high word of the seed comes first."""
    return keyed(correct, call, lambda seed, epoch: ((seed % 2**32) << 32 | seed >> 32, epoch))


@mutant_with_state(
    "MLM-RNG-2", "mask", url="https://github.com/facebookresearch/fairseq/commit/1f23d83f"
)
def a_cache_without_the_epoch(correct: Port) -> Port:
    """Masks are kept by sequence and seed, and given again in later epochs."""
    kept: dict[tuple[bytes, bytes, int], Any] = {}

    def mask(**call: Any) -> Any:
        batch = correct(**call)
        mark = (call["tokens"].tobytes(), call["sequence_id"].tobytes(), call["seed"])
        return kept.setdefault(mark, batch)

    return mask


def _mask_with(words: Callable[..., Any], call: Call) -> Any:
    """The reference's masks from other words."""
    with (
        patch.multiple(selection, random_words=words),
        patch.multiple(corruption, random_words=words),
    ):
        return mlm_spec.mask(**call)


@mutant("MLM-RNG-3", "mask")
def counter_without_its_tag(**call: Any) -> Any:
    """The second word of the counter is the stream alone."""

    def words(seed: int, epoch: int, sequence: Any, position: Any, stream: int) -> Any:
        key = np.array([seed % 2**32, seed >> 32, epoch % 2**32, epoch >> 32], np.uint32)
        tag = np.full(position.shape, int(stream), np.uint32)
        counter = np.stack([position, tag, sequence[..., 0], sequence[..., 1]], axis=-1)
        return tuple(np.moveaxis(threefry4x32(key, counter), -1, 0))

    return _mask_with(words, call)


@mutant("MLM-RNG-3", "mask")
def streams_are_one(**call: Any) -> Any:
    """Every word is taken from the stream of spans."""

    def words(seed: int, epoch: int, sequence: Any, position: Any, stream: int) -> Any:
        return random_words(seed, epoch, sequence, position, Stream.SPAN)

    return _mask_with(words, call)


@mutant_around("MLM-RNG-3", "mask")
def sequence_id_cut_to_32_bits(correct: Port, call: Call) -> Any:
    """The high word of the sequence id is lost."""
    low = np.array([1, 0], np.uint32)
    return masked_from(
        correct, call, lambda s, *rest: (replace(s, sequence_id=s.sequence_id * low), *rest)
    )


@mutant_around("MLM-RNG-3", "mask")
def words_of_the_sequence_id_swapped(correct: Port, call: Call) -> Any:
    """The high word of the sequence id comes first."""
    return masked_from(
        correct, call, lambda s, *rest: (replace(s, sequence_id=s.sequence_id[..., ::-1]), *rest)
    )


@mutant_around("MLM-RNG-3", "mask")
def position_cut_to_16_bits(correct: Port, call: Call) -> Any:
    """Positions 2¹⁶ apart have the same words."""
    short = np.uint32(2**16)
    return masked_from(
        correct, call, lambda s, *rest: (replace(s, position=s.position % short), *rest)
    )


@mutant_around(
    "MLM-RNG-4",
    "mask",
    check=_SAME,
    url="https://github.com/huggingface/transformers/issues/36357",
)
def draws_from_the_global_generator(correct: Port, call: Call) -> Any:
    """The seed comes from NumPy's global generator."""
    return keyed(correct, call, lambda seed, epoch: (int(np.random.randint(2**31)), epoch))


@mutant_around("MLM-RNG-4", "mask", check=_SAME)
def advances_the_global_generator(correct: Port, call: Call) -> Any:
    """The masks are right, but a draw from Python's global generator is thrown away."""
    random.random()
    return correct(**call)


@mutant_with_state("MLM-RNG-4", "mask", check=_SAME)
def counts_its_calls(correct: Port) -> Port:
    """The number of the call is added to the epoch."""
    calls = 0

    def mask(**call: Any) -> Any:
        nonlocal calls
        calls += 1
        return keyed(correct, call, lambda seed, epoch: (seed, (epoch + calls) % 2**64))

    return mask


def _mask_below(below: Callable[[Any, Fraction], Any], call: Call) -> Any:
    """The reference's masks with another comparison of words with probabilities."""
    with patch.multiple(selection, below=below), patch.multiple(corruption, below=below):
        return mlm_spec.mask(**call)


@mutant("MLM-RNG-5", "mask", check=_EDGE)
def threshold_rounds_down(**call: Any) -> Any:
    """T(p) is ⌊p · 2³²⌋."""

    def threshold(p: Fraction) -> int:
        return p.numerator * 2**32 // p.denominator

    with patch.multiple(thresholds, threshold=threshold):
        return mlm_spec.mask(**call)


@mutant("MLM-RNG-5", "mask", check=_EDGE)
def threshold_itself_is_below(**call: Any) -> Any:
    """A word is compared with ≤ in place of <."""
    return _mask_below(lambda w, p: w <= np.uint64(mlm_spec.threshold(p)), call)


@mutant("MLM-RNG-5", "mask", check=_EDGE)
def compares_in_float32(**call: Any) -> Any:
    """w · 2⁻³² and p are compared in float32."""
    return _mask_below(lambda w, p: (w / 2**32).astype(np.float32) < np.float32(float(p)), call)


@mutant("MLM-RNG-5", "mask", check=_EDGE)
def rate_1_misses_the_last_word(**call: Any) -> Any:
    """T(1) is 2³² − 1, the largest 32-bit number."""
    return _mask_below(lambda w, p: w < min(mlm_spec.threshold(p), 2**32 - 1), call)


@mutant("MLM-RNG-5", "mask", check=_EXTREME)
def threshold_wraps_to_0(**call: Any) -> Any:
    """T(1) = 2³² is stored in 32 bits, as 0."""
    return _mask_below(lambda w, p: w < np.uint32(mlm_spec.threshold(p) % 2**32), call)


@mutant("MLM-RNG-5", "mask", check=_EXTREME)
def words_are_compared_signed(**call: Any) -> Any:
    """Words of 2³¹ and more are negative numbers."""
    return _mask_below(lambda w, p: w.view(np.int32) < mlm_spec.threshold(p), call)


def _coarse(words: Any, p: Fraction) -> Any:
    """A threshold of sixteen bits."""
    return below(words, Fraction(round(p * 2**16), 2**16))


@mutant("MLM-RNG-5", "mask", check=_AT_THE_WORD)
def rates_of_words_have_16_bits(**call: Any) -> Any:
    """The rate of whole words is rounded to a multiple of 2⁻¹⁶."""
    law = call["policy"].selection
    return selected_with(call, below=_coarse if isinstance(law, WholeWord) else below)


@mutant("MLM-RNG-5", "mask", check=_AT_THE_WORD)
def starts_of_spans_have_16_bits(**call: Any) -> Any:
    """The rate at which spans start is rounded to a multiple of 2⁻¹⁶."""
    law = call["policy"].selection
    start = law.start if isinstance(law, Span) else None
    return selected_with(call, below=lambda w, p: _coarse(w, p) if p == start else below(w, p))


@mutant("MLM-RNG-5", "mask", check=_AT_THE_WORD)
def lengths_of_spans_are_float32(**call: Any) -> Any:
    """The distribution of span lengths is summed in float32."""
    law = call["policy"].selection
    start = law.start if isinstance(law, Span) else None

    def narrow(w: Any, p: Fraction) -> Any:
        exact = p == start or not isinstance(law, Span)
        return below(w, p if exact else Fraction(float(np.float32(float(p)))))

    return selected_with(call, below=narrow)


@mutant("MLM-RNG-5", "mask", check=_AT_THE_WORD)
def kinds_have_16_bits(**call: Any) -> Any:
    """The weights of the kinds are rounded to multiples of 2⁻¹⁶."""
    return shown_with(call, below=_coarse)


@mutant("MLM-RNG-5", "mask", check=_AT_THE_WORD)
def kinds_of_words_are_float32(**call: Any) -> Any:
    """The kind of a whole word is decided in float32."""
    by_word = call["policy"].corruption.unit == "word"

    def narrow(w: Any, p: Fraction) -> Any:
        return (w / 2**32).astype(np.float32) < np.float32(float(p)) if by_word else below(w, p)

    return shown_with(call, below=narrow)


@mutant("MLM-RNG-6", "mask", check=_INDEX)
def a_float_times_the_size(**call: Any) -> Any:
    """The index is the integer part of w2 · 2⁻³² · K."""
    return shown_with(call, pool_index=lambda w2, w3, size: (w2 / 2**32 * size).astype(np.int64))


@mutant("MLM-RNG-6", "mask", check=_INDEX)
def the_last_word_only(**call: Any) -> Any:
    """The index is w3 mod K."""
    return shown_with(call, pool_index=lambda w2, w3, size: w3 % np.uint32(size))


@mutant("MLM-RNG-6", "mask", check=_INDEX)
def pool_is_descending(**call: Any) -> Any:
    """The pool is counted from its last id."""
    right = thresholds.pool_index
    return shown_with(
        call, pool_index=lambda w2, w3, size: np.uint32(size - 1) - right(w2, w3, size)
    )


@mutant("MLM-RNG-6", "mask", check=_REFUSED)
def a_word_modulo_the_size(**call: Any) -> Any:
    """The index is w2 mod K, whatever w2 is."""
    return shown_with(call, pool_index=lambda w2, w3, size: w2 % np.uint32(size))


@mutant("MLM-RNG-6", "mask", check=_REFUSED)
def a_refused_word_gives_index_0(**call: Any) -> Any:
    """Where w2 is refused the first id of the pool is taken, and w3 is not looked at."""

    def index(w2: Any, w3: Any, size: int) -> Any:
        return np.where(w2 < np.uint64(2**32 // size * size), w2 % np.uint32(size), 0)

    return shown_with(call, pool_index=index)
