"""The powers that the enclosures rest on: each line of the annex's error budget, by decimals."""

from __future__ import annotations

import decimal
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

from mlm_spec.exact.powers import (
    BLOCK,
    LEAST,
    LOWEST,
    POWER_ERROR,
    UNIT_BITS,
    Powers,
    fast_two_sum,
    powers,
    table,
    total,
    two_sum,
)

WIDE = decimal.Context(prec=70)
LN2 = WIDE.ln(Decimal(2))


def bits(x: float) -> int:
    """How many bits stand between the first and the last 1 of a float."""
    return Fraction(x).numerator.bit_length() if x else 0


def exact_power(x: float, slip: float) -> Decimal:
    return WIDE.exp(WIDE.add(Decimal(x), Decimal(slip)))


def number(found: Powers, i: int) -> Fraction:
    """The power that entry i stands for."""
    pair = Fraction(float(found.high[i])) + Fraction(float(found.low[i]))
    return pair * Fraction(2) ** int(found.exponent[i])


def hard_arguments(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Arguments everywhere, near the ends of a step, near its middle, and near 0."""
    step = float(LN2) / 4096
    whole = np.rint(rng.uniform(LOWEST, 0, size) / step)
    near = (whole + rng.choice([-0.5, 0.0, 0.5], size)) * step
    near += rng.normal(0, 1, size) * 10.0 ** rng.uniform(-18, -6, size)
    tiny = -(10.0 ** rng.uniform(-300, 0, size))
    x = np.choose(rng.integers(3, size=size), [rng.uniform(LOWEST, 0, size), near, tiny])
    x = np.clip(x, LOWEST, -0.0)
    slip = rng.uniform(-1, 1, size) * np.spacing(np.abs(x)) / 2
    return x, slip


def test_the_constants_have_the_bits_that_exact_products_need() -> None:
    constants = table()
    first, second, third = constants.steps
    assert bits(first) <= 30
    assert bits(second) <= 30
    left = WIDE.subtract(WIDE.divide(LN2, 4096), WIDE.add(Decimal(first), Decimal(second)))
    assert 0 < left < Decimal(2) ** -72
    assert abs(WIDE.subtract(left, Decimal(third))) <= left * Decimal(2) ** -53
    assert max(bits(h) for h in constants.high.tolist()) <= 26
    assert np.all((constants.high >= 1) & (constants.high < 2))
    assert np.all((constants.low >= 0) & (constants.low <= 2.0**-25))


def test_table_entries_are_off_by_half_a_unit_of_their_low_part() -> None:
    constants = table()
    for i, (high, low) in enumerate(zip(constants.high, constants.low, strict=True)):
        exact = WIDE.exp(WIDE.divide(WIDE.multiply(LN2, i), 4096))
        off = abs(WIDE.subtract(exact, WIDE.add(Decimal(float(high)), Decimal(float(low)))))
        assert off <= Decimal(2) ** -79


def test_the_reduction_is_exact_and_small() -> None:
    x, _ = hard_arguments(np.random.default_rng(1), 20_000)
    constants = table()
    first, second, _ = constants.steps
    n = np.rint(x * constants.inverse)
    assert np.abs(n).max() < 2**23
    for value, whole in zip(x.tolist(), n.tolist(), strict=True):
        assert Fraction(value - whole * first) == Fraction(value) - Fraction(whole) * Fraction(
            first
        )
        assert Fraction(whole * -second) == -Fraction(whole) * Fraction(second)
    rest, more = two_sum(x - n * first, n * -second)
    assert np.abs(rest).max() < 2.0**-13.5
    assert np.abs(more).max() <= 2.0**-66


def test_short_factors_have_an_exact_product() -> None:
    rng = np.random.default_rng(2)
    short = rng.uniform(-1, 1, 4096).astype(np.float32).astype(np.float64) * 2.0**-14
    for high, factor in zip(table().high.tolist(), short.tolist(), strict=True):
        assert Fraction(high * factor) == Fraction(high) * Fraction(factor)


def test_sums_with_their_errors_are_exact() -> None:
    rng = np.random.default_rng(3)
    a, b = (rng.normal(size=2000) * 10.0 ** rng.uniform(-20, 20, 2000) for _ in range(2))
    for s, e, x, y in zip(*(v.tolist() for v in (*two_sum(a, b), a, b)), strict=True):
        assert Fraction(s) + Fraction(e) == Fraction(x) + Fraction(y)
    big, small = np.where(np.abs(a) >= np.abs(b), (a, b), (b, a))
    for s, e, x, y in zip(*(v.tolist() for v in (*fast_two_sum(big, small), a, b)), strict=True):
        assert Fraction(s) + Fraction(e) == Fraction(x) + Fraction(y)


@pytest.mark.parametrize("seed", range(3))
def test_powers_lie_within_the_bound(seed: int) -> None:
    x, slip = hard_arguments(np.random.default_rng(10 + seed), 4000)
    found = powers(x, slip)
    worst = 0.0
    for i in range(x.size):
        seen = number(found, i)
        exact = Fraction(exact_power(float(x[i]), float(slip[i])))
        worst = max(worst, float(abs(seen / exact - 1)))
    assert worst <= POWER_ERROR
    assert worst >= POWER_ERROR / 64  # a bound that nothing comes near would hide a slip


def test_zero_and_the_ends_of_the_domain_are_powers_too() -> None:
    x = np.array([-0.0, LEAST, LOWEST, -5e-324])
    found = powers(x, np.zeros(4))
    for i, value in enumerate(x.tolist()):
        seen = number(found, i)
        assert abs(seen / Fraction(exact_power(value, 0.0)) - 1) <= POWER_ERROR


@pytest.mark.parametrize("size", [1, 2, 4095, 4096, 30_000])
def test_totals_are_off_by_no_more_than_they_say(size: int) -> None:
    rng = np.random.default_rng(size)
    x = -np.abs(rng.normal(0, rng.choice([0.01, 3, 40]), size)).clip(0, -LEAST)
    x[0] = 0.0
    parts = [x[k : k + BLOCK] for k in range(0, size, BLOCK)]
    units = sum(total(part, np.zeros(part.size)) for part in parts)
    with decimal.localcontext(WIDE):
        exact = Fraction(sum((exact_power(v, 0.0) for v in x.tolist()), Decimal(0)))
    seen = Fraction(units, 2**UNIT_BITS)
    assert abs(seen - exact) <= seen * Fraction(POWER_ERROR) + Fraction(size, 2**UNIT_BITS)


def test_a_total_does_not_depend_on_the_order() -> None:
    rng = np.random.default_rng(4)
    x = -np.abs(rng.normal(0, 10, BLOCK)).clip(0, -LEAST)
    slip = rng.uniform(-1, 1, x.size) * 2.0**-48
    order = rng.permutation(x.size)
    assert total(x, slip) == total(x[order], slip[order])
