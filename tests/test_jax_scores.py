"""The JAX backend's likelihoods and gradients lie within derived bounds, extremes too."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import mlm_jax
import numpy as np
import pytest
from jax_cases import DTYPES, PORT, closed_form, poisoned
from mlm_conformance.bounds import arithmetic, gradient_bound, sum_bound, value_bound


def logits_of(kind: str, rng: np.random.Generator, rows: int, vocab: int) -> np.ndarray:
    logits = rng.normal(size=(rows, vocab)) * 3.0
    if kind == "offset":
        logits += rng.choice([200.0, -200.0, 1e4], size=(rows, 1))
    elif kind == "equal":
        logits[:] = 1.0
    elif kind == "likely":
        logits[:, 0] = 30.0
    elif kind == "improbable":
        logits[:, 0] = -1e4
    elif kind == "impossible":
        logits[:, 1::2] = -np.inf
    return logits


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "kind", ["normal", "offset", "equal", "likely", "improbable", "impossible"]
)
def test_value_and_gradient_are_within_the_any_order_bound(kind: str, dtype: str) -> None:
    """Against log p and w(1[j = t] − p), in long double from logits converted exactly."""
    rng = np.random.default_rng(11)
    for vocab in (1, 2, 64):
        logits = logits_of(kind, rng, 12, vocab).astype(DTYPES[dtype]).reshape(3, 4, vocab)
        targets = rng.integers(vocab, size=(3, 4)) // 2 * 2
        targets[0] = 0
        selected = rng.random((3, 4)) < 0.7
        weights = rng.uniform(-2, 2, size=(3, 4)).astype(np.float32)
        result = PORT.score(logits, targets, selected, weights)
        z, t, w = logits[selected].astype(np.float64), targets[selected], weights[selected]
        nats, gradient = closed_form(z, t, w.astype(np.float64))
        how = arithmetic(dtype)
        bounds = value_bound(z, t, how)
        assert (np.abs(result.log_likelihood[selected] - nats) <= bounds).all()
        assert abs(float(result.sum) - (w * nats).sum()) <= sum_bound(nats, bounds, w, how)
        limits = gradient_bound(z, gradient, w.astype(np.float64), arithmetic(dtype, dtype))
        seen = result.grad_logits[selected].astype(np.float64)
        assert (np.abs(seen - gradient) <= limits).all()
        assert not seen[np.isneginf(z)].any()


@pytest.mark.parametrize("gap", [1.0, 5.0, 16.0, 40.0, 80.0])
def test_the_log_likelihood_keeps_its_relative_accuracy_near_probability_one(gap: float) -> None:
    """exp and log1p of at most 4 ulps each, one ulp being 2u: 16u, all else exact at V = 2."""
    logits = np.array([[[gap, 0.0]]], np.float32)
    result = PORT.score(logits, np.array([[0]]), np.array([[True]]))
    exact = -np.log1p(np.exp(np.longdouble(-gap)))
    assert abs(result.sum - exact) <= 16 * 2.0**-24 * (1 + 2.0**-10) * -exact
    assert result.grad_logits[0, 0, 0] > 0


def test_a_vocabulary_of_one_gives_exactly_zero() -> None:
    logits = np.array([[[-7.5], [3.0]]], np.float32)
    result = PORT.score(logits, np.zeros((1, 2), np.int32), np.ones((1, 2), bool))
    assert (float(result.sum), int(result.count)) == (0.0, 2)
    assert not np.signbit(result.sum)
    assert not result.grad_logits.any()


def test_equal_float16_logits_are_summed_beyond_the_range_of_float16() -> None:
    logits = np.zeros((1, 1, 65536), np.float16)
    result = PORT.score(logits, np.array([[65535]]), np.array([[True]]))
    bound = value_bound(logits[0], np.array([65535]), arithmetic("float16"))
    assert abs(float(result.sum) + np.log(65536)) <= bound[0]
    assert result.sum.dtype == np.float32


@pytest.mark.parametrize("dtype", DTYPES)
def test_results_have_the_dtypes_of_the_contract(dtype: str) -> None:
    logits = np.zeros((2, 3, 5), DTYPES[dtype])
    result = PORT.score(logits, np.zeros((2, 3), np.int32), np.ones((2, 3), bool))
    wide = np.float64 if dtype == "float64" else np.float32
    assert result.sum.dtype == result.log_likelihood.dtype == wide
    assert result.grad_logits.dtype == logits.dtype
    assert np.issubdtype(result.count.dtype, np.integer)


def test_nothing_at_unselected_positions_matters() -> None:
    selected = np.array([[False, True, False, True]])
    clean = [np.zeros((1, 4, 6), np.float32), np.array([[1, 2, 3, 4]]), selected]
    weights = np.array([[1.0, 2.0, 3.0, 4.0]], np.float32)
    dirty = [poisoned((1, 4, 6), selected), np.array([[-100, 2, 2**40, 4]]), selected]
    bad = np.where(selected, weights, np.nan).astype(np.float32)
    for a, b in zip(PORT.score(*clean, weights), PORT.score(*dirty, bad), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not PORT.score(*dirty, bad).grad_logits[~selected].any()


def test_a_training_step_differentiates_to_the_gradient_of_score() -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(2, 4, 8)).astype(np.float32)
    targets, selected = rng.integers(8, size=(2, 4)).astype(np.int32), rng.random((2, 4)) < 0.5

    @jax.jit
    def step(z: jax.Array) -> Any:
        return jax.value_and_grad(mlm_jax.log_likelihood_sum, has_aux=True)(z, targets, selected)

    (total, count), gradient = step(poisoned((2, 4, 8), selected) + logits)
    want = PORT.score(logits, targets, selected)
    assert (float(total), int(count)) == (float(want.sum), int(want.count))
    np.testing.assert_array_equal(gradient, want.grad_logits)


def test_the_gradient_for_the_weights_is_the_log_likelihood() -> None:
    logits, targets = jnp.arange(8.0).reshape(1, 2, 4), jnp.array([[0, 3]])
    selected = jnp.array([[True, False]])
    gradient = jax.grad(lambda w: mlm_jax.log_likelihood_sum(logits, targets, selected, w)[0])
    want = mlm_jax.log_likelihood(logits, targets, selected)
    np.testing.assert_array_equal(gradient(jnp.ones((1, 2))), want)


def test_a_target_outside_the_vocabulary_is_nan_in_a_step_that_cannot_raise() -> None:
    total, count = mlm_jax.log_likelihood_sum(
        jnp.zeros((1, 2, 4)), jnp.array([[4, 1]]), jnp.array([[True, True]])
    )
    assert np.isnan(total)
    assert int(count) == 2
