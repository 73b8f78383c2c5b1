"""Where expected answers come from.

For every target but the reference itself: the reference.  For the reference: the scalar
transcription of the specification's text, and ball arithmetic, so that it is never compared
with itself.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

import mlm_spec
from mlm_spec import HeadResult, MaskedBatch, ScoreResult, port

__all__ = ["Oracle", "independent_oracle", "oracle_for", "reference_oracle", "remembering"]

Array = NDArray[Any]
T = TypeVar("T")
_KEPT = 128


@dataclass(frozen=True, slots=True)
class Oracle:
    """Expected answers, in float64.

    Attributes
    ----------
    name : for reports.
    mask : as the port.
    values : (logits, targets, selected, weights) → ScoreResult without its gradient, float64.
    score : the same with its gradient.
    head : (hidden, weight, bias, targets, selected, weights) → HeadResult, all float64.
    words : (key, counter), uint32 (n, 4) each → uint32 (n, 4).
    order : (position, number, count, seed) → epoch and sequence, int64 (number,) each.

    The latest answers of those that are slow are kept: several checks ask for the same.
    """

    name: str
    mask: Callable[..., MaskedBatch]
    values: Callable[..., ScoreResult]
    score: Callable[..., ScoreResult]
    head: Callable[..., HeadResult]
    words: Callable[[Array, Array], Array]
    order: Callable[..., Mapping[str, Array]]


def reference_oracle() -> Oracle:
    """The NumPy reference, on inputs converted exactly to float64."""
    return Oracle(
        "reference",
        mlm_spec.mask,
        remembering(_values),
        remembering(_score),
        remembering(_head),
        mlm_spec.threefry4x32,
        port.order,
    )


def independent_oracle() -> Oracle:
    """Plain-Python transcription for masks, ball arithmetic for numbers."""
    from mlm_conformance import ball, transcription  # flint loads only where it is needed

    return Oracle(
        "independent",
        remembering(transcription.mask),
        remembering(partial(ball.score, with_gradient=False)),
        remembering(ball.score),
        remembering(ball.head),
        _scalar_words,
        remembering(_scalar_order),
    )


def oracle_for(target: str) -> Oracle:
    """The oracle for a target, by its name."""
    return independent_oracle() if target in ("numpy", "mlm_spec.port") else reference_oracle()


def remembering(function: Callable[..., T], capacity: int = _KEPT) -> Callable[..., T]:
    """The function, with the answers to its latest calls kept by their arguments' bytes."""
    kept: OrderedDict[tuple[object, ...], T] = OrderedDict()

    def answer(**arguments: object) -> T:
        key = tuple((name, _told_apart(value)) for name, value in arguments.items())
        if key not in kept:
            kept[key] = function(**arguments)
            if len(kept) > capacity:
                kept.popitem(last=False)
        kept.move_to_end(key)
        return kept[key]

    return answer


def _told_apart(value: object) -> object:
    if isinstance(value, np.ndarray):
        return value.dtype.name, value.shape, value.tobytes()
    return value


def _wide(array: Array | None) -> Array | None:
    return None if array is None else array.astype(np.float64)


def _values(logits: Array, targets: Array, selected: Array, weights: Array | None) -> ScoreResult:
    nats = np.zeros(targets.shape)
    nats[selected] = mlm_spec.log_likelihood(logits[selected], targets[selected])
    shares = nats if weights is None else np.where(selected, weights, 0.0) * nats
    total = np.float64(math.fsum(shares[selected].tolist()))
    return ScoreResult(nats, total, np.int64(selected.sum()), None)


def _score(logits: Array, targets: Array, selected: Array, weights: Array | None) -> ScoreResult:
    return mlm_spec.score(logits.astype(np.float64), targets, selected, _wide(weights))


def _head(
    hidden: Array,
    weight: Array,
    bias: Array | None,
    targets: Array,
    selected: Array,
    weights: Array | None,
) -> HeadResult:
    wide = (hidden.astype(np.float64), weight.astype(np.float64), _wide(bias))
    return mlm_spec.head(*wide, targets, selected, _wide(weights))


def _scalar_words(key: Array, counter: Array) -> Array:
    from mlm_conformance import transcription

    blocks = [
        transcription.threefry4x32_20(tuple(k), tuple(c))
        for k, c in zip(key.tolist(), counter.tolist(), strict=True)
    ]
    return np.array(blocks, dtype=np.uint32).reshape(-1, 4)


def _scalar_order(position: int, number: int, count: int, seed: int) -> dict[str, Array]:
    from mlm_conformance import transcription

    found = transcription.sequences_at(position, number, count, seed)
    pairs = np.array(found, np.int64).reshape(-1, 2)
    return {"epoch": pairs[:, 0], "sequence": pairs[:, 1]}
