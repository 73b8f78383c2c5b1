"""The float64 nearest to every number of an open interval, or none."""

from __future__ import annotations

import math
import sys
from decimal import Decimal
from fractions import Fraction

import pytest

from mlm_spec.errors import UndecidedError
from mlm_spec.exact.decimals import (
    Between,
    context,
    exp_between,
    log1p_between,
    power_of_ten,
    quotient,
)
from mlm_spec.exact.rounding import Enclosure, nearest

TINY = Fraction(1, 2**1074)  # the smallest float64
HUGE = Fraction(sys.float_info.max)
STEP = Fraction(1, 2**2000)  # less than any distance that matters here
FLOATS = [1.0, -1.0, 1.5, 5e-324, -5e-324, 2.2250738585072014e-308, 1e300, -math.pi, 2.0**53]


def middle_above(x: float) -> Fraction:
    return (Fraction(x) + Fraction(math.nextafter(x, math.inf))) / 2


@pytest.mark.parametrize("x", FLOATS)
def test_numbers_around_a_float_round_to_it(x: float) -> None:
    assert nearest(Fraction(x) - STEP, Fraction(x) + STEP) == x
    assert nearest(Fraction(x), Fraction(x) + STEP) == x
    assert nearest(Fraction(x) - STEP, Fraction(x)) == x


@pytest.mark.parametrize("x", FLOATS)
def test_a_number_strictly_on_one_side_of_a_middle_is_decided(x: float) -> None:
    """Also where the middle itself would go the other way, to the even neighbour."""
    other = math.nextafter(x, math.inf)
    assert nearest(middle_above(x) - STEP, middle_above(x)) == x
    assert nearest(middle_above(x), middle_above(x) + STEP) == other
    assert nearest(middle_above(x) - STEP, middle_above(x) + STEP) is None


@pytest.mark.parametrize("x", FLOATS)
def test_a_number_that_is_known_exactly_goes_to_even(x: float) -> None:
    other = math.nextafter(x, math.inf)
    even = x if int(Fraction(x) / (Fraction(other) - Fraction(x))) % 2 == 0 else other
    if Fraction(other) - Fraction(x) == Fraction(math.ulp(x)):
        assert nearest(middle_above(x), middle_above(x)) == even


def test_a_tiny_tail_on_a_middle_is_decided() -> None:
    """The trap: log Pr = lead − e^-100000 with a lead in the middle between two floats."""
    lead = -middle_above(1.0)
    assert nearest(lead - Fraction(1, 2**1076), lead) == -1.0000000000000002
    assert nearest(lead - STEP, lead) == -1.0000000000000002


def test_numbers_near_zero_round_to_zero_that_is_not_negative() -> None:
    for value in (nearest(-STEP, Fraction(0)), nearest(Fraction(0), STEP), nearest(-STEP, STEP)):
        assert value == 0.0
        assert math.copysign(1, value) == 1
    assert nearest(-TINY / 2, Fraction(0)) == 0.0
    assert nearest(-TINY / 2 - STEP, -TINY / 2) == -5e-324


def test_numbers_beyond_the_range_are_infinite() -> None:
    edge = Fraction(2) ** 1024 - Fraction(2) ** 970
    assert nearest(-edge, -edge + STEP) == -sys.float_info.max
    assert nearest(-edge - STEP, -edge) == -math.inf
    assert nearest(edge - STEP, edge) == sys.float_info.max
    assert nearest(edge, edge + STEP) == math.inf
    assert nearest(-edge - STEP, -edge + STEP) is None
    assert nearest(-HUGE - STEP, -HUGE + STEP) == -sys.float_info.max
    assert nearest(-math.inf, -math.inf) == -math.inf
    assert nearest(-math.inf, Fraction(0)) is None
    assert nearest(Fraction(0), math.inf) is None
    assert nearest(-math.inf, math.inf) is None


def test_a_float_takes_as_many_refinements_as_it_needs_and_no_more() -> None:
    asked = []

    def narrow(width: Fraction) -> Enclosure:
        asked.append(width)
        target = middle_above(1.0) + 3 * STEP
        again = (lambda: narrow(width / 2**900)) if len(asked) < 4 else None
        return Enclosure(target - width, target + width, again)

    assert float(narrow(Fraction(1))) == math.nextafter(1.0, 2.0)
    assert len(asked) == 4


def test_what_the_last_precision_does_not_decide_is_said_with_its_enclosure() -> None:
    stuck = Enclosure(middle_above(1.0) - STEP, middle_above(1.0) + STEP)
    with pytest.raises(UndecidedError, match="undecided") as caught:
        float(stuck)
    assert caught.value.enclosure is stuck


@pytest.mark.parametrize("digits", [10, 60, 240])
@pytest.mark.parametrize("x", ["-1/3", "0", "-745/7", "-1/10000000000000000000000", "-2999"])
def test_powers_lie_between_their_decimals(x: str, digits: int) -> None:
    exact = context(400).exp(context(400).divide(*map(Decimal, Fraction(x).as_integer_ratio())))
    low, high = exp_between(Fraction(x), digits)
    assert low <= exact <= high
    assert high - low <= high * Decimal(10) ** (6 - digits)


@pytest.mark.parametrize("digits", [10, 60, 240])
@pytest.mark.parametrize(
    "x", ["1e-900", "1e-100", "1e-41", "1e-31", "1e-29", "1e-25", "1e-5", "0.5", "30521", "1e20"]
)
def test_logarithms_lie_between_their_decimals(x: str, digits: int) -> None:
    wide = context(1400)
    exact = wide.ln(wide.add(1, Decimal(x)))
    low, high = log1p_between(Between(Decimal(x), Decimal(x)), digits)
    assert low <= exact <= high
    assert high - low <= high * Decimal(10) ** (3 - digits)


def test_the_series_of_a_logarithm_is_right_to_the_end_of_its_reach() -> None:
    wide, digits = context(60), 10
    for last in range(500):
        x = Decimal(9_990_000_000 + 19_997 * last).scaleb(-15)  # just below 1e-5
        exact = wide.ln(wide.add(1, x))
        low, high = log1p_between(Between(x, x), digits)
        assert low <= exact <= high


@pytest.mark.parametrize("digits", [30, 60])
@pytest.mark.parametrize("width", ["0", "1e-18", "1e-3", "5"])
@pytest.mark.parametrize("x", ["1e-40", "1e-14", "1e-5", "0.5", "30521"])
def test_logarithms_of_an_interval_are_an_interval(x: str, width: str, digits: int) -> None:
    wide = context(200)
    low, high = Decimal(x), wide.multiply(Decimal(x), wide.add(1, Decimal(width)))
    found = log1p_between(Between(low, high), digits)
    first, last = (wide.ln(wide.add(1, end)) for end in (low, high))
    assert found.lower <= first <= last <= found.upper
    assert first - found.lower <= first * Decimal(10) ** (3 - digits)
    further = wide.divide(wide.subtract(high, low), wide.add(1, low))
    assert found.upper - first <= further + last * Decimal(10) ** (3 - digits)


def test_quotients_are_rounded_outwards() -> None:
    low, high = quotient(Fraction(-1, 3), 5)
    assert (low, high) == (Decimal("-0.33334"), Decimal("-0.33333"))


@pytest.mark.parametrize("exponent", [0, -1, -70, 30, -100_000])
def test_a_power_of_ten_is_exact(exponent: int) -> None:
    assert Fraction(power_of_ten(exponent)) == Fraction(10) ** exponent
