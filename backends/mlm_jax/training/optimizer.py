"""The rule of an update: clipping by the global norm, AdamW, warm-up and decay (chapter OPT).

All numbers of a configuration are arguments of the compiled update, so another learning rate
compiles nothing.

Source: Loshchilov and Hutter, "Decoupled weight decay regularization" (2019).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mlm_jax.training.parameters import Parameters
from mlm_spec.training.config import TrainingConfig

__all__ = ["Moments", "Rule", "adamw", "clipped", "global_norm", "learning_rate", "make_rule"]

Array = Any  # jax.Array or numpy.ndarray


class Rule(NamedTuple):
    """A `TrainingConfig` as numbers of the parameters' dtype, () each.

    Attributes
    ----------
    peak, warmup, total : η, W, M.
    falls : bool.  Whether the schedule is linear.
    keep1, keep2, take1, take2 : β₁, β₂, 1 − β₁, 1 − β₂.
    log1, log2 : log β₁, log β₂; -inf for 0.
    epsilon, decay : ε, λ.
    limit : of the global norm; inf for none.
    """

    peak: Array
    warmup: Array
    total: Array
    falls: Array
    keep1: Array
    keep2: Array
    take1: Array
    take2: Array
    log1: Array
    log2: Array
    epsilon: Array
    decay: Array
    limit: Array


class Moments(NamedTuple):
    """Parameters and the two moments of their gradients, by name."""

    parameters: Parameters
    exp_avg: Parameters
    exp_avg_sq: Parameters


def make_rule(training: TrainingConfig, dtype: Any) -> Rule:
    """The rule of a configuration.

    1 − β and log β are taken in float64 and rounded once: float32 would have 1 − 0.999 wrong in
    its fifth digit.
    """
    first, second = training.beta1, training.beta2
    limit = math.inf if training.max_grad_norm is None else training.max_grad_norm
    number = np.dtype(dtype).type
    return Rule(
        number(training.learning_rate),
        number(training.warmup_updates),
        number(training.total_updates),
        np.bool_(training.schedule == "linear"),
        *(number(x) for x in (first, second, 1 - first, 1 - second)),
        *(number(math.log(beta) if beta else -math.inf) for beta in (first, second)),
        *(number(x) for x in (training.epsilon, training.weight_decay, limit)),
    )


def learning_rate(update: jax.Array, rule: Rule) -> jax.Array:
    """η_n of update n = 1, 2, …: η·n/W up to W; then η, or η·(M + 1 − n)/(M + 1 − W)."""
    n = update.astype(rule.peak.dtype)
    falling = rule.peak * (rule.total + 1 - n) / (rule.total + 1 - rule.warmup)
    after = jnp.where(rule.falls, falling, rule.peak)
    return jnp.where(n <= rule.warmup, rule.peak * n / jnp.maximum(rule.warmup, 1), after)


def global_norm(gradients: Parameters) -> jax.Array:
    """√Σ g² over all parameters; NaN or inf if and only if a gradient is, or the norm itself.

    Scaled by the largest magnitude, so that squares neither overflow nor vanish.
    """
    leaves = jax.tree.leaves(gradients)
    largest = jnp.max(jnp.stack([jnp.max(jnp.abs(g)) for g in leaves]))
    scale = jnp.where(largest > 0, largest, 1)
    squares = jnp.stack([jnp.sum(jnp.square(g / scale)) for g in leaves])
    return largest * jnp.sqrt(jnp.sum(squares))


def clipped(gradients: Parameters, norm: jax.Array, limit: jax.Array) -> Parameters:
    """g·(limit / norm) where the norm exceeds the limit, else g; nothing is added to the norm."""
    above = norm > limit
    factor = jnp.where(above, limit / jnp.where(above, norm, 1), 1)
    return {name: g * factor for name, g in gradients.items()}


def adamw(
    state: Moments, gradients: Parameters, update: jax.Array, rate: jax.Array, rule: Rule
) -> Moments:
    """One step of AdamW.

        m ← β₁m + (1 − β₁)g    v ← β₂v + (1 − β₂)g²    m̂ = m/(1 − β₁ⁿ)    v̂ = v/(1 − β₂ⁿ)
        θ ← θ − η_n·(m̂/(√v̂ + ε) + λ·θ·[θ is a matrix])

    Embeddings are matrices; biases and the parameters of a normalisation are not.
    """
    n = update.astype(rule.peak.dtype)
    correction1, correction2 = -jnp.expm1(n * rule.log1), -jnp.expm1(n * rule.log2)
    moved = Moments({}, {}, {})
    for name, g in gradients.items():
        m = rule.keep1 * state.exp_avg[name] + rule.take1 * g
        v = rule.keep2 * state.exp_avg_sq[name] + rule.take2 * jnp.square(g)
        old = state.parameters[name]
        step = (m / correction1) / (jnp.sqrt(v / correction2) + rule.epsilon)
        if old.ndim == 2:
            step += rule.decay * old
        moved.parameters[name] = old - rate * step
        moved.exp_avg[name], moved.exp_avg_sq[name] = m, v
    return moved
