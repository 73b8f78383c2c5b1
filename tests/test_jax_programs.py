"""The JAX backend compiles few programs, and its steps can be lowered for accelerators."""

from __future__ import annotations

import mlm_jax
import numpy as np
import pytest
from jax_cases import (
    DTYPES,
    LAWS,
    PORT,
    UNITS,
    compiled,
    head_arguments,
    packed,
    policy,
    score_arguments,
)
from mlm_jax.head import jitted_head_step
from mlm_jax.masking import jitted_mask_step
from mlm_jax.objective import jitted_score_step

from mlm_spec.policy import Bernoulli


def test_many_policies_at_two_shapes_compile_two_programs() -> None:
    policies = [
        policy(LAWS[law], weights, unit, pool=pool)
        for law, unit in UNITS
        for weights in ("1 0 0", "4/5 1/10 1/10")
        for pool in ("regular", (4, 7))
    ]
    before = len(compiled)
    for shape in ((5, 12), (3, 20)):
        for i, rules in enumerate(policies):
            PORT.mask(*packed(*shape, 32, seed=i), rules, seed=i, epoch=i)
    assert len(policies) > 60
    assert len(compiled) - before == 2


def test_scores_of_one_size_share_a_program_for_each_dtype() -> None:
    before = len(compiled)
    for dtype in DTYPES.values():
        for shape in ((2, 8), (4, 4), (1, 13), (16, 1)):
            logits, targets = np.zeros((*shape, 37), dtype), np.zeros(shape, np.int64)
            selected = np.ones(shape, bool)
            PORT.score(logits, targets, selected)
            PORT.score(logits, targets, selected, np.ones(shape))
            PORT.score_step(logits, targets, selected, None, capacity=5)
            PORT.loss(logits, targets, -100, None)
    assert len(compiled) - before == len(DTYPES)


def test_heads_of_one_size_share_a_program() -> None:
    before = len(compiled)
    weight, bias = np.ones((23, 6), np.float32), np.ones(23, np.float32)
    for shape in ((2, 8), (4, 4), (1, 11)):
        targets, hidden = np.zeros(shape, np.int64), np.ones((*shape, 6), np.float32)
        for count in (0, 1, 11):
            selected = (np.arange(targets.size) < count).reshape(shape)
            PORT.head(hidden, weight, bias, targets, selected)
            PORT.head(hidden, weight, None, targets, selected, np.ones(shape, np.float32))
            PORT.head_step(hidden, weight, bias, targets, selected, None, capacity=count)
    assert len(compiled) - before == 1


def test_a_new_rate_compiles_nothing_in_a_step_with_a_static_law() -> None:
    source = packed(2, 9, 32, seed=1)
    source[0] = source[0].astype(np.int32)
    before = len(compiled)
    for rate in ("1/2", "1/3", "1"):
        jitted_mask_step(
            *source, mlm_jax.make_plan(policy(Bernoulli(rate)), 9), mlm_jax.key_words(1, 1)
        )
    assert len(compiled) - before == 1


def test_values_and_gradients_of_a_score_are_one_program() -> None:
    before = len(compiled)
    logits = np.zeros((3, 5, 7), np.float32)
    targets, selected = np.zeros((3, 5), np.int32), np.ones((3, 5), bool)
    jitted_score_step(logits, targets, selected)
    assert len(compiled) - before == 1


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_every_step_can_be_lowered_for_an_accelerator(platform: str) -> None:
    """Without the device: that no operation is for the CPU alone."""
    source = packed(3, 24, 32, seed=1)
    source[0] = source[0].astype(np.int32)
    plan = mlm_jax.make_plan(policy(LAWS["span"], unit="span"), 24, any_law=True)
    head = head_arguments(targets=np.zeros((2, 4), np.int32))
    score = score_arguments(targets=np.zeros((2, 4), np.int32))
    for traced in (
        jitted_mask_step.trace(*source, plan, mlm_jax.key_words(0, 0)),
        jitted_score_step.trace(**score),
        jitted_head_step.trace(**head, capacity=4),
    ):
        assert "stablehlo" in traced.lower(lowering_platforms=(platform,)).as_text()
