"""Which units dropout leaves (chapters RNG and ENC)."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_spec import split_words, threefry4x32
from mlm_spec.thresholds import threshold

__all__ = ["ATTENTION", "ATTENTION_OUTPUT", "EMBEDDINGS", "OUTPUT", "Dropout"]

Array = NDArray[Any]
EMBEDDINGS, ATTENTION, ATTENTION_OUTPUT, OUTPUT = range(4)
_TAG = 0x4D4C4D03  # stream 3
_HEAD = 2**24  # channels of one head


@dataclass(frozen=True, slots=True)
class Dropout:
    """What update n of a seed drops, in one micro-batch.

    Attributes
    ----------
    seed, update : key of the stream; the update counts from 1.
    sequence_id, position : uint32 (B, T, 2), (B, T).
    """

    seed: int
    update: int
    sequence_id: Array
    position: Array

    def units(self, site: int, layer: int, p: Fraction, width: int) -> Array:
        """bool (B, T, width): which units of each position stay."""
        channels = np.broadcast_to(np.arange(width), (*self.position.shape, width))
        return self._kept(site, layer, p, channels)

    def probabilities(self, layer: int, p: Fraction, heads: int) -> Array:
        """bool (B, heads, T, T): which attention probabilities stay."""
        key = self.position[:, None, None, :].astype(np.int64)
        head = np.arange(heads)[None, :, None, None] * _HEAD
        rows, columns = self.position.shape
        channels = np.broadcast_to(head + key, (rows, heads, columns, columns))
        turned = self._kept(ATTENTION, layer, p, channels.transpose(0, 2, 1, 3))
        return turned.transpose(0, 2, 1, 3)

    def _kept(self, site: int, layer: int, p: Fraction, channels: Array) -> Array:
        """For channels (B, T, …)."""
        inner = (1,) * (channels.ndim - 2)
        counter = np.empty((*channels.shape, 4), np.uint32)
        counter[..., 0] = self.position.reshape(*self.position.shape, *inner)
        counter[..., 1] = channels // 4
        for word in (0, 1):
            ids = self.sequence_id[..., word]
            counter[..., 2 + word] = ids.reshape(*ids.shape, *inner)
        words = threefry4x32(self._key(site, layer), counter)
        ours = np.take_along_axis(words, (channels % 4)[..., None].astype(np.intp), -1)[..., 0]
        kept: Array = ours.astype(np.int64) < threshold(1 - p)
        return kept

    def _key(self, site: int, layer: int) -> Array:
        halves = np.concatenate([split_words([self.seed])[0], split_words([self.update])[0]])
        counter = np.array([site, _TAG, layer, 0], np.uint32)
        key: Array = threefry4x32(halves, counter)
        return key
