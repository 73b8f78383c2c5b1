"""The JAX backend's steps: a status for each fault, and no effect then."""

from __future__ import annotations

from typing import Any

import mlm_jax
import numpy as np
import pytest
from jax_cases import NAN_WEIGHTS, PORT, head_arguments, packed, policy, put, score_arguments
from mlm_jax.head import jitted_head_step

from mlm_spec.batch import Status
from mlm_spec.errors import CapacityError, EmptySelectionError, IdRangeError, NotFiniteError
from mlm_spec.policy import Bernoulli

NONE_SELECTED = {"selected": np.zeros((2, 4), bool)}
SCORE_STATUSES = [
    ({}, 4, Status.OK),
    ({}, 3, Status.OVERFLOW),
    ({"targets": put((1, 2), 6)}, 8, Status.ID_RANGE),
    ({"targets": put((1, 2), 2**32 + 1)}, 8, Status.ID_RANGE),
    ({"targets": put((1, 2), -1)}, 8, Status.ID_RANGE),
    ({"logits": put((0, 2, 3), np.nan)}, 8, Status.NOT_FINITE),
    ({"logits": put((0, 2, 3), np.inf)}, 8, Status.NOT_FINITE),
    ({"logits": put((0, 2, 1), np.inf)}, 8, Status.NOT_FINITE),
    ({"logits": put((0, 2), -np.inf)}, 8, Status.NOT_FINITE),
    ({"logits": put((0, 2, 1), -np.inf)}, 8, Status.NOT_FINITE),
    ({"logits": put((0, 2, 3), -np.inf)}, 8, Status.OK),
    ({"weights": NAN_WEIGHTS}, 8, Status.NOT_FINITE),
    ({"logits": put((0, 1), np.nan), "targets": put((0, 3), 99)}, 8, Status.OK),
    (NONE_SELECTED, 0, Status.EMPTY),
]


@pytest.mark.parametrize(("changes", "capacity", "status"), SCORE_STATUSES)
def test_a_score_step_reports_what_it_found_and_then_has_no_effect(
    changes: dict[str, Any], capacity: int, status: Status
) -> None:
    step = PORT.score_step(**score_arguments(**changes), capacity=capacity)
    assert Status(step["status"]) == status
    effect = status == Status.OK
    assert bool(step["count"]) == effect
    assert bool(step["sum"]) == effect
    assert bool(step["grad_logits"].any()) == effect


HEAD_STATUSES = [
    ({}, 4, Status.OK),
    ({}, 3, Status.OVERFLOW),
    ({}, 0, Status.OVERFLOW),
    ({"targets": put((1, 2), 6)}, 8, Status.ID_RANGE),
    ({"hidden": put((0, 2, 1), np.nan)}, 8, Status.NOT_FINITE),
    ({"hidden": put((0, 2, 1), -np.inf)}, 8, Status.NOT_FINITE),
    ({"hidden": put((0, 2), 3e38), "weight": put(4, 9.0)}, 8, Status.NOT_FINITE),
    ({"weight": put((5, 0), -np.inf)}, 8, Status.NOT_FINITE),
    ({"bias": put(5, np.nan)}, 8, Status.NOT_FINITE),
    ({"bias": put(5, -np.inf)}, 8, Status.OK),
    ({"weights": NAN_WEIGHTS}, 8, Status.NOT_FINITE),
    ({"hidden": put((0, 1), np.nan)}, 8, Status.OK),
    (NONE_SELECTED, 0, Status.EMPTY),
]


@pytest.mark.parametrize(("changes", "capacity", "status"), HEAD_STATUSES)
def test_a_head_step_reports_what_it_found_and_then_has_no_effect(
    changes: dict[str, Any], capacity: int, status: Status
) -> None:
    step = PORT.head_step(**head_arguments(**changes), capacity=capacity)
    assert Status(step["status"]) == status
    effect = status == Status.OK
    assert bool(step["count"]) == effect
    assert bool(step["sum"]) == effect
    for name in ("grad_hidden", "grad_weight", "grad_bias"):
        assert bool(step[name].any()) == effect


@pytest.mark.parametrize("capacity", [3, 4])
def test_a_compiled_head_step_with_a_static_capacity_does_the_same(capacity: int) -> None:
    arguments = head_arguments()
    arguments["targets"] = arguments["targets"].astype(np.int32)
    step = jitted_head_step(**arguments, capacity=capacity)
    assert int(step.status) == (Status.OK if capacity == 4 else Status.OVERFLOW)
    assert int(step.count) == (4 if capacity == 4 else 0)


@pytest.mark.parametrize("bad", [-1, 32, 2**32 + 9])
def test_a_mask_step_with_an_unknown_token_returns_the_tokens(bad: int) -> None:
    source = packed(3, 24, 32, seed=9)
    source[0][1, 7] = bad
    source[4][1, 7] = False
    step = PORT.mask_step(*source, policy(Bernoulli(1)), 1, 1)
    assert Status(step["status"]) == Status.ID_RANGE | Status.EMPTY
    assert not step["selected"].any()
    for name in ("inputs", "targets"):
        np.testing.assert_array_equal(step[name], source[0])
        assert step[name].dtype == np.int64


def test_a_token_beyond_int32_is_refused_by_the_checked_function() -> None:
    source = packed(3, 24, 32, seed=9)
    source[0][1, 7] = 2**32 + 9
    with pytest.raises(IdRangeError, match=r"tokens\[1, 7\] is 4294967305"):
        mlm_jax.mask(*source, policy(Bernoulli(1)), 1, 1)


def test_a_mask_step_that_selects_nothing_is_empty() -> None:
    source = packed(3, 24, 32, seed=9)
    assert PORT.mask_step(*source, policy(Bernoulli(0)), 1, 1)["status"] == Status.EMPTY
    assert PORT.mask_step(*source, policy(Bernoulli(1)), 1, 1)["status"] == Status.OK


@pytest.mark.parametrize(
    ("status", "mean", "error"),
    [
        (Status.OVERFLOW | Status.EMPTY, False, CapacityError),
        (Status.ID_RANGE | Status.EMPTY, False, IdRangeError),
        (Status.NOT_FINITE, False, NotFiniteError),
        (Status.EMPTY, True, EmptySelectionError),
        (Status.EMPTY, False, None),
        (Status.OK, True, None),
    ],
)
def test_a_status_raises_its_error(
    status: Status, mean: bool, error: type[Exception] | None
) -> None:
    if error is None:
        PORT.raise_for_status(int(status), mean=mean)
    else:
        with pytest.raises(error):
            PORT.raise_for_status(int(status), mean=mean)
