"""The powers of the first attempt: lines 1 to 9 of their budget, by rationals and decimals."""

from __future__ import annotations

import decimal
import math
import warnings
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from exact_cases import STEP, WIDE, two_to

from mlm_spec.exact.powers import LEAST, table
from mlm_spec.exact.quick import (
    LARGEST,
    TERM_ERROR,
    Room,
    constants,
    powers_of,
    quick_power_sum,
    reduce,
    room_for,
    scale_between,
)

ROOTS = [WIDE.exp(WIDE.multiply(STEP, i)) for i in range(4096)]


def exact_power(z: float, shift: int) -> Fraction:
    """e^z / 2^(shift/4096)."""
    return Fraction(WIDE.exp(WIDE.fma(-shift, STEP, Decimal(z))))


def hard_numbers(seed: int, size: int) -> np.ndarray:
    """Everywhere, at the ends of a step and in its middle, near 0, and the largest allowed."""
    rng = np.random.default_rng(seed)
    low = -LARGEST + LEAST
    anywhere = rng.uniform(low, LARGEST, size)
    near = (np.rint(anywhere / float(STEP)) + rng.choice([-0.5, 0.0, 0.5], size)) * float(STEP)
    near += rng.normal(0, 1, size) * 10.0 ** rng.uniform(-18, -6, size)
    tiny = rng.choice([-1, 1], size) * 10.0 ** rng.uniform(-320, 0, size)
    z = np.choose(rng.integers(3, size=size), [anywhere, near, tiny]).clip(low, LARGEST)
    z[:4] = [LARGEST, low, 0.0, -5e-324][: min(size, 4)]
    return z


def in_room(z: np.ndarray, shift: int) -> Room:
    room = room_for(z.size)
    reduce(z, shift, room)
    return room


def steps_of(z: np.ndarray) -> list[int]:
    """The n of each number, with shift 0."""
    return [int(w - 1.5 * 2.0**52) for w in in_room(z, 0).w.tolist()]


def shifts(z: np.ndarray) -> np.ndarray:
    """A largest number's n for each, 0 to 110 above it."""
    above = np.random.default_rng(0).uniform(0, -LEAST, z.size)
    return np.rint((z + above) / float(STEP)).astype(int)


def one_by_one(z: np.ndarray) -> Iterator[tuple[float, int, float, float]]:
    """(z, shift, w, v)."""
    for value, shift in zip(z.tolist(), shifts(z).tolist(), strict=True):
        room = in_room(np.array([value]), shift)
        powers_of(room)
        yield value, shift, float(room.w[0]), float(room.v[0])


def test_line_1_differences_of_large_numbers_are_exact() -> None:
    rng = np.random.default_rng(1)
    for size in (LARGEST, 1e4, 2.0**40, 1e15):
        for top in (math.nextafter(size, math.inf), -math.nextafter(size, math.inf)):
            for value in (top + rng.uniform(LEAST, 0, 200)).clip(max=top).tolist():
                assert Fraction(value - top) == Fraction(value) - Fraction(top)


def test_line_2_steps_are_integers_that_the_bits_show() -> None:
    z = hard_numbers(2, 4000)
    plain = steps_of(z)
    assert max(map(abs, plain)) < 2**23
    for value, n, shift in zip(z.tolist(), plain, shifts(z).tolist(), strict=True):
        room = in_room(np.array([value]), shift)
        count = int(room.w.view(np.int64)[0]) - int(np.float64(1.5 * 2.0**52).view(np.int64))
        assert abs(count + shift - n) <= 1  # a tie may go to either side
        assert abs(Fraction(value) - (count + shift) * Fraction(STEP)) < two_to(-13.52)


def test_line_2_the_first_product_and_the_first_difference_are_exact() -> None:
    z, first = hard_numbers(3, 20_000), constants().first
    assert Fraction(first).numerator.bit_length() <= 30
    for value, n in zip(z.tolist(), steps_of(z), strict=True):
        assert Fraction(n * first) == n * Fraction(first)
        assert Fraction(value - n * first) == Fraction(value) - n * Fraction(first)


def test_lines_3_and_4_what_is_left_of_a_number_is_small_and_nearly_exact() -> None:
    second = constants().second
    left = Fraction(STEP) - Fraction(constants().first)
    assert 0 < left < two_to(-42)
    assert abs(left - Fraction(second)) <= two_to(-96)
    z = hard_numbers(4, 20_000)
    found, worst = in_room(z, 0).r, Fraction(0)
    for value, n, r in zip(z.tolist(), steps_of(z), found.tolist(), strict=True):
        assert abs(Fraction(n * second) - n * Fraction(second)) <= two_to(-73)
        worst = max(worst, abs(Fraction(r) - (Fraction(value) - n * Fraction(STEP))))
    assert two_to(-69) < worst <= two_to(-67) + two_to(-72)
    assert np.abs(found).max() < 2.0**-13.52


def test_line_5_the_series_leaves_out_little() -> None:
    for r in (2.0**-13.52, -(2.0**-13.52)):
        x = Fraction(r)
        series = 1 + x + x**2 / 2 + x**3 / 6 + x**4 / 24
        assert abs(Fraction(WIDE.exp(Decimal(r))) - series) <= two_to(-74)


def test_lines_5_and_6_the_small_part_of_a_power_without_the_table() -> None:
    """At n = 0 there is no correction, w is 1, and v is e^r − 1."""
    rng = np.random.default_rng(5)
    z = rng.uniform(-1, 1, 20_000) * 2.0**-13.53
    room = in_room(z, 0)
    powers_of(room)
    assert np.all(room.w == 1)
    off = [
        abs(Fraction(v) - (Fraction(WIDE.exp(Decimal(x))) - 1))
        for x, v in zip(z.tolist(), room.v.tolist(), strict=True)
    ]
    assert two_to(-69) < max(off) <= two_to(-67) + two_to(-74) + two_to(-79)


def test_line_8_the_table_is_rounded_correctly_and_knows_by_how_much() -> None:
    made = constants()
    whole = made.patterns + (np.arange(4096, dtype=np.uint64) << np.uint64(40))
    near = whole.view(np.float64)
    assert np.array_equal(near, table().high + table().low)
    assert np.abs(made.corrections).max() <= 2.0**-53
    for root, w, c in zip(ROOTS, near.tolist(), made.corrections.tolist(), strict=True):
        exact = Fraction(root)
        assert abs(exact - Fraction(w)) <= two_to(-53)
        assert abs(exact - Fraction(w) * (1 + Fraction(c))) <= two_to(-78)


def test_lines_7_to_9_the_correction_and_the_product_are_rounded_once() -> None:
    """The sum of the series is that of z = r, where w is 1 and no correction is needed."""
    rng, worst = np.random.default_rng(13), Fraction(0)
    z = rng.uniform(LEAST, 0, 8000)
    room = in_room(z, 0)
    places, r = (room.w.view(np.int64) & 4095).tolist(), room.r.clip(-(2.0**-13.53), 2.0**-13.53)
    room.r[:] = r
    powers_of(room)
    alone = in_room(r, 0)
    powers_of(alone)
    for i, q, w, v in zip(places, alone.v.tolist(), room.w.tolist(), room.v.tolist(), strict=True):
        c = Fraction(constants().corrections[i])
        worst = max(worst, abs(Fraction(v) / Fraction(w) - (Fraction(q) + c)))
        assert abs(c * Fraction(q)) <= two_to(-66.5)
    assert two_to(-67) < worst <= two_to(-67) + two_to(-66.5)


def test_lines_1_to_9_add_up_to_the_bound() -> None:
    lines = [two_to(-72), two_to(-67), two_to(-74), two_to(-79) + two_to(-67), two_to(-67)]
    lines += [two_to(-78) + two_to(-66.5), two_to(-66.5)]
    assert sum(lines) * (1 + two_to(-13.4)) <= Fraction(TERM_ERROR) <= sum(lines) * Fraction(1.4)


def test_line_2_the_large_part_of_a_power_is_an_entry_of_the_table_scaled() -> None:
    near = (table().high + table().low).tolist()
    for value, shift, w, _ in one_by_one(hard_numbers(6, 3000)):
        n = round((Fraction(value)) / Fraction(STEP))
        exponents = {n - 1 - shift, n - shift, n + 1 - shift}  # middles go to either side
        assert w in {math.ldexp(near[k % 4096], k // 4096) for k in exponents}


@pytest.mark.parametrize("seed", range(3))
def test_a_power_is_within_the_bound_and_the_bound_is_not_loose(seed: int) -> None:
    worst = Fraction(0)
    for value, shift, w, v in one_by_one(hard_numbers(10 + seed, 6000)):
        exact = exact_power(value, shift)
        worst = max(worst, abs((Fraction(w) + Fraction(v)) / exact - 1))
        assert abs(v) <= 2.0**-13.5 * w
    assert Fraction(TERM_ERROR) / 4 <= worst <= Fraction(TERM_ERROR)


@pytest.mark.parametrize("digits", [8, 30, 40])
def test_scales_lie_between_their_decimals(digits: int) -> None:
    for top in hard_numbers(12, 300).tolist():
        shift = round(top * constants().inverse)
        with decimal.localcontext(WIDE):
            for further in (Decimal(-top), Decimal(-top) - Decimal("2999.9")):
                low, high = scale_between(shift, further, digits)
                assert low < (shift * STEP + further).exp() < high
                assert high - low <= high * Decimal(10) ** (2 - digits)


def test_numbers_too_far_apart_to_be_subtracted_warn_nobody() -> None:
    largest = float(np.finfo(np.float64).max)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = quick_power_sum(np.array([largest, -largest]), largest, largest, 30)
    assert found.lower < 1 < found.upper
