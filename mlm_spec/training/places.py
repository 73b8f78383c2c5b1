"""Which positions of a micro-batch are real, and which of them see each other (MLM-ENC-5 … 7)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlm_spec.checking import IDS, check_array, check_targets
from mlm_spec.errors import DTypeError, IdRangeError, InputError
from mlm_spec.training.batch import TrainingBatch
from mlm_spec.training.config import EncoderConfig

__all__ = ["Places", "check_batch", "real_places"]


class Places(NamedTuple):
    """The N real positions of a micro-batch, row by row.

    Attributes
    ----------
    at : two integer arrays (N,): their rows and columns.
    sequences : integer arrays, which of the N belong together: the same row and sequence id.
    sequence_id : uint32 (N, 2).
    position : uint32 (N,), in the source sequence.
    """

    at: tuple[NDArray[np.intp], NDArray[np.intp]]
    sequences: list[NDArray[np.intp]]
    sequence_id: NDArray[np.uint32]
    position: NDArray[np.uint32]


def real_places(batch: TrainingBatch) -> Places:
    """Where ``attention_mask`` is true.  Padding is left out before anything is computed."""
    rows, columns = np.nonzero(batch.attention_mask)
    ids, position = batch.sequence_id[rows, columns], batch.position[rows, columns]
    key = np.column_stack([rows.astype(np.uint64), ids.astype(np.uint64)])
    _, which = np.unique(key, axis=0, return_inverse=True)
    order = np.argsort(which.reshape(-1), kind="stable")
    ends = np.cumsum(np.bincount(which.reshape(-1)))
    sequences = [part for part in np.split(order, ends) if part.size]
    return Places((rows, columns), sequences, ids, position)


def check_batch(batch: object, config: EncoderConfig) -> TrainingBatch:
    """The shapes, dtypes and ids of a micro-batch (chapter ERR).

    Raises
    ------
    ShapeError, DTypeError, IdRangeError, InputError (a selected position is padding).
    """
    if not isinstance(batch, TrainingBatch):
        raise DTypeError("batch", f"a {type(batch).__name__}", "a TrainingBatch")
    shape = check_array("inputs", batch.inputs, ("B", "T"), IDS).shape
    for name in ("targets", "token_type_ids", "position_ids"):
        check_array(name, getattr(batch, name), shape, IDS)
    for name in ("selected", "attention_mask"):
        check_array(name, getattr(batch, name), shape, ("bool",))
    check_array("sequence_id", batch.sequence_id, (*shape, 2), ("uint32",))
    check_array("position", batch.position, shape, ("uint32",))
    _check_rows("inputs", batch.inputs, "vocab_size", config.vocab_size)
    types, positions = config.type_vocab_size, config.max_position_embeddings
    _check_rows("token_type_ids", batch.token_type_ids, "type_vocab_size", types)
    _check_rows("position_ids", batch.position_ids, "max_position_embeddings", positions)
    check_targets(batch.targets, batch.selected, config.vocab_size, "targets")
    padded = np.argwhere(batch.selected & ~batch.attention_mask)
    if len(padded):
        row, column = padded[0]
        where = f"selected[{row}, {column}]"
        raise InputError(where, "true at padding", "false where attention_mask is false")
    return batch


def _check_rows(name: str, ids: NDArray[np.integer], field: str, size: int) -> None:
    """Every id is a row of its table, also at padding, where programs look it up all the same."""
    bad = np.argwhere((ids < 0) | (ids >= size))
    if len(bad):
        row, column = bad[0]
        expected = f"an id in 0..{size - 1} ({field} is {size})"
        raise IdRangeError(f"{name}[{row}, {column}]", ids[row, column], expected)
