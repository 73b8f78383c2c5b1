"""The units that an update drops, for the places of one micro-batch (MLM-ENC-10 … 12)."""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

import numpy as np

from mlm_spec.training.config import EncoderConfig
from mlm_spec.training.dropout import (
    Dropout,
    Site,
    attention_channel,
    check_attention_channels,
    dropout_factor,
    dropout_keep,
    dropout_key,
)
from mlm_spec.training.layers import Floats
from mlm_spec.training.places import Places

__all__ = ["Units"]


class Units(NamedTuple):
    """What dropout multiplies by: an array of 0 and 1 / (1 − p), or None where nothing is dropped.

    Attributes
    ----------
    dropout : the seed and the update; None in an evaluation.
    """

    config: EncoderConfig
    places: Places
    dropout: Dropout | None

    def check(self) -> None:
        """Raise `SeedError` or `IdRangeError` for what no key or channel can hold."""
        if self.dropout is not None:
            dropout_key(self.dropout, Site.EMBEDDINGS)
            if self.config.attention_dropout:
                check_attention_channels(self.config.num_attention_heads, self.places.position)

    def hidden(self, site: Site, layer: int = 0) -> Floats | None:
        """(N, d), at a site of hidden units."""
        p = Fraction(self.config.hidden_dropout)
        if self.dropout is None or not p:
            return None
        key = dropout_key(self.dropout, site, layer)
        channel = np.arange(self.config.hidden_size, dtype=np.uint32)
        keep = dropout_keep(key, self.places.sequence_id, self.places.position, channel, p)
        return dropout_factor(keep, p)

    def attention(self, layer: int, number: int) -> Floats | None:
        """(H, n, n), query by key, of one sequence."""
        p = Fraction(self.config.attention_dropout)
        if self.dropout is None or not p:
            return None
        members, heads = self.places.sequences[number], self.config.num_attention_heads
        ids, position = self.places.sequence_id[members], self.places.position[members]
        key = dropout_key(self.dropout, Site.ATTENTION, layer)
        keep = dropout_keep(key, ids, position, attention_channel(heads, position), p)
        by_head = keep.reshape(members.size, heads, members.size).transpose(1, 0, 2)
        return dropout_factor(by_head, p)
