"""How far a conforming implementation may be from the real number (derived, never guessed).

Every bound is a function of the dtype, the accumulation dtype and the data of the case.  The
derivations are in the specification, chapters LIK, GRA and HED, section "Bounds"; the names
here are the symbols there:

    u      unit roundoff of the accumulation: 2⁻⁵³ for float64 inputs, else 2⁻²⁴
    u_o    unit roundoff of the output, where it is narrower than the accumulation
    h      additions a term passes through; V − 1 covers any order
    k_e    error of exp in units in the last place; k_l that of log
    λ      the largest absolute error of a result that underflows

Second-order terms that the derivations drop are covered by the factor 1 + 2⁻¹⁰.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_spec import log_likelihood

__all__ = [
    "Arithmetic",
    "HeadBounds",
    "arithmetic",
    "gradient_bound",
    "head_bounds",
    "sum_bound",
    "value_bound",
]

Floats = NDArray[np.float64]

_SLACK = 1.0 + 2.0**-10
_K_EXP = 4.0  # accepted error of exp, ulps: twice CUDA's documented 2 ulps for expf
_K_LOG = 4.0
_UNIT = {"float64": 2.0**-53, "float32": 2.0**-24, "bfloat16": 2.0**-8, "float16": 2.0**-11}
# Half the spacing of float16's subnormals: flushing them would let a zero gradient pass on most
# entries of a large vocabulary.  The others may flush to zero: their smallest normal number.
_TINY = {"float64": 2.0**-1022, "float32": 2.0**-126, "bfloat16": 2.0**-126, "float16": 2.0**-25}


def _reference_value(vocab_size: int) -> float:
    """Relative error of `mlm_spec.log_likelihood`, as its docstring states it."""
    return float(14 + np.ceil(np.log2(vocab_size))) * 2.0**-53


def _reference_gradient(vocab_size: int) -> float:
    """Relative error of `mlm_spec.logit_gradient`, with the product by the weight."""
    return float(13 + 2 * np.ceil(np.log2(vocab_size))) * 2.0**-53


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """What a backend computes in, and stores its results in."""

    unit: float
    tiny: float
    output_unit: float  # 0 where the output is as wide as the accumulation
    output_tiny: float


def arithmetic(dtype: str, output: str | None = None) -> Arithmetic:
    """The arithmetic the specification asks for, given the dtype of the inputs.

    Accumulation is float64 for float64 inputs and at least float32 otherwise (MLM-LIK-9,
    MLM-OBJ-12).  ``output`` is the dtype a result is stored in, if it may be narrower.
    """
    wide = "float64" if dtype == "float64" else "float32"
    narrow = output is not None and _UNIT[output] > _UNIT[wide]
    return Arithmetic(
        _UNIT[wide],
        _TINY[wide],
        _UNIT[output] if narrow and output else 0.0,
        _TINY[output] if narrow and output else 0.0,
    )


def gamma(n: float, unit: float) -> float:
    """γ_n = n u / (1 − n u); infinite where nothing can be certified."""
    return n * unit / (1.0 - n * unit) if n * unit < 1.0 else np.inf


@dataclass(frozen=True, slots=True)
class _Softmax:
    """The true quantities of rows of logits (N, V)."""

    top: Floats  # (N,)  m
    depth: Floats  # (N, V) d_j = m − z_j ≥ 0, inf where the logit is -inf
    log_sum: Floats  # (N,)  log S, S = Σ exp(−d_j)
    p: Floats  # (N, V)


def _softmax(logits: Floats) -> _Softmax:
    top = logits.max(axis=-1)
    depth = top[:, None] - logits
    power = np.exp(-depth)
    total = power.sum(axis=-1)
    return _Softmax(top, depth, np.log(total), power / total[:, None])


def _log_sum_error(soft: _Softmax, unit: float, tiny: float) -> Floats:
    """ρ and the error of the logarithm: how far a computed log S may be off (N,)."""
    count = soft.depth.shape[-1]
    finite = np.where(np.isfinite(soft.depth), soft.depth, 0.0)
    # Rounding d_j moves exp(−d_j) by the factor exp(±u d_j): A = log Σ p_j exp(u d_j).
    shift = np.log((soft.p * np.exp(np.minimum(unit * finite, 600.0))).sum(axis=-1))
    rho = shift + np.log1p(gamma(count - 1, unit)) + np.log1p(2 * _K_EXP * unit) + count * tiny
    error: Floats = rho + 2 * _K_LOG * unit * (soft.log_sum + rho)
    return error


def value_bound(logits: NDArray[Any], targets: NDArray[Any], how: Arithmetic) -> Floats:
    """|computed − true| for log Pr(target), any order of summation: (N,) nats.

    Parameters
    ----------
    logits : float (N, V), converted exactly.
    targets : integer (N,).
    how : the accumulation and output arithmetic.

    Covers both common forms: (z_t − m) − log S and z_t − (m + log S).
    """
    z = logits.astype(np.float64)
    soft = _softmax(z)
    u = how.unit
    true = np.abs(log_likelihood(z, targets))
    lead = np.take_along_axis(soft.depth, targets[:, None].astype(np.intp), axis=-1)[:, 0]
    bound = _log_sum_error(soft, u, how.tiny)
    bound = bound + u * np.maximum(lead, np.abs(soft.top) + soft.log_sum)
    bound = bound + u * (true + bound)
    bound = bound + how.output_unit * (true + bound) + how.output_tiny
    result: Floats = bound * _SLACK + _reference_value(z.shape[-1]) * true
    return result


def sum_bound(values: Floats, bounds: Floats, weights: Floats, how: Arithmetic) -> float:
    """|computed − true| for Σ w_i ℓ_i in any order: one product and n − 1 additions a term.

    Parameters
    ----------
    values, bounds, weights : float64 (N,): ℓ_i, its bound, w_i.
    """
    size = np.abs(weights) * (np.abs(values) + bounds)
    count = len(values)
    # n − 1 additions, the product, and a float64 weight brought to float32
    bound = (np.abs(weights) * bounds).sum() + gamma(count + 1, how.unit) * size.sum()
    bound += how.output_unit * size.sum() + count * how.tiny
    return float(bound * _SLACK + 2.0**-53 * size.sum())  # the reference rounds its products


def gradient_bound(
    logits: NDArray[Any], gradient: Floats, weights: Floats, how: Arithmetic
) -> Floats:
    """|computed − true| for w_i (1[j = t_i] − p_ij), entry by entry: (N, V).

    Parameters
    ----------
    logits : float (N, V).
    gradient : float64 (N, V), the true gradient, weights included.
    weights : float64 (N,).
    how : the accumulation and output arithmetic.

    Covers exp(z_j − log S), exp(log p_j) and e_j / S.
    """
    soft = _softmax(logits.astype(np.float64))
    factor = np.expm1(_probability_error(soft, how) * _SLACK)
    size, scale = np.abs(gradient), np.abs(weights)[:, None]
    with np.errstate(invalid="ignore", over="ignore"):
        moved = np.where(soft.p > 0.0, soft.p * factor, 0.0)
    bound = scale * (moved + how.unit * soft.p) + 3 * how.unit * size + how.tiny * (1.0 + scale)
    bound = bound + how.output_unit * (size + bound) + how.output_tiny
    result: Floats = bound * _SLACK + _reference_gradient(logits.shape[-1]) * size
    return result


def _probability_error(soft: _Softmax, how: Arithmetic) -> Floats:
    """R_j: |log p̂_j − log p_j| for every entry (N, V)."""
    u = how.unit
    finite = np.where(np.isfinite(soft.depth), soft.depth, 0.0)
    log_p = finite + soft.log_sum[:, None]
    shared = _log_sum_error(soft, u, how.tiny)[:, None]
    form = np.maximum(finite, (np.abs(soft.top) + soft.log_sum)[:, None])
    error: Floats = shared + u * form + u * log_p + (2 * _K_EXP + 3) * u
    return error


@dataclass(frozen=True, slots=True)
class HeadBounds:
    """Bounds for the head's results; the arrays have the shapes of the gradients they bound."""

    sum: float
    grad_hidden: Floats  # (N, d)
    grad_weight: Floats  # (V, d)
    grad_bias: Floats  # (V,)


def head_bounds(
    hidden: Floats,
    weight: Floats,
    bias: Floats | None,
    targets: NDArray[Any],
    weights: Floats,
    gradient: Floats,
    dtype: str,
) -> HeadBounds:
    """|computed − true| for the head's value and gradients, any order of every summation.

    Logits, and their gradient, may be stored in the dtype of the inputs.

    Parameters
    ----------
    hidden : float64 (N, d), selected positions only.
    weight, bias : float64 (V, d), (V,).
    targets, weights : (N,).
    gradient : float64 (N, V), the true d sum / d logits.
    dtype : the name of the inputs' dtype.
    """
    how, stored = arithmetic(dtype), arithmetic(dtype, dtype)
    logits = hidden @ weight.T + (0.0 if bias is None else bias)
    delta = _logit_error(hidden, weight, bias, logits, stored)
    values, value_bounds = _perturbed_value(logits, delta, targets, how)
    total = sum_bound(values, value_bounds, weights, how)
    slip = _signal_error(logits, delta, gradient, weights, stored)

    ones = np.ones((hidden.shape[0], 1))
    return HeadBounds(
        total,
        _product_bound(gradient, slip, weight, stored),
        _product_bound(gradient.T, slip.T, hidden, stored),
        _product_bound(gradient.T, slip.T, ones, stored)[:, 0],
    )


def _product_bound(left: Floats, slip: Floats, right: Floats, stored: Arithmetic) -> Floats:
    """Entries of left @ right, where left is off by ``slip``, against the sum of magnitudes."""
    n = left.shape[1]
    sizes = (np.abs(left) + slip) @ np.abs(right)
    bound = slip @ np.abs(right) + gamma(n + 1, stored.unit) * sizes + n * stored.tiny
    bound = bound + stored.output_unit * (np.abs(left @ right) + bound) + stored.output_tiny
    result: Floats = bound * _SLACK + gamma(n + 1, 2.0**-53) * sizes
    return result


def _logit_error(
    hidden: Floats, weight: Floats, bias: Floats | None, logits: Floats, stored: Arithmetic
) -> Floats:
    """δ_j: the error of a computed logit (N, V), with the reference's own float64 error."""
    sizes = np.abs(hidden) @ np.abs(weight).T
    offset = np.zeros(weight.shape[0]) if bias is None else np.where(np.isfinite(bias), bias, 0.0)
    sizes = sizes + np.abs(offset)
    n = hidden.shape[1] + 1
    delta = (gamma(n, stored.unit) + gamma(n, 2.0**-53)) * sizes + n * stored.tiny
    finite = np.where(np.isfinite(logits), np.abs(logits), 0.0)
    # Stored once after the product and once after the bias is added.
    before_bias = finite + np.abs(offset)
    delta = delta + stored.output_unit * (finite + before_bias + 2 * delta)
    result: Floats = (delta + 2 * stored.output_tiny) * _SLACK
    return result


def _perturbed_value(
    logits: Floats, delta: Floats, targets: NDArray[Any], how: Arithmetic
) -> tuple[Floats, Floats]:
    """log Pr rises with the target's logit and falls with the others: exact end points.

    Returns the middle of the enclosure and its half width plus the arithmetic's bound, (N,) each.
    """
    column = targets[:, None].astype(np.intp)
    ends, arithmetic_bounds = [], []
    for sign in (-1.0, 1.0):
        moved = logits - sign * delta
        target = np.take_along_axis(logits + sign * delta, column, axis=-1)
        np.put_along_axis(moved, column, target, axis=-1)
        ends.append(log_likelihood(moved, targets))
        arithmetic_bounds.append(value_bound(moved, targets, how))
    true = log_likelihood(logits, targets)
    width = np.maximum(ends[1] - true, true - ends[0])
    return true, width + np.maximum(*arithmetic_bounds)


def _signal_error(
    logits: Floats, delta: Floats, gradient: Floats, weights: Floats, stored: Arithmetic
) -> Floats:
    """ε_ij: the error of d sum / d logits as it enters the matrix products (N, V)."""
    soft = _softmax(logits)
    # log p_j moves by at most δ_j + log Σ_k p_k exp δ_k.
    spread = np.log((soft.p * np.exp(delta)).sum(axis=-1))[:, None]
    log_factor = delta + spread + _probability_error(soft, stored)
    scale = np.abs(weights)[:, None]
    with np.errstate(invalid="ignore", over="ignore"):
        moved = np.where(soft.p > 0.0, soft.p * np.expm1(log_factor * _SLACK), 0.0)
    bound = scale * (moved + stored.unit * soft.p)
    bound = bound + 3 * stored.unit * np.abs(gradient) + stored.tiny * (1.0 + scale)
    bound = bound + stored.output_unit * (np.abs(gradient) + bound) + stored.output_tiny
    result: Floats = bound * _SLACK
    return result
