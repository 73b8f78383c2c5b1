"""In which order a run sees its sequences: a function of the seed and the epoch (chapter TRN)."""

from __future__ import annotations

import operator

import numpy as np
from numpy.typing import NDArray

from mlm_spec.errors import InputError
from mlm_spec.random_words import Stream, random_words, split_words

__all__ = ["epoch_order", "sequences_at"]

Numbers = NDArray[np.int64]


def epoch_order(epoch: int, count: int, seed: int) -> Numbers:
    """The sequence numbers 0 … count − 1 in the order of an epoch (MLM-TRN-9).

    They are sorted by (w0, w1, number), the words being those of stream 4 at position 0 of the
    sequence with that number.

    Parameters
    ----------
    epoch, seed : integers in 0 .. 2**64 - 1.
    count : how many sequences there are, 1 or more.

    Returns
    -------
    int64 (count,), a permutation.

    Raises
    ------
    SeedError, InputError.

    Source: chapters TRN and RNG.  Bound: exact.

    >>> sorted(epoch_order(0, 5, seed=1).tolist())
    [0, 1, 2, 3, 4]
    >>> epoch_order(0, 5, seed=1).tolist() == epoch_order(1, 5, seed=1).tolist()
    False
    """
    number = np.arange(_integer("count", count, 1), dtype=np.uint64)
    nowhere = np.zeros(number.shape, np.uint32)
    w0, w1, _, _ = random_words(seed, epoch, split_words(number), nowhere, Stream.ORDER)
    return np.lexsort((number, w1, w0)).astype(np.int64)


def sequences_at(position: int, number: int, count: int, seed: int) -> list[tuple[int, Numbers]]:
    """The next ``number`` sequences of the concatenation of all epochs (MLM-TRN-9).

    Nothing is kept of a run's order but ``position``, so whoever resumes continues exactly there.

    Parameters
    ----------
    position : how many sequences the run has consumed, 0 or more.
    number : how many come next, 0 or more.
    count : how many sequences there are, 1 or more.
    seed : an integer in 0 .. 2**64 - 1.

    Returns
    -------
    (epoch, int64 (n,)) of each epoch that has part in it, in order; masks need the epoch.

    Raises
    ------
    SeedError, InputError.

    Source: chapter TRN.  Bound: exact.

    >>> [(epoch, len(part)) for epoch, part in sequences_at(3, 6, 5, seed=1)]
    [(0, 2), (1, 4)]
    """
    here = _integer("position", position, 0)
    end = here + _integer("number", number, 0)
    count = _integer("count", count, 1)
    parts = []
    while here < end:
        epoch, start = divmod(here, count)
        stop = min(count, start + end - here)
        parts.append((epoch, epoch_order(epoch, count, seed)[start:stop]))
        here += stop - start
    return parts


def _integer(where: str, value: object, low: int) -> int:
    try:
        number = operator.index(value)  # type: ignore[arg-type]  # what it is made to find out
    except TypeError:
        raise InputError(where, f"{value!r} ({type(value).__name__})", "an integer") from None
    if number < low:
        raise InputError(where, number, f"{low} or more")
    return number
