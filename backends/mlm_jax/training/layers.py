"""The layers of an encoder: products, normalisation, GELU, attention (chapter ENC).

Every function takes values of the *wide* dtype, that of the parameters, and returns it.  Only
products are in the *compute* dtype: their factors are rounded to it, and their sums are wide again.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

__all__ = ["context", "gelu", "layer_norm", "linear", "product", "softmax"]

Saved = tuple[jax.Array, jax.Array]


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def product(form: str, compute: Any, a: jax.Array, b: jax.Array) -> jax.Array:
    """einsum(form, a, b): factors in the compute dtype, sums at least float32.

    The derivative is written out because its factors are rounded too: left to itself, JAX would
    multiply a float32 cotangent by a bfloat16 weight, which no matrix unit does, and round the
    gradient of a float32 weight to bfloat16.

    Every letter of a factor has to be in the other factor or in the result.
    """
    factors = a.astype(compute), b.astype(compute)
    if compute in (jnp.float64, jnp.float32):
        return _summed(form, compute, *factors)
    # Exact, and on a CPU no loss: its narrow products with wide sums are not all implemented.
    widened = partial(_summed, form, jnp.float32)
    narrow = partial(_summed, form, compute)
    product: jax.Array = lax.platform_dependent(*factors, cpu=widened, default=narrow)
    return product


def _summed(form: str, factor: Any, a: jax.Array, b: jax.Array) -> jax.Array:
    """Products of factors of this dtype, their sums at least float32."""
    wide = jnp.float64 if factor == jnp.float64 else jnp.float32
    # HIGHEST: on a GPU float32 would otherwise be rounded to TF32.
    return jnp.einsum(
        form,
        a.astype(factor),
        b.astype(factor),
        precision=lax.Precision.HIGHEST,
        preferred_element_type=wide,
    )


def _forward(form: str, compute: Any, a: jax.Array, b: jax.Array) -> tuple[jax.Array, Saved]:
    return product(form, compute, a, b), (a, b)


def _backward(form: str, compute: Any, saved: Saved, upstream: jax.Array) -> Saved:
    a, b = saved
    factors, result = form.split("->")
    left, right = factors.split(",")
    grad_a = product(f"{result},{right}->{left}", compute, upstream, b)
    grad_b = product(f"{left},{result}->{right}", compute, a, upstream)
    return grad_a.astype(a.dtype), grad_b.astype(b.dtype)


product.defvjp(_forward, _backward)


def linear(compute: Any, x: jax.Array, weight: jax.Array, bias: jax.Array) -> jax.Array:
    """x·Wᵀ + b: (..., in) → (..., out), weight (out, in)."""
    lead = "bt"[: x.ndim - 1]
    return product(f"{lead}i,oi->{lead}o", compute, x, weight) + bias


def layer_norm(x: jax.Array, weight: jax.Array, bias: jax.Array, eps: float) -> jax.Array:
    """(x − mean) / √(variance + eps) · weight + bias over the last axis, the variance biased."""
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    variance = jnp.mean(centred * centred, axis=-1, keepdims=True)
    return centred / jnp.sqrt(variance + eps) * weight + bias


def gelu(x: jax.Array) -> jax.Array:
    """x·Φ(x), with the error function; erfc, so that the left tail keeps its digits."""
    return 0.5 * x * lax.erfc(-x * (0.5**0.5))


def softmax(scores: jax.Array, visible: jax.Array) -> jax.Array:
    """Over the visible entries of the last axis; zeros where there is none."""
    held = jnp.where(visible, scores, -jnp.inf)
    top = lax.stop_gradient(jnp.max(held, axis=-1, keepdims=True))
    power = jnp.exp(held - jnp.where(jnp.any(visible, axis=-1, keepdims=True), top, 0))
    total = jnp.sum(power, axis=-1, keepdims=True)
    return power / jnp.where(total == 0, 1, total)


def context(compute: Any, probabilities: jax.Array, value: jax.Array) -> jax.Array:
    """Σ_j P_ij v_j of each head: (B, H, T, T), (B, T, H, s) → (B, T, H, s)."""
    return product("bhij,bjhs->bihs", compute, probabilities, value)
