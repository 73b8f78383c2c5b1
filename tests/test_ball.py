"""Ball arithmetic, against facts that do without it, and the reference against ball arithmetic.

The independent facts are done in `decimal`, whose exp and ln are correctly rounded, or in
fractions.
"""

from __future__ import annotations

import math
from decimal import Context, Decimal
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from mlm_conformance import ball

WIDE = Context(prec=1000, Emin=-(10**9), Emax=10**9)
INF = math.inf


def softplus(gap: str) -> Decimal:
    """log(1 + exp(gap)): with V = 2, minus log Pr of the target that is ``gap`` below."""
    return WIDE.ln(WIDE.add(1, WIDE.exp(Decimal(gap))))


def minus(number: Decimal) -> Decimal:
    """The negative, all digits kept: ``-number`` would round to the global context's 28."""
    return number.copy_negate()


def near(number: Decimal, value: ball.Ball) -> bool:
    """Whether a decimal of about 500 good digits is in the ball, which is far wider."""
    assert float(number) == value.nearest
    return value.contains(Fraction(number))


# --- values


@pytest.mark.parametrize("gap", ["-700", "-40", "-1", "-0.0009765625", "0.5", "3", "40", "700"])
def test_two_logits_give_minus_log1p_of_the_exponential(gap: str) -> None:
    assert near(minus(softplus(gap)), ball.log_likelihood([0.0, float(gap)], 0))


def test_probability_near_one_keeps_all_its_digits() -> None:
    assert ball.log_likelihood([0.0, 40.0], 1).nearest == -4.248354255291589e-18


@pytest.mark.parametrize("size", [2, 3, 7, 1000, 30522])
def test_equal_logits_give_minus_log_of_the_vocabulary_size(size: int) -> None:
    logits = np.full(size, -3.25)
    assert near(minus(WIDE.ln(Decimal(size))), ball.log_likelihood(logits, size - 1))


@pytest.mark.parametrize("logits", [[7.5], [-INF, 1e308, -INF], [5e-324]])
def test_a_single_support_gives_exactly_zero(logits: list[float]) -> None:
    target = int(np.argmax(logits))
    assert ball.log_likelihood(logits, target) == (0.0, 0, 0)
    assert all(entry == (0.0, 0, 0) for entry in ball.logit_gradient(logits, target))


@pytest.mark.parametrize("exponent", [53, 60, 1000])
def test_a_tail_too_small_for_any_precision_still_breaks_the_tie(exponent: int) -> None:
    """z_t − z_top is halfway between two floats, and exp of it at most exp(−9·10¹⁵)."""
    quantum = 2.0 ** (exponent - 52)
    logits = [-(2.0**exponent), quantum / 2]
    assert ball.log_likelihood(logits, 0).nearest == logits[0] - quantum


def test_two_denormal_logits_are_not_equal() -> None:
    """log Pr = −log 2 ± 2⁻¹⁰⁷⁵, to first order."""
    low, high = (ball.log_likelihood([0.0, 5e-324], t) for t in (0, 1))
    assert low.nearest == high.nearest == float(minus(WIDE.ln(Decimal(2))))


def test_results_beyond_the_range_are_rounded_as_ieee_rounds() -> None:
    assert ball.log_likelihood([1.7e308, -1.7e308], 1).nearest == -INF
    assert ball.log_likelihood([1e308, -5e307], 1).nearest == -1.5e308
    tiny = ball.log_likelihood([0.0, -744.5], 0)
    assert tiny.nearest == float(minus(softplus("-744.5"))) == -5e-324
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
    midpoint = WIDE.add(Decimal("1.25"), WIDE.power(2, -53))
    logits = [0.0, *greedy_midpoint(midpoint, 20)]
    result = ball.log_likelihood(logits, 0)
    above = result.lower + Fraction(midpoint)
    assert 0 < above < Fraction(1, 2**900)
    assert result.nearest == -1.25


# --- gradients


@pytest.mark.parametrize("gap", ["-700", "-40", "-3", "0.5", "40"])
def test_the_gradient_of_two_logits_is_the_logistic_function(gap: str) -> None:
    """1 − p_t = 1/(1 + exp(−gap)) for a target ``gap`` below the other logit."""
    missing = WIDE.divide(1, WIDE.add(1, WIDE.exp(minus(Decimal(gap)))))
    target, other = ball.logit_gradient([0.0, float(gap)], 0)
    assert near(missing, target)
    assert near(minus(missing), other)


def test_equal_logits_have_rational_gradients() -> None:
    target, *others, dead = ball.logit_gradient([2.0, 2.0, 2.0, -INF], 0)
    assert target.lower == target.upper == Fraction(2, 3)
    assert {(other.lower, other.upper) for other in others} == {(Fraction(-1, 3),) * 2}
    assert dead == (0.0, 0, 0)


@pytest.mark.parametrize("far", [-1e3, -1e6, -1e100, -1.7e308])
def test_a_rational_gradient_on_a_midpoint_is_even_until_a_far_tail_breaks_the_tie(
    far: float,
) -> None:
    """Four tied logits: 3w/4 is 4.5 units of 2⁻⁵³ above 3/4.  A far logit adds exp(far) w/16."""
    weight = 1.0 + 3 * 2.0**-52
    assert ball.logit_gradient([0.0] * 4, 0, weight)[0].nearest == 0.75 + 4 * 2.0**-53
    assert ball.logit_gradient([0.0] * 4 + [far], 0, weight)[0].nearest == 0.75 + 5 * 2.0**-53


def test_a_far_tail_also_breaks_a_tie_towards_zero() -> None:
    """Two tied logits: −w/2 is −1.5 quanta; a far logit takes exp(−10¹⁰⁰) of it away."""
    weight = 3 * 5e-324
    assert ball.logit_gradient([0.0] * 2, 0, weight)[1].nearest == -2 * 5e-324
    assert ball.logit_gradient([0.0] * 2 + [-1e100], 0, weight)[1].nearest == -5e-324


# --- sums and batches


def test_the_sum_is_the_sum_of_the_real_numbers_not_of_the_rounded_ones() -> None:
    rng = np.random.default_rng(3)
    differed = 0
    for _ in range(40):
        logits, targets = rng.normal(0, 3, (20, 6)), rng.integers(0, 6, 20)
        weights = rng.random(20)
        terms = [ball.log_likelihood(z, int(t)) for z, t in zip(logits, targets, strict=True)]
        exact = [Fraction(w) for w in weights.tolist()]
        low = sum(w * term.lower for w, term in zip(exact, terms, strict=True))
        high = sum(w * term.upper for w, term in zip(exact, terms, strict=True))
        result = ball.log_likelihood_sum(logits, targets, weights)
        assert float(low) == result.nearest == float(high)
        rounded = (w * term.nearest for w, term in zip(weights.tolist(), terms, strict=True))
        differed += math.fsum(rounded) != result.nearest
    assert differed  # the difference is one that this test can see


def test_a_sum_on_a_midpoint_is_decided_though_each_term_was_decided_earlier() -> None:
    """−log 2 and a second term that brings the sum to 2⁻⁹⁰⁰ or less above a midpoint."""
    midpoint = WIDE.add(Decimal("1.25"), WIDE.power(2, -53))
    lower = greedy_midpoint(WIDE.subtract(midpoint, WIDE.ln(Decimal(2))), 20)
    logits = np.full((1, 2, 21), -INF)
    logits[0, 0, :2] = 0.0
    logits[0, 1] = [0.0, *lower]
    result = ball.score(logits, np.zeros((1, 2), int), np.ones((1, 2), bool))
    assert result.sum == -1.25
    assert ball.log_likelihood_sum(logits[0], np.zeros(2, int)).nearest == -1.25


def test_opposite_weights_cancel_to_exactly_zero() -> None:
    logits, weights = np.tile([0.5, 3.0, -1.0], (2, 1)), np.array([0.3, -0.3])
    assert ball.log_likelihood_sum(logits, np.array([0, 0]), weights).nearest == 0.0


def test_a_rational_midpoint_out_of_opposite_weights_is_reported_undecided() -> None:
    """The difference of the two log-likelihoods is z_0 − z_1 = 1 + 2⁻⁵³, a tie."""
    logits = np.tile([1.0, -(2.0**-53)], (2, 1))
    with pytest.raises(ball.UndecidedError, match="32768 bits"):
        ball.log_likelihood_sum(logits, np.array([0, 1]), np.array([1.0, -1.0]))


def test_score_looks_at_selected_positions_only() -> None:
    logits = np.array([[[0.0, 0.0], [np.nan, np.inf], [1.0, -INF]]])
    targets, selected = np.array([[1, -100, 0]]), np.array([[True, False, True]])
    result = ball.score(logits, targets, selected, np.array([[2.0, np.nan, 3.0]]))
    np.testing.assert_array_equal(result.log_likelihood, [[-math.log(2), 0, 0]])
    assert (result.sum, result.count) == (-2 * math.log(2), 2)
    np.testing.assert_array_equal(result.grad_logits, [[[-1, 1], [0, 0], [0, 0]]])
    nothing = ball.score(logits, targets, np.zeros((1, 3), bool), None)
    assert (nothing.sum, nothing.count) == (0.0, 0)
    assert not nothing.log_likelihood.any()
    assert not nothing.grad_logits.any()
