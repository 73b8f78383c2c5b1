"""Attention within one sequence, forward and backward (MLM-ENC-5).

A sequence is taken out of its row before anything is computed.  So there is no mask and no −∞ here:
every position sees every position, on both sides, and nothing else exists.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from mlm_spec.training.dropout import scaled
from mlm_spec.training.layers import Floats, Rounded

__all__ = ["Attended", "attention", "attention_backward"]


class Attended(NamedTuple):
    """What attention keeps for its backward: of one sequence of n positions, H heads of D units.

    Attributes
    ----------
    query, key, value : (H, n, D).
    probabilities : (H, n, n), query by key, before dropout.
    dropped : the same after dropout.
    factor : what dropout multiplied them by, or None.
    """

    query: Floats
    key: Floats
    value: Floats
    probabilities: Floats
    dropped: Floats
    factor: Floats | None


def attention(
    query: Floats,
    key: Floats,
    value: Floats,
    heads: int,
    factor: Floats | None,
    rounded: Rounded,
) -> tuple[Floats, Attended]:
    """context_i = Σ_j D(P)_ij · value_j,  P_ij = softmax over j of query_i · key_j / √D.

    Parameters
    ----------
    query, key, value : (n, d), the heads side by side.
    heads : H; D = d / H.
    factor : (H, n, n), 0 where a probability is dropped and 1 / (1 − p) elsewhere, or None.

    Returns
    -------
    The context (n, d), and what the backward needs.
    """
    q, k, v = (_split(x, heads) for x in (query, key, value))
    scores = rounded(q @ k.transpose(0, 2, 1) / math.sqrt(q.shape[-1]))
    power = rounded(np.exp(scores - scores.max(axis=-1, keepdims=True)))
    probabilities = rounded(power / rounded(power.sum(axis=-1, keepdims=True)))
    dropped = scaled(probabilities, factor, rounded)
    context = rounded(_join(dropped @ v))
    return context, Attended(q, k, v, probabilities, dropped, factor)


def attention_backward(
    d_context: Floats, kept: Attended, rounded: Rounded
) -> tuple[Floats, Floats, Floats]:
    """The gradients (n, d) of query, key and value.

    d_score_ij = P_ij · (dP_ij − Σ_k P_ik · dP_ik).  It sums to 0 over j, so what is added to all
    keys at once (the key's bias) has gradient 0 in real arithmetic.
    """
    dc = _split(d_context, kept.query.shape[0])
    d_value = rounded(kept.dropped.transpose(0, 2, 1) @ dc)
    dp = scaled(rounded(dc @ kept.value.transpose(0, 2, 1)), kept.factor, rounded)
    mean = rounded((kept.probabilities * dp).sum(axis=-1, keepdims=True))
    root = math.sqrt(kept.query.shape[-1])
    d_scores = rounded(kept.probabilities * rounded(dp - mean))
    d_query = rounded(d_scores @ kept.key / root)
    d_key = rounded(d_scores.transpose(0, 2, 1) @ kept.query / root)
    return _join(d_query), _join(d_key), _join(d_value)


def _split(x: Floats, heads: int) -> Floats:
    """(n, d) to (H, n, D)."""
    return x.reshape(x.shape[0], heads, -1).transpose(1, 0, 2)


def _join(x: Floats) -> Floats:
    """(H, n, D) to (n, d)."""
    return x.transpose(1, 0, 2).reshape(x.shape[1], -1)
