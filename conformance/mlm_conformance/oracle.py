"""Where expected answers come from.

For every target but the reference itself: the reference.  For the reference: the scalar
transcription of the specification's text, and ball arithmetic, so that it is never compared
with itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import mlm_spec
from mlm_spec import HeadResult, MaskedBatch, ScoreResult

__all__ = ["Oracle", "independent_oracle", "oracle_for", "reference_oracle"]

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Oracle:
    """Expected answers, in float64.

    Attributes
    ----------
    name : for reports.
    mask : as the port.
    score : (logits, targets, selected, weights) → ScoreResult, all float64.
    head : (hidden, weight, bias, targets, selected, weights) → HeadResult, all float64.
    words : (key, counter), uint32 (n, 4) each → uint32 (n, 4).
    """

    name: str
    mask: Callable[..., MaskedBatch]
    score: Callable[..., ScoreResult]
    head: Callable[..., HeadResult]
    words: Callable[[Array, Array], Array]


def reference_oracle() -> Oracle:
    """The NumPy reference, on inputs converted exactly to float64."""
    return Oracle("reference", mlm_spec.mask, _score, _head, mlm_spec.threefry4x32)


def independent_oracle() -> Oracle:
    """Plain-Python transcription for masks, ball arithmetic for numbers."""
    from mlm_conformance import ball, transcription  # flint loads only where it is needed

    return Oracle("independent", transcription.mask, ball.score, ball.head, _scalar_words)


def oracle_for(target: str) -> Oracle:
    """The oracle for a target, by its name."""
    return independent_oracle() if target in ("numpy", "mlm_spec.port") else reference_oracle()


def _wide(array: Array | None) -> Array | None:
    return None if array is None else array.astype(np.float64)


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
