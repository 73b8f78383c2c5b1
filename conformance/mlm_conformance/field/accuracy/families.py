"""Families of logits that are hard in different ways, exactly representable in each dtype.

The same random numbers are rounded to each dtype, so that a row differs between two of them by
that rounding alone.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.field.accuracy.formats import Format
from mlm_conformance.wire import DTYPES

__all__ = ["FAMILIES", "ROWS", "SEED", "Batch", "Family", "batches"]

SEED = 20_261

#: Size of the vocabulary to rows of each family; BERT's own is the largest, and the dearest.
ROWS: Mapping[int, int] = {2: 60, 64: 60, 1_000: 60, 30_522: 6}

Floats: TypeAlias = NDArray[np.float64]
Integers: TypeAlias = NDArray[np.int64]

#: (rng, rows, V, bits of the significand) to logits (rows, V) and targets (rows,).
Draw: TypeAlias = Callable[[np.random.Generator, int, int, int], tuple[Floats, Integers]]


@dataclass(frozen=True, slots=True)
class Family:
    """A kind of logits: its name, what it is, and how its rows are drawn."""

    name: str
    about: str
    draw: Draw


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of one family, one dtype and one V: logits (N, V), targets (N,)."""

    family: str
    logits: NDArray[Any]
    targets: Integers


def batches(form: Format, rows: Mapping[int, int] = ROWS) -> Iterator[Batch]:
    """All rows of one dtype."""
    for family in FAMILIES:
        for size, count in rows.items():
            rng = np.random.default_rng([SEED, zlib.crc32(family.name.encode()), size])
            logits, targets = family.draw(rng, count, size, form.bits)
            yield Batch(family.name, logits.astype(DTYPES[form.name]), targets)


def _normal(rng: np.random.Generator, rows: int, size: int, bits: int) -> tuple[Floats, Integers]:
    sigma = np.resize([0.1, 0.5, 1.0, 3.0, 10.0, 50.0], rows)
    return sigma[:, None] * rng.normal(size=(rows, size)), _targets(rng, rows, size)


def _certain(rng: np.random.Generator, rows: int, size: int, bits: int) -> tuple[Floats, Integers]:
    logits, targets = rng.normal(size=(rows, size)), _targets(rng, rows, size)
    logits[::2] = 0.0
    return _led(logits, targets, 1.0 + np.arange(rows) * 39.0 / max(rows - 1, 1)), targets


def _certain_far(
    rng: np.random.Generator, rows: int, size: int, bits: int
) -> tuple[Floats, Integers]:
    logits, targets = _certain(rng, rows, size, bits)
    return logits + np.resize([16.0, -16.0, 100.0, -200.0], rows)[:, None], targets


def _ties(rng: np.random.Generator, rows: int, size: int, bits: int) -> tuple[Floats, Integers]:
    logits = rng.normal(0.0, 3.0, (rows, size))
    targets = _targets(rng, rows, size)
    for i, row in enumerate(logits):
        tied = rng.permutation(size)[: rng.integers(2, max(size // 2, 2) + 1)]
        row[tied] = row.max()
        if i % 3:
            targets[i] = tied[0]
    return logits, targets


def _equal(rng: np.random.Generator, rows: int, size: int, bits: int) -> tuple[Floats, Integers]:
    level = np.concatenate([np.zeros(1), rng.normal(0.0, 20.0, rows - 1)])
    return np.repeat(level[:, None], size, axis=1), _targets(rng, rows, size)


def _masked(rng: np.random.Generator, rows: int, size: int, bits: int) -> tuple[Floats, Integers]:
    logits, targets = rng.normal(0.0, 3.0, (rows, size)), _targets(rng, rows, size)
    share = np.resize([0.1, 0.5, 0.99], rows)
    gone = rng.random((rows, size)) < share[:, None]
    every = np.arange(rows)
    gone[every, targets] = every % 10 == 9
    gone[every, (targets + 1) % size] &= every % 10 != 9  # some other stays where the target goes
    logits[gone] = -np.inf
    return logits, targets


def _offset(rng: np.random.Generator, rows: int, size: int, bits: int) -> tuple[Floats, Integers]:
    powers = 2.0 ** np.linspace(4, bits - 1, 8).round()
    level = np.resize([200.0, -200.0, 1e4, -1e4, *powers, *-powers], rows)
    return level[:, None] + rng.normal(0.0, 3.0, (rows, size)), _targets(rng, rows, size)


def _improbable(
    rng: np.random.Generator, rows: int, size: int, bits: int
) -> tuple[Floats, Integers]:
    logits, targets = rng.normal(size=(rows, size)), _targets(rng, rows, size)
    return _led(logits, targets, -np.geomspace(10.0, 1000.0, rows)), targets


FAMILIES = (
    Family("normal", "σ from 0.1 to 50", _normal),
    Family("certain", "the target leads by 1 to 40, so Pr → 1", _certain),
    Family("certain, far", "the same, around 16, -16, 100 and -200", _certain_far),
    Family("ties", "two or more at the maximum, in two rows of three with the target", _ties),
    Family("all equal", "log Pr = -log V", _equal),
    Family("some at -inf", "a tenth, a half or nearly all; now and then the target", _masked),
    Family("offset", "σ = 3 around ±200, ±10⁴ and ±2ᵏ, to where numbers are 1 apart", _offset),
    Family("improbable", "the target is 10 to 1,000 below the maximum", _improbable),
)


def _targets(rng: np.random.Generator, rows: int, size: int) -> Integers:
    return rng.integers(0, size, rows)


def _led(logits: Floats, targets: Integers, gap: Floats) -> Floats:
    """The target's logit so far above the largest of the others (below, if negative)."""
    every = np.arange(len(logits))
    logits[every, targets] = -np.inf
    logits[every, targets] = logits.max(axis=1) + gap
    return logits
