"""The sums of the first attempt, and what they decide: lines 10 to 13 of their budget."""

from __future__ import annotations

import decimal
import itertools
import math
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from exact_cases import STEP, WIDE, two_to
from mlm_conformance import ball

from mlm_spec.exact import enclose, enclose_sum, likelihood, quick
from mlm_spec.exact.powers import LEAST
from mlm_spec.exact.quick import (
    ADDITION_ERROR,
    LANES,
    LARGEST,
    MOST,
    SPLIT,
    UNIT_BITS,
    Room,
    accumulate,
    quick_power_sum,
    room_for,
    total,
    tree,
)
from mlm_spec.exact.rounding import nearest


def random_room(seed: int, lanes: int) -> Room:
    rng = np.random.default_rng(seed)
    room = room_for(lanes)
    room.w[:] = 2.0 ** rng.choice([rng.uniform(-159, 0.0002, lanes), rng.uniform(-45, 0, lanes)])
    room.w[:3] = [2.0 ** (1 / 4096), 2.0**-42, 3 * 2.0**-42][: min(3, lanes)]  # two of them ties
    room.v[:] = 0.0
    return room


def counted(room: Room, terms: int) -> Fraction:
    """The multiples of 2^-41 that are in the units."""
    bits = int(np.float64(SPLIT).view(np.int64))
    count = (sum(room.units.view(np.uint64).tolist()) - terms * bits) % 2**64
    return Fraction(count, 2**41)


@pytest.mark.parametrize("seed", range(4))
def test_line_10_leading_parts_add_up_exactly_and_leave_little(seed: int) -> None:
    both, singles = room_for(500), Fraction(0)
    for number in (seed, 10 + seed):
        room = random_room(number, 500)
        exact = sum(map(Fraction, room.w.tolist()))
        accumulate(Room(*random_room(number, 500)[:6], both.units, both.low))
        accumulate(room)
        assert counted(room, 500) + sum(map(Fraction, room.low.tolist())) == exact
        assert 2.0**-43 < np.abs(room.low).max() <= 2.0**-42
        singles += counted(room, 500)
    assert counted(both, 1000) == singles


def test_line_10_the_units_have_room_for_all_that_is_allowed() -> None:
    assert MOST * Fraction(1.001) * 2**41 < 2**64
    assert MOST * two_to(-42) <= two_to(-20)
    assert SPLIT + 2 < 2 * SPLIT
    assert math.ulp(SPLIT) == 2.0**-41


class Depth:
    """How many additions a number has passed through."""

    def __init__(self, depth: int = 0) -> None:
        self.depth = depth

    def __add__(self, other: Depth) -> Depth:
        return Depth(max(self.depth, other.depth) + 1)

    def __float__(self) -> float:
        return float(self.depth)


@pytest.mark.parametrize("size", [*range(1, 70), 1000, 4095, 4096, 4097, LANES])
def test_line_11_a_sum_in_halves_is_as_deep_as_is_counted(size: int) -> None:
    terms = np.array([Depth() for _ in range(size)])
    assert tree(terms) <= (size - 1).bit_length()
    x = np.random.default_rng(size).normal(size=size)
    exact, sizes = sum(map(Fraction, x.tolist())), sum(map(Fraction, np.abs(x).tolist()))
    assert abs(Fraction(tree(x)) - exact) <= (size - 1).bit_length() * two_to(-53) * sizes


@pytest.mark.parametrize("size", [1, 2, 3, 700, LANES, LANES + 1, 5 * LANES + 1])
def test_line_11_a_total_counts_the_additions_that_it_makes(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quick, "TERM_ERROR", 0.0)
    monkeypatch.setattr(quick, "ADDITION_ERROR", 1.0)
    found = total(np.zeros(size), 0.0)
    blocks = math.ceil(size / LANES)
    lanes = np.array([Depth(blocks) for _ in range(math.ceil(size / blocks))])
    assert round(found.off / found.units) >= tree(lanes)


def test_line_12_what_is_cut_and_what_is_left_out_has_a_unit_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert MOST * math.exp(LEAST) * 1.001 < 2.0**-UNIT_BITS
    monkeypatch.setattr(quick, "TERM_ERROR", 0.0)
    monkeypatch.setattr(quick, "ADDITION_ERROR", 0.0)
    assert total(np.zeros(5), 0.0).off >= 2


def test_line_11_the_small_parts_are_small() -> None:
    """Of the sum, at least 1 − 2^-13: all |v|, and 2^-42 of each of MOST numbers."""
    parts = (two_to(-13.5) * (1 + two_to(-13)) + MOST * two_to(-42)) / (1 - two_to(-13))
    assert parts * two_to(-53) * (1 + two_to(-40)) <= Fraction(ADDITION_ERROR) * Fraction(0.8)
    assert Fraction(ADDITION_ERROR) < 2 * parts * two_to(-53)


def exact_sum(z: np.ndarray, shift: int) -> Fraction:
    with decimal.localcontext(WIDE):
        finite = z[z > -math.inf].tolist()
        return Fraction(sum((WIDE.exp(Decimal(v) - shift * STEP) for v in finite), Decimal(0)))


SIZES = [1, 2, 3, 17, LANES - 1, LANES, LANES + 1, 2 * LANES + 3, 30_521]


@pytest.mark.parametrize("size", SIZES)
def test_totals_are_off_by_no_more_than_they_say(size: int) -> None:
    rng = np.random.default_rng(size)
    for offset, spread in itertools.product((0.0, 900.0), (0.01, 3.0)):
        z = rng.normal(0, spread, size) + offset
        found = total(z, float(z.max()))
        off = abs(found.units - exact_sum(z, found.shift) * 2**UNIT_BITS)
        assert off <= found.off
        assert found.off <= found.units * two_to(-61)


def test_a_total_leaves_out_what_is_far_below_and_ids_that_are_barred() -> None:
    z = np.random.default_rng(7).uniform(-300, 0, 500)
    z[::3] = -math.inf
    z[:4] = [0.0, LEAST, math.nextafter(LEAST, 0), math.nextafter(LEAST, -200)]
    z[4:9] = [-700.0, -750.0, -2000.0, -5000.0, -1e308]
    found = total(z, 0.0)
    assert abs(found.units - exact_sum(z, found.shift) * 2**UNIT_BITS) <= found.off


@pytest.mark.parametrize("top", [0.0, 5e-324, -LARGEST, 3.7, 1e4, -1e4, 2.0**60, -1e300, 1e308])
def test_quick_sums_enclose_whatever_the_offset(top: float) -> None:
    z = np.unique(np.append(top + np.random.default_rng(8).uniform(-120, 0, 300).clip(max=0), top))
    z = z[z <= top]
    with decimal.localcontext(decimal.Context(prec=400)):
        exact = sum((Decimal(v) - Decimal(top)).exp() for v in z.tolist())
    for base in (top, math.nextafter(top, math.inf), top + 2999.0):
        found = quick_power_sum(z, top, base, 30)
        with decimal.localcontext(decimal.Context(prec=400)):
            wanted = exact * (Decimal(top) - Decimal(base)).exp()
        assert found.lower < wanted < found.upper
        assert found.upper - found.lower <= wanted * Decimal(2) ** -60


def test_very_many_numbers_are_left_to_the_second_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    def seen(values: np.ndarray, *arguments: Any) -> Any:
        sizes.append(values.size)
        return quick_power_sum(values, *arguments)

    monkeypatch.setattr(likelihood, "quick_power_sum", seen)
    monkeypatch.setattr(likelihood, "MOST", 99)
    z = np.random.default_rng(9).normal(size=101)
    for row in (z[:100], z):
        assert float(enclose(row, 3)) == ball.log_likelihood_sum(row[None], np.array([3])).nearest
    assert sizes == [99]


def test_first_attempts_decide_nearly_always_and_their_enclosures_are_right() -> None:
    rng, undecided = np.random.default_rng(10), 0
    for _ in range(600):
        z = rng.normal(0, rng.choice([1, 3]), int(rng.choice([2, 9, 64, 500])))
        found = enclose(z, 0)
        exact = ball.log_likelihood_sum(z[None], np.array([0]))
        assert found.lower <= exact.upper
        assert exact.lower <= found.upper
        assert float(found) == exact.nearest
        assert found.upper - found.lower <= Fraction(1, 2**60)
        undecided += nearest(found.lower, found.upper) is None
    assert undecided <= 6


def test_a_sum_over_positions_profits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(likelihood, "_by_floats", None)  # the second attempt
    z = np.random.default_rng(11).normal(0, 3, (8, 400))
    exact = ball.log_likelihood_sum(z, np.arange(8))
    assert float(enclose_sum(z, np.arange(8))) == exact.nearest


def test_the_platforms_exp_and_log_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("exp", "exp2", "expm1", "log", "log1p", "log2", "power", "logaddexp"):
        monkeypatch.delattr(np, name)
    for name in ("exp", "log", "log1p", "fsum", "pow"):
        monkeypatch.delattr(math, name)
    assert float(enclose(np.array([0.0, 40.0]), 1)) == -4.248354255291589e-18
