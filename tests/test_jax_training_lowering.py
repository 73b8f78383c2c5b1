"""The programs of training can be lowered for accelerators: no operation is for the CPU alone."""

from __future__ import annotations

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax_training_cases import (
    ENCODER,
    POLICY,
    STILL,
    TRAINING,
    batch,
    parameters,
    tokens,
)
from mlm_jax.thresholds import make_plan
from mlm_jax.training.batches import prepare
from mlm_jax.training.dropout import site_keys
from mlm_jax.training.gradients import add_gradients, add_objective, no_totals
from mlm_jax.training.layers import product
from mlm_jax.training.layout import Layout
from mlm_jax.training.optimizer import Moments, make_rule
from mlm_jax.training.update import TrainingState, apply_totals

SEED = np.array([1, 0], np.uint32)
ALONE = Layout(None, ENCODER.vocab_size)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_training_can_be_lowered_for_an_accelerator(platform: str, precision: str) -> None:
    held = {name: jnp.asarray(x, jnp.float32) for name, x in parameters().items()}
    keys = site_keys(SEED, jnp.int32(0), layers=ENCODER.num_hidden_layers)
    masked = prepare(batch(2, 1), ENCODER, POLICY, TRAINING.seed)
    source = prepare(tokens(2, 1), ENCODER, POLICY, TRAINING.seed)
    plan = make_plan(POLICY, source.batch.tokens.shape[1])
    totals, scale = no_totals(held, gradients=True, layout=ALONE), jnp.float32(1)
    state = TrainingState(Moments(held, held, held), jnp.int32(0), scale)
    static = {"compute": jnp.dtype(precision), "capacity": 64, "layout": ALONE}
    first = (totals, held, source.batch, plan, keys, scale)
    second = (totals, held, masked.batch, None)
    rule = make_rule(TRAINING, np.float32)
    for traced in (
        add_gradients.trace(*first, encoder=ENCODER, **static),
        add_objective.trace(*second, encoder=STILL, **static),
        apply_totals.trace(state, totals, rule, scaled=precision == "float16"),
    ):
        assert "stablehlo" in traced.lower(lowering_platforms=(platform,)).as_text()


def test_products_keep_their_factors_narrow_there_and_back() -> None:
    """A float32 factor would leave the matrix units of an accelerator unused."""
    held = {name: jnp.asarray(x, jnp.float32) for name, x in parameters().items()}
    keys = site_keys(SEED, jnp.int32(0), layers=ENCODER.num_hidden_layers)
    masked = prepare(batch(2, 1), ENCODER, None, TRAINING.seed)
    totals = no_totals(held, gradients=True, layout=ALONE)
    arguments = (totals, held, masked.batch, None, keys, jnp.float32(1))
    static = {"encoder": ENCODER, "compute": jnp.dtype("bfloat16"), "capacity": 64, "layout": ALONE}
    traced = add_gradients.trace(*arguments, **static)
    for platform, factor in (("cuda", "bf16"), ("tpu", "bf16"), ("cpu", "f32")):
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        dots = re.findall(r"dot_general.* : \(([^)]*)\) -> (\S+)", text)
        assert len(dots) > 20
        for factors, result in dots:
            assert re.findall(r"(b?f\d+)>", factors) == [factor, factor]
            assert result.endswith("xf32>")


def test_what_a_cpu_multiplies_was_rounded_before() -> None:
    a, one = jnp.float32([[1.0 + 2.0**-9]]), jnp.float32([[1.0]])
    for compute, wanted in (("bfloat16", 1.0), ("float16", 1.0 + 2.0**-9)):
        found = jax.jit(partial(product, "ni,oi->no", jnp.dtype(compute)))(a, one)
        assert found.tolist() == [[wanted]]
