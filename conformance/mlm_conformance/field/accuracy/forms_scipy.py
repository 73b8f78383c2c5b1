"""SciPy's two ways to a log-likelihood."""

# The packages of the field are in no environment that is type-checked.
# mypy: disable-error-code="import-not-found, import-untyped"

from __future__ import annotations

import scipy
from scipy import special

from mlm_conformance.field.accuracy.form import Form

__all__ = ["log_softmax", "logsumexp"]

_VERSIONS = {"scipy": scipy.__version__}


def log_softmax() -> Form:
    """``scipy.special.log_softmax``."""
    return Form(lambda z, t: special.log_softmax(z)[t], _VERSIONS)


def logsumexp() -> Form:
    """z_t - ``scipy.special.logsumexp``."""
    return Form(lambda z, t: z[t] - special.logsumexp(z), _VERSIONS)
