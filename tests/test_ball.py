"""Ball arithmetic, against facts that do without it, and the reference against ball arithmetic.

The independent facts are done in `decimal`, whose exp and ln are correctly rounded, or in
fractions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from decimal import Context, Decimal, localcontext
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from mlm_conformance import ball

import mlm_spec

U = Fraction(1, 2**53)
WIDE = Context(prec=1000, Emin=-(10**9), Emax=10**9)
INF = math.inf


def softplus(gap: str) -> Decimal:
    """log(1 + exp(gap)): with V = 2, minus log Pr of the target that is ``gap`` below."""
    return WIDE.ln(WIDE.add(1, WIDE.exp(Decimal(gap))))


def near(number: Decimal, value: ball.Ball) -> bool:
    """Whether a decimal of about 500 good digits is in the ball, which is far wider."""
    assert float(number) == value.nearest
    return value.contains(Fraction(number))


# --- values


@pytest.mark.parametrize("gap", ["-700", "-40", "-1", "-0.0009765625", "0.5", "3", "40", "700"])
def test_two_logits_give_minus_log1p_of_the_exponential(gap: str) -> None:
    assert near(-softplus(gap), ball.log_likelihood([0.0, float(gap)], 0))


def test_probability_near_one_keeps_all_its_digits() -> None:
    assert ball.log_likelihood([0.0, 40.0], 1).nearest == -4.248354255291589e-18


@pytest.mark.parametrize("size", [2, 3, 7, 1000, 30522])
def test_equal_logits_give_minus_log_of_the_vocabulary_size(size: int) -> None:
    logits = np.full(size, -3.25)
    assert near(-WIDE.ln(Decimal(size)), ball.log_likelihood(logits, size - 1))


@pytest.mark.parametrize("logits", [[7.5], [-INF, 1e308, -INF], [5e-324]])
def test_a_single_support_gives_exactly_zero(logits: list[float]) -> None:
    target = int(np.argmax(logits))
    assert ball.log_likelihood(logits, target) == (0.0, 0, 0)
    assert all(entry == (0.0, 0, 0) for entry in ball.logit_gradient(logits, target))


@pytest.mark.parametrize("top", [1.0, 2.0**-20, 1.5])
def test_a_tail_too_small_for_any_precision_still_breaks_the_tie(top: float) -> None:
    """z_t − z_top is halfway between two floats, and exp of it is e^-(9·10^15) or less."""
    for exponent in (53, 60, 1000):
        quantum = 2.0 ** (exponent - 52)
        target, pivot = -(2.0**exponent), quantum / 2
        assert ball.log_likelihood([target, pivot], 0).nearest == target - quantum
    assert ball.log_likelihood([top - 2.0**60, top], 0).nearest <= -(2.0**60)


def test_two_denormal_logits_are_not_equal() -> None:
    """log Pr = −log 2 ± 2⁻¹⁰⁷⁵, to first order."""
    low, high = (ball.log_likelihood([0.0, 5e-324], t) for t in (0, 1))
    assert low.nearest == high.nearest == float(-WIDE.ln(Decimal(2)))


def test_results_beyond_the_range_are_rounded_as_ieee_rounds() -> None:
    assert ball.log_likelihood([1.7e308, -1.7e308], 1).nearest == -INF
    assert ball.log_likelihood([1e308, -5e307], 1).nearest == -1.5e308
    tiny = ball.log_likelihood([0.0, -744.5], 0)
    assert tiny.nearest == float(-softplus("-744.5")) == -5e-324
    below = ball.log_likelihood([0.0, -800.0], 0)
    assert below.nearest == 0.0
    assert below.upper < 0


@pytest.mark.parametrize("offset", [2.0**40, -(2.0**30)])
def test_an_exact_shift_changes_nothing(offset: float) -> None:
    logits = np.array([3.0, -1.5, 0.25, 2.75])
    assert [ball.log_likelihood(logits + offset, t) for t in range(4)] == [
        ball.log_likelihood(logits, t) for t in range(4)
    ]


def test_a_permutation_permutes() -> None:
    logits, order = np.random.default_rng(1).normal(0, 3, 50), np.arange(50)[::-1]
    straight = [entry.nearest for entry in ball.logit_gradient(logits, 4)]
    turned = [entry.nearest for entry in ball.logit_gradient(logits[order], 45)]
    assert turned == straight[::-1]
    assert ball.log_likelihood(logits, 4).nearest == ball.log_likelihood(logits[order], 45).nearest


@pytest.mark.parametrize("dtype", [np.float16, np.float32, ml_dtypes.bfloat16])
def test_narrow_dtypes_are_converted_exactly(dtype: type) -> None:
    narrow = np.random.default_rng(2).normal(0, 3, (1, 2, 9)).astype(dtype)
    arguments = np.array([[1, 8]]), np.array([[True, True]])
    same = ball.score(narrow, *arguments), ball.score(narrow.astype(np.float64), *arguments)
    for one, other in zip(*same, strict=True):
        np.testing.assert_array_equal(one, other)


def greedy_midpoint(midpoint: Decimal, size: int) -> list[float]:
    """Lower logits whose exponentials add up to exp(midpoint) − 1, from below."""
    left = WIDE.subtract(WIDE.exp(midpoint), 1)
    logits: list[float] = []
    while len(logits) < size:
        near_log = float(WIDE.ln(left))
        logit = near_log if WIDE.exp(Decimal(near_log)) < left else math.nextafter(near_log, -INF)
        logits.append(logit)
        left = WIDE.subtract(left, WIDE.exp(Decimal(logit)))
    return logits


def test_greedily_chosen_logits_on_a_midpoint_are_rounded_to_the_right_side() -> None:
    """log Pr is above a midpoint by about 2⁻¹⁰⁰⁰: doubling the precision decides it."""
    midpoint = Decimal(1.25) + Decimal(2) ** -53
    logits = [0.0, *greedy_midpoint(midpoint, 20)]
    result = ball.log_likelihood(logits, 0)
    above = result.lower + Fraction(midpoint)
    assert 0 < above < Fraction(1, 2**900)
    assert result.nearest == -1.25


# --- gradients


@pytest.mark.parametrize("gap", ["-700", "-40", "-3", "0.5", "40"])
def test_the_gradient_of_two_logits_is_the_logistic_function(gap: str) -> None:
    """1 − p_t = 1/(1 + exp(−gap)) for a target ``gap`` below the other logit."""
    missing = WIDE.divide(1, WIDE.add(1, WIDE.exp(-Decimal(gap))))
    target, other = ball.logit_gradient([0.0, float(gap)], 0)
    assert near(missing, target)
    assert near(-missing, other)


def test_equal_logits_have_rational_gradients() -> None:
    target, *others, dead = ball.logit_gradient([2.0, 2.0, 2.0, -INF], 0)
    assert target.lower == target.upper == Fraction(2, 3)
    assert {(other.lower, other.upper) for other in others} == {(Fraction(-1, 3),) * 2}
    assert dead == (0.0, 0, 0)


def test_a_rational_gradient_on_a_midpoint_rounds_to_even_and_a_far_tail_breaks_the_tie() -> None:
    """Four tied logits: the target's entry is 3w/4, of 54 odd bits, plus w·far/(4(4 + far))."""
    for units, even, up in ((1, 3, 3), (3, 4, 5)):
        w = 1.0 + units * 2.0**-52
        exact = Fraction(3, 4) * Fraction(w)
        floor = math.floor(exact * 2**53)
        assert exact * 2**53 - floor != 0
        tied = ball.logit_gradient([0.0] * 4, 0, w)[0].nearest
        broken = ball.logit_gradient([0.0] * 4 + [-1e6], 0, w)[0].nearest
        neighbours = [math.ldexp(floor, -53), math.ldexp(floor + 1, -53)]
        if (exact * 2**54).denominator == 1 and int(exact * 2**54) % 2:
            assert tied == neighbours[floor % 2]
            assert broken == neighbours[1]


def test_each_gradient_sums_to_zero() -> None:
    for case in adversarial(7, sizes=(1, 2, 5, 40)):
        entries = ball.logit_gradient(case.logits, case.target, 0.7)
        low, high = sum(e.lower for e in entries), sum(e.upper for e in entries)
        assert low <= 0 <= high, case.family
