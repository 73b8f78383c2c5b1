"""Where a token comes from: its source sequence, and its position in that sequence."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Places", "find_places", "sequence_words"]


_LOW = 0xFFFFFFFF


class Places(NamedTuple):
    """Sequence id and position as int32 bits, each (B, T)."""

    position: Tensor
    low: Tensor
    high: Tensor


def find_places(sequence_id: Tensor, position: Tensor) -> Places:
    """The int32 bits of sequence_id, uint32 (B, T, 2), and position, uint32 (B, T), each dense."""
    halves = sequence_id.view(torch.int32)
    parts = (position.view(torch.int32), halves[..., 0], halves[..., 1])
    return Places(*(part.contiguous() for part in parts))


def sequence_words(ids: Tensor, length: int | None = None) -> Tensor:
    """Split 64-bit sequence ids into the two words that a masker takes.

    Parameters
    ----------
    ids : int64 (B, T), or (B,) with ``length`` if a row is one sequence.  A negative id stands
        for the unsigned number with the same bits.
    length : T, for ids of shape (B,).

    Returns
    -------
    uint32 (B, T, 2), low word first.

    Source: chapter RNG.  Bound: exact, bit for bit.

    >>> sequence_words(torch.tensor([2**32 + 7]), 2).tolist()
    [[[7, 1], [7, 1]]]
    """
    if length is not None:
        ids = ids[:, None].expand(-1, length)
    return torch.stack((ids & _LOW, (ids >> 32) & _LOW), dim=-1).to(torch.uint32)
