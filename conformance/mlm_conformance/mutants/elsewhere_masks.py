"""Maskers that are right for usual rows and policies, and wrong for others that are allowed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np

from mlm_conformance.mutants.inside import count_law, masked_from
from mlm_conformance.mutants.registry import Port, mutant_around
from mlm_spec import Bernoulli, FixedCount, Span

__all__ = [
    "a_cap_of_0_is_none",
    "ceilings_have_no_floor",
    "ids_beyond_two_to_the_24_are_rounded",
    "large_vocabularies_have_short_ids",
    "masks_of_rows_beyond_64_are_empty",
    "rates_are_doubles",
    "spans_longer_than_32_are_cut",
    "the_first_id_masks_nothing",
    "three_sequences_are_two",
    "words_are_numbered_in_single_precision",
    "words_have_no_sign",
]

Call = dict[str, Any]


@mutant_around("MLM-SEL-2", "mask", profile="ci")
def masks_of_rows_beyond_64_are_empty(correct: Port, call: Call) -> Any:
    """Only 64 rows of a batch are masked."""
    batch = correct(**call)
    batch.selected[64:] = False
    return batch._replace(inputs=np.where(batch.selected, batch.inputs, batch.targets))


@mutant_around("MLM-RNG-6", "mask", check="random_ids_come_from_the_two_try_index")
def ids_beyond_two_to_the_24_are_rounded(correct: Port, call: Call) -> Any:
    """Random ids pass through float32."""
    batch = correct(**call)
    limit = call["policy"].vocab_size - 1
    rounded = np.minimum(np.float32(batch.inputs).astype(np.int64), limit)
    changed = batch.selected & (batch.inputs != batch.targets)
    shown = np.where(changed, rounded, batch.inputs)
    return batch._replace(inputs=shown.astype(batch.inputs.dtype))


@mutant_around("MLM-SEL-8", "mask", profile="ci")
def spans_longer_than_32_are_cut(correct: Port, call: Call) -> Any:
    """A span that would be longer than 32 positions is 32 long."""

    def change(source: Any, policy: Any, *key: int) -> Any:
        law = policy.selection
        if isinstance(law, Span) and len(law.lengths) > 32:
            rest = sum(law.lengths[31:], Fraction(0))
            law = Span(law.start, (*law.lengths[:31], rest))
        return source, replace(policy, selection=law), *key

    return masked_from(correct, call, change)


@mutant_around("MLM-RNG-5", "mask", check="a_decision_turns_at_its_word")
def rates_are_doubles(correct: Port, call: Call) -> Any:
    """A probability is rounded to float64 before its threshold is taken."""

    def change(source: Any, policy: Any, *key: int) -> Any:
        if isinstance(policy.selection, Bernoulli):
            rate = Fraction(float(policy.selection.rate))
            policy = replace(policy, selection=Bernoulli(rate))
        return source, policy, *key

    return masked_from(correct, call, change)


@mutant_around("MLM-SEL-7", "mask", profile="ci")
def words_are_numbered_in_single_precision(correct: Port, call: Call) -> Any:
    """Word ids pass through float32, so that large neighbours are one word."""

    def change(source: Any, *rest: Any) -> Any:
        words = source.word_id
        rounded = None if words is None else np.float32(words).astype(np.int64)
        return replace(source, word_id=rounded), *rest

    return masked_from(correct, call, change)


@mutant_around("MLM-COR-3", "mask", profile="ci")
def the_first_id_masks_nothing(correct: Port, call: Call) -> Any:
    """A mask id of 0 is taken for none, and the original shown."""
    batch = correct(**call)
    if call["policy"].mask_id != 0:
        return batch
    return batch._replace(inputs=np.where(batch.inputs == 0, batch.targets, batch.inputs))


@mutant_around("MLM-SEL-5", "mask", check="the_smallest_words_are_selected")
def three_sequences_are_two(correct: Port, call: Call) -> Any:
    """Of the sequences of a row only the first two are told apart."""

    def change(source: Any, *rest: Any) -> Any:
        ids = source.sequence_id.copy()
        for row in ids:
            seen = list(dict.fromkeys(map(tuple, row.tolist())))
            for late in seen[2:] if len(seen) < 8 else []:
                row[(row == late).all(axis=-1)] = seen[1]
        return replace(source, sequence_id=ids), *rest

    return masked_from(correct, call, change)


def _with_count(
    correct: Port, call: Call, wrong: Callable[[FixedCount], bool], **other: Any
) -> Any:
    """The right masks of another count, where the law is one that goes wrong."""
    law = call["policy"].selection
    if not (isinstance(law, FixedCount) and wrong(law)):
        return correct(**call)
    return correct(**{**call, "policy": replace(call["policy"], selection=count_law(law, **other))})


@mutant_around("MLM-SEL-4", "mask")
def ceilings_have_no_floor(correct: Port, call: Call) -> Any:
    """A count that is rounded up has no floor above 2."""
    return _with_count(
        correct, call, lambda law: law.rounding == "ceiling" and law.floor > 2, floor=0
    )


@mutant_around("MLM-SEL-4", "mask")
def a_cap_of_0_is_none(correct: Port, call: Call) -> Any:
    """A cap of 0 is taken for none."""
    return _with_count(correct, call, lambda law: law.cap == 0, cap=None)


@mutant_around("MLM-SEL-7", "mask", profile="ci")
def words_have_no_sign(correct: Port, call: Call) -> Any:
    """Word ids w and -w are one word."""
    words = call["word_id"]
    if words is None:
        return correct(**call)
    return correct(**{**call, "word_id": np.abs(np.maximum(words, -(2**31) + 1))})


@mutant_around("MLM-COR-2", "mask", profile="ci")
def large_vocabularies_have_short_ids(correct: Port, call: Call) -> Any:
    """Beyond a million ids the inputs are int32, whatever the tokens are."""
    batch = correct(**call)
    wide = call["policy"].vocab_size <= 10**6
    return batch if wide else batch._replace(inputs=batch.inputs.astype(np.int32))
