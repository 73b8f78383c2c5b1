"""Messages of random words, of thresholds and of masks, in full."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from message_cases import Call, assert_says

import mlm_spec
from mlm_spec import MlmSpecError, port
from mlm_spec.policy import Bernoulli, Corruption, MaskingPolicy, WholeWord
from mlm_spec.random_words import split_words


def policy(**how: Any) -> MaskingPolicy:
    plain = {"selection": Bernoulli("3/20"), "corruption": Corruption("4/5", "1/10", "1/10")}
    return MaskingPolicy(**{**plain, "vocab_size": 32, "mask_id": 4, **how})


def batch(**how: Any) -> dict[str, Any]:
    """The arguments of `mask` and of its step."""
    arguments = {
        "tokens": np.array([[5, 6, 7]]),
        "sequence_id": np.zeros((1, 3, 2), np.uint32),
        "position": np.zeros((1, 3), np.uint32),
        "word_id": None,
        "eligible": np.ones((1, 3), bool),
        "policy": policy(),
        "seed": 1,
        "epoch": 0,
    }
    return {**arguments, **how}


def masked(**how: Any) -> object:
    return mlm_spec.mask(**batch(**how))


def stepped(**how: Any) -> object:
    return mlm_spec.mask_step(**batch(**how))


CALLS: list[Call] = [
    ("DTypeError: ids is 'a', a str; expected integers", lambda: split_words(["a"])),
    ("DTypeError: ids is True, a bool; expected integers", lambda: split_words([True])),
    (
        "DTypeError: ids is of dtype float64; expected integers",
        lambda: split_words(np.array([0.5])),
    ),
    ("IdRangeError: ids is -1; expected integers in 0..2**64 - 1", lambda: split_words([3, -1])),
    ("DTypeError: ids is 2.5, a float; expected integers", lambda: split_words([[1], [2.5]])),
    (
        "IdRangeError: ids is 18446744073709551616; expected integers in 0..2**64 - 1",
        lambda: split_words([0, 2**64]),
    ),
    (
        "IdRangeError: ids is 18446744073709551617; expected integers in 0..2**64 - 1",
        lambda: split_words([1, 2**64 + 1]),
    ),
    (
        "IdRangeError: ids is 18446744073709551616; expected integers in 0..2**64 - 1",
        lambda: split_words([3, 2**64]),
    ),
    (
        "IdRangeError: ids is -5; expected integers in 0..2**64 - 1",
        lambda: split_words(np.array([2, -5, 7])),
    ),
    (
        "PolicyError: p is 0.5; expected an exact fraction in [0, 1]",
        lambda: mlm_spec.threshold(0.5),
    ),
    (
        "PolicyError: p is Fraction(3, 2); expected an exact fraction in [0, 1]",
        lambda: mlm_spec.threshold(Fraction(3, 2)),
    ),
    (
        "ShapeError: key is of shape (2, 3); expected shape (n, 4)",
        lambda: port.random_words(np.zeros((2, 3), np.uint32), np.zeros((2, 4), np.uint32)),
    ),
    (
        "ShapeError: counter is of shape (3, 4); expected shape (2, 4)",
        lambda: port.random_words(np.zeros((2, 4), np.uint32), np.zeros((3, 4), np.uint32)),
    ),
    (
        "DTypeError: key is of dtype int32; expected uint32",
        lambda: port.random_words(np.zeros((2, 4), np.int32), np.zeros((2, 4), np.uint32)),
    ),
    (
        "DTypeError: counter is of dtype int64; expected uint32",
        lambda: port.random_words(np.zeros((2, 4), np.uint32), np.zeros((2, 4), np.int64)),
    ),
    ("SeedError: seed is 1.5 (float); expected an integer", lambda: masked(seed=1.5)),
    ("SeedError: seed is True (bool); expected an integer", lambda: masked(seed=True)),
    ("SeedError: epoch is -1; expected an integer in 0..2**64 - 1", lambda: masked(epoch=-1)),
    (
        "SeedError: epoch is 18446744073709551616; expected an integer in 0..2**64 - 1",
        lambda: masked(epoch=2**64),
    ),
    (
        "DTypeError: tokens is a list; expected a NumPy array of int32 or int64",
        lambda: masked(tokens=[[5, 6, 7]]),
    ),
    (
        "ShapeError: tokens is of shape (3,); expected shape (B, T)",
        lambda: masked(tokens=np.zeros(3, np.int64)),
    ),
    (
        "DTypeError: tokens is of dtype int16; expected int32 or int64",
        lambda: masked(tokens=np.zeros((1, 3), np.int16)),
    ),
    (
        "IdRangeError: tokens[0, 1] is 32; expected an id in 0..31 (vocab_size is 32)",
        lambda: masked(tokens=np.array([[5, 32, -1]])),
    ),
    (
        "IdRangeError: tokens[0, 2] is -1; expected an id in 0..31 (vocab_size is 32)",
        lambda: masked(tokens=np.array([[0, 1, -1]])),
    ),
    (
        "ShapeError: sequence_id is of shape (1, 3); expected shape (1, 3, 2)",
        lambda: masked(sequence_id=np.zeros((1, 3), np.uint32)),
    ),
    (
        "DTypeError: sequence_id is of dtype int64; expected uint32",
        lambda: masked(sequence_id=np.zeros((1, 3, 2), np.int64)),
    ),
    (
        "ShapeError: position is of shape (1, 2); expected shape (1, 3)",
        lambda: masked(position=np.zeros((1, 2), np.uint32)),
    ),
    (
        "DTypeError: position is of dtype int32; expected uint32",
        lambda: masked(position=np.zeros((1, 3), np.int32)),
    ),
    (
        "ShapeError: word_id is of shape (2, 3); expected shape (1, 3)",
        lambda: masked(word_id=np.zeros((2, 3), np.int32)),
    ),
    (
        "DTypeError: word_id is of dtype int64; expected int32",
        lambda: masked(word_id=np.zeros((1, 3), np.int64)),
    ),
    (
        "ShapeError: eligible is of shape (3, 1); expected shape (1, 3)",
        lambda: masked(eligible=np.zeros((3, 1), bool)),
    ),
    (
        "DTypeError: eligible is of dtype uint8; expected bool",
        lambda: masked(eligible=np.zeros((1, 3), np.uint8)),
    ),
    ("PolicyError: policy is a str; expected a MaskingPolicy", lambda: masked(policy="bert")),
    (
        "WordError: word_id is None; expected int32 (B, T): this policy looks at words",
        lambda: masked(policy=policy(selection=WholeWord("3/20"))),
    ),
    ("SeedError: seed is None (NoneType); expected an integer", lambda: stepped(seed=None)),
    ("SeedError: epoch is 0.0 (float); expected an integer", lambda: stepped(epoch=0.0)),
]


@pytest.mark.parametrize(("message", "call"), CALLS)
def test_a_bad_call_says_what_was_got_what_was_expected_and_where(
    message: str, call: Callable[[], object]
) -> None:
    assert_says(message, call)


def test_the_parts_of_a_message_are_fields() -> None:
    with pytest.raises(MlmSpecError) as caught:
        masked(tokens=np.array([[5, 32, -1]]))
    found = caught.value
    assert (found.where, found.got) == ("tokens[0, 1]", "32")
    assert found.expected == "an id in 0..31 (vocab_size is 32)"
