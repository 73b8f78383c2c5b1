"""The update of the parameters against a scalar transcription of chapter OPT, in decimal numbers.

The transcription knows nothing of arrays or of float64: each input is the exact number that its
float is, and everything is computed to 60 digits.  The reference may differ by the bound that the
chapter derives from the roundings of its formula.  Rules that others have in place of ours are
written down beside it, and lie outside that bound.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from mlm_spec.errors import InputError
from mlm_spec.training.config import TrainingConfig
from mlm_spec.training.optimizer import (
    adamw,
    clipped,
    global_norm,
    is_decayed,
    learning_rate,
)

U = Fraction(1, 2**53)
SLACK = 1 + Fraction(1, 2**10)  # for products of two roundings
CONFIG = TrainingConfig(
    learning_rate=3e-2, warmup_updates=3, total_updates=9, weight_decay=0.25, precision="float64"
)


def exact(value: Fraction | float) -> Decimal:
    """The number that a float is, to 60 digits."""
    fraction = Fraction(value)
    return Decimal(fraction.numerator) / Decimal(fraction.denominator)


def close(found: float, wanted: Decimal, bound: Decimal) -> bool:
    return abs(exact(found) - wanted) <= bound


def rate(n: int, config: TrainingConfig) -> Fraction:
    """η_n, exactly."""
    whole, first, last = Fraction(config.learning_rate), config.warmup_updates, config.total_updates
    if n <= first:
        return whole * n / first
    return whole * (last + 1 - n) / (last + 1 - first) if config.schedule == "linear" else whole


def one_entry(
    theta: float, g: float, m: float, v: float, n: int, matrix: bool, c: TrainingConfig
) -> tuple[Decimal, Decimal, Decimal]:
    """θ, m and v after update n, one number at a time."""
    b1, b2 = exact(c.beta1), exact(c.beta2)
    m1 = b1 * exact(m) + (1 - b1) * exact(g)
    v1 = b2 * exact(v) + (1 - b2) * exact(g) ** 2
    step = m1 / (1 - b1**n) / ((v1 / (1 - b2**n)).sqrt() + exact(c.epsilon))
    if matrix:
        step += exact(c.weight_decay) * exact(theta)
    return exact(theta) - exact(rate(n, c)) * step, m1, v1


def bounds(
    theta: float, g: float, m: float, v: float, n: int, matrix: bool, c: TrainingConfig
) -> tuple[Decimal, Decimal, Decimal]:
    """How far float64 may be from `one_entry` (chapter OPT, Bounds)."""
    u, slack = exact(U), exact(SLACK)
    b1, b2, eta = exact(c.beta1), exact(c.beta2), exact(rate(n, c))
    moved, m1, v1 = one_entry(theta, g, m, v, n, matrix, c)
    size = b1 * abs(exact(m)) + (1 - b1) * abs(exact(g))
    c1, c2 = 1 - b1**n, 1 - b2**n
    d1, d2 = (u * (4 + 4 * b**n / (1 - b**n)) for b in (b1, b2))
    below = (v1 / c2).sqrt() + exact(c.epsilon)
    q = abs(m1) / c1 / below
    of_q = (3 * u * size / c1 + (d1 + u) * abs(m1) / c1) / below + (6 * u + d2 / 2) * q
    decay = exact(c.weight_decay) * abs(exact(theta)) if matrix else Decimal(0)
    of_theta = eta * (of_q + 4 * u * q + 5 * u * decay) + u * abs(moved)
    return slack * of_theta, slack * 3 * u * size, slack * 4 * u * v1


def case(seed: int, shape: tuple[int, ...]) -> list[dict[str, np.ndarray]]:
    """θ, g, m, v of one tensor, over many magnitudes, with zeros among the gradients."""
    rng = np.random.default_rng(seed)

    def some() -> np.ndarray:
        return rng.standard_normal(shape) * 10.0 ** rng.integers(-8, 3, shape)

    g = some() * (rng.random(shape) < 0.8)
    return [{"x": array} for array in (some(), g, some(), np.square(some()))]


def entries(arrays: list[dict[str, np.ndarray]]) -> list[tuple[float, ...]]:
    return list(zip(*(a["x"].reshape(-1).tolist() for a in arrays), strict=True))


@pytest.mark.parametrize("n", [1, 2, 3, 4, 9])
@pytest.mark.parametrize("shape", [(4, 5), (20,)], ids=["matrix", "vector"])
@pytest.mark.parametrize("seed", range(4))
def test_an_update_is_that_of_the_text(seed: int, shape: tuple[int, ...], n: int) -> None:
    arrays = case(seed, shape)
    moved = adamw(arrays[0], arrays[1], arrays[2], arrays[3], n, CONFIG)
    found = entries([moved.parameters, moved.exp_avg, moved.exp_avg_sq])
    with localcontext(prec=60):
        for got, entry in zip(found, entries(arrays), strict=True):
            wanted = one_entry(*entry, n, len(shape) == 2, CONFIG)
            allowed = bounds(*entry, n, len(shape) == 2, CONFIG)
            assert all(map(close, got, wanted, allowed)), (entry, got, wanted, allowed)


def test_an_update_far_from_the_start_is_that_of_the_text() -> None:
    config = replace(CONFIG, schedule="constant", beta1=0.0, beta2=0.75)
    arrays = case(7, (3, 3))
    moved = adamw(*arrays, 100_000, config)
    with localcontext(prec=60):
        for got, entry in zip(entries([moved.parameters]), entries(arrays), strict=True):
            wanted = one_entry(*entry, 100_000, True, config)[0]
            assert close(got[0], wanted, bounds(*entry, 100_000, True, config)[0])


def uncorrected(m: Decimal, v: Decimal, n: int, c: TrainingConfig) -> Decimal:
    return m / (v.sqrt() + exact(c.epsilon))


def scaled_epsilon(m: Decimal, v: Decimal, n: int, c: TrainingConfig) -> Decimal:
    c1, c2 = 1 - exact(c.beta1) ** n, 1 - exact(c.beta2) ** n
    return m * c2.sqrt() / c1 / (v.sqrt() + exact(c.epsilon))


def epsilon_inside(m: Decimal, v: Decimal, n: int, c: TrainingConfig) -> Decimal:
    c1, c2 = 1 - exact(c.beta1) ** n, 1 - exact(c.beta2) ** n
    return m / c1 / (v / c2 + exact(c.epsilon)).sqrt()


def one_late(m: Decimal, v: Decimal, n: int, c: TrainingConfig) -> Decimal:
    c1, c2 = 1 - exact(c.beta1) ** (n + 1), 1 - exact(c.beta2) ** (n + 1)
    return m / c1 / ((v / c2).sqrt() + exact(c.epsilon))


@pytest.mark.parametrize("rule", [uncorrected, scaled_epsilon, epsilon_inside, one_late])
def test_other_rules_are_told_apart(rule: Callable[..., Decimal]) -> None:
    entry = (0.5, 1e-5, 2e-5, 1e-10)
    with localcontext(prec=60):
        wanted, m, v = one_entry(*entry, 3, False, CONFIG)
        theirs = exact(entry[0]) - exact(rate(3, CONFIG)) * rule(m, v, 3, CONFIG)
        assert abs(theirs - wanted) > bounds(*entry, 3, False, CONFIG)[0]


def test_decay_is_decoupled_and_of_matrices_only() -> None:
    ones = {"x": np.ones((2, 2)), "y": np.ones(2)}
    nothing = {name: np.zeros_like(one) for name, one in ones.items()}
    config = replace(CONFIG, learning_rate=0.5, schedule="constant", warmup_updates=0)
    moved = adamw(ones, nothing, nothing, nothing, 1, config)
    assert moved.parameters["x"].tolist() == [[0.875, 0.875]] * 2  # 1 − 0.5·0.25
    assert moved.parameters["y"].tolist() == [1.0, 1.0]
    assert not moved.exp_avg["x"].any()  # decay that went through the moments would be there
    assert [is_decayed(np.ones(shape)) for shape in ((3,), (1, 1), (3, 1))] == [False, True, True]


def test_results_have_the_dtype_of_the_parameters() -> None:
    arrays = [{"x": a["x"].astype(np.float32)} for a in case(3, (5, 4))]
    moved = adamw(*arrays, 2, CONFIG)
    wide = adamw(*({"x": a["x"].astype(np.float64)} for a in arrays), 2, CONFIG)
    for got, before_rounding in zip(moved, wide, strict=True):
        assert got["x"].dtype == np.float32
        assert np.array_equal(got["x"], before_rounding["x"].astype(np.float32))


def test_an_update_changes_none_of_its_arguments() -> None:
    arrays = case(1, (3, 2))
    before = [a["x"].copy() for a in arrays]
    adamw(*arrays, 1, CONFIG)
    clipped(arrays[1], 2.0, 1.0)["x"][:] = 0.0
    clipped(arrays[1], 1.0, None)["x"][:] = 0.0
    assert all(np.array_equal(a["x"], b) for a, b in zip(arrays, before, strict=True))


# Learning rate ----------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", ["linear", "constant"])
@pytest.mark.parametrize(
    ("warmup", "total"), [(0, 1), (0, 7), (1, 1), (3, 9), (9, 9), (10000, 10**6)]
)
def test_the_learning_rate_is_that_of_the_text(schedule: Any, warmup: int, total: int) -> None:
    config = replace(CONFIG, schedule=schedule, warmup_updates=warmup, total_updates=total)
    for n in {1, 2, warmup - 1, warmup, warmup + 1, total - 1, total} & set(range(1, total + 1)):
        wanted = rate(n, config)
        assert abs(Fraction(learning_rate(n, config)) - wanted) <= 2 * U * SLACK * wanted
        assert wanted > 0


def test_warm_up_ends_at_the_full_rate_and_the_last_update_has_one() -> None:
    assert learning_rate(CONFIG.warmup_updates, CONFIG) == CONFIG.learning_rate
    assert 0 < learning_rate(9, CONFIG) < learning_rate(8, CONFIG) < CONFIG.learning_rate
    assert learning_rate(10**9, replace(CONFIG, schedule="constant")) == CONFIG.learning_rate


@pytest.mark.parametrize(
    ("n", "schedule", "message"),
    [
        (0, "linear", "update is 0; expected in 1..9, the total_updates"),
        (10, "linear", "update is 10; expected in 1..9, the total_updates"),
        (0, "constant", "update is 0; expected 1 or more"),
        (-1, "constant", "update is -1; expected 1 or more"),
        (1.0, "linear", "update is 1.0 (float); expected an integer"),
    ],
)
def test_an_update_that_does_not_exist_has_no_rate(n: Any, schedule: Any, message: str) -> None:
    config = replace(CONFIG, schedule=schedule)
    with pytest.raises(InputError, match=re.escape(message)):
        learning_rate(n, config)
    with pytest.raises(InputError, match=re.escape(message)):
        adamw({}, {}, {}, {}, n, config)


# Norm and clipping ------------------------------------------------------------------------------


def exact_norm(gradients: dict[str, np.ndarray]) -> Decimal:
    total = sum(Fraction(x) ** 2 for g in gradients.values() for x in g.reshape(-1).tolist())
    return exact(Fraction(total)).sqrt()


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("exponent", [-200, 0, 200])
def test_the_norm_is_over_all_entries_of_all_tensors(seed: int, exponent: int) -> None:
    rng = np.random.default_rng(seed)
    gradients = {
        name: rng.standard_normal(shape) * 10.0**exponent
        for name, shape in {"a": (13, 5), "b": (7,), "c": (0,), "d": (1, 1)}.items()
    }
    count = sum(g.size for g in gradients.values())
    with localcontext(prec=60):
        wanted = exact_norm(gradients)
        assert close(global_norm(gradients), wanted, (count + 3) * exact(U) * wanted)


def test_the_norm_of_nothing_is_0_and_beyond_float64_it_is_infinite() -> None:
    assert global_norm({}) == global_norm({"a": np.zeros(3), "b": np.zeros((0, 2))}) == 0.0
    assert global_norm({"a": np.full(4, 1.7e308)}) == np.inf
    assert global_norm({"a": np.full(4, 2.0**-1074)}) == 2.0**-1073


def test_clipping_brings_the_norm_to_the_limit_and_not_below() -> None:
    gradients = {"a": np.array([3.0, -4.0]), "b": np.array([[12.0]])}
    found = clipped(gradients, 13.0, 1.0)
    for name, g in gradients.items():
        for got, x in zip(found[name].reshape(-1).tolist(), g.reshape(-1).tolist(), strict=True):
            wanted = Fraction(x) / 13
            assert abs(Fraction(got) - wanted) <= 2 * U * SLACK * abs(wanted)


@pytest.mark.parametrize("limit", [13.0, 14.0, None])
def test_gradients_up_to_the_limit_stay_to_the_bit(limit: float | None) -> None:
    gradients = {"a": np.array([3.0, -4.0]), "b": np.array([[12.0]])}
    found = clipped(gradients, 13.0, limit)
    assert all(np.array_equal(found[n], g) for n, g in gradients.items())
