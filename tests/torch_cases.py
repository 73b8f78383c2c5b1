"""What the tests of the PyTorch backend share: its port, a policy, laws, batches, a watch."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import ml_dtypes
import numpy as np
import torch
from mlm_torch.port import TorchPort
from torch.utils._python_dispatch import TorchDispatchMode

from mlm_spec.policy import Bernoulli, Corruption, FixedCount, MaskingPolicy, Span, WholeWord

__all__ = ["BERT", "DTYPES", "PORT", "UNITS", "Watch", "batch_of", "layer_of", "logits_of"]

PORT = TorchPort()
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
DTYPES = [np.dtype(np.float64), np.dtype(np.float32), BFLOAT16, np.dtype(np.float16)]
BERT = MaskingPolicy(
    Bernoulli("3/20"),
    Corruption("4/5", "1/10", "1/10"),
    vocab_size=30522,
    mask_id=103,
    pad_id=0,
    special_ids=(101, 102, 103),
)


class Watch(TorchDispatchMode):
    """Notes the name of every operation, and the size of the largest tensor it makes."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.names.add(str(func.overloadpacket).removeprefix("aten."))
        for part in result if isinstance(result, tuple | list) else (result,):
            if isinstance(part, torch.Tensor):
                self.largest = max(self.largest, part.untyped_storage().nbytes())
        return result


def batch_of(seed: int, vocab_size: int = 40, rows: int = 3, columns: int = 23) -> tuple[Any, ...]:
    """Packed rows: three sequences in arbitrary columns, positions in arbitrary order."""
    rng = np.random.default_rng(seed)
    shape = (rows, columns)
    tokens = rng.integers(0, min(vocab_size, 60), shape).astype((np.int32, np.int64)[seed % 2])
    sequence_id = rng.integers(0, 2**32, (3, 2), dtype=np.uint32)[rng.integers(0, 3, shape)]
    start = (0, 5, 2**32 - 40)[seed % 3]
    position = (np.argsort(rng.random(shape), axis=1) + start).astype(np.uint32)
    if seed % 4 == 0:  # one sequence a row, in order
        sequence_id[:] = sequence_id[:, :1]
        position.sort(axis=1)
    word_id = rng.integers(-3, 4, shape).astype(np.int32)
    return tokens, sequence_id, position, word_id, rng.random(shape) < 0.85


LAWS = [
    Bernoulli("2/5"),
    Bernoulli(0),
    Bernoulli(1),
    FixedCount("1/3"),
    FixedCount("1/2", rounding="half_even", base="all"),
    FixedCount("1/5", floor=2, cap=3, rounding="ceiling"),
    FixedCount("123456789/987654321987654321", floor=1),
    WholeWord("1/2"),
    Span("1/6", ("1/2", "1/4", "1/4")),
    Span("1/9", ("1/10",) * 10),
]
UNITS = [(law, "token") for law in LAWS] + [(law, "word") for law in LAWS]
UNITS += [(law, "span") for law in LAWS if isinstance(law, Span)]


def logits_of(
    dtype: np.dtype[Any], vocab_size: int, scale: float, seed: int = 0
) -> SimpleNamespace:
    """A scored batch with NaN logits, impossible targets and NaN weights where not selected."""
    rng = np.random.default_rng(seed)
    selected = np.array([[True, False, True], [False, True, True]])
    logits = (rng.standard_normal((2, 3, vocab_size)) * scale).astype(dtype)
    logits[~selected] = np.nan
    targets = np.where(selected, rng.integers(0, vocab_size, (2, 3)), -100)
    weights = np.where(selected, rng.random((2, 3)), np.nan)
    return SimpleNamespace(logits=logits, targets=targets, selected=selected, weights=weights)


def layer_of(dtype: np.dtype[Any], bias: bool, seed: int = 0) -> SimpleNamespace:
    """A head's arguments with NaN hidden states where not selected."""
    rng = np.random.default_rng(seed)
    selected = rng.random((2, 5)) < 0.6
    hidden = rng.standard_normal((2, 5, 16)).astype(dtype)
    hidden[~selected] = np.nan
    weight = (rng.standard_normal((50, 16)) / 2).astype(dtype)
    offset = rng.standard_normal(50).astype(dtype) if bias else None
    targets = np.where(selected, rng.integers(0, 50, (2, 5)), -1)
    weights = np.where(selected, rng.random((2, 5)), np.nan)
    return SimpleNamespace(
        at=selected, call=(hidden, weight, offset, targets, selected, weights), bias=offset
    )
