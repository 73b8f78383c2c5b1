"""A loss with a reduction or a count that is none is refused: the reference, both backends."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import jax.numpy as jnp
import mlm_jax
import mlm_torch
import numpy as np
import pytest
import torch

import mlm_spec
from mlm_spec.errors import InputError, PolicyError

LOGITS, LABELS = np.zeros((1, 2, 4), np.float32), np.array([[3, -100]])
LOSSES: dict[str, Callable[..., Any]] = {
    "mlm_spec": lambda **how: mlm_spec.loss(LOGITS, LABELS, **how),
    "mlm_torch": lambda **how: mlm_torch.loss(
        torch.from_numpy(LOGITS), torch.from_numpy(LABELS), **how
    ),
    "mlm_jax": lambda **how: mlm_jax.loss(
        jnp.asarray(LOGITS), jnp.asarray(LABELS, jnp.int32), **how
    ),
}


@pytest.mark.parametrize("reduction", ["none", "", None, "Mean", 1])
@pytest.mark.parametrize("name", LOSSES)
def test_an_unknown_reduction_is_refused(name: str, reduction: Any) -> None:
    with pytest.raises(InputError, match="reduction"):
        LOSSES[name](reduction=reduction)


@pytest.mark.parametrize("items", [True, 2.5, "2", [2]])
@pytest.mark.parametrize("name", LOSSES)
def test_a_count_that_is_no_integer_is_refused(name: str, items: Any) -> None:
    with pytest.raises(InputError, match="num_items"):
        LOSSES[name](reduction="sum/num_items", num_items=items)


@pytest.mark.parametrize("p", [0.5, 2, -1, Fraction(3, 2), "1/2", None])
def test_a_threshold_of_no_probability_is_refused(p: Any) -> None:
    with pytest.raises(PolicyError, match="exact fraction"):
        mlm_spec.threshold(p)
