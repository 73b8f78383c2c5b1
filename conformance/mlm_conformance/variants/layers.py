"""The port ``head`` in unusual ways: blocks of ids, blocks of positions, float32 throughout."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

import mlm_spec
from mlm_conformance.variants.normalisers import by_chunks, two_passes
from mlm_conformance.variants.scoring import Way, score_by
from mlm_conformance.variants.sums import tree
from mlm_spec import HeadResult

__all__ = ["LAYERS"]

Array = NDArray[Any]
Call = dict[str, Any]
Product = Callable[[Array, Array], Array]


def _backend(way: Callable[[Call], HeadResult], accumulation: str) -> SimpleNamespace:
    def head(**call: Any) -> HeadResult:
        mlm_spec.head(**call)
        return way(call)

    return SimpleNamespace(head=head, accumulation=accumulation)


def _layer(call: Call, score: Callable[..., Any], product: Product) -> HeadResult:
    """Logits of selected positions, their score, and three products with its gradient."""
    chosen, kind = call["selected"], call["hidden"].dtype
    wide = np.float64 if kind == np.float64 else np.float32
    states, matrix = call["hidden"][chosen].astype(wide), call["weight"].astype(wide)
    logits = product(states, matrix.T)
    if call["bias"] is not None:
        logits = logits + call["bias"].astype(wide)
    every = np.ones((1, len(states)), np.bool_)
    share = None if call["weights"] is None else call["weights"][chosen][None]
    found = score(logits[None], call["targets"][chosen][None], every, share)
    signal = found.grad_logits[0]
    grad_hidden = np.zeros(call["hidden"].shape, kind)
    grad_hidden[chosen] = product(signal, matrix).astype(kind)
    grad_weight = product(signal.T, states).astype(kind)
    ones = np.ones((len(states), 1), wide)
    bias = None if call["bias"] is None else product(signal.T, ones)[:, 0].astype(kind)
    return HeadResult(found.sum, found.count, grad_hidden, grad_weight, bias)


def _at_once(left: Array, right: Array) -> Array:
    return left @ right


def _in_blocks(left: Array, right: Array) -> Array:
    """The inner dimension in blocks of seven, added one after the other."""
    total = np.zeros((left.shape[0], right.shape[1]), left.dtype)
    for start in range(0, left.shape[1], 7):
        total += left[:, start : start + 7] @ right[start : start + 7]
    return total


def _position_by_position(call: Call) -> HeadResult:
    """Each selected position alone; what they share is added up in float64."""
    at = np.argwhere(call["selected"])
    empty = mlm_spec.head(**{**call, "selected": np.zeros_like(call["selected"])})
    kind = call["hidden"].dtype
    wide = {**call, "hidden": call["hidden"].astype(np.float64)}
    wide |= {n: None if call[n] is None else call[n].astype(np.float64) for n in ("weight", "bias")}
    names = ("sum", "grad_hidden", "grad_weight", "grad_bias")
    total = {
        n: np.zeros(np.shape(getattr(empty, n))) for n in names if getattr(empty, n) is not None
    }
    for row, column in at:
        one = np.zeros_like(call["selected"])
        one[row, column] = True
        part = mlm_spec.head(**{**wide, "selected": one})
        for name, so_far in total.items():
            so_far += getattr(part, name)
    bias = total["grad_bias"].astype(kind) if "grad_bias" in total else None
    hidden, weight = total["grad_hidden"].astype(kind), total["grad_weight"].astype(kind)
    return HeadResult(np.float64(total["sum"]), np.int64(len(at)), hidden, weight, bias)


_TREE, _CHUNKS = score_by(Way(two_passes(tree))), score_by(Way(by_chunks(16)))

LAYERS: dict[str, SimpleNamespace] = {
    "layer_in_float32": _backend(lambda call: _layer(call, _TREE, _at_once), "tree"),
    "layer_in_blocks": _backend(lambda call: _layer(call, _CHUNKS, _in_blocks), "chunks 16"),
    "layer_by_position": _backend(_position_by_position, "any"),
}
"""Each way of the output layer, by name."""

# Each is a target of its own: mlm_conformance.variants.layers:layer_in_blocks
globals().update(LAYERS)
