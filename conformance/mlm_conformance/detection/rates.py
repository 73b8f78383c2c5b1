"""How many positions a log-likelihood shows itself wrong at, family by family."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.bounds import arithmetic, value_bound
from mlm_conformance.cases.logits import FAMILIES
from mlm_conformance.cases.numbers import dtype_of, generator, within_range
from mlm_spec import log_likelihood

__all__ = ["ROWS", "SIZES", "Probe", "Rate", "probes", "rate"]

Array = NDArray[Any]

#: Vocabulary sizes: one where bounds are sharp, one that no vector length divides, a full one.
SIZES = (64, 999, 30522)
#: Positions of each family and dtype, by size.
ROWS: Mapping[int, int] = {64: 96, 999: 48, 30522: 8}
_DTYPES = ("float32", "float64", "bfloat16", "float16")


@dataclass(frozen=True, slots=True)
class Probe:
    """Positions of one family in one dtype, with the truth.

    Attributes
    ----------
    name : family and dtype.
    logits, targets : (N, V), (N,).
    true, limit : float64 (N,): the log-likelihoods, and their any-order bounds.
    """

    name: str
    logits: Array
    targets: Array
    true: NDArray[np.float64]
    limit: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Rate:
    """What was seen of one implementation at one size.

    Attributes
    ----------
    ordinary : the share of ordinary float32 positions beyond their bound.
    best : the largest such share among all families and dtypes.
    probe : the family and dtype that it belongs to.
    ratio : the largest error over its bound, anywhere; inf where something is not finite.
    """

    ordinary: float
    best: float
    probe: str
    ratio: float


def probes(vocab_size: int, seed: int = 0) -> Iterator[Probe]:
    """One of each family and dtype."""
    for dtype in _DTYPES:
        for number, family in enumerate(FAMILIES):
            rng = generator(seed, number)
            z, ids = FAMILIES[family](rng, ROWS[vocab_size], vocab_size)
            logits = within_range(z, dtype).astype(dtype_of(dtype))
            limit = value_bound(logits, ids, arithmetic(dtype))
            yield Probe(f"{family}, {dtype}", logits, ids, log_likelihood(logits, ids), limit)


@cache
def _kept(vocab_size: int) -> tuple[Probe, ...]:
    return tuple(probes(vocab_size))


def rate(value: Callable[[Array, Array], Array], vocab_size: int) -> Rate:
    """Of a log-likelihood: logits (N, V), targets (N,) → nats (N,)."""
    shares, worst = {}, 0.0
    for probe in _kept(vocab_size):
        with np.errstate(all="ignore"):
            seen = np.asarray(value(probe.logits, probe.targets)).astype(np.float64)
            off = np.where(seen == probe.true, 0.0, np.abs(seen - probe.true) / probe.limit)
        ratios = np.where(np.isnan(off), np.inf, off)
        shares[probe.name] = float((ratios > 1.0).mean())
        worst = max(worst, float(ratios.max()))
    best = max(shares, key=lambda name: shares[name])
    return Rate(shares["normal, float32"], shares[best], best, worst)
