"""optax's cross-entropy, with the lines that people write around it.

``softmax_cross_entropy_with_integer_labels`` gives one number a position and knows no
ignore_index, so a masked-language model needs a few lines more.  They are written in three ways,
and each is an adapter here:

* `masked_mean`: the ignored labels become 0, and the mean is taken over the others;
* `raw_labels_mean`: the labels go in as they are, -100 and all, and the mask multiplies;
* `where_mean`: the mask goes into the function's own ``where`` argument.

The mask is an array of ones and zeros in float32, as input pipelines hand it over.  `score` gives
the same function's numbers position by position, and `score_float32` those of logits that were
converted to float32 (or float64) before the call.
"""

# The packages of the field are in no environment that is type-checked.
# mypy: disable-error-code="import-not-found, import-untyped, no-untyped-call"

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import NDArray

__all__ = ["masked_mean", "raw_labels_mean", "score", "score_float32", "where_mean"]

# Without it JAX turns float64 into float32 before optax sees it.
jax.config.update("jax_enable_x64", True)

_VERSIONS = {"jax": jax.__version__, "optax": optax.__version__}
_Array: TypeAlias = NDArray[Any]
_cross_entropy = optax.softmax_cross_entropy_with_integer_labels


@dataclass(frozen=True, slots=True)
class OptaxLoss:
    """A masked mean as the port ``loss``.  ``total(logits, labels, mask)`` sums over the mask."""

    total: Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
    loss_reduction: str
    versions: Mapping[str, str]

    def loss(
        self, logits: _Array, labels: _Array, ignore_index: int, num_items: int | None
    ) -> dict[str, _Array]:
        """The loss () and its gradient (B, T, V), compiled, in the dtype that optax gives."""
        mask = (labels != ignore_index).astype(np.float32)
        value, gradient = _mean(self.total, logits, labels, mask)
        return {"loss": np.asarray(value), "grad_logits": np.asarray(gradient)}


@dataclass(frozen=True, slots=True)
class OptaxScore:
    """The function's own numbers as the port ``score``: a sign, a mask and a sum are added."""

    convert: bool  # bfloat16 and float16 logits to float32 before the call
    versions: Mapping[str, str]

    def score(
        self, logits: _Array, targets: _Array, selected: _Array, weights: _Array | None
    ) -> dict[str, _Array]:
        """log_likelihood (B, T), sum (), count (), grad_logits (B, T, V)."""
        shares = np.ones(selected.shape, np.float32) if weights is None else weights
        (total, each), gradient = _score(self.convert, logits, targets, selected, shares)
        found = {"log_likelihood": each, "sum": total, "grad_logits": gradient}
        arrays = {name: np.asarray(value) for name, value in found.items()}
        return {**arrays, "count": np.asarray(int(selected.sum()))}


def masked_mean() -> OptaxLoss:
    """Ignored labels replaced by 0 before the call; the mean over the others after it."""
    return OptaxLoss(_total_of_safe_labels, "mean", _VERSIONS)


def raw_labels_mean() -> OptaxLoss:
    """Labels passed as they are, and the mask multiplied in afterwards."""
    return OptaxLoss(_total_of_raw_labels, "mean", _VERSIONS)


def where_mean() -> OptaxLoss:
    """Ignored labels replaced by 0, and the mask passed as ``where``."""
    return OptaxLoss(_total_by_where, "mean", _VERSIONS)


def score() -> OptaxScore:
    """Position by position, in the dtype of the logits."""
    return OptaxScore(False, _VERSIONS)


def score_float32() -> OptaxScore:
    """Position by position, in float32 or float64."""
    return OptaxScore(True, _VERSIONS)


def _total_of_safe_labels(logits: jax.Array, labels: jax.Array, mask: jax.Array) -> jax.Array:
    return jnp.sum(_cross_entropy(logits, jnp.where(mask > 0, labels, 0)) * mask)


def _total_of_raw_labels(logits: jax.Array, labels: jax.Array, mask: jax.Array) -> jax.Array:
    return jnp.sum(_cross_entropy(logits, labels) * mask)


def _total_by_where(logits: jax.Array, labels: jax.Array, mask: jax.Array) -> jax.Array:
    safe = jnp.where(mask > 0, labels, 0)
    return jnp.sum(_cross_entropy(logits, safe, where=mask > 0))


@partial(jax.jit, static_argnums=0)
def _mean(
    total: Callable[[jax.Array, jax.Array, jax.Array], jax.Array],
    logits: jax.Array,
    labels: jax.Array,
    mask: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    def mean(x: jax.Array) -> jax.Array:
        return total(x, labels, mask) / jnp.sum(mask)

    return jax.value_and_grad(mean)(logits)


@partial(jax.jit, static_argnums=0)
def _score(
    convert: bool,
    logits: jax.Array,
    targets: jax.Array,
    selected: jax.Array,
    weights: jax.Array,
) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
    def total(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32)) if convert else x
        each = -_cross_entropy(wide, jnp.where(selected, targets, 0))
        kept = jnp.where(selected, each, 0)
        return jnp.sum(kept * weights.astype(kept.dtype)), kept

    return jax.value_and_grad(total, has_aux=True)(logits)
