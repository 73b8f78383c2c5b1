"""Attention in balls: every position sees those of its own sequence (chapter ENC)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.training.balls import Ball, Rounding, magnitude

__all__ = ["attention", "visible"]

Array = NDArray[Any]
_RESCALED = 12  # one rescaling by a new maximum, as in chapter LIK


def visible(attention_mask: Array, sequence_id: Array) -> Array:
    """Which keys a query sees: bool (B, T, T)."""
    same = (sequence_id[:, :, None] == sequence_id[:, None, :]).all(-1)
    found: Array = same & attention_mask[:, :, None] & attention_mask[:, None, :]
    return found


def attention(
    r: Rounding, q: Ball, k: Ball, v: Ball, seen: Array, kept: Array | None, factor: Any
) -> tuple[Ball, Callable[[Ball], tuple[Ball, Ball, Ball]]]:
    """Σ_j D(P)_ij v_j, P = softmax of q_i·k_j/√d over the keys that are seen.

    Parameters
    ----------
    q, k, v : (B, H, T, d).
    seen : bool (B, 1, T, T).
    kept : bool (B, H, T, T), what dropout leaves, to be multiplied by ``factor``; None: all.

    The pullback gives the gradients by q, k and v.
    """
    width = q.value.dtype.type(q.value.shape[-1])
    scores = r.scaled(r.inner(q, k), 1 / np.sqrt(width), 4)
    p = softmax(r, scores, seen)
    dropped = _dropped(r, p, kept, factor)
    context = r.matmul(dropped, v)

    def pull(dc: Ball) -> tuple[Ball, Ball, Ball]:
        dv = r.matmul(dropped.moved(_turned), dc)
        ends = _dropped(r, r.inner(dc, v), kept, factor)
        # Σ_j P_ij·∂P_ij, or the product of the context and its gradient: a sum over T and over d.
        size = dc.size @ _turned(v.size) * (1.0 if kept is None else kept * float(factor))
        depth = p.value.shape[-1] + v.value.shape[-1] + 4
        along = r.total(r.times(p, ends), -1, keepdims=True)
        more = r.gamma(depth) * (p.size * size).sum(-1, keepdims=True)
        along = Ball(along.value, along.radius + more)
        ds = r.times(p, r.add(ends, -along))
        ds = r.scaled(ds, 1 / np.sqrt(width), 4)
        return r.matmul(ds, k), r.matmul(ds.moved(_turned), q), dv

    return context, pull


def softmax(r: Rounding, scores: Ball, seen: Array) -> Ball:
    """Over the last axis, where ``seen``; a row that sees nothing is 0 throughout.

    If each score moves by at most ρ_j, log P_j moves by at most ρ_j + log Σ_k P_k exp ρ_k.
    Rounding moves each score by u times its size and that of the maximum, in base 2 or e.
    """
    low = np.where(seen, scores.value, -np.inf)
    top = low.max(-1, keepdims=True)
    top = np.where(np.isfinite(top), top, 0)
    power = np.where(seen, np.exp(np.where(seen, scores.value - top, 0)), 0)
    whole = power.sum(-1, keepdims=True)
    p = power / np.where(whole > 0, whole, 1)

    rho = scores.radius + r.gamma(3) * (scores.size + magnitude(top)) + r.function
    rho = np.where(seen, rho, 0.0)
    wide = p.astype(np.float64)
    spread = np.log1p((wide * np.expm1(rho)).sum(-1, keepdims=True))
    moved = rho + spread + r.gamma(p.shape[-1] + 2 * _RESCALED)
    return Ball(p, wide * np.expm1(moved))


def _dropped(r: Rounding, a: Ball, kept: Array | None, factor: Any) -> Ball:
    if kept is None:
        return a
    return r.scaled(a.moved(lambda x: np.where(kept, x, 0)), factor, 3)


def _turned(x: Array) -> Array:
    return x.swapaxes(-1, -2)
