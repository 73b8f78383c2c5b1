"""The JAX backend refuses bad input and says where it is."""

from __future__ import annotations

from typing import Any

import mlm_jax
import numpy as np
import pytest
from jax_cases import (
    NAN_WEIGHTS,
    PORT,
    assert_same_batch,
    head_arguments,
    packed,
    policy,
    put,
    score_arguments,
)

import mlm_spec
from mlm_spec.errors import (
    CapacityError,
    DTypeError,
    IdRangeError,
    ImpossibleTargetError,
    MlmSpecError,
    NoSupportError,
    NotFiniteError,
    PolicyError,
    SeedError,
    ShapeError,
    WordError,
)
from mlm_spec.policy import Bernoulli, WholeWord

SCORE_ERRORS = [
    ({"targets": put((1, 2), 6)}, IdRangeError, "targets[1, 2]"),
    ({"targets": put((1, 2), 2**32 + 1)}, IdRangeError, "targets[1, 2]"),
    ({"logits": put((0, 2, 3), np.nan)}, NotFiniteError, "logits[0, 2, 3]"),
    ({"logits": put((0, 2, 3), np.inf)}, NotFiniteError, "logits[0, 2, 3]"),
    ({"logits": put((0, 2), -np.inf)}, NoSupportError, "logits[0, 2]"),
    ({"logits": put((0, 2, 1), -np.inf)}, ImpossibleTargetError, "logits[0, 2, 1]"),
    ({"weights": NAN_WEIGHTS}, NotFiniteError, "weights[0, 0]"),
    ({"weights": np.full((2, 4), 1e300)}, NotFiniteError, "the sum of the log-likelihoods"),
    ({"logits": np.zeros((2, 4), np.float32)}, ShapeError, "logits"),
    ({"logits": np.zeros((2, 4, 0), np.float32)}, ShapeError, "logits"),
    ({"targets": np.zeros((2, 3), np.int32)}, ShapeError, "targets"),
    ({"selected": np.zeros((4, 2), bool)}, ShapeError, "selected"),
    ({"weights": np.zeros((2, 4, 1), np.float32)}, ShapeError, "weights"),
    ({"logits": np.zeros((2, 4, 6), np.int32)}, DTypeError, "logits"),
    ({"logits": [[[0.0]]]}, DTypeError, "logits"),
    ({"targets": np.zeros((2, 4))}, DTypeError, "targets"),
    ({"selected": np.zeros((2, 4), np.int32)}, DTypeError, "selected"),
    ({"weights": np.zeros((2, 4), np.float16)}, DTypeError, "weights"),
]


@pytest.mark.parametrize(("changes", "error", "where"), SCORE_ERRORS)
def test_score_refuses_bad_input_and_says_where(
    changes: dict[str, Any], error: type[MlmSpecError], where: str
) -> None:
    arguments = score_arguments(**changes)
    with pytest.raises(error) as caught:
        PORT.score(**arguments)
    assert caught.value.where == where
    assert str(caught.value) == f"{where} is {caught.value.got}; expected {caught.value.expected}"
    assert float(PORT.score(**score_arguments()).count) == 4


HEAD_LOGITS = "hidden @ weight.T + bias"
HEAD_ERRORS = [
    ({"targets": put((1, 2), 6)}, IdRangeError, "targets[1, 2]"),
    ({"hidden": put((0, 2, 1), np.nan)}, NotFiniteError, "hidden[0, 2, 1]"),
    ({"weight": put((5, 0), np.inf)}, NotFiniteError, "weight[5, 0]"),
    ({"bias": put(5, np.nan)}, NotFiniteError, f"{HEAD_LOGITS}[0, 0, 5]"),
    ({"bias": put(slice(None), -np.inf)}, NoSupportError, f"{HEAD_LOGITS}[0, 0]"),
    ({"bias": put(1, -np.inf)}, ImpossibleTargetError, f"{HEAD_LOGITS}[0, 0, 1]"),
    (
        {"hidden": put((0, 2), 3e38), "weight": put(4, 9.0)},
        NotFiniteError,
        f"{HEAD_LOGITS}[0, 2, 4]",
    ),
    ({"weights": NAN_WEIGHTS}, NotFiniteError, "weights[0, 0]"),
    ({"hidden": np.zeros((2, 4), np.float32)}, ShapeError, "hidden"),
    ({"weight": np.zeros((6, 4), np.float32)}, ShapeError, "weight"),
    ({"bias": np.zeros(5, np.float32)}, ShapeError, "bias"),
    ({"weight": np.zeros((6, 3), np.float16)}, DTypeError, "weight"),
    ({"bias": np.zeros(6)}, DTypeError, "bias"),
]


@pytest.mark.parametrize(("changes", "error", "where"), HEAD_ERRORS)
def test_head_refuses_bad_input_and_says_where(
    changes: dict[str, Any], error: type[MlmSpecError], where: str
) -> None:
    with pytest.raises(error) as caught:
        PORT.head(**head_arguments(**changes))
    assert caught.value.where == where
    assert float(PORT.head(**head_arguments()).count) == 4


MASK_ERRORS = [
    (0, put((1, 7), 32), IdRangeError, "tokens[1, 7]"),
    (0, put((1, 7), 2**32 + 9), IdRangeError, "tokens[1, 7]"),
    (0, np.zeros((3, 24, 1), np.int32), ShapeError, "tokens"),
    (0, np.zeros((3, 24)), DTypeError, "tokens"),
    (1, np.zeros((3, 24), np.uint32), ShapeError, "sequence_id"),
    (1, np.zeros((3, 24, 2), np.uint64), DTypeError, "sequence_id"),
    (2, np.zeros((3, 24), np.int64), DTypeError, "position"),
    (3, np.zeros((3, 24), np.int64), DTypeError, "word_id"),
    (3, None, WordError, "word_id"),
    (4, np.zeros((3, 24), np.uint8), DTypeError, "eligible"),
    (5, {"selection": "none"}, PolicyError, "policy"),
    (6, -1, SeedError, "seed"),
    (6, 2**64, SeedError, "seed"),
    (7, 1.0, SeedError, "epoch"),
    (7, True, SeedError, "epoch"),
]


@pytest.mark.parametrize(("index", "change", "error", "where"), MASK_ERRORS)
def test_mask_refuses_bad_input_and_says_where(
    index: int, change: Any, error: type[MlmSpecError], where: str
) -> None:
    arguments = [*packed(3, 24, 32, seed=1), policy(WholeWord("1/2")), 1, 2]
    if callable(change):
        change(arguments[index])
    else:
        arguments[index] = change
    with pytest.raises(error) as caught:
        PORT.mask(*arguments)
    assert caught.value.where == where


def test_a_word_unit_needs_words_and_other_policies_do_not() -> None:
    tokens, sequence, position, _, eligible = packed(3, 24, 32, seed=1)
    arguments = (tokens, sequence, position, None, eligible)
    with pytest.raises(WordError):
        PORT.mask(*arguments, policy(Bernoulli("1/2"), unit="word"), 1, 2)
    rules = policy(Bernoulli("1/2"))
    assert_same_batch(PORT.mask(*arguments, rules, 1, 2), mlm_spec.mask(*arguments, rules, 1, 2))


def test_checked_functions_given_a_capacity_refuse_an_overflow() -> None:
    with pytest.raises(CapacityError, match="4 positions"):
        mlm_jax.score(**score_arguments(), capacity=3)
    with pytest.raises(CapacityError, match="4 positions"):
        mlm_jax.head(**head_arguments(), capacity=3)
    assert int(mlm_jax.head(**head_arguments(), capacity=4).count) == 4


def test_a_plan_for_other_columns_is_refused() -> None:
    source = packed(3, 24, 32, seed=1)
    source[0] = source[0].astype(np.int32)
    plan = mlm_jax.make_plan(policy(Bernoulli("1/2")), 17)
    with pytest.raises(ShapeError, match="17 columns"):
        mlm_jax.mask_step(*source, plan, mlm_jax.key_words(0, 0))
