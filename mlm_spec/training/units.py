"""The units that an update drops, for the places of one micro-batch (MLM-ENC-14 … 16)."""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

import numpy as np

from mlm_spec.training.config import EncoderConfig
from mlm_spec.training.dropout import (
    Dropout,
    Site,
    Words,
    attention_keep,
    check_attention_channels,
    dropout_factor,
    dropout_keep,
    dropout_keys,
)
from mlm_spec.training.layers import Floats
from mlm_spec.training.places import Places

__all__ = ["Units", "units_of"]


class Units(NamedTuple):
    """What dropout multiplies by: arrays of 0 and 1 / (1 − p), or None where nothing is dropped.

    Attributes
    ----------
    keys : uint32 (L, sites, 4), those of the update; None in an evaluation.
    """

    config: EncoderConfig
    places: Places
    keys: Words | None

    def hidden(self, site: Site, layer: int = 0) -> Floats | None:
        """(N, d), at a site of hidden units."""
        p = Fraction(self.config.hidden_dropout)
        if self.keys is None or not p:
            return None
        ids, position = self.places.sequence_id, self.places.position
        channel = np.arange(self.config.hidden_size, dtype=np.uint32)
        return dropout_factor(dropout_keep(self.keys[layer, site], ids, position, channel, p), p)

    def attention(self, layer: int) -> list[Floats | None]:
        """(H, n, n), query by key, for each sequence."""
        p = Fraction(self.config.attention_dropout)
        if self.keys is None or not p:
            return [None] * len(self.places.sequences)
        heads, key = self.config.num_attention_heads, self.keys[layer, Site.ATTENTION]
        ids = [self.places.sequence_id[members] for members in self.places.sequences]
        positions = [self.places.position[members] for members in self.places.sequences]
        return [dropout_factor(keep, p) for keep in attention_keep(key, heads, ids, positions, p)]


def units_of(config: EncoderConfig, places: Places, dropout: Dropout | None) -> Units:
    """The units of an update, or those of an evaluation, where all are kept.

    Raises
    ------
    SeedError, IdRangeError : what no key and no channel can hold.
    """
    if dropout is None:
        return Units(config, places, None)
    if config.attention_dropout:
        check_attention_channels(config.num_attention_heads, places.position)
    # One row more than needed without layers: the embeddings are at layer 0.
    return Units(config, places, dropout_keys(dropout, max(1, config.num_hidden_layers)))
