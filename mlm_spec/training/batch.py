"""What one micro-batch of training is made of, and what an update found."""

from __future__ import annotations

from enum import IntFlag
from typing import Any, NamedTuple

import numpy as np

__all__ = ["TrainingBatch", "UpdateStatus", "count_sequences"]


class TrainingBatch(NamedTuple):
    """A masked micro-batch.  The arrays are of the framework that made them.

    Attributes
    ----------
    inputs : integer (B, T).  The corrupted tokens x̄.
    targets : integer (B, T).  The original tokens x.
    selected : bool (B, T).  A(x).
    attention_mask : bool (B, T).  False at padding, which nothing attends to.
    token_type_ids : integer (B, T).  Rows of the token-type table.
    position_ids : integer (B, T).  Rows of the position table.
    sequence_id : uint32 (B, T, 2), the low word first.  Positions of a row attend to those of their
        own sequence.
    position : uint32 (B, T).  In the source sequence; with the sequence it keys dropout.
    """

    inputs: Any
    targets: Any
    selected: Any
    attention_mask: Any
    token_type_ids: Any
    position_ids: Any
    sequence_id: Any
    position: Any


class UpdateStatus(IntFlag):
    """What an update found; with any bit set it changed no parameter and no optimiser state."""

    OK = 0
    NOT_FINITE = 4  # a gradient is not finite: float16 tries a smaller loss scale next
    EMPTY = 8  # nothing is selected in the whole global batch


def count_sequences(attention_mask: Any, sequence_id: Any) -> int:
    """How many sequences a micro-batch shows; one in two rows counts twice.

    Parameters
    ----------
    attention_mask : bool (B, T).
    sequence_id : uint32 (B, T, 2).  Both NumPy arrays.

    Returns
    -------
    The number of different (row, sequence) pairs that are not padding.

    Source: chapter TRN.  Bound: exact.

    >>> import numpy as np
    >>> count_sequences(np.ones((1, 3), bool), np.array([[[7, 0], [7, 0], [8, 0]]], np.uint32))
    2
    """
    rows, columns = np.nonzero(attention_mask)
    pairs = np.column_stack([rows, sequence_id[rows, columns].astype(np.int64)])
    return len(np.unique(pairs, axis=0))
