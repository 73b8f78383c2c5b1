"""The formulas that people write by hand, in NumPy, and this project's own.

NumPy has no bfloat16 of its own: there they run on the arrays of ml_dtypes.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

import mlm_spec
from mlm_conformance.field.accuracy.form import Form, One

__all__ = [
    "log_of_ratio",
    "log_of_softmax",
    "max_plus_log",
    "own",
    "pivot_log1p",
    "shifted_minus_log",
]

_Array: TypeAlias = NDArray[Any]
_VERSIONS = {"numpy": np.__version__, "ml_dtypes": ml_dtypes.__version__}


def log_of_ratio() -> Form:
    """log(e^z_t / Σ e^z)."""
    return _form(lambda z, t: np.log(np.exp(z[t]) / np.exp(z).sum()))


def log_of_softmax() -> Form:
    """log(e^(z_t - max) / Σ e^(z - max))."""

    def one(z: _Array, t: int) -> Any:
        power = np.exp(z - z.max())
        return np.log(power[t] / power.sum())

    return _form(one)


def max_plus_log() -> Form:
    """z_t - (max + log Σ e^(z - max))."""
    return _form(lambda z, t: z[t] - (z.max() + np.log(np.exp(z - z.max()).sum())))


def shifted_minus_log() -> Form:
    """(z_t - max) - log Σ e^(z - max)."""
    return _form(lambda z, t: (z[t] - z.max()) - np.log(np.exp(z - z.max()).sum()))


def pivot_log1p() -> Form:
    """(z_t - z_r) - log1p(Σ_{j ≠ r} e^(z_j - z_r)), r the target if it attains the maximum."""

    def one(z: _Array, t: int) -> Any:
        pivot = t if z[t] == z.max() else int(z.argmax())
        return (z[t] - z[pivot]) - np.log1p(np.exp(np.delete(z, pivot) - z[pivot]).sum())

    return _form(one)


def own() -> Form:
    """`mlm_spec.log_likelihood`, which answers in float64."""
    one: One = lambda z, t: mlm_spec.log_likelihood(z[None], np.array([t]))[0]  # noqa: E731
    return Form(one, {"mlm_spec": mlm_spec.__version__, "numpy": np.__version__})


def _form(one: One) -> Form:
    return Form(one, _VERSIONS)
