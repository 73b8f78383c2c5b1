"""Small encoders and micro-batches that the tests of chapter ENC share."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlm_spec import split_words
from mlm_spec.training.batch import TrainingBatch
from mlm_spec.training.config import EncoderConfig
from mlm_spec.training.parameters import shapes

__all__ = ["TINY", "batch_of", "columns", "padded", "random_parameters", "rows", "tiny_batch"]

TINY = EncoderConfig(
    vocab_size=7, hidden_size=4, num_hidden_layers=2, num_attention_heads=2, intermediate_size=6,
    max_position_embeddings=5, layer_norm_eps=1e-3, hidden_dropout="1/4", attention_dropout="1/3",
)  # fmt: skip
"""Every size differs, so that no axis can be taken for another; eps is large enough to show."""


def random_parameters(config: EncoderConfig, seed: int, spread: float = 0.7) -> dict[str, Any]:
    """Values of a size at which attention is not flat and no bias is 0."""
    rng = np.random.default_rng(seed)
    found = {}
    for name, shape in shapes(config).items():
        around = 1.0 if name.endswith("LayerNorm.weight") else 0.0
        found[name] = around + spread * rng.normal(size=shape)
    return found


def batch_of(sequences: list[list[tuple[int, int]]], config: EncoderConfig, seed: int) -> Any:
    """A micro-batch of packed rows.

    Parameters
    ----------
    sequences : for each row, its (sequence id, length) from left to right.  Rows are filled up with
        padding to the longest and one more.
    """
    width = max(sum(n for _, n in row) for row in sequences) + 1
    shape = (len(sequences), width)
    rng = np.random.default_rng(seed)
    inputs, targets = (rng.integers(0, config.vocab_size, shape) for _ in range(2))
    types = rng.integers(0, config.type_vocab_size, shape)
    ids, position = np.full(shape, 2**40 + 3), np.zeros(shape, np.uint32)
    real = np.zeros(shape, bool)
    for number, row in enumerate(sequences):
        start = 0
        for sequence, n in row:
            part = (number, slice(start, start + n))
            ids[part], position[part], real[part] = sequence, np.arange(n), True
            start += n
    selected = real & (rng.random(shape) < 0.5)
    selected[0, 0] = True
    table = position.astype(np.int64) % config.max_position_embeddings
    return TrainingBatch(inputs, targets, selected, real, types, table, split_words(ids), position)


def tiny_batch() -> Any:
    """Two packed sequences and padding; a sequence of 1 and one of 4, ids beyond 32 bits."""
    return batch_of([[(5, 2), (2**33 + 1, 3)], [(9, 1), (2**33 + 1, 4)]], TINY, seed=3)


def rows(batch: Any, which: list[int]) -> Any:
    """Some rows of a micro-batch, in this order."""
    return TrainingBatch(*(array[which] for array in batch))


def columns(batch: Any, which: Any) -> Any:
    """Some columns of a micro-batch, in this order."""
    return TrainingBatch(*(array[:, which] for array in batch))


def padded(batch: Any, width: int) -> Any:
    """The micro-batch with more columns of padding at its right end."""
    more = width - batch.inputs.shape[1]
    grown = []
    for array in batch:
        beside = np.zeros((array.shape[0], more, *array.shape[2:]), array.dtype)
        grown.append(np.concatenate([array, beside], axis=1))
    return TrainingBatch(*grown)
