"""Attention in balls: every position sees those of its own sequence (chapter ENC)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.training.balls import Ball, Rounding, lengths, magnitude

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
    soft = softmax(r, scores, seen)
    p = soft.p
    dropped = _dropped(r, p, kept, factor)
    left = np.ones(p.value.shape) if kept is None else kept * float(factor)
    context = _context(r, soft, left, v, r.matmul(dropped, v))

    def pull(dc: Ball) -> tuple[Ball, Ball, Ball]:
        dv = r.matmul(dropped.moved(_turned), dc)
        ends = _dropped(r, r.inner(dc, v), kept, factor)
        # Σ_j P_ij·∂P_ij, or the product of the context and its gradient: a sum over T and over d.
        size = dc.size @ _turned(v.size) * left
        depth = p.value.shape[-1] + v.value.shape[-1] + 4
        along = r.total(r.times(p, ends), -1, keepdims=True)
        more = r.gamma(depth) * (p.size * size).sum(-1, keepdims=True)
        along = Ball(along.value, along.radius + more)
        ds = r.times(p, r.add(ends, -along))
        dq = _centred(r, soft, ends, ds, k, more)
        by = 1 / np.sqrt(width)
        dk = r.matmul(ds.moved(_turned), q)
        return r.scaled(dq, by, 4), r.scaled(dk, by, 4), dv

    return context, pull


@dataclass(frozen=True, slots=True)
class Softmax:
    """P (…, T, T); by how much its logarithms may be off before they are normalised; and the
    relative rounding of what comes out."""

    p: Ball
    rho: Array
    rounded: float

    @property
    def shares(self) -> Array:
        """By how much each P_j is off before all are normalised, at most."""
        most = np.exp(self.rho.max(-1, keepdims=True))
        shares: Array = magnitude(self.p.value) * np.expm1(self.rho) * most
        return shares


def softmax(r: Rounding, scores: Ball, seen: Array) -> Softmax:
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
    rounded = r.gamma(p.shape[-1] + 2 * _RESCALED)
    return Softmax(Ball(p, wide * np.expm1(rho + spread + rounded)), rho, rounded)


def _context(r: Rounding, soft: Softmax, left: Array, v: Ball, plain: Ball) -> Ball:
    """The context with shorter errors.

    Since Σ_j P_j = 1, and Σ_j P̂_j = 1 before rounding, Ĉ − C = Σ_j (P̂_j − P_j)(u_j − C) for what
    is added up, u_j: the distances from the context count, and not from 0.
    """
    added = left[..., None] * v.value.astype(np.float64)[..., None, :, :]
    apart = lengths(added - plain.value.astype(np.float64)[..., None, :])
    far = lengths(added)
    length = (soft.shares * apart + soft.rounded * soft.p.size * far).sum(-1)
    passed = (soft.p.size * left) @ v.errors[..., None]
    rounded = r.gamma(soft.rho.shape[-1] + 3) * ((soft.p.size * left) @ v.size)
    return _shorter(plain, length + passed[..., 0] + lengths(rounded))


def _centred(r: Rounding, soft: Softmax, ends: Ball, ds: Ball, k: Ball, more: Array) -> Ball:
    """Σ_j P_j (e_j − ē) k_j, a covariance of e and k under P: errors of e count by the distances
    of the keys from their mean, those of P by both distances."""
    plain, p = r.matmul(ds, k), magnitude(soft.p.value)
    keys = k.value.astype(np.float64)
    apart = lengths(keys[..., None, :, :] - (p @ keys)[..., :, None, :])
    e = ends.value.astype(np.float64)
    off = np.abs(e - (p * e).sum(-1, keepdims=True))
    shares = soft.shares
    shifted = (shares * apart).sum(-1)
    by_ends = ((p + shares) * ends.radius * apart).sum(-1)
    by_ends = by_ends + ((p + shares) * ends.radius).sum(-1) * shifted
    by_p = (shares * (off * apart + lengths(plain.value)[..., None])).sum(-1)
    by_p = by_p + (shares * off).sum(-1) * shifted
    passed = ds.size @ k.errors[..., None]
    # The mean of e is rounded, and P need not add up to 1 when it is.
    uneven = more[..., 0] + soft.rounded * (soft.p.size * ends.size).sum(-1)
    reach = soft.p.size @ (lengths(k.value) + k.errors)[..., None]
    size = soft.p.size * (off + 2 * ends.radius + shifted[..., None])
    rounded = (soft.rounded + r.gamma(k.value.shape[-2] + 3)) * (size @ k.size)
    length = by_ends + by_p + passed[..., 0] + uneven * reach[..., 0] + lengths(rounded)
    return _shorter(plain, length)


def _shorter(ball: Ball, length: Array) -> Ball:
    least = np.minimum(ball.errors, length)
    return Ball(ball.value, np.minimum(ball.radius, least[..., None]), least)


def _dropped(r: Rounding, a: Ball, kept: Array | None, factor: Any) -> Ball:
    if kept is None:
        return a
    return r.scaled(a.moved(lambda x: np.where(kept, x, 0)), factor, 3)


def _turned(x: Array) -> Array:
    return x.swapaxes(-1, -2)
