"""Families of logits: each has few parameters, and a reason to exist.

A family is a function (rng, rows, vocab) → logits float64 (rows, vocab), targets int64 (rows,).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

__all__ = ["FAMILIES", "Family"]

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]
Family = Callable[[np.random.Generator, int, int], tuple[Floats, Ids]]


def _targets(rng: np.random.Generator, rows: int, vocab: int) -> Ids:
    return rng.integers(vocab, size=rows)


def _at(logits: Floats, ids: Ids) -> Floats:
    return np.take_along_axis(logits, ids[:, None], axis=-1)


def _put(logits: Floats, ids: Ids, values: Floats) -> None:
    np.put_along_axis(logits, ids[:, None], values, axis=-1)


def normal(rng: np.random.Generator, rows: int, vocab: int) -> tuple[Floats, Ids]:
    """Ordinary logits, spread 0.1 to 10."""
    spread = rng.choice([0.1, 1.0, 3.0, 10.0], size=(rows, 1))
    return rng.normal(size=(rows, vocab)) * spread, _targets(rng, rows, vocab)


def equal(rng: np.random.Generator, rows: int, vocab: int) -> tuple[Floats, Ids]:
    """All logits equal: log Pr = −log V; a sum kept in a narrow type overflows or stalls."""
    level = rng.choice([0.0, 1.0, -3.0], size=(rows, 1))
    return np.broadcast_to(level, (rows, vocab)).copy(), _targets(rng, rows, vocab)


def ties(rng: np.random.Generator, rows: int, vocab: int) -> tuple[Floats, Ids]:
    """Two levels, the upper one shared: argmax is no help; 0 has either sign."""
    levels = rng.integers(0, 2, size=(rows, vocab)).astype(np.float64)
    signed = np.where(levels == 0, rng.choice([0.0, -0.0], size=levels.shape), levels)
    return signed * 2.0, _targets(rng, rows, vocab)


def offset(rng: np.random.Generator, rows: int, vocab: int) -> tuple[Floats, Ids]:
    """Far from 0: exp overflows, or everything underflows, without a shift by the maximum."""
    shift = rng.choice([200.0, -200.0, 1e4, -1e4], size=(rows, 1))
    further = rng.choice([-1, 1], size=(rows, 1)) * 10 ** rng.uniform(3, 6, size=(rows, 1))
    shift = np.where(rng.random((rows, 1)) < 0.3, further, shift)
    return rng.normal(size=(rows, vocab)) * 3.0 + shift, _targets(rng, rows, vocab)


def negative_offset(rng: np.random.Generator, rows: int, vocab: int) -> tuple[Floats, Ids]:
    """All near −200: an id that is not in the vocabulary, with logit 0, would take everything."""
    return rng.normal(size=(rows, vocab)) * 3.0 - 200.0, _targets(rng, rows, vocab)


def improbable(rng: np.random.Generator, rows: int, vocab: int) -> tuple[Floats, Ids]:
    """The target far below the rest: its probability underflows, its logarithm does not."""
    logits, ids = rng.normal(size=(rows, vocab)), _targets(rng, rows, vocab)
    gap = rng.choice([30.0, 130.0, 1000.0, 1e4], size=(rows, 1))
    anywhere = 10 ** rng.uniform(1, 6, size=(rows, 1))
    gap = np.where(rng.random((rows, 1)) < 0.3, anywhere, gap)
    if vocab > 1:
        _put(logits, ids, logits.max(axis=-1, keepdims=True) - gap)
    return logits, ids


def hopeless(rng: np.random.Generator, rows: int, vocab: int) -> tuple[Floats, Ids]:
    """`improbable` by anything from a million nats to 10³⁰: no finite logit is too low."""
    logits, ids = rng.normal(size=(rows, vocab)), _targets(rng, rows, vocab)
    if vocab > 1:
        gap = 10 ** rng.uniform(6, 30, size=(rows, 1))
        _put(logits, ids, logits.max(axis=-1, keepdims=True) - gap)
    return logits, ids


def likely(rng: np.random.Generator, rows: int, vocab: int) -> tuple[Floats, Ids]:
    """Pr → 1: log Pr is a tiny number that cancellation or a narrow type loses."""
    logits, ids = rng.normal(size=(rows, vocab)), _targets(rng, rows, vocab)
    gap = rng.choice([1.0, 3.0, 5.0, 6.0, 10.0, 20.0, 40.0], size=(rows, 1))
    gap = np.where(rng.random((rows, 1)) < 0.3, rng.uniform(0.5, 45.0, size=(rows, 1)), gap)
    _put(logits, ids, np.zeros((rows, 1)))
    logits -= logits.max(axis=-1, keepdims=True)
    _put(logits, ids, gap)
    return logits, ids


def likely_pair(rng: np.random.Generator, rows: int, vocab: int) -> tuple[Floats, Ids]:
    """Integers 0 and 5 to 8, the target's the larger: exact in every dtype, Pr → 1."""
    ids = _targets(rng, rows, vocab)
    logits = np.full((rows, vocab), -40.0)
    _put(logits, (ids + 1) % vocab, np.zeros((rows, 1)))
    _put(logits, ids, rng.choice([5.0, 6.0, 8.0], size=(rows, 1)))
    return logits, ids


def impossible_ids(rng: np.random.Generator, rows: int, vocab: int) -> tuple[Floats, Ids]:
    """About half of the ids have logit -inf: probability exactly 0."""
    logits, ids = rng.normal(size=(rows, vocab)) * 3.0, _targets(rng, rows, vocab)
    kept = _at(logits, ids)
    logits[rng.random((rows, vocab)) < 0.5] = -np.inf
    _put(logits, ids, kept)
    return logits, ids


def far_below(rng: np.random.Generator, rows: int, vocab: int) -> tuple[Floats, Ids]:
    """Ids at -inf, and all others near -10000: a large negative number is no -inf."""
    logits, ids = impossible_ids(rng, rows, vocab)
    return logits - 1e4, ids


def farthest_below(rng: np.random.Generator, rows: int, vocab: int) -> tuple[Floats, Ids]:
    """The same near −10⁶, −10¹⁰ and −10³⁰, row by row: nor is a larger one."""
    logits, ids = impossible_ids(rng, rows, vocab)
    depth = np.resize([1e6, 1e10, 1e30], rows)
    return logits - rng.permutation(depth)[:, None], ids


def single(rng: np.random.Generator, rows: int, vocab: int) -> tuple[Floats, Ids]:
    """Only the target is possible: log Pr is exactly 0."""
    logits, ids = np.full((rows, vocab), -np.inf), _targets(rng, rows, vocab)
    _put(logits, ids, rng.normal(size=(rows, 1)) * 3.0)
    return logits, ids


def first_id(rng: np.random.Generator, rows: int, vocab: int) -> tuple[Floats, Ids]:
    """Id 0 is the target, everywhere: ``labels > 0`` would drop it."""
    return rng.normal(size=(rows, vocab)) * 3.0, np.zeros(rows, np.int64)


def last_id(rng: np.random.Generator, rows: int, vocab: int) -> tuple[Floats, Ids]:
    """The last id is the target, everywhere."""
    return rng.normal(size=(rows, vocab)) * 3.0, np.full(rows, vocab - 1)


def end_ids_lead(rng: np.random.Generator, rows: int, vocab: int) -> tuple[Floats, Ids]:
    """The first or the last id has the largest logit: a sum without it is far off."""
    logits, ids = rng.normal(size=(rows, vocab)), _targets(rng, rows, vocab)
    top = logits.max(axis=-1) + 12.0
    logits[np.arange(rows), rng.choice([0, vocab - 1], size=rows)] = top
    return logits, ids


def end_ids_lead_below(rng: np.random.Generator, rows: int, vocab: int) -> tuple[Floats, Ids]:
    """The same 200 lower: an id that is not in the vocabulary, with logit 0, shows as well."""
    logits, ids = end_ids_lead(rng, rows, vocab)
    return logits - 200.0, ids


def few_live(rng: np.random.Generator, rows: int, vocab: int) -> tuple[Floats, Ids]:
    """Eight ids share nearly all of the probability, the target among them."""
    logits = np.full((rows, vocab), -60.0)
    live = rng.integers(vocab, size=(rows, 8))
    np.put_along_axis(logits, live, rng.normal(size=(rows, 8)), axis=-1)
    return logits, live[:, 0]


FAMILIES: Mapping[str, Family] = {
    "normal": normal,
    "equal": equal,
    "ties": ties,
    "offset": offset,
    "negative offset": negative_offset,
    "improbable": improbable,
    "hopeless": hopeless,
    "likely": likely,
    "likely pair": likely_pair,
    "impossible ids": impossible_ids,
    "far below": far_below,
    "farthest below": farthest_below,
    "single": single,
    "first id": first_id,
    "last id": last_id,
    "end ids lead": end_ids_lead,
    "end ids lead below": end_ids_lead_below,
    "few live": few_live,
}
