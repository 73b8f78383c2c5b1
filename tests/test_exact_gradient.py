"""Gradients between rationals: those that are rational, every precision, the way by floats."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

from mlm_spec.exact import Enclosure, enclose_gradient, rounded_gradient
from mlm_spec.exact.decimals import context
from mlm_spec.exact.gradient import _by_floats

INF = np.inf
WIDE = context(400)
ROW = np.array([0.25, -3.5, 0.1, 0.25])


def real(row: np.ndarray, target: int, entry: int) -> Fraction:
    """1[entry = target] − p, to 400 digits; without cancellation."""
    powers = [WIDE.exp(Decimal(float(z))) if z > -INF else Decimal(0) for z in row]
    whole = Decimal(0)
    for power in powers:
        whole = WIDE.add(whole, power)
    part = powers[entry]
    if entry == target:
        part = Decimal(0)
        for i, power in enumerate(powers):
            part = WIDE.add(part, power) if i != target else part
    found = Fraction(WIDE.divide(part, whole))
    return found if entry == target else -found


@pytest.mark.parametrize(
    ("row", "entries"),
    [
        ([0.0, 0.0, 0.0], ["2/3", "-1/3", "-1/3"]),
        ([7.5, 7.5, 7.5, -INF], ["2/3", "-1/3", "-1/3", "0"]),
        ([2.0, 2.0], ["1/2", "-1/2"]),
        ([5.0, -INF, -INF], ["0", "0", "0"]),
        ([5.0], ["0"]),
    ],
)
def test_equal_logits_have_rational_gradients(row: list[float], entries: list[str]) -> None:
    logits = np.array(row)
    for entry, value in enumerate(entries):
        found = enclose_gradient(logits, 0, entry)
        assert found == Enclosure(Fraction(value), Fraction(value))
        assert found.finer is None
    expected = [float(Fraction(value)) for value in entries]
    assert rounded_gradient(logits, 0).tolist() == expected


def test_what_is_barred_has_no_gradient_beside_others() -> None:
    row = np.array([0.0, 1.0, -INF, 2.0])
    assert enclose_gradient(row, 1, 2) == Enclosure(Fraction(0), Fraction(0))
    assert rounded_gradient(row, 1)[2] == 0.0
    for entry in (0, 1, 3):
        found = enclose_gradient(row, 1, entry)
        assert found.lower < real(row, 1, entry) < found.upper


@pytest.mark.parametrize("entry", range(4))
@pytest.mark.parametrize("target", [0, 1, 3])
def test_each_precision_encloses_the_number_and_is_narrower(target: int, entry: int) -> None:
    exact = real(ROW, target, entry)
    now = enclose_gradient(ROW, target, entry)
    for width in (Fraction(1, 2**72), Fraction(1, 10**114), Fraction(1, 10**234)):
        assert now.lower < exact < now.upper
        assert now.upper - now.lower < abs(exact) * width
        assert now.finer is not None
        now = now.finer()


@pytest.mark.parametrize("entry", [0, 1])
def test_there_are_six_precisions(entry: int) -> None:
    found = [enclose_gradient(ROW[:2], 0, entry)]
    while found[-1].finer and len(found) < 9:
        found.append(found[-1].finer())
    assert len(found) == 6
    last = found[-1]
    assert 0 < last.upper - last.lower < Fraction(1, 10**1900)


def test_an_entry_too_far_below_is_next_to_nothing() -> None:
    for gap, is_far in ((-3000.0, False), (-3000.5, True), (-1e308, True)):
        found = enclose_gradient(np.array([0.0, gap]), 0, 1)
        assert (found.finer is None) == is_far
        assert found.lower < 0
        assert (found.lower == Fraction(-1, 2**1076)) == is_far
        assert (found.upper == 0) == is_far
        assert float(found) == 0.0
        assert math.copysign(1, float(found)) == 1


def test_entries_of_wide_rows_are_the_nearest_floats() -> None:
    row = np.array([0.3, -639.7, -641.0, -700.1, -745.1, -759.7, -761.0, -5000.0, -INF, 0.1])
    for target in (0, 3, 9):
        found = rounded_gradient(row, target).tolist()
        assert found == [float(enclose_gradient(row, target, e)) for e in range(row.size)]
        assert not np.signbit(np.array(found)[[7, 8]]).any()


def test_floats_decide_nearly_every_entry_and_decide_it_rightly() -> None:
    row = np.random.default_rng(5).normal(0.0, 8.0, 400)
    value, sure = _by_floats(row)
    assert sure.dtype == np.bool_
    assert sure.mean() > 0.99
    for entry in np.flatnonzero(sure)[::10].tolist():
        other = (entry + 1) % row.size
        assert value[entry] == float(enclose_gradient(row, other, entry))


def chosen_to_add_up_to(total: Decimal, size: int, up: bool) -> list[float]:
    """Logits whose exponentials add up to just below a number, or just above it."""
    left, logits = total, list[float]()
    while len(logits) < size:
        near = float(WIDE.ln(left))
        over = WIDE.exp(Decimal(near)) > left
        last = up and len(logits) == size - 1
        if over != last:
            near = math.nextafter(near, INF if last else -INF)
        logits.append(near)
        left = WIDE.subtract(left, WIDE.exp(Decimal(near)))
    return logits


@pytest.mark.parametrize("up", [False, True])
@pytest.mark.parametrize("logit", [0.0, -0.3, 1.7])
@pytest.mark.parametrize("k", range(4))
def test_probabilities_next_to_a_middle_are_left_to_decimals(
    k: int, logit: float, up: bool
) -> None:
    """p_0 is within 2^-400 of the middle between two floats: floats alone are sure of nothing."""
    step = Fraction(1, 2**53)
    float_below = Fraction(1, 2) + Fraction(k * 1234567890123, 2**53)
    middle = float_below + step / 2
    power = WIDE.exp(Decimal(logit))
    rest = WIDE.divide(
        WIDE.multiply(power, middle.denominator - middle.numerator), middle.numerator
    )
    row = np.array([logit, *chosen_to_add_up_to(rest, 12, up)])
    off = -real(row, 1, 0) - middle
    assert 0 < (-off if up else off) < Fraction(1, 2**400)
    _, sure = _by_floats(row)
    assert not sure[0]
    assert -rounded_gradient(row, 1)[0] == (float_below if up else float_below + step)


@pytest.mark.parametrize("other", [-1.78e-16, -1.6e-16, -2e-16, -1e-16, 1.5e-16])
def test_an_entry_next_to_a_power_of_two_is_the_nearest_float(other: float) -> None:
    """Below it the floats lie twice as close as above."""
    row = np.array([0.0, other])
    for target in range(2):
        exact = [real(row, target, entry) for entry in range(2)]
        found = rounded_gradient(row, target).tolist()
        assert found == [x.numerator / x.denominator for x in exact]
