"""How much counts differ from one group of places to another: as much as those of chance.

A masker that deals out its choices, so many in each batch or in each row, has the right rates at
every place, and hardly a trace of it in pairs.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.distributions.binomial import at_most
from mlm_conformance.distributions.judge import Tally

__all__ = ["usual", "usually"]

_BLOCK = 8  # places of a row
_HALF = 0.5
#: An interval that is met more often than this tells little.
_TELLING = Fraction(9, 10)


class _Usual(NamedTuple):
    low: int
    high: int
    probability: Fraction


@cache
def usual(trials: int, p: Fraction) -> _Usual:
    """The narrowest interval around the mean that a binomial count meets half of the time.

    >>> usual(4, Fraction(1, 2))
    _Usual(low=1, high=3, probability=Fraction(7, 8))
    """
    low = high = round(trials * p)
    while True:
        met = at_most(high, trials, p) - at_most(low - 1, trials, p)
        if met >= _HALF:
            return _Usual(low, high, Fraction(met))
        low, high = low - 1, high + 1


def usually(
    what: str, happened: NDArray[Any], able: NDArray[np.bool_], p: Fraction
) -> Iterator[Tally]:
    """How often a count is a usual one: those of batches, of rows, of columns and of their parts.

    Only groups all of whose places are able have a say, so that their counts have one distribution.

    Parameters
    ----------
    what : in words, such as ``"positions selected"``.
    happened : bool (n, B, T), each independently true with probability ``p`` where it may.
    able : bool (B, T), where it may.
    """
    rows, columns = able.shape
    blocks = columns // _BLOCK
    cut = np.s_[..., : blocks * _BLOCK]
    parts = happened[cut].reshape(len(happened), rows, blocks, _BLOCK)
    whole_parts = able[cut].reshape(rows, blocks, _BLOCK).all(axis=2)
    for group, counts, trials in (
        ("a batch", happened.sum(axis=(1, 2), where=able), int(able.sum())),
        ("a row", happened.sum(axis=2)[:, able.all(axis=1)], columns),
        ("a column", happened.sum(axis=1)[:, able.all(axis=0)], rows),
        ("a part of a row", parts.sum(axis=3)[:, whole_parts], _BLOCK if blocks else 0),
    ):
        low, high, probability = usual(trials, p)
        if counts.size and probability <= _TELLING:
            met = (counts >= low) & (counts <= high)
            name = f"{what} of {group}, {low} to {high} of {trials}"
            yield Tally(name, int(met.sum()), met.size, probability)
