"""The port ``score``, from a normaliser and a form: float32 for all but float64 logits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

import mlm_spec
from mlm_conformance.variants.normalisers import (
    Normaliser,
    Parts,
    by_chunks,
    by_element,
    by_shards,
    two_passes,
)
from mlm_conformance.variants.sums import (
    compensated,
    exactly,
    in_lanes,
    one_by_one,
    pairwise,
    permuted,
    tree,
)
from mlm_spec import ScoreResult

__all__ = ["SCORING", "Way", "score_by"]

Array = NDArray[Any]
Change = Callable[[Array], Array]


@dataclass(frozen=True, slots=True)
class Way:
    """How one variant computes.

    Attributes
    ----------
    parts : the normaliser.
    shift_first : (z_t − m) − log S; else z_t − (m + log S).
    probability : "quotient" e_j / S, or "exp" of log p_j.
    dtype : what it accumulates in; None for what the specification asks for.
    before : what is done to the logits first.
    """

    parts: Normaliser
    shift_first: bool = True
    probability: str = "quotient"
    dtype: str | None = None
    before: Change | None = None


def score_by(way: Way) -> Callable[..., ScoreResult]:
    """The port that computes in this way; bad calls are refused as the reference does."""

    def score(logits: Any, targets: Any, selected: Any, weights: Any) -> ScoreResult:
        mlm_spec.score(logits, targets, selected, weights)
        wide = way.dtype or ("float64" if logits.dtype == np.float64 else "float32")
        z, ids = logits[selected].astype(wide), targets[selected].astype(np.intp)
        share = (np.ones(len(ids)) if weights is None else weights[selected]).astype(wide)
        with np.errstate(all="ignore"):
            values, gradient = _rows(z, ids, way)
        nats = np.zeros(targets.shape, wide)
        nats[selected] = values
        total = one_by_one(share * values) if len(ids) else np.zeros((), wide)
        grad = np.zeros(logits.shape, logits.dtype)
        grad[selected] = (share[:, None] * gradient).astype(logits.dtype)
        return ScoreResult(nats, total, np.int64(len(ids)), grad)

    return score


def _rows(z: Array, ids: Array, way: Way) -> tuple[Array, Array]:
    """log p of the targets (N,), and 1[j = t] − p_j (N, V)."""
    column = ids[:, None]
    every = z if way.before is None else way.before(z)
    top, total = way.parts(every) if len(z) else Parts(z[:, 0], z[:, 0])
    log_total = np.log(total)
    if way.shift_first:
        log_p = (z - top[:, None]) - log_total[:, None]
    else:
        log_p = z - (top + log_total)[:, None]
    quotient = np.exp(z - top[:, None]) / total[:, None]
    p = quotient if way.probability == "quotient" else np.exp(log_p)
    gradient = -p
    at = np.take_along_axis(gradient, column, axis=-1)
    np.put_along_axis(gradient, column, 1 + at, axis=-1)
    return np.take_along_axis(log_p, column, axis=-1)[:, 0], gradient


def _padded(z: Array) -> Array:
    """Up to a multiple of 128 ids, with logits of -inf."""
    more = np.full((len(z), -z.shape[-1] % 128), -np.inf, z.dtype)
    return np.concatenate([z, more], axis=-1)


def _backend(way: Way, accumulation: str) -> SimpleNamespace:
    return SimpleNamespace(score=score_by(way), accumulation=accumulation)


SCORING: dict[str, SimpleNamespace] = {
    "sequential": _backend(Way(two_passes(one_by_one)), "any"),
    "tree": _backend(Way(two_passes(tree)), "tree"),
    "pairwise": _backend(Way(two_passes(pairwise)), "pairwise 128"),
    "lanes": _backend(Way(two_passes(in_lanes)), "lanes 16"),
    "kahan": _backend(Way(two_passes(compensated)), "compensated"),
    "exact_sum": _backend(Way(two_passes(exactly)), "exact"),
    "online_by_chunks": _backend(Way(by_chunks(512)), "chunks 512"),
    "online_by_small_chunks": _backend(Way(by_chunks(16)), "chunks 16"),
    "online_by_element": _backend(Way(by_element()), "any"),
    "sharded_vocabulary": _backend(Way(by_shards(8)), "any"),
    "float64_inside": _backend(Way(two_passes(one_by_one), dtype="float64"), "any in float64"),
    "logsumexp_first": _backend(Way(two_passes(tree), shift_first=False), "tree"),
    "probability_from_log": _backend(Way(two_passes(tree), probability="exp"), "tree"),
    "logsumexp_first_probability_from_log": _backend(
        Way(two_passes(in_lanes), shift_first=False, probability="exp"), "lanes 16"
    ),
    "rising_terms": _backend(Way(two_passes(permuted("rising"))), "any"),
    "falling_terms": _backend(Way(two_passes(permuted("falling"))), "any"),
    "backwards": _backend(Way(two_passes(permuted("backwards"))), "any"),
    "padded_vocabulary": _backend(Way(two_passes(one_by_one), before=_padded), "any"),
}
"""Each way of scoring, by name."""

# Each is a target of its own: mlm_conformance.variants.scoring:kahan
globals().update(SCORING)
