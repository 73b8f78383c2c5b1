"""What the tests of training in PyTorch share: a small run, packed batches, all of a state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from mlm_torch.encoder import MaskedLanguageModel
from mlm_torch.port import TorchPort

from mlm_spec.policy import Bernoulli, Corruption, MaskingPolicy
from mlm_spec.training.config import EncoderConfig

__all__ = [
    "ENCODER",
    "POLICY",
    "TRAINING",
    "assert_same",
    "batch_of",
    "everything",
    "parameters_of",
    "sequences_of",
    "session_of",
    "split_rows",
    "tokens_of",
    "unpacked",
]

Arrays = Mapping[str, np.ndarray]

ENCODER: dict[str, Any] = {
    "vocab_size": 53,
    "hidden_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 20,
    "max_position_embeddings": 32,
    "hidden_dropout": "1/10",
    "attention_dropout": "1/5",
}
TRAINING: dict[str, Any] = {
    "learning_rate": 0.01,
    "warmup_updates": 2,
    "total_updates": 9,
    "precision": "float64",
    "seed": 2**40 + 7,
    "max_grad_norm": 0.5,
}
POLICY = MaskingPolicy(
    Bernoulli("1/4"),
    Corruption("4/5", "1/10", "1/10"),
    vocab_size=53,
    mask_id=4,
    pad_id=0,
    special_ids=(0, 1, 2, 3, 4),
)


def parameters_of(encoder: Mapping[str, Any] = ENCODER, seed: int = 0) -> dict[str, np.ndarray]:
    """Weights large enough for attention and GELU to bend, biases and norms off their start."""
    draw = np.random.default_rng(seed)
    with torch.device("meta"):
        model = MaskedLanguageModel(EncoderConfig.from_mapping(encoder))
    found = {}
    for name, value in model.named_parameters():
        start = 1.0 if name.endswith("LayerNorm.weight") else 0.0
        found[name] = start + 0.3 * draw.standard_normal(tuple(value.shape))
    return found


def batch_of(seed: int, rows: int = 3, columns: int = 14) -> dict[str, np.ndarray]:
    """Rows of two packed sequences each, the first row padded behind them."""
    draw = np.random.default_rng(seed)
    shape = (rows, columns)
    sequence_id, position = np.zeros((*shape, 2), np.uint32), np.zeros(shape, np.uint32)
    for row in range(rows):
        cut, start = draw.integers(3, columns - 4), 6 * (row % 2)
        sequence_id[row, :cut, 0], sequence_id[row, cut:, 0] = 2 * row + 100 * seed, 2 * row + 1
        sequence_id[row, :, 1] = 2**31 + row
        position[row, :cut] = start + np.arange(cut)
        position[row, cut:] = np.arange(columns - cut)
    attention_mask = np.ones(shape, bool)
    attention_mask[0, -2:] = False
    return {
        "inputs": draw.integers(5, 53, shape),
        "targets": draw.integers(0, 53, shape),
        "selected": (draw.random(shape) < 0.3) & attention_mask,
        "attention_mask": attention_mask,
        "token_type_ids": draw.integers(0, 2, shape),
        "position_ids": position.astype(np.int64),
        "sequence_id": sequence_id,
        "position": position,
    }


def tokens_of(seed: int) -> dict[str, Any]:
    """The same before masking."""
    batch: dict[str, Any] = batch_of(seed)
    tokens = np.where(batch["attention_mask"], batch.pop("targets"), 0)
    del batch["inputs"], batch["selected"]
    return batch | {"tokens": tokens, "eligible": batch["attention_mask"].copy(), "epoch": 3}


def split_rows(batch: Arrays) -> list[dict[str, np.ndarray]]:
    """Each row a micro-batch of its own."""
    rows = len(batch["inputs"])
    return [{name: x[[row]] for name, x in batch.items()} for row in range(rows)]


def unpacked(batch: Arrays) -> list[dict[str, np.ndarray]]:
    """Each sequence a micro-batch of its own, without padding."""
    return [{n: x[row, at][None] for n, x in batch.items()} for row, at in sequences_of(batch)]


def sequences_of(batch: Arrays) -> list[tuple[int, np.ndarray]]:
    """(row, columns) of each sequence."""
    found = []
    for row, real in enumerate(batch["attention_mask"]):
        ids = batch["sequence_id"][row]
        for one in np.unique(ids[real], axis=0):
            found.append((row, np.flatnonzero(real & (ids == one).all(axis=1))))
    return found


def session_of(
    encoder: Mapping[str, Any] = ENCODER, parameters: Arrays | None = None, **training: Any
) -> Any:
    known = parameters_of(encoder) if parameters is None else parameters
    return TorchPort().session(encoder, TRAINING | training, known, POLICY)


def everything(session: Any) -> dict[str, Any]:
    """All of a run's state, flat."""
    state = session.state()
    found = {f"parameters/{name}": x for name, x in session.parameters().items()}
    for group in ("exp_avg", "exp_avg_sq"):
        found |= {f"{group}/{name}": x for name, x in state.pop(group).items()}
    return found | state


def assert_same(before: dict[str, Any], after: dict[str, Any], but: tuple[str, ...] = ()) -> None:
    assert before.keys() == after.keys()
    for name in before.keys() - set(but):
        np.testing.assert_array_equal(after[name], before[name], err_msg=name)
