"""The whole of it, on the arrays of the port."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlm_conformance.transcription.corruption import deciding_position, shown
from mlm_conformance.transcription.places import places, sequences
from mlm_conformance.transcription.random_words import draw_with
from mlm_conformance.transcription.selection import select
from mlm_spec.batch import MaskedBatch
from mlm_spec.policy import MaskingPolicy

__all__ = ["mask"]


def mask(
    tokens: Any,
    sequence_id: Any,
    position: Any,
    word_id: Any | None,
    eligible: Any,
    policy: MaskingPolicy,
    seed: int,
    epoch: int,
) -> MaskedBatch:
    """One corrupted batch.

    Parameters
    ----------
    tokens : int32 or int64 (B, T).
    sequence_id : uint32 (B, T, 2), low word first.
    position : uint32 (B, T).
    word_id : int32 (B, T) or None.
    eligible : bool (B, T).
    policy : the masking policy.
    seed, epoch : 0 .. 2**64 - 1.

    Returns
    -------
    MaskedBatch : NumPy arrays; inputs and targets in the dtype of tokens, selected bool.
    """
    draw = draw_with(seed, epoch)
    inputs: list[list[int]] = tokens.tolist()
    selected = [[False] * len(row) for row in inputs]
    for sequence in sequences(places(tokens, sequence_id, position, word_id, eligible)):
        for place in select(policy, sequence, draw):
            deciding = deciding_position(policy, place, sequence, draw)
            inputs[place.row][place.column] = shown(policy, place, deciding, draw)
            selected[place.row][place.column] = True
    return MaskedBatch(
        inputs=np.array(inputs, tokens.dtype).reshape(tokens.shape),
        targets=np.array(tokens.tolist(), tokens.dtype).reshape(tokens.shape),
        selected=np.array(selected, bool).reshape(tokens.shape),
    )
