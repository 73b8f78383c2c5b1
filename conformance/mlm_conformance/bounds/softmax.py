"""The softmax of a row of logits, and how far its parts may be off (chapters LIK and GRA)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.bounds.arithmetic import SLACK, Arithmetic, gamma

__all__ = ["Softmax", "log_sum_error", "probability_error", "softmax"]

Floats = NDArray[np.float64]

_RESCALED = 12  # an addition, and a rescaling by a new maximum: 2·k_e + 3 more roundings


@dataclass(frozen=True, slots=True)
class Softmax:
    """The true quantities of rows of logits (N, V)."""

    top: Floats  # (N,)  m
    depth: Floats  # (N, V) d_j = m − z_j ≥ 0, inf where the logit is -inf
    log_sum: Floats  # (N,)  log S, S = Σ exp(−d_j)
    p: Floats  # (N, V)

    @property
    def finite_depth(self) -> Floats:
        """d_j, 0 where the logit is -inf: such an id contributes no rounding (N, V)."""
        depth: Floats = np.where(np.isfinite(self.depth), self.depth, 0.0)
        return depth


def softmax(logits: Floats) -> Softmax:
    """From float64 (N, V)."""
    top = logits.max(axis=-1)
    depth = top[:, None] - logits
    power = np.exp(-depth)
    total = power.sum(axis=-1)
    return Softmax(top, depth, np.log(total), power / total[:, None])


def log_sum_error(soft: Softmax, how: Arithmetic) -> Floats:
    """ρ': how far a computed log S may be off (N,)."""
    u = how.unit
    # Rounding d_j moves exp(−d_j) by the factor exp(±u d_j): A = log Σ p_j exp(u d_j).
    steps = np.minimum(u * (1.0 + 2.0 * how.exp_slope) * soft.finite_depth, 600.0)
    shift = np.log((soft.p * np.exp(steps)).sum(axis=-1))
    rho = shift + _additions(soft.p, how) + -np.log1p(-2 * how.exp_ulps * u)
    rho = rho + soft.p.shape[-1] * how.tiny
    error: Floats = rho + 2 * how.log_ulps * u * (soft.log_sum + rho)
    return error


def _additions(p: Floats, how: Arithmetic) -> Floats:
    """What the additions cost, in whatever order: the least of the bounds of step 2 (N,)."""
    count, u = p.shape[-1], how.unit
    by_depth = np.log1p(gamma(how.order.depth(count, u), u))
    # lost[:, n − 1]: the probability of all but the n likeliest ids.
    below = np.cumsum(np.sort(p, axis=-1), axis=-1)[:, :-1] * SLACK
    lost = np.concatenate([np.zeros((len(p), 1)), below], axis=-1)[:, ::-1]
    roundings = np.arange(count) * _RESCALED * u
    with np.errstate(divide="ignore", invalid="ignore"):
        live = np.where(roundings < 1.0, -np.log1p(-roundings), np.inf)
        rest = 2.0 * gamma(_RESCALED * count, u) * lost - np.log1p(-np.minimum(lost, 1.0))
    by_share: Floats = (live + np.where(lost > 0.0, rest, 0.0)).min(axis=-1)
    return np.minimum(by_depth, by_share)


def probability_error(soft: Softmax, how: Arithmetic) -> Floats:
    """R_j: |log p̂_j − log p_j| for every entry (N, V)."""
    u, depth = how.unit, soft.finite_depth
    log_p = depth + soft.log_sum[:, None]
    shared = log_sum_error(soft, how)[:, None]
    form = np.maximum(depth, (np.abs(soft.top) + soft.log_sum)[:, None])
    slope = u * (1.0 + 2.0 * how.exp_slope) * log_p
    error: Floats = shared + u * form + slope + (2 * how.exp_ulps + 3) * u
    return error
