"""A micro-batch from what most callers have: tokens, and what is real among them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_spec.random_words import split_words
from mlm_spec.training.batch import TrainingBatch

__all__ = ["plain_batch"]


def plain_batch(
    inputs: NDArray[Any],
    targets: NDArray[Any] | None = None,
    selected: NDArray[np.bool_] | None = None,
    attention_mask: NDArray[np.bool_] | None = None,
    *,
    sequence_id: NDArray[Any] | None = None,
    position: NDArray[Any] | None = None,
) -> TrainingBatch:
    """A `TrainingBatch` with one sequence in each row, unless sequence ids say otherwise.

    Parameters
    ----------
    inputs : int32 or int64 (B, T), x̄.
    targets : the same, x; None: the inputs.
    selected : bool (B, T); None: nothing.
    attention_mask : bool (B, T); None: everything is real.
    sequence_id : integers (B, T); None: the number of the row.
    position : integers (B, T), in the source sequence, which is also the row of the position table;
        None: the column.

    Returns
    -------
    TrainingBatch : all token types are 0.

    Source: chapter ENC.  Bound: exact.

    >>> tokens = np.array([[5, 6], [7, 0]])
    >>> batch = plain_batch(tokens, attention_mask=tokens != 0)
    >>> batch.sequence_id[..., 0].tolist(), batch.position.tolist(), bool(batch.selected.any())
    ([[0, 0], [1, 1]], [[0, 1], [0, 1]], False)
    """
    shape = inputs.shape
    rows, columns = np.indices(shape)
    places = columns if position is None else position
    return TrainingBatch(
        inputs=inputs,
        targets=inputs if targets is None else targets,
        selected=np.zeros(shape, np.bool_) if selected is None else selected,
        attention_mask=np.ones(shape, np.bool_) if attention_mask is None else attention_mask,
        token_type_ids=np.zeros(shape, np.int64),
        position_ids=places.astype(np.int64),
        sequence_id=split_words(rows if sequence_id is None else sequence_id),
        position=places.astype(np.uint32),
    )
