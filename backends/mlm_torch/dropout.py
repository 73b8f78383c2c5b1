"""Which units are dropped: a function of (seed, update, site, layer, place), and of nothing else.

Two Threefry calls: the first makes a key of the update, the site and the layer, the second takes a
place as its counter, four channels a call.  No generator has a state, so the same units are
dropped whatever the micro-batches, their order, padding, packing or the number of replicas.

Source: Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting",
JMLR 2014, in the form that scales what is kept.
"""

from __future__ import annotations

from enum import IntEnum
from fractions import Fraction
from typing import NamedTuple

import torch
from torch import Tensor

from mlm_torch.gathering import gather_values
from mlm_torch.places import Places
from mlm_torch.random_words import STREAM_DROPOUT, below, counter_words, words
from mlm_torch.thresholds import threshold

__all__ = [
    "Dropout",
    "KeyGrid",
    "Site",
    "dropout_keep",
    "dropout_keys",
    "find_key_grid",
    "run_key",
    "scaled",
]

# As many words as a CPU core's cache holds with their buffers (see `mlm_torch.masking`).
_BLOCK = 131072

# The channel of an attention probability is head · 2²⁴ + position: four of them share a call.
_HEAD = 2**24


class Site(IntEnum):
    """Where BERT drops: the first word of the counter that makes a key."""

    EMBEDDINGS = 0
    ATTENTION = 1
    ATTENTION_OUTPUT = 2
    OUTPUT = 3


class KeyGrid(NamedTuple):
    """The calls that a batch's attention keys need, shared by those with neighbouring positions.

    Attributes
    ----------
    blocks : int32 bits (U,), the different ⌊position / 4⌋ of the batch.
    column : int64 (B, T), where the word of each key lies among the 4·U words.
    """

    blocks: Tensor
    column: Tensor


class Dropout(NamedTuple):
    """What is needed to drop units of one micro-batch in one layer.

    Attributes
    ----------
    keys : int32 (4, 4), those of one layer, from `dropout_keys`.
    places : of the positions, int32 bits.
    grid : of the attention's keys; None where attention probabilities are not dropped.
    """

    keys: Tensor
    places: Places
    grid: KeyGrid | None = None

    def at(self, index: Tensor) -> Dropout:
        """The same for some positions, given by their flat places (N,)."""
        return self._replace(places=Places(*(gather_values(x, index) for x in self.places)))

    def units(self, values: Tensor, site: Site, p: Fraction) -> Tensor:
        """Drop units of values (…, d), one row of them a place."""
        kept = dropout_keep(self.keys[site], self.places, values.shape[-1], p)
        return scaled(values, kept, p)

    def probabilities(self, values: Tensor, p: Fraction) -> Tensor:
        """Drop attention probabilities (B, heads, T, T)."""
        key = self.keys[Site.ATTENTION]
        return scaled(values, _attention_keep(key, self.places, self.grid, values.shape[1], p), p)


def run_key(seed: Tensor, update: Tensor) -> Tensor:
    """(seed_lo, seed_hi, update_lo, update_hi), int32 bits.

    Parameters
    ----------
    seed : int32 (2,), the first half of a key from `make_key`.
    update : int64 scalar, which is not read, so nothing waits for the device.
    """
    number = update.reshape(1).view(torch.int32)  # the low word first, as in memory
    return torch.cat((seed, number))


def dropout_keys(run: Tensor, layers: int) -> Tensor:
    """The keys of all sites of all layers (MLM-ENC), in one call.

    Parameters
    ----------
    run : int32 (4,), from `run_key`.
    layers : how many, 1 at least: the embeddings count as layer 0.

    Returns
    -------
    int32 (layers, 4, 4): by layer, by `Site`, the words of a key.
    """
    shape, device = (max(layers, 1), len(Site)), run.device
    site = torch.arange(len(Site), dtype=torch.int32, device=device).expand(shape)
    layer = torch.arange(shape[0], dtype=torch.int32, device=device)[:, None].expand(shape)
    return torch.stack(words(run, STREAM_DROPOUT, site, layer, torch.zeros_like(layer)), dim=-1)


def dropout_keep(key: Tensor, places: Places, channels: int, p: Fraction) -> Tensor:
    """Which channels of each place are kept: w[c mod 4] < T(1 − p) at counter ⌊c / 4⌋.

    Parameters
    ----------
    key : int32 (4,), one of `dropout_keys`.
    places : int32 bits, any shape.
    channels : how many, d.
    p : the probability of dropping.

    Returns
    -------
    bool (…, d).
    """
    calls = -(-channels // 4)
    block = torch.arange(calls, dtype=torch.int32, device=key.device)
    flat = [part.reshape(-1, 1) for part in places]
    kept = torch.empty(len(flat[0]), calls, 4, dtype=torch.bool, device=key.device)
    for rows in _row_blocks(kept):
        position, low, high = (part[rows] for part in flat)
        drawn = counter_words(key, (position, block, low, high))
        for i, word in enumerate(drawn):
            kept[rows, :, i] = below(word, threshold(1 - p))
    return kept.reshape(*places.position.shape, 4 * calls)[..., :channels]


def _row_blocks(kept: Tensor) -> list[slice]:
    """Rows in blocks that a CPU core's cache holds; on another device all rows at once."""
    rows, calls = kept.shape[:2]
    whole = kept.device.type != "cpu" or torch.compiler.is_compiling()
    size = max(rows, 1) if whole else max(1, _BLOCK // max(calls, 1))
    return [slice(start, start + size) for start in range(0, rows, size)]


def find_key_grid(position: Tensor) -> KeyGrid:
    """Share the calls of keys; waits for the device, so give it a tensor of the host.

    Positions are counted from the start of a sequence.  So there are about T / 4 different
    blocks, whatever the number of rows, and however they are packed.

    >>> grid = find_key_grid(torch.tensor([[0, 1, 9], [2, 3, 4]], dtype=torch.int32))
    >>> grid.blocks.tolist(), grid.column.tolist()
    ([0, 1, 2], [[0, 1, 9], [2, 3, 4]])
    """
    blocks, which = torch.unique(position >> 2, return_inverse=True)
    return KeyGrid(blocks, 4 * which + (position & 3))


def _attention_keep(key: Tensor, places: Places, grid: KeyGrid, heads: int, p: Fraction) -> Tensor:
    """Which probabilities are kept: a query's place, and the channel head · 2²⁴ + key position."""
    rows, columns = places.position.shape
    base = torch.arange(heads, dtype=torch.int32, device=key.device) * (_HEAD // 4)
    channel = base[:, None, None] + grid.blocks
    query = [part[:, None, :, None] for part in places]
    drawn = counter_words(key, (query[0], channel, *query[1:]))
    kept = torch.stack([below(word, threshold(1 - p)) for word in drawn], dim=-1).flatten(-2)
    where = grid.column[:, None, None, :].expand(rows, heads, columns, columns)
    return kept.gather(-1, where)


def scaled(values: Tensor, kept: Tensor, p: Fraction) -> Tensor:
    """values / (1 − p) where kept, else 0."""
    return torch.where(kept, values, 0.0) * float(1 / (1 - p))
