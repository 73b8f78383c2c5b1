"""JAX's log-softmax, which compiles itself."""
# The packages of the field are in no environment that is type-checked.
# mypy: disable-error-code="import-not-found, import-untyped, no-untyped-call"

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from mlm_conformance.field.accuracy.form import Form

__all__ = ["log_softmax"]

# Without it JAX turns float64 into float32.
jax.config.update("jax_enable_x64", True)

_VERSIONS = {"jax": jax.__version__}


def log_softmax() -> Form:
    """``jax.nn.log_softmax``."""

    return Form(lambda z, t: np.asarray(jax.nn.log_softmax(jnp.asarray(z)))[t], _VERSIONS)
