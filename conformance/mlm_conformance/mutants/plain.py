"""Softmax as it is written on a blackboard, for mutants to get wrong."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["at_targets", "log_softmax", "softmax"]


def log_softmax(logits: Any) -> Any:
    """log p of every id, in float64: (..., V)."""
    z = logits.astype(np.float64)
    z = z - z.max(axis=-1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=-1, keepdims=True))


def softmax(logits: Any) -> Any:
    """p of every id, in float64: (..., V)."""
    return np.exp(log_softmax(logits))


def at_targets(values: Any, targets: Any) -> Any:
    """The entry of each target: (N, V), (N,) → (N,)."""
    return np.take_along_axis(values, targets[:, None].astype(np.int64), axis=-1)[:, 0]
