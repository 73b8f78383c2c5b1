"""Chapter DST: maskers that are right at one size, for some ids, or each place for itself."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np

from mlm_conformance.mutants.correct import sample_with
from mlm_conformance.mutants.registry import Port, mutant_around
from mlm_conformance.mutants.sampling import is_bernoulli

__all__ = [
    "columns_from_512_on_are_never_selected",
    "eight_seeds_are_all_there_are",
    "even_tokens_are_kept_twice_as_often",
    "every_second_pair_of_neighbours_decides_together",
    "every_tenth_place_copies_the_one_17_before",
    "every_third_place_is_the_parity_of_two",
    "half_of_a_row_draws_the_ids_of_the_other_half",
    "half_of_a_row_has_the_kinds_of_the_other_half",
    "half_of_a_row_has_the_mask_of_the_other_half",
    "high_ids_are_selected_half_as_often",
    "ids_of_more_than_15_bits_are_never_drawn",
    "padded_rows_have_twice_the_rate",
    "random_ids_are_the_first_64",
    "rates_below_a_hundredth_are_0",
    "rows_from_64_on_have_none",
    "rows_take_turns_with_two_masks",
]

Call = dict[str, Any]
_RATE = "the_rate_holds_for_any_ids_and_beside_anything"
_PLACES = "places_are_selected_alike_at_any_size"
_KINDS = "the_kinds_are_the_same_for_any_ids"
_IDS = "random_ids_are_uniform_on_any_pool"
_DISTANCES = "columns_are_independent_at_every_distance"
_COLUMNS = "no_columns_decide_one_another"
_ROWS = "no_rows_or_samples_decide_one_another"
_CALLS = "no_calls_decide_one_another"


def _tokens(call: Call, answer: Any) -> Any:
    return np.broadcast_to(call["tokens"], answer[0].shape)


def _unselected(call: Call, answer: Any, where: Any) -> Any:
    inputs, labels = answer
    where = np.broadcast_to(where, labels.shape)
    return np.where(where, _tokens(call, answer), inputs), np.where(where, -100, labels)


def _copied(call: Call, answer: Any, to: Any, source: Any) -> Any:
    """Some places are selected where others are, and show what these show."""
    inputs, labels = (array.copy() for array in answer)
    tokens = _tokens(call, answer)
    kept = inputs == tokens
    inputs[to] = np.where(kept[source], tokens[to], inputs[source])
    labels[to] = np.where(labels[source] == -100, -100, tokens[to])
    return inputs, labels


def _numbers(call: Call) -> Any:
    return np.random.default_rng([zlib.crc32(call["tokens"].tobytes()), call["n"], 2])


@mutant_around("MLM-DST-1", "sample", check=_RATE)
def rates_below_a_hundredth_are_0(correct: Port, call: Call) -> Any:
    """A rate is a percentage without decimals."""
    answer = correct(**call)
    tiny = is_bernoulli(call) and call["policy"].selection.rate < 0.01
    return _unselected(call, answer, True) if tiny else answer


@mutant_around("MLM-DST-1", "sample", check=_RATE)
def high_ids_are_selected_half_as_often(correct: Port, call: Call) -> Any:
    """The upper half of a large vocabulary is thought to be rare."""
    answer = correct(**call)
    if not is_bernoulli(call):
        return answer
    high = call["tokens"] > max(call["policy"].vocab_size // 2, 100)
    return _unselected(call, answer, high & (_numbers(call).random(answer[0].shape) < 0.5))


@mutant_around("MLM-DST-1", "sample", check=_RATE)
def padded_rows_have_twice_the_rate(correct: Port, call: Call) -> Any:
    """The number of selected positions is that of a row without padding."""
    answer = correct(**call)
    policy = call["policy"]
    if not is_bernoulli(call) or policy.pad_id is None:
        return answer
    more = sample_with(5, call["tokens"], call["eligible"], policy, call["n"])
    padded = np.cumsum(call["tokens"][:, ::-1] == policy.pad_id, axis=1)[:, :2].sum(1) == 3
    extra = padded[:, None] & (more[1] != -100) & (answer[1] == -100)
    return tuple(np.where(extra, new, old) for new, old in zip(more, answer, strict=True))


@mutant_around("MLM-DST-2", "sample", check=_PLACES)
def columns_from_512_on_are_never_selected(correct: Port, call: Call) -> Any:
    """A row is cut where the model of another time ended."""
    answer = correct(**call)
    if not is_bernoulli(call):
        return answer
    return _unselected(call, answer, np.arange(call["tokens"].shape[1]) >= 512)


@mutant_around("MLM-DST-2", "sample", check=_PLACES)
def rows_from_64_on_have_none(correct: Port, call: Call) -> Any:
    """Only 64 rows of a batch are masked."""
    answer = correct(**call)
    if not is_bernoulli(call):
        return answer
    return _unselected(call, answer, np.arange(len(call["tokens"]))[:, None] >= 64)


@mutant_around("MLM-DST-3", "sample", check=_KINDS)
def even_tokens_are_kept_twice_as_often(correct: Port, call: Call) -> Any:
    """What a position shows depends on its token, which no table of kinds tells."""
    inputs, labels = correct(**call)
    tokens = _tokens(call, (inputs, labels))
    few = call["policy"].vocab_size <= 64  # where the other checks look
    again = (tokens % 2 == 0) & (_numbers(call).random(inputs.shape) < 0.1)
    return (inputs if few else np.where(again & (labels != -100), tokens, inputs)), labels


@mutant_around("MLM-DST-4", "sample", check=_IDS)
def random_ids_are_the_first_64(correct: Port, call: Call) -> Any:
    """The random ids of a large vocabulary come from its beginning."""
    return _ids_from(correct, call, lambda ids: 8 + ids % 56, 64)


@mutant_around("MLM-DST-4", "sample", check=_IDS)
def ids_of_more_than_15_bits_are_never_drawn(correct: Port, call: Call) -> Any:
    """Random ids are 16-bit integers with a sign."""
    return _ids_from(correct, call, lambda ids: ids % 2**15, 2**15)


def _ids_from(correct: Port, call: Call, small: Any, size: int) -> Any:
    inputs, labels = correct(**call)
    policy, tokens = call["policy"], _tokens(call, (inputs, labels))
    drawn = (inputs != tokens) & (inputs != policy.mask_id)
    if policy.vocab_size <= size or policy.pool != "regular":
        return inputs, labels
    ids = small(inputs)
    return np.where(drawn & ~np.isin(ids, policy.special_ids), ids, inputs), labels


@mutant_around("MLM-DST-5", "sample", check=_COLUMNS)
def half_of_a_row_has_the_mask_of_the_other_half(correct: Port, call: Call) -> Any:
    """Half as many random numbers are drawn, and used twice."""
    half = call["tokens"].shape[1] // 2
    answer = correct(**call)
    if not is_bernoulli(call):
        return answer
    return _copied(call, answer, np.s_[..., half : 2 * half], np.s_[..., :half])


@mutant_around("MLM-DST-5", "sample", check=_COLUMNS)
def every_second_pair_of_neighbours_decides_together(correct: Port, call: Call) -> Any:
    """The third has the mask of the second, the fifth that of the fourth, and so on."""
    last = (call["tokens"].shape[1] - 1) // 2 * 2
    answer = correct(**call)
    if not is_bernoulli(call):
        return answer
    return _copied(call, answer, np.s_[..., 2 : last + 1 : 2], np.s_[..., 1:last:2])


@mutant_around("MLM-DST-5", "sample", check=_DISTANCES)
def every_tenth_place_copies_the_one_17_before(correct: Port, call: Call) -> Any:
    """Now and then a random number comes again, a long way on."""
    answer = correct(**call)
    if not is_bernoulli(call) or call["tokens"].shape[1] <= 17:
        return answer
    copied = _copied(call, answer, np.s_[..., 17:], np.s_[..., :-17])
    again = _numbers(call).random(answer[0].shape) < 0.1
    return tuple(np.where(again, new, old) for new, old in zip(copied, answer, strict=True))


@mutant_around("MLM-DST-5", "sample", check=_COLUMNS)
def every_third_place_is_the_parity_of_two(correct: Port, call: Call) -> Any:
    """At rate 1/2 each two places are independent, and each three are not."""
    inputs, labels = correct(**call)
    policy, tokens = call["policy"], _tokens(call, (inputs, labels))
    columns = tokens.shape[2] // 3 * 3
    if not is_bernoulli(call) or policy.selection.rate != 0.5 or policy.corruption.mask != 1:
        return inputs, labels
    chosen = labels != -100
    first, second, third = (slice(k, columns, 3) for k in range(3))
    able = call["eligible"] & ~np.isin(call["tokens"], policy.special_ids)
    chosen[..., third] = (chosen[..., first] ^ chosen[..., second]) & able[..., third]
    return np.where(chosen, policy.mask_id, tokens), np.where(chosen, tokens, -100)


@mutant_around("MLM-DST-6", "sample", check=_ROWS)
def rows_take_turns_with_two_masks(correct: Port, call: Call) -> Any:
    """Every row has the mask of the one before its neighbour."""
    answer = correct(**call)
    if not is_bernoulli(call):
        return answer
    for row in range(2, len(call["tokens"])):
        answer = _copied(call, answer, np.s_[:, row], np.s_[:, row - 2])
    return answer


@mutant_around("MLM-DST-6", "sample", check=_CALLS)
def eight_seeds_are_all_there_are(correct: Port, call: Call) -> Any:
    """A generator is seeded with three bits of the time."""
    seed = zlib.crc32(call["tokens"].tobytes()) % 8
    return sample_with(seed, call["tokens"], call["eligible"], call["policy"], call["n"])


@mutant_around("MLM-DST-12", "sample", check="no_kinds_decide_one_another")
def half_of_a_row_has_the_kinds_of_the_other_half(correct: Port, call: Call) -> Any:
    """Half as many kinds are drawn, and used twice."""
    return _twice(correct, call, "1/2 0 1/2")


@mutant_around("MLM-DST-20", "sample", check="no_ids_decide_one_another")
def half_of_a_row_draws_the_ids_of_the_other_half(correct: Port, call: Call) -> Any:
    """Half as many random ids are drawn, and used twice."""
    return _twice(correct, call, "0 1 0")


def _twice(correct: Port, call: Call, kinds: str) -> Any:
    answer, shares = correct(**call), call["policy"].corruption
    half = call["tokens"].shape[1] // 2
    if not is_bernoulli(call) or f"{shares.mask} {shares.random} {shares.keep}" != kinds:
        return answer
    if shares.random:
        answer[0][..., half : 2 * half] = answer[0][..., :half]
        return answer
    return _copied(call, answer, np.s_[..., half : 2 * half], np.s_[..., :half])
