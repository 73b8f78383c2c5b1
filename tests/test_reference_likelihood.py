"""The reference's log-likelihood and gradient against exact values, where each refinement counts.

Each number is off by no more than its docstring says, in units of 2⁻⁵³ of itself.
"""

from __future__ import annotations

import math
import warnings
from fractions import Fraction

import numpy as np
import pytest

from mlm_spec.exact import enclose, rounded_gradient
from mlm_spec.likelihood import log_likelihood, logit_gradient, pairwise_sum

pytestmark = pytest.mark.filterwarnings("error")

SMALLEST = np.finfo(np.float64).tiny
LARGEST = np.finfo(np.float64).max
SIZES = (2, 3, 7, 100, 1000)


def depth(size: int) -> int:
    return math.ceil(math.log2(size))


def off(found: float, exact: float) -> Fraction:
    """How far a float lies from another, in units of 2⁻⁵³ of that."""
    return abs(Fraction(float(found)) / Fraction(exact) - 1) * 2**53


def assert_near(row: np.ndarray, target: int) -> None:
    exact = float(enclose(row, target))
    assert abs(exact) >= SMALLEST
    (found,) = log_likelihood(row[None], np.array([target]))
    # One unit more: the exact value is rounded too.
    assert off(found, exact) <= 14 + depth(row.size) + 1


def assert_gradient_near(row: np.ndarray, target: int) -> None:
    exact = rounded_gradient(row, target)
    (found,) = logit_gradient(row[None], np.array([target]))
    for mine, true in zip(found.tolist(), exact.tolist(), strict=True):
        if abs(true) >= SMALLEST:
            assert off(mine, true) <= 12 + 2 * depth(row.size) + 1
        else:
            assert abs(mine) < 2 * SMALLEST


def far_below(gap: float, size: int, seed: int) -> np.ndarray:
    """One logit, and all others about ``gap`` below it: no difference is a float."""
    rng = np.random.default_rng(seed)
    row = rng.normal(0.1, 0.3, size)
    row[seed % size] = row.max() + gap
    return row


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("gap", [0.0, 1.0, 40.0, 300.0, 599.0, 601.0, 690.0, 700.0])
def test_a_tail_keeps_its_digits_however_small_it_is(gap: float, size: int) -> None:
    for seed in range(4):
        row = far_below(gap, size, seed)
        assert_near(row, int(row.argmax()))


@pytest.mark.parametrize("gap", [711.0, 712.5, 714.0])
def test_a_tail_does_not_underflow_where_only_its_terms_do(gap: float) -> None:
    row = np.full(1000, 0.3)
    row[3] += gap
    assert_near(row, 3)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("offset", [0.0, 1e3, -1e15])
def test_other_targets_are_as_near(offset: float, size: int) -> None:
    rng = np.random.default_rng(size)
    for spread in (1e-3, 1.0, 30.0, 500.0):
        row = rng.normal(0.0, spread, size) + offset
        for target in {0, size - 1, int(row.argmin()), int(row.argmax())}:
            if float(enclose(row, target)):
                assert_near(row, target)


@pytest.mark.parametrize("size", SIZES[:-1])
@pytest.mark.parametrize("gap", [0.0, 1.0, 40.0, 300.0, 600.0, 680.0])
def test_each_entry_of_a_gradient_keeps_its_digits(gap: float, size: int) -> None:
    for seed in range(3):
        row = far_below(gap, size, seed)
        for target in {0, size - 1, int(row.argmax())}:
            assert_gradient_near(row, target)


def test_gradients_of_negative_and_of_wide_logits_are_as_near() -> None:
    for row in (np.array([-700.1, -0.37, -90.7]), np.array([1e-3, -650.3, 1e-17, 3.3])):
        for target in range(row.size):
            assert_gradient_near(row, target)
            assert_near(row, target)


def test_what_is_beyond_the_range_is_minus_infinity_or_nothing_and_warns_nobody() -> None:
    row = np.array([[LARGEST, -LARGEST, 0.0, -np.inf]])
    found = [float(log_likelihood(row, np.array([t]))[0]) for t in range(4)]
    assert found == [0.0, -np.inf, -LARGEST, -np.inf]
    assert not np.signbit(found[0])
    for target in range(3):
        gradient = logit_gradient(row, np.array([target]))[0]
        expected = np.eye(4)[target] - np.eye(4)[0]
        np.testing.assert_array_equal(gradient, expected)
        assert not np.signbit(gradient[gradient == 0.0]).any()


def test_the_only_logit_has_likelihood_one() -> None:
    for row in ([[5.0]], [[-np.inf, 5.0, -np.inf]]):
        target = np.array([len(row[0]) // 2])
        (nats,) = log_likelihood(np.array(row), target)
        assert nats == 0.0
        assert not np.signbit(nats)
        gradient = logit_gradient(np.array(row), target)
        assert not gradient.any()
        assert not np.signbit(gradient).any()


def test_logits_are_left_alone_and_rows_may_be_missing() -> None:
    rows = np.array([[0.5, 2.0, -1.0], [3.0, 3.0, 0.0]])
    before = rows.copy()
    log_likelihood(rows, np.array([1, 0]))
    logit_gradient(rows, np.array([1, 0]))
    np.testing.assert_array_equal(rows, before)
    nothing = np.zeros((0, 3)), np.zeros(0, np.int64)
    assert log_likelihood(*nothing).shape == (0,)
    assert logit_gradient(*nothing).shape == (0, 3)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("ids", [np.int32, np.int64])
def test_narrow_logits_are_converted_exactly(dtype: type, ids: type) -> None:
    row = np.array([[0.1, 3.3, -2.7]], dtype)
    target = np.array([2], ids)
    wide = row.astype(np.float64)
    assert log_likelihood(row, target).dtype == logit_gradient(row, target).dtype == np.float64
    np.testing.assert_array_equal(log_likelihood(row, target), log_likelihood(wide, target))
    np.testing.assert_array_equal(logit_gradient(row, target), logit_gradient(wide, target))


@pytest.mark.parametrize("size", range(10))
def test_a_sum_is_a_balanced_tree(size: int) -> None:
    terms = np.ldexp(1.0, -5 * np.arange(size)) * np.array([[1.0], [3.0]])
    assert pairwise_sum(terms).tolist() == [float(sum(map(Fraction, t))) for t in terms.tolist()]
    assert pairwise_sum(terms).shape == (2,)


@pytest.mark.parametrize("shape", [(5,), (0,), (2, 3, 5), (3, 1, 2), (4, 1), (0, 3), (2, 3, 0)])
def test_a_sum_is_over_the_last_axis(shape: tuple[int, ...]) -> None:
    whole = np.arange(math.prod(shape), dtype=np.float64).reshape(shape)
    found = pairwise_sum(whole)
    assert found.shape == shape[:-1]
    np.testing.assert_array_equal(found, whole.sum(axis=-1))


def test_a_sum_is_no_view_of_its_terms() -> None:
    terms = np.ones((3, 1))
    pairwise_sum(terms)[:] = 7.0
    assert terms.tolist() == [[1.0]] * 3


def test_a_single_possible_id_warns_nobody() -> None:
    logits = np.full((3, 5), -np.inf)
    logits[[0, 1, 2], [2, 0, 4]] = [0.0, 1e308, -1e308]
    logits[1, 1] = 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = log_likelihood(logits, np.array([2, 0, 4]))
    assert found.tolist() == [0.0, 0.0, 0.0]
