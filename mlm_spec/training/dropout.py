"""Dropout from the counter-based stream (chapter ENC): no generator, no state, no order.

A key is derived for each update, site and layer; under it each unit of each position of each
sequence has a word of its own.  So what is dropped does not depend on how sequences are put into
batches, rows, micro-batches or replicas.
"""

from __future__ import annotations

from enum import IntEnum
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlm_spec.checking import check_seed
from mlm_spec.errors import IdRangeError
from mlm_spec.random_words import Stream, threefry4x32
from mlm_spec.thresholds import below
from mlm_spec.training.layers import Floats, Rounded

__all__ = [
    "Dropout",
    "Site",
    "attention_channel",
    "check_attention_channels",
    "dropout_factor",
    "dropout_keep",
    "dropout_key",
    "scaled",
]

Words = NDArray[np.uint32]

_TAG = 0x4D4C4D00  # as in `mlm_spec.random_words`
_MASK = 0xFFFFFFFF
_HEAD = 2**24  # channels of one attention head: positions below it keep the heads apart
_HEADS = 256


class Dropout(NamedTuple):
    """Which units are dropped: those of an update.

    Attributes
    ----------
    seed : of the run, in 0 .. 2⁶⁴ − 1.
    update : the number of the update, 1, 2, …; in 0 .. 2⁶⁴ − 1.
    """

    seed: int
    update: int


class Site(IntEnum):
    """Where the encoder drops units."""

    EMBEDDINGS = 0  # of layer 0
    ATTENTION = 1  # the probabilities
    ATTENTION_OUTPUT = 2
    OUTPUT = 3  # of the feed-forward layers


def dropout_key(dropout: Dropout, site: Site, layer: int = 0) -> Words:
    """The key of an update, a site and a layer.

    All four words of threefry4x32(key = (seed_lo, seed_hi, update_lo, update_hi),
    counter = (site, 0x4D4C4D00 xor 3, layer, 0)).

    Parameters
    ----------
    dropout : the seed and the update.
    site, layer : where; layers count from 0.

    Returns
    -------
    uint32 (4,).

    Raises
    ------
    SeedError : a seed or an update outside 0 .. 2⁶⁴ − 1.

    Source: chapter ENC.  Bound: exact, bit for bit.

    >>> [f"{w:08x}" for w in dropout_key(Dropout(seed=7, update=1), Site.OUTPUT, layer=2)]
    ['2bb10eb2', '5b4914e0', '43aaa35a', 'c3f0346c']
    """
    seed = check_seed("dropout.seed", dropout.seed)
    update = check_seed("dropout.update", dropout.update)
    key = [w for n in (seed, update) for w in (n & _MASK, n >> 32)]
    return threefry4x32(key, [site, _TAG ^ Stream.DROPOUT, layer, 0])


def dropout_keep(
    key: Words, sequence_id: Words, position: Words, channel: Words, p: Fraction
) -> NDArray[np.bool_]:
    """Which units are kept: word[c mod 4] of counter (position, ⌊c/4⌋, sequence) < T(1 − p).

    Parameters
    ----------
    key : uint32 (4,), from `dropout_key`.
    sequence_id : uint32 (N, 2), the low word first.
    position : uint32 (N,), in the source sequence.
    channel : uint32 (C,), c.
    p : the probability to be dropped, exact.

    Returns
    -------
    bool (N, C).

    Source: chapter ENC.  Bound: exact, bit for bit.

    >>> place = np.arange(2, dtype=np.uint32)
    >>> key = dropout_key(Dropout(seed=7, update=1), Site.EMBEDDINGS)
    >>> channel = np.arange(5, dtype=np.uint32)
    >>> dropout_keep(key, np.zeros((2, 2), np.uint32), place, channel, Fraction(1, 2)).tolist()
    [[False, True, True, True, False], [True, False, False, True, True]]
    """
    block, which = np.unique(channel // 4, return_inverse=True)
    counter = np.empty((position.size, block.size, 4), np.uint32)
    counter[..., 0] = position[:, None]
    counter[..., 1] = block
    counter[..., 2:] = sequence_id[:, None]
    words = threefry4x32(key, counter)[:, which, channel % 4]
    return below(words, 1 - p)


def attention_channel(heads: int, position: Words) -> Words:
    """The channels of attention probabilities: head · 2²⁴ + position of the key, (H · n,)."""
    head = np.arange(heads, dtype=np.uint32)[:, None] * np.uint32(_HEAD)
    return (head + position).reshape(-1)


def check_attention_channels(heads: int, position: Words) -> None:
    """Channels that are told apart: at most 256 heads, and positions below 2²⁴.

    Raises
    ------
    IdRangeError : more of them.
    """
    if heads > _HEADS:
        expected = f"at most {_HEADS}, so that dropout tells them apart"
        raise IdRangeError("encoder.num_attention_heads", heads, expected)
    if position.size and position.max() >= _HEAD:
        raise IdRangeError("position", position.max(), "below 2**24, for dropout in attention")


def dropout_factor(keep: NDArray[np.bool_], p: Fraction) -> Floats:
    """0 where a unit is dropped, 1 / (1 − p) where it is kept."""
    return np.where(keep, float(1 / (1 - p)), 0.0)


def scaled(values: Floats, factor: Floats | None, rounded: Rounded) -> Floats:
    """values · factor; without dropout the values themselves, as they are."""
    return values if factor is None else rounded(values * factor)
