"""In which order a run sees its sequences (MLM-TRN-10, MLM-TRN-11).

Nothing is kept of the order but a position, so any process can make any part of it.  Words are
drawn and sorted on the device; where an epoch ends is arithmetic of the host, since positions have
64 bits and JAX need not.
"""

from __future__ import annotations

import operator
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from mlm_jax.random_words import ORDER, key_words, words_at
from mlm_spec.errors import InputError

__all__ = ["RunPart", "epoch_order", "sequences_at"]

# Fewer sequences are padded to so many: a compilation costs more than all their work.
_FEWEST = 64


class RunPart(NamedTuple):
    """Sequences that come one after the other, and the epoch of each: int64 (n,), on the host."""

    epoch: np.ndarray
    sequence: np.ndarray


@partial(jax.jit, static_argnames="size")
def epoch_order(key: jax.Array, count: jax.Array, size: int) -> jax.Array:
    """The sequence numbers 0 .. count − 1 in the order of an epoch (MLM-TRN-10).

    Parameters
    ----------
    key : uint32 (4,), see `mlm_jax.random_words.key_words`.
    count : uint32 (), at most ``size``.
    size : static; one program serves all counts up to it.

    Returns
    -------
    uint32 (size,).  What follows the first ``count`` means nothing.

    Source: chapters TRN and RNG.  Bound: exact.

    >>> epoch_order(key_words(7, 1), np.uint32(5), 64)[:5].tolist()
    [4, 2, 3, 1, 0]
    """
    numbers = jnp.arange(size, dtype=jnp.uint32)
    nowhere = jnp.zeros_like(numbers)
    w0, w1, _, _ = words_at(key, jnp.stack([numbers, nowhere], axis=-1), nowhere, ORDER)
    # Numbers that are padding come last, whatever their words.
    return lax.sort((numbers >= count, w0, w1, numbers), num_keys=4)[3]


def sequences_at(position: int, number: int, count: int, seed: int) -> RunPart:
    """The next ``number`` sequences of the concatenation of all epochs (MLM-TRN-11).

    Parameters
    ----------
    position : how many sequences the run has consumed, 0 or more.
    number : how many come next, 0 or more.
    count : how many sequences there are, in 1 .. 2**31.
    seed : of the run, in 0 .. 2**64 - 1.

    Raises
    ------
    InputError, SeedError.

    Source: chapter TRN.  Bound: exact.

    >>> [part.tolist() for part in sequences_at(4, 4, 5, seed=7)]
    [[0, 1, 1, 1], [3, 4, 2, 3]]
    """
    here, count = _integer("position", position, 0), _integer("count", count, 1, 2**31)
    end = here + _integer("number", number, 0)
    size = max(1 << (count - 1).bit_length(), _FEWEST)
    epochs, sequences = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    while here < end:
        epoch, start = divmod(here, count)
        order = np.asarray(epoch_order(key_words(seed, epoch), np.uint32(count), size))
        part = order[start : min(count, start + end - here)].astype(np.int64)
        epochs.append(np.full(part.shape, epoch, np.int64))
        sequences.append(part)
        here += len(part)
    return RunPart(np.concatenate(epochs), np.concatenate(sequences))


def _integer(where: str, value: object, low: int, high: int | None = None) -> int:
    try:
        number = operator.index(value)  # type: ignore[arg-type]  # what it is made to find out
    except TypeError:
        raise InputError(where, f"{value!r} ({type(value).__name__})", "an integer") from None
    if number < low or (high is not None and number > high):
        raise InputError(where, number, f"{low} or more" if high is None else f"{low}..{high}")
    return number
