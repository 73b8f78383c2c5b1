"""The balls of one update: what is computed otherwise, or more exactly, lies inside."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from autograd_cases import gradients_by_autograd, updated_by_torch
from mlm_conformance.cases.training import (
    DROPOUTS,
    LAYOUTS,
    SIZES,
    SPLITS,
    TrainingCase,
    TrainingRecipe,
)
from mlm_conformance.training import Ball, learning_rate, objective, rounding, shapes, updated
from mlm_conformance.training.balls import exact
from mlm_conformance.training.special import erf

from mlm_spec.training.batch import TrainingBatch
from mlm_spec.training.gradients import gradient_magnitudes

LONG = np.longdouble
SINGLE = 2.0**-24


def recipe(seed: int, dropout: str | None = None) -> TrainingRecipe:
    every = (SIZES, LAYOUTS, SPLITS, tuple(DROPOUTS))
    size, layout, split, dropped = (x[(seed // 3**i + seed) % len(x)] for i, x in enumerate(every))
    return TrainingRecipe(size, layout, split, dropout or dropped, seed)


def zeros(case: TrainingCase) -> dict[str, Any]:
    return {name: np.zeros(shape) for name, shape in shapes(case.config).items()}


def ratios(ball: Ball, other: Any) -> Any:
    """How far off another result is, in radii; 0 where it is the same."""
    off = np.abs(ball.value - np.asarray(other)).astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(off == 0.0, 0.0, off / ball.radius)


@pytest.mark.parametrize("seed", range(50))
def test_more_digits_stay_within_the_radius(seed: int) -> None:
    case = recipe(seed).build(7)
    long = {name: LONG(value) for name, value in case.parameters.items()}
    assert np.finfo(LONG).eps < np.finfo(np.float64).eps
    about = (case.updates[0], case.plan.seed, 1)
    near, true = (objective(case.config, p, *about) for p in (case.parameters, long))
    assert ratios(near.sum, true.sum.value) <= 1.0
    for name, ball in near.gradients.items():
        assert ratios(ball, true.gradients[name].value).max() <= 1.0, name
    start = zeros(case)
    moved = updated(case.plan, case.parameters, start, start, near.gradients, 1)
    exactly = updated(case.plan, long, start, start, true.gradients, 1)
    assert ratios(moved.norm, exactly.norm.value) <= 1.0
    for name, ball in moved.parameters.items():
        assert ratios(ball, exactly.parameters[name].value).max() <= 1.0, name


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(("dtype", "unit"), [(torch.float64, 2.0**-53), (torch.float32, SINGLE)])
def test_autograd_stays_within_the_radius(seed: int, dtype: torch.dtype, unit: float) -> None:
    """Other formulas, other orders, and another precision."""
    case = recipe(seed, "none").build(3)
    rounded = {n: v.astype(np.float32).astype(np.float64) for n, v in case.parameters.items()}
    case = replace(case, parameters=rounded)
    found = objective(case.config, case.parameters, case.updates[0], case.plan.seed, 1, unit)
    total, gradients = gradients_by_autograd(case, dtype=dtype)
    assert ratios(found.sum, total) <= 1.0
    for name, ball in found.gradients.items():
        assert ratios(ball, gradients[name]).max() <= 1.0, name


@pytest.mark.parametrize("most", [None, 0.25, 1.0, 1e3])
def test_adamw_of_a_framework_stays_within_the_radius(most: float | None) -> None:
    case = replace(recipe(4, "none"), max_grad_norm=most).build(5)
    found = objective(case.config, case.parameters, case.updates[0], case.plan.seed, 1)
    _, gradients = gradients_by_autograd(case)
    start = zeros(case)
    ours = updated(case.plan, case.parameters, start, start, found.gradients, 1)
    norm, parameters = updated_by_torch(case, gradients)
    assert ratios(ours.norm, norm) <= 1.0
    for name, ball in ours.parameters.items():
        assert ratios(ball, parameters[name]).max() <= 1.0, name


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_radius_is_small_beside_what_is_added_up(layout: str) -> None:
    """Two layers, 32 wide, 16 positions: an error of a millionth shows in every tensor, and one of
    a thousandth of a millionth in most."""
    case = TrainingRecipe(SIZES[-1], layout, "one", "none", 3, columns=16).build(0)
    found = objective(case.config, case.parameters, case.updates[0], case.plan.seed, 1)
    batches = [TrainingBatch(**batch) for batch in case.updates[0]]
    sizes = [gradient_magnitudes(case.parameters, batch, case.config) for batch in batches]
    share = {
        name: ball.radius.max() * found.count / sum(size[name] for size in sizes).max()
        for name, ball in found.gradients.items()
    }
    assert max(share.values()) < 1e-7, share
    assert np.median(list(share.values())) < 1e-9


def test_the_key_bias_has_no_gradient_and_a_radius() -> None:
    """Softmax does not see what is added to a row: 0 in real numbers, noise in computed ones."""
    case = TrainingRecipe(SIZES[-1], "packed", "one", "none", 3).build(0)
    found = objective(case.config, case.parameters, case.updates[0], case.plan.seed, 1)
    for name, ball in found.gradients.items():
        if name.endswith("key.bias"):
            assert (np.abs(ball.value) <= ball.radius).all()
            assert (ball.radius > 0.0).all()


def test_nothing_selected_has_no_gradient() -> None:
    case = recipe(1).build(0)
    for batch in case.updates[0]:
        batch["selected"][:] = False
    found = objective(case.config, case.parameters, case.updates[0], case.plan.seed, 1)
    assert (found.count, found.sum.value, found.sum.radius) == (0, 0.0, 0.0)
    assert not any(ball.value.any() or ball.radius.any() for ball in found.gradients.values())


def test_learning_rates_of_a_plan() -> None:
    plan = recipe(1).build(0).plan  # three updates of warm-up, 40 in all
    rates = [float(learning_rate(plan, n).value) / plan.learning_rate for n in range(1, 41)]
    assert ratios(learning_rate(plan, 2), plan.learning_rate * 2 / 3) <= 1.0
    assert rates[2] == 1.0
    assert ratios(learning_rate(plan, 40), plan.learning_rate / 38) <= 1.0
    constant = replace(plan, schedule="constant")
    assert float(learning_rate(constant, 10**6).value) == plan.learning_rate


def test_the_root_of_a_ball_holds_the_roots_of_its_ends() -> None:
    r = rounding()
    balls = Ball(np.array([0.0, 1e-20, 1.0, 4.0]), np.array([1e-30, 1e-20, 0.5, 0.0]))
    found = r.root(balls)
    for end in (np.maximum(balls.value - balls.radius, 0.0), balls.value + balls.radius):
        assert (np.abs(np.sqrt(end) - found.value) <= found.radius).all()
    assert r.divided(exact(np.ones(1)), Ball(np.ones(1), np.ones(1))).radius == np.inf


def test_erf_in_more_digits() -> None:
    x = np.linspace(-6.0, 6.0, 97)
    near, long = erf(x), erf(LONG(x))
    assert (np.abs(near - long) <= 2.0**-53).all()
    assert np.any(near != long)
