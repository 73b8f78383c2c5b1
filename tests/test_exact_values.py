"""Log-likelihoods, sums and gradients as enclosures, against ball arithmetic."""

from __future__ import annotations

import decimal
import math
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest
from mlm_conformance import ball
from mlm_conformance.cases.hard import FAMILIES, Position, near_a_middle

from mlm_spec import errors
from mlm_spec.exact import (
    Enclosure,
    enclose,
    enclose_gradient,
    enclose_sum,
    likelihood,
    rounded_gradient,
)
from mlm_spec.exact.rounding import nearest

NAMES = tuple(FAMILIES)
START = np.array([0.0, -1.0])


def positions(family: str, count: int, sizes: tuple[int, ...]) -> Iterator[Position]:
    rng = np.random.default_rng([7, NAMES.index(family)])
    for _ in range(count):
        yield FAMILIES[family](rng, int(rng.choice(sizes)))


def truth(z: np.ndarray, t: int, gradient: bool = False) -> np.ndarray:
    one = np.array([[True]])
    found = ball.score(z[None, None], np.array([[t]]), one, with_gradient=gradient)
    return found.grad_logits[0, 0] if gradient else found.log_likelihood[0, 0]


@pytest.mark.parametrize("family", NAMES)
def test_each_float_of_an_enclosure_is_the_nearest(family: str) -> None:
    cases = [*positions(family, 150, (1, 2, 3, 5, 17, 64)), *positions(family, 2, (1000, 30522))]
    for z, t in cases:
        assert float(enclose(z, t)) == truth(z, t), (z.tolist()[:8], t)


@pytest.mark.parametrize("family", NAMES)
def test_an_enclosure_contains_the_number_and_so_does_that_of_the_second_attempt(
    family: str,
) -> None:
    for z, t in positions(family, 40, (2, 3, 17, 64)):
        first = enclose(z, t)
        exact = ball.log_likelihood_sum(z[None], np.array([t]))
        for found in (first, first.finer() if first.finer else first):
            assert found.lower <= found.upper
            if found.lower == found.upper:
                assert exact.lower <= found.lower <= exact.upper
            else:
                assert found.lower <= exact.upper
                assert exact.lower <= found.upper
            assert nearest(found.lower, found.upper) in (None, exact.nearest)


@pytest.mark.parametrize("family", NAMES)
def test_each_entry_of_a_gradient_is_the_nearest_float(family: str) -> None:
    for z, t in positions(family, 25, (1, 2, 3, 17, 64)):
        np.testing.assert_array_equal(rounded_gradient(z, t), truth(z, t, gradient=True))


def test_entries_one_by_one_are_those_of_the_whole_gradient() -> None:
    for family in NAMES:
        for z, t in positions(family, 3, (2, 5)):
            alone = [float(enclose_gradient(z, t, j)) for j in range(z.size)]
            np.testing.assert_array_equal(alone, rounded_gradient(z, t))


@pytest.mark.parametrize("seed", range(12))
def test_the_float_of_a_sum_is_the_nearest(seed: int) -> None:
    rng = np.random.default_rng([8, seed])
    rows, size = int(rng.choice([1, 3, 40])), int(rng.choice([2, 9, 50]))
    z, t = rng.normal(0, rng.choice([0.1, 3, 30]), (rows, size)), rng.integers(size, size=rows)
    weights = rng.uniform(0, 2, rows) if seed % 2 else None
    found, exact = enclose_sum(z, t, weights), ball.log_likelihood_sum(z, t, weights)
    assert float(found) == exact.nearest
    assert found.lower <= exact.upper
    assert exact.lower <= found.upper


@pytest.mark.parametrize(("size", "bits"), [(3, 90), (5, 190), (8, 330), (12, 500)])
def test_a_number_ever_nearer_to_a_middle_takes_ever_more_digits(size: int, bits: int) -> None:
    z, middle = near_a_middle(START, size)
    now, levels = enclose(z, 0), 1
    assert abs((now.lower + now.upper) / 2 - middle) < Fraction(1, 2**60)
    while nearest(now.lower, now.upper) is None:
        assert now.finer is not None
        now, levels = now.finer(), levels + 1
    assert abs(now.lower - middle) < Fraction(1, 2**bits)
    assert levels >= 2
    assert float(enclose(z, 0)) == truth(z, 0)


def test_a_number_too_near_to_a_middle_is_undecided() -> None:
    z, middle = near_a_middle(START, 8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(likelihood, "LAST_DIGITS", likelihood.FIRST_DIGITS)
        with pytest.raises(errors.UndecidedError) as caught:
            float(enclose(z, 0))
    assert caught.value.enclosure.lower < middle < caught.value.enclosure.upper


def test_finer_enclosures_lie_in_coarser_ones_and_are_decided_alike() -> None:
    rng = np.random.default_rng(9)
    for _ in range(5):
        z, t = FAMILIES["normal"](rng, 17)
        now, values, by = enclose(z, t), set(), 10**3  # the first two attempts are both by floats
        for _ in range(5):
            values.add(float(now))
            assert now.finer is not None
            finer = now.finer()
            assert now.lower <= finer.lower <= finer.upper <= now.upper
            assert finer.upper - finer.lower < (now.upper - now.lower) / by
            now, by = finer, 10**20
        assert len(values) == 1


def test_one_finite_logit_is_certain_and_an_excluded_target_impossible() -> None:
    z = np.array([-np.inf, 3.5, -np.inf])
    assert enclose(z, 1) == Enclosure(Fraction(0), Fraction(0))
    assert float(enclose(z, 0)) == -math.inf
    assert rounded_gradient(z, 1).tolist() == [0.0, 0.0, 0.0]
    assert float(enclose_sum(np.array([z, z]), [1, 0])) == -math.inf
    assert float(enclose_sum(np.array([z, z]), [1, 0], [1.0, 0.0])) == 0.0


def test_weights_of_both_signs_may_leave_a_rational_and_a_tie_is_undecided() -> None:
    """log p_0 − log p_1 = z_0 − z_1, here 0 and the middle between 1 and its successor."""
    z = np.array([[1.0, -(2.0**-53), 0.25]] * 2)
    assert float(enclose_sum(z, [0, 0], [1.0, -1.0])) == 0.0
    with pytest.raises(errors.UndecidedError) as caught:
        float(enclose_sum(z, [0, 1], [1.0, -1.0]))
    narrowest = caught.value.enclosure
    assert narrowest.upper - narrowest.lower < Fraction(1, 10**1900)
    assert narrowest.lower <= 1 + Fraction(1, 2**53) <= narrowest.upper


BAD = [
    (np.array([np.nan, 0.0]), 0, errors.NotFiniteError),
    (np.array([0.0, np.inf]), 0, errors.NotFiniteError),
    (np.array([-np.inf, -np.inf]), 0, errors.NoSupportError),
    (np.zeros(0), 0, errors.ShapeError),
    (np.zeros((1, 2)), 0, errors.ShapeError),
    (np.zeros(2, np.int64), 0, errors.DTypeError),
    ([0.0, 1.0], 0, errors.DTypeError),
    (np.zeros(2), 2, errors.IdRangeError),
    (np.zeros(2), -1, errors.IdRangeError),
    (np.zeros(2), True, errors.InputError),
    (np.zeros(2), 0.0, errors.InputError),
]


@pytest.mark.parametrize(("logits", "target", "error"), BAD)
def test_bad_positions_are_refused(logits: object, target: object, error: type[Exception]) -> None:
    for function in (enclose, rounded_gradient):
        with pytest.raises(error):
            function(logits, target)


def test_other_bad_arguments_are_refused() -> None:
    with pytest.raises(errors.ImpossibleTargetError):
        rounded_gradient(np.array([0.0, -np.inf]), 1)
    with pytest.raises(errors.IdRangeError, match="entry"):
        enclose_gradient(np.zeros(2), 0, 2)
    with pytest.raises(errors.ShapeError):
        enclose_sum(np.zeros((2, 3)), [0])
    with pytest.raises(errors.NotFiniteError):
        enclose_sum(np.zeros((1, 3)), [0], [math.nan])
    with pytest.raises(errors.InputError, match="negative"):
        enclose_sum(np.array([[0.0, -np.inf]]), [1], [-1.0])


@pytest.mark.parametrize("targets", [[0.9, 1.9], ["1", "2"], [True, False]])
def test_targets_of_a_sum_that_are_no_integers_are_refused(targets: list[object]) -> None:
    with pytest.raises(errors.DTypeError, match="targets"):
        enclose_sum(np.zeros((2, 3)), targets)  # type: ignore[arg-type]


@pytest.mark.parametrize("entry", [1.7, 0.5, None, "1", True])
def test_an_entry_that_is_no_integer_is_refused(entry: object) -> None:
    with pytest.raises(errors.InputError, match="entry"):
        enclose_gradient(np.zeros(3), 1, entry)  # type: ignore[arg-type]


@pytest.mark.parametrize("digits", [1, 9, 28, 50])
def test_the_callers_decimal_context_is_nothing_to_the_enclosures(digits: int) -> None:
    """An application that counts money sets one for its whole thread."""
    row = np.random.default_rng(3).normal(0.0, 5.0, 300)
    narrow = decimal.Context(digits, decimal.ROUND_DOWN, -9, 9, traps=[decimal.InvalidOperation])

    def found() -> list[object]:
        """Two precisions of each, and all entries of the gradient."""
        sums, entry = enclose_sum(row[None], np.array([3]), [0.3]), enclose_gradient(row, 3, 3)
        first = [enclose(row, 3), sums, entry]
        ends = [(x.lower, x.upper) for x in (*first, *(x.finer() for x in first if x.finer))]
        return [*ends, *rounded_gradient(row, 3).tolist()]

    plain = found()
    with decimal.localcontext(narrow):
        assert found() == plain
