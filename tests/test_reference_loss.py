"""The reference's mean, its loss with each denominator, and its steps."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import mlm_spec
from mlm_spec import Status
from mlm_spec.errors import CapacityError, EmptySelectionError, IdRangeError, NotFiniteError

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(0.0, 3.0, (2, 3, 5))
TARGETS = np.array([[4, 2, 0], [1, 3, 3]])
SELECTED = np.array([[True, False, True], [True, False, False]])
LABELS = np.where(SELECTED, TARGETS, -100)
COUNT = 3


def test_a_mean_is_the_sum_divided_by_the_count() -> None:
    assert mlm_spec.mean_log_likelihood(-6.0, 4) == -1.5
    assert mlm_spec.mean_log_likelihood(-6.0, 1) == -6.0
    assert mlm_spec.mean_log_likelihood(np.float64(-0.5), np.int64(2)) == -0.25
    assert type(mlm_spec.mean_log_likelihood(np.float64(-0.5), np.int64(2))) is float
    assert mlm_spec.mean_log_likelihood(np.float32(-0.1), 3) == float(np.float32(-0.1)) / 3


@pytest.mark.parametrize(
    ("how", "denominator"),
    [
        ({}, COUNT),
        ({"reduction": "mean"}, COUNT),
        ({"reduction": "sum"}, 1),
        ({"reduction": "sum/num_items", "num_items": 7}, 7),
        ({"reduction": "sum/num_items", "num_items": np.int64(1)}, 1),
        ({"reduction": "mean", "num_items": 7}, COUNT),
    ],
)
def test_a_loss_is_minus_the_sum_over_its_denominator(how: Any, denominator: int) -> None:
    scored = mlm_spec.score(LOGITS, TARGETS, SELECTED)
    value, gradient = mlm_spec.loss(LOGITS, LABELS, **how)
    assert type(value) is np.float64
    assert value == -float(scored.sum) / denominator
    shares = np.full(TARGETS.shape, 1.0 / denominator)
    expected = -mlm_spec.score(LOGITS, TARGETS, SELECTED, shares).grad_logits
    np.testing.assert_array_equal(gradient, expected)
    assert not np.signbit(gradient[~SELECTED]).any()


@pytest.mark.parametrize("ignore_index", [-1, 0, 7])
def test_another_label_can_mean_not_selected(ignore_index: int) -> None:
    targets = np.array([[4, 2, 1], [1, 3, 3]])
    expected, gradient = mlm_spec.loss(LOGITS, np.where(SELECTED, targets, -100))
    labels = np.where(SELECTED, targets, ignore_index)
    value, same = mlm_spec.loss(LOGITS, labels, ignore_index=ignore_index)
    assert value == expected
    np.testing.assert_array_equal(same, gradient)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, ml_dtypes.bfloat16, np.float16])
def test_the_gradient_has_the_dtype_of_the_logits(dtype: Any) -> None:
    assert mlm_spec.loss(LOGITS.astype(dtype), LABELS)[1].dtype == dtype


@pytest.mark.parametrize(
    "how", [{"reduction": "sum"}, {"reduction": "sum/num_items", "num_items": 9}]
)
def test_a_micro_batch_with_nothing_selected_adds_nothing(how: Any) -> None:
    value, gradient = mlm_spec.loss(LOGITS, np.full((2, 3), -100), **how)
    assert value == 0.0
    assert not np.signbit(value)
    assert not gradient.any()


def test_weights_scale_terms_and_gradients() -> None:
    weights = np.array([[2.0, np.nan, 0.0], [-0.5, np.inf, 1.0]], np.float32)
    plain = mlm_spec.score(LOGITS, TARGETS, SELECTED)
    scored = mlm_spec.score(LOGITS, TARGETS, SELECTED, weights)
    np.testing.assert_array_equal(scored.log_likelihood, plain.log_likelihood)
    terms = plain.log_likelihood[SELECTED]
    assert scored.sum == np.float64(2.0 * terms[0] - 0.5 * terms[2])
    np.testing.assert_array_equal(scored.grad_logits[0, 0], 2.0 * plain.grad_logits[0, 0])
    assert not scored.grad_logits[0, 1:].any()


def test_a_count_is_an_integer_of_numpy() -> None:
    scored = mlm_spec.score(LOGITS, TARGETS, SELECTED)
    assert (type(scored.sum), type(scored.count)) == (np.float64, np.int64)
    assert scored.count == COUNT


def head_arguments() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return RNG.normal(size=(2, 3, 4)), RNG.normal(size=(5, 4)), RNG.normal(size=5)


def test_a_head_answers_with_numbers_of_numpy() -> None:
    found = mlm_spec.head(*head_arguments(), TARGETS, SELECTED)
    assert (type(found.sum), type(found.count)) == (np.float64, np.int64)
    assert found.count == COUNT


@pytest.mark.parametrize("capacity", [3, 4, np.int64(3)])
def test_a_step_that_has_room_is_the_call(capacity: int) -> None:
    weights = RNG.normal(size=(2, 3))
    scored = mlm_spec.score(LOGITS, TARGETS, SELECTED, weights)
    step = mlm_spec.score_step(LOGITS, TARGETS, SELECTED, weights, capacity)
    assert (step.sum, step.count, step.status) == (scored.sum, scored.count, Status.OK)
    np.testing.assert_array_equal(step.grad_logits, scored.grad_logits)
    arrays = head_arguments()
    done = mlm_spec.head(*arrays, TARGETS, SELECTED, weights)
    step = mlm_spec.head_step(*arrays, TARGETS, SELECTED, weights, capacity)
    assert step.status == Status.OK
    for now, then in zip(step[:5], done, strict=True):
        np.testing.assert_array_equal(now, then)


def without_effect(capacity: int, selected: np.ndarray, logits: np.ndarray) -> Status:
    """The status of a step without effect, of both steps."""
    step = mlm_spec.score_step(logits, TARGETS, selected, None, capacity)
    assert (type(step.sum), type(step.count)) == (np.float64, np.int64)
    assert (step.sum, step.count) == (0.0, 0)
    assert not step.grad_logits.any()
    assert step.grad_logits.shape == logits.shape
    hidden, weight, bias = head_arguments()
    hidden[~np.isfinite(logits).all(axis=-1)] = np.nan
    for own in (bias, None):
        heads = mlm_spec.head_step(hidden, weight, own, TARGETS, selected, None, capacity)
        assert (type(heads.sum), type(heads.count)) == (np.float64, np.int64)
        assert (heads.sum, heads.count, heads.status) == (0.0, 0, step.status)
        assert (heads.grad_bias is None) == (own is None)
        for gradient, array in zip(heads[2:5], (hidden, weight, own), strict=True):
            assert array is None or gradient.shape == array.shape
            assert array is None or not gradient.any()
    return step.status


def test_a_step_without_effect_says_why() -> None:
    broken = LOGITS.copy()
    broken[0, 0, 1] = np.nan
    nothing = np.zeros_like(SELECTED)
    assert without_effect(2, SELECTED, LOGITS) == Status.OVERFLOW
    assert without_effect(3, SELECTED, broken) == Status.NOT_FINITE
    assert without_effect(0, nothing, LOGITS) == Status.EMPTY
    assert without_effect(0, SELECTED, broken) == Status.OVERFLOW


@pytest.mark.parametrize("nothing", [False, True])
def test_a_step_with_a_weight_that_is_no_number_says_so_and_raises_nothing(nothing: bool) -> None:
    hidden, weight, bias = head_arguments()
    weight[2, 1] = np.nan
    selected = SELECTED & (not nothing)
    step = mlm_spec.head_step(hidden, weight, bias, TARGETS, selected, None, 3)
    assert step.status == (Status.NOT_FINITE | Status.EMPTY if nothing else Status.NOT_FINITE)
    assert (step.sum, step.count, step.grad_weight.any()) == (0.0, 0, False)
    full = mlm_spec.head_step(hidden, weight, bias, TARGETS, SELECTED, None, 2)
    assert full.status == Status.OVERFLOW


@pytest.mark.parametrize("status", [Status.OK, 0, np.int32(0), Status.EMPTY])
def test_a_good_status_raises_nothing(status: int) -> None:
    assert mlm_spec.raise_for_status(status) is None  # type: ignore[func-returns-value]
    assert mlm_spec.raise_for_status(Status.OK, mean=True) is None  # type: ignore[func-returns-value]


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (Status.EMPTY | Status.OVERFLOW, CapacityError),
        (Status.EMPTY | Status.ID_RANGE, IdRangeError),
        (Status.EMPTY | Status.NOT_FINITE, NotFiniteError),
        (Status.EMPTY, EmptySelectionError),
    ],
)
def test_a_status_raises_its_first_error(status: Status, error: type[Exception]) -> None:
    with pytest.raises(error):
        mlm_spec.raise_for_status(int(status), mean=True)
