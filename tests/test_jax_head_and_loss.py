"""The JAX backend's head and its losses: bounds, few logits, capacities, true means."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import mlm_jax
import numpy as np
import pytest
from jax_cases import DTYPES, PORT, closed_form, poisoned
from mlm_conformance.bounds import arithmetic, head_bounds, sum_bound, value_bound
from mlm_jax.head import jitted_head_step, rounded_capacity

import mlm_spec
from mlm_spec.errors import EmptySelectionError


@pytest.fixture
def x64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


# The head


def layer_of(dtype: str, seed: int = 0, d: int = 8, vocab: int = 64) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    arrays = (rng.normal(size=(3, 4, d)), rng.normal(size=(vocab, d)), rng.normal(size=vocab))
    return [x.astype(DTYPES[dtype]) for x in arrays]


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_head_and_its_three_gradients_are_within_the_any_order_bound(
    dtype: str, biased: bool
) -> None:
    hidden, weight, bias = layer_of(dtype)
    rng = np.random.default_rng(2)
    targets, selected = rng.integers(64, size=(3, 4)), rng.random((3, 4)) < 0.6
    weights = rng.uniform(-2, 2, size=(3, 4)).astype(np.float32)
    result = PORT.head(hidden, weight, bias if biased else None, targets, selected, weights)
    states, matrix = hidden[selected].astype(np.float64), weight.astype(np.float64)
    offset = bias.astype(np.float64) if biased else None
    logits = states @ matrix.T + (0.0 if offset is None else offset)
    ids, shares = targets[selected], weights[selected].astype(np.float64)
    nats, signal = closed_form(logits, ids, shares)
    limits = head_bounds(states, matrix, offset, ids, shares, signal, dtype)
    assert abs(float(result.sum) - (shares * nats).sum()) <= limits.sum
    assert int(result.count) == selected.sum()
    near = {
        "grad_hidden": (result.grad_hidden[selected], signal @ matrix),
        "grad_weight": (result.grad_weight, signal.T @ states),
    }
    if biased:
        near["grad_bias"] = (result.grad_bias, signal.sum(axis=0))
    for name, (seen, want) in near.items():
        assert seen.dtype == hidden.dtype
        off = np.abs(seen.astype(np.float64) - want)
        assert (off <= getattr(limits, name)).all(), name
    assert (result.grad_bias is None) == (not biased)


def test_unselected_hidden_states_do_not_leak_through_nan() -> None:
    _, weight, bias = layer_of("float32", d=8)
    selected = np.array([[False, True, False], [True, False, False]])
    targets = np.where(selected, 5, -100)
    seen = PORT.head(poisoned((2, 3, 8), selected), weight, bias, targets, selected)
    want = PORT.head(np.zeros((2, 3, 8), np.float32), weight, bias, targets, selected)
    for a, b in zip(seen, want, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not seen.grad_hidden[~selected].any()
    assert seen.grad_hidden[selected].any()


def test_the_head_of_nothing_is_zero() -> None:
    hidden, weight, bias = layer_of("float32")
    nothing = np.zeros((3, 4), bool)
    result = PORT.head(hidden * np.nan, weight, bias, np.full((3, 4), -100), nothing)
    assert (float(result.sum), int(result.count)) == (0.0, 0)
    assert not any(x.any() for x in result[2:])


def test_only_as_many_rows_of_logits_as_the_capacity_are_formed() -> None:
    hidden, weight = np.zeros((8, 16, 4), np.float32), np.zeros((1000, 4), np.float32)
    targets, selected = np.zeros((8, 16), np.int32), np.zeros((8, 16), bool)
    lowered = jitted_head_step.lower(hidden, weight, None, targets, selected, capacity=32)
    text = lowered.as_text()
    assert "tensor<32x1000xf32>" in text
    assert "tensor<128x1000xf32>" not in text
    assert "precision = [HIGHEST, HIGHEST]" in text
    assert "precision = [DEFAULT" not in text


jitted_head_sum = jax.jit(mlm_jax.head_log_likelihood_sum, static_argnames="capacity")


def test_a_capacity_of_exactly_the_count_holds_every_position() -> None:
    hidden, weight, bias = layer_of("float32")
    targets, selected = np.zeros((3, 4), np.int32), np.ones((3, 4), bool)
    total, count = jitted_head_sum(hidden, weight, bias, targets, selected, capacity=12)
    states, matrix = hidden.reshape(12, 8).astype(np.float64), weight.astype(np.float64)
    nats, signal = closed_form(states @ matrix.T + bias, targets.reshape(-1), np.ones(12))
    limits = head_bounds(
        states, matrix, bias.astype(np.float64), targets.reshape(-1), np.ones(12), signal, "float32"
    )
    assert int(count) == 12
    assert abs(float(total) - nats.sum()) <= limits.sum


def test_an_overflow_of_the_differentiable_head_is_nan_and_the_count_is_true() -> None:
    hidden, weight, bias = layer_of("float32")
    targets, selected = np.zeros((3, 4), np.int32), np.ones((3, 4), bool)
    total, count = jitted_head_sum(hidden, weight, bias, targets, selected, capacity=11)
    assert np.isnan(total)
    assert int(count) == 12


def test_rounded_capacities_hold_the_count_and_are_few() -> None:
    rounded = {count: rounded_capacity(count, 5000) for count in range(5001)}
    assert all(count <= slots <= 5000 for count, slots in rounded.items())
    assert len(set(rounded.values())) == 10  # 16, 32, … 4096, and all


# The loss


def test_the_mean_loss_is_minus_the_sum_over_the_count() -> None:
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(2, 4, 8)).astype(np.float32)
    labels = np.where(rng.random((2, 4)) < 0.5, rng.integers(8, size=(2, 4)), -100)
    selected = labels != -100
    result = PORT.score(logits, labels, selected)
    count = np.float32(result.count)
    seen = PORT.loss(logits, labels, -100, None)
    assert seen["loss"] == -result.sum / count
    bound = 3 * 2.0**-24 * np.abs(result.grad_logits / count) * (1 + 2.0**-10)
    assert (np.abs(seen["grad_logits"] + result.grad_logits / count) <= bound).all()
    assert PORT.loss_reduction == "mean"


def test_micro_batches_with_the_global_count_add_up(x64: None) -> None:
    rng = np.random.default_rng(4)
    logits, labels = rng.normal(size=(4, 2, 8)), rng.integers(8, size=(4, 2))
    whole, gradient = mlm_jax.loss(logits, labels)
    parts = [
        mlm_jax.loss(logits[i : i + 1], labels[i : i + 1], num_items=8, reduction="sum/num_items")
        for i in range(4)
    ]
    z, t = logits.reshape(8, 8), labels.reshape(8)
    how = arithmetic("float64")
    bounds = value_bound(z, t, how)
    values = mlm_spec.log_likelihood(z, t)
    limit = 2 * sum_bound(values, bounds, np.ones(8), how) / 8 + 10 * how.unit * abs(whole)
    assert abs(sum(part for part, _ in parts) - whole) <= limit
    np.testing.assert_array_equal(np.concatenate([g for _, g in parts]), gradient)


def test_a_loss_over_nothing_is_zero_or_an_error() -> None:
    logits, labels = np.zeros((1, 2, 4), np.float32), np.full((1, 2), -100)
    with pytest.raises(EmptySelectionError):
        PORT.loss(logits, labels, -100, None)
    with pytest.raises(EmptySelectionError):
        mlm_jax.loss(logits, labels, reduction="sum/num_items")
    assert mlm_jax.loss(logits, labels, reduction="sum")[0] == 0.0
    assert mlm_jax.loss(logits, labels, num_items=7, reduction="sum/num_items")[0] == 0.0
    total, count = mlm_jax.loss_sum(logits, labels)
    assert (float(total), int(count)) == (0.0, 0)
