"""optax's cross-entropy, as it is and inside a compiled function.

In a compiled function XLA may keep more bits between two operations than the dtype has.
"""

# The packages of the field are in no environment that is type-checked.
# mypy: disable-error-code="import-not-found, import-untyped, no-untyped-call"

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import NDArray

from mlm_conformance.field.accuracy.form import Form

__all__ = ["compiled", "eager"]

# Without it JAX turns float64 into float32 before optax sees it.
jax.config.update("jax_enable_x64", True)

_VERSIONS = {"jax": jax.__version__, "optax": optax.__version__}
_cross_entropy = optax.softmax_cross_entropy_with_integer_labels


def eager() -> Form:
    """``softmax_cross_entropy_with_integer_labels``, with the sign turned."""
    return _form(_cross_entropy)


def compiled() -> Form:
    """The same under ``jax.jit``."""
    return _form(jax.jit(_cross_entropy))


def _form(function: Callable[[jax.Array, jax.Array], jax.Array]) -> Form:
    def one(z: NDArray[Any], t: int) -> NDArray[Any]:
        return -np.asarray(function(jnp.asarray(z), jnp.asarray(t)))

    return Form(one, _VERSIONS)
