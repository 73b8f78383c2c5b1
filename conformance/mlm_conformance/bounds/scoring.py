"""Bounds for the log-likelihood, its sum and its gradient (chapters LIK and GRA, "Bounds")."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.bounds.arithmetic import SLACK, Arithmetic, gamma
from mlm_conformance.bounds.softmax import log_sum_error, probability_error, softmax
from mlm_spec import log_likelihood

__all__ = ["gradient_bound", "sum_bound", "value_bound"]

Floats = NDArray[np.float64]


def _reference_value(vocab_size: int) -> float:
    """Relative error of `mlm_spec.log_likelihood`, as its docstring states it."""
    return float(14 + np.ceil(np.log2(vocab_size))) * 2.0**-53


def _reference_gradient(vocab_size: int) -> float:
    """Relative error of `mlm_spec.logit_gradient`, with the product by the weight."""
    return float(13 + 2 * np.ceil(np.log2(vocab_size))) * 2.0**-53


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
    soft = softmax(z)
    u = how.unit
    true = np.abs(log_likelihood(z, targets))
    lead = np.take_along_axis(soft.depth, targets[:, None].astype(np.intp), axis=-1)[:, 0]
    bound = log_sum_error(soft, how)
    bound = bound + u * np.maximum(lead, np.abs(soft.top) + soft.log_sum)
    bound = bound + u * (true + bound)
    bound = how.stored(true, bound)
    result: Floats = bound * SLACK + _reference_value(z.shape[-1]) * true
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
    # A product that underflows costs λ, a weight that does λ times its value.
    bound += how.output_unit * size.sum() + how.tiny * (1 + np.abs(values) + bounds).sum()
    return float(bound * SLACK + 2.0**-53 * size.sum())  # the reference rounds its products


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

    Covers exp(z_j − log S), exp(log p_j) and e_j / S; at the target also (S − e_t) / S.
    """
    soft = softmax(logits.astype(np.float64))
    size, scale = np.abs(gradient), np.abs(weights)[:, None]
    with np.errstate(invalid="ignore", over="ignore"):
        factor = np.expm1(probability_error(soft, how) * SLACK)
        moved = np.where(soft.p > 0.0, soft.p * factor, 0.0)
    bound = scale * (moved + how.unit * soft.p) + 4 * how.unit * size + how.tiny * (1.0 + scale)
    bound = how.stored(size, bound)
    result: Floats = bound * SLACK + _reference_gradient(logits.shape[-1]) * size
    return result
