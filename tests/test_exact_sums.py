"""Sums of powers in decimals, and log-likelihoods at every precision."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

from mlm_spec.exact import Enclosure, enclose, enclose_sum
from mlm_spec.exact.decimals import context
from mlm_spec.exact.likelihood import SECOND_DIGITS, differences, power_sum

pytestmark = pytest.mark.filterwarnings("error")

INF = np.inf
QUARTER = Fraction(1, 2**1076)


def sum_of_powers(values: np.ndarray, top: float, digits: int = 200) -> Decimal:
    wide, whole = context(digits), Decimal(0)
    for value in values[values > -INF].tolist():
        whole = wide.add(whole, wide.exp(wide.subtract(Decimal(value), Decimal(top))))
    return whole


@pytest.mark.parametrize("top", [0.0, 3.7, -1e9])
@pytest.mark.parametrize(
    "below",
    [
        [0.0],
        [0.0, 0.0, -1.5, -1.5, -1.5, -7.25],
        [0.0, -1.5, -INF, -INF],
        [0.0, -1.5, -1.5, -389.0, -391.0, -391.0, -500.0, -INF],
        [-200.0, 0.0, -200.0, -380.0],
    ],
)
def test_powers_are_summed_in_decimals_between_two_ends(below: list[float], top: float) -> None:
    digits = 120
    values = np.array(below) + top
    exact = sum_of_powers(values, top)
    low, high = power_sum(values, top, digits)
    assert low < exact < high
    assert high - low < exact * Decimal(10) ** (4 - digits)


@pytest.mark.parametrize("size", [1, 4095, 4097, 9000])
def test_powers_are_summed_by_floats_between_two_ends(size: int) -> None:
    values = -np.abs(np.random.default_rng(size).normal(0.0, 3.0, size))
    values[[-1, 0]] = 0.0
    far = np.array([-109.9, -110.1, -200.0, -900.0, -INF])
    for row in (values, np.concatenate([far, values])):
        low, high = power_sum(row, 0.0, SECOND_DIGITS)
        assert low < sum_of_powers(row, 0.0, 60) < high
        assert high - low < high * Decimal(10) ** -22


def test_many_powers_stay_between_the_ends() -> None:
    digits = SECOND_DIGITS + 1
    for seed in range(8):
        values = -np.abs(np.random.default_rng(seed).normal(0.0, 1.0, 40))
        values[0] = 0.0
        low, high = power_sum(values, 0.0, digits)
        assert low < sum_of_powers(values, 0.0) < high
        assert high - low < high * Decimal(10) ** (4 - digits)


def log_likelihood(row: np.ndarray, target: int, digits: int = 2000) -> Fraction:
    """To so many digits, less what a sum near 1 costs."""
    top = float(row.max())
    logarithm = Fraction(context(digits).ln(sum_of_powers(row, top, digits)))
    return Fraction(float(row[target])) - Fraction(top) - logarithm


def chain(first: Enclosure, most: int = 12) -> list[Enclosure]:
    found = [first]
    while found[-1].finer and len(found) < most:
        found.append(found[-1].finer())
    return found


@pytest.mark.parametrize("target", [0, 1, 3])
def test_each_precision_of_a_likelihood_is_narrower_and_holds_the_number(target: int) -> None:
    row = np.array([0.25, -3.5, 0.1, 0.25])
    exact = log_likelihood(row, target)
    found = chain(enclose(row, target))
    assert len(found) == 7
    digits = [18, 22, 120, 240, 480, 960, 1900]
    for one, least in zip(found, digits, strict=True):
        assert one.lower < exact < one.upper
        assert one.upper - one.lower < abs(exact) / 10 ** (least - 8)


def test_a_sum_is_refined_with_its_certain_terms() -> None:
    rows = np.array([[0.0, -INF, -INF], [0.25, -3.5, 0.1]])
    exact = log_likelihood(rows[1], 1)
    found = chain(enclose_sum(rows, [0, 1]))
    assert len(found) == 7
    for one, same in zip(found, chain(enclose(rows[1], 1)), strict=True):
        assert (one.lower, one.upper) == (same.lower, same.upper)
        assert one.lower < exact < one.upper


def test_weights_turn_and_stretch_a_sum() -> None:
    rows = np.array([[0.25, -3.5, 0.1], [1.0, 2.0, -3.0]])
    terms = [log_likelihood(row, t, 200) for row, t in zip(rows, (1, 2), strict=True)]
    for weights in ([1.0, 1.0], [2.5, 0.0], [-0.5, 3.0], [-1.0, -2.0]):
        exact = sum(Fraction(w) * t for w, t in zip(weights, terms, strict=True))
        for one in chain(enclose_sum(rows, [1, 2], weights), 3):
            assert one.lower < exact < one.upper


def test_nothing_sums_to_nothing() -> None:
    for found in (enclose_sum(np.zeros((0, 3)), []), enclose_sum(np.zeros((1, 3)), [0], [0.0])):
        assert (found.lower, found.upper, found.finer) == (0, 0, None)


def test_an_impossible_target_makes_a_sum_impossible_unless_it_weighs_nothing() -> None:
    rows = np.array([[0.0, -INF], [0.0, 0.0]])
    for weights in (None, [0.25, 1.0]):
        assert float(enclose_sum(rows, [1, 0], weights)) == -INF
    assert float(enclose_sum(rows, [1, 0], [0.0, 1.0])) == float(enclose(rows[1], 0))


@pytest.mark.parametrize("row", [[5.0], [0.0, -INF], [-7.0, -INF, -INF]])
def test_the_only_possible_target_is_certain(row: list[float]) -> None:
    found = enclose(np.array(row), 0)
    assert (found.lower, found.upper, found.finer) == (0, 0, None)


@pytest.mark.parametrize("top", [0.0, 1e4, -1e4])
def test_what_is_too_far_below_counts_less_than_a_step(top: float) -> None:
    row = np.array([top, top - 3000.5])
    for target, lead in ((0, Fraction(0)), (1, Fraction(-6001, 2))):
        found = enclose(row, target)
        assert (found.lower, found.upper, found.finer) == (lead - QUARTER, lead, None)
    assert enclose(np.array([top, top - 3000.0]), 0).finer is not None


def test_differences_keep_what_they_round_away() -> None:
    values = np.array([0.1, -3.7, 1e-17, -1e9, -INF, -1.7e308])
    for top in (0.1, 700.3, 1.7e308):
        x, slip = differences(values, top)
        for value, a, b in zip(values.tolist(), x.tolist(), slip.tolist(), strict=True):
            if a > -INF:
                assert Fraction(a) + Fraction(b) == Fraction(value) - Fraction(top)
            else:
                assert b == 0.0


def test_a_million_small_numbers_leave_the_ends_in_order() -> None:
    """What each number may be off counts, where there are more of them than 2^19."""
    count = 2**20
    values = np.full(count, -60.0)
    values[0] = 0.0
    found = power_sum(values, 0.0, SECOND_DIGITS)
    wide = context(120)
    exact = Fraction(wide.add(1, wide.multiply(count - 1, wide.exp(Decimal(-60)))))
    assert Fraction(found.lower) < exact < Fraction(found.upper)
