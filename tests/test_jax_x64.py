"""The JAX backend under both settings of x64: float64 is kept or refused, masks are the same."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import mlm_jax
import numpy as np
import pytest
from jax_cases import (
    LAWS,
    PORT,
    UNITS,
    assert_same_batch,
    head_arguments,
    packed,
    policy,
    score_arguments,
)
from mlm_conformance.bounds import arithmetic, value_bound

import mlm_spec
from mlm_spec.errors import DTypeError


@pytest.fixture
def x64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def test_float64_without_x64_is_refused_not_rounded() -> None:
    with pytest.raises(DTypeError, match=r"x64"):
        mlm_jax.score(**score_arguments(logits=np.zeros((2, 4, 6))))
    with pytest.raises(DTypeError, match=r"x64"):
        mlm_jax.score(**score_arguments(weights=np.ones((2, 4))))
    with pytest.raises(DTypeError, match=r"x64"):
        mlm_jax.head(**head_arguments(hidden=np.zeros((2, 4, 3))))
    with pytest.raises(DTypeError, match=r"x64"):
        mlm_jax.log_likelihood_sum(
            np.zeros((1, 1, 2)), np.zeros((1, 1), np.int32), np.ones((1, 1), bool)
        )


def test_float64_with_x64_stays_float64(x64: None) -> None:
    logits = np.array([[[0.0, 1e-12]]])
    result = mlm_jax.score(logits, np.array([[1]]), np.array([[True]]))
    assert result.sum.dtype == result.grad_logits.dtype == np.float64
    bound = value_bound(logits[0], np.array([1]), arithmetic("float64"))[0]
    exact = float(mlm_spec.score(logits, np.array([[1]]), np.array([[True]])).sum)
    assert abs(float(result.sum) - exact) <= bound


def test_the_port_leaves_the_setting_of_x64_as_it_was() -> None:
    PORT.score(**score_arguments(logits=np.zeros((2, 4, 6))))
    assert not jax.config.jax_enable_x64
    with jax.enable_x64(True):
        source, rules = packed(3, 24, 32, seed=1), policy(LAWS["count"], unit="word")
        assert_same_batch(PORT.mask(*source, rules, 1, 2), mlm_spec.mask(*source, rules, 1, 2))
        assert PORT.score(**score_arguments()).sum.dtype == np.float32
        assert jax.config.jax_enable_x64


def test_masks_are_the_same_with_x64_on(x64: None) -> None:
    for law, unit in UNITS:
        source, rules = packed(3, 24, 32, seed=1), policy(LAWS[law], unit=unit)
        batch = mlm_jax.mask(*source, rules, 1, 2)
        want = mlm_spec.mask(*source, rules, 1, 2)
        for seen, expected in zip(batch, want, strict=True):
            np.testing.assert_array_equal(seen, expected)
