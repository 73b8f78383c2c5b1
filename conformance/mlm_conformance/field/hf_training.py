"""What ``transformers.Trainer`` and ``BertForMaskedLM`` are given, as plain data and arrays.

Nothing here needs their packages.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from mlm_spec.training.batch import TrainingBatch
from mlm_spec.training.config import TrainingConfig

__all__ = ["added_mask", "labels_of", "model_inputs", "options_of"]

_IGNORED = -100


def options_of(training: TrainingConfig) -> dict[str, Any]:
    """The fields of ``TrainingArguments`` that say how an update is made.

    Trainer counts updates from 0: with w warm-up steps, update n has the rate η·(n − 1)/w until it
    reaches η at update w + 1.  So it is told W − 1, and has the rate η at update W, as it should;
    from there on, W being 1 or more, its rates are the specified ones.

    Raises
    ------
    NotImplementedError : float16, which Trainer does not have on a CPU.

    >>> training = TrainingConfig(learning_rate=1.0, warmup_updates=4, total_updates=8)
    >>> found = options_of(training)
    >>> found["lr_scheduler_type"], found["warmup_steps"], found["max_grad_norm"]
    ('linear', 3, 1.0)
    """
    if training.precision == "float16":
        raise NotImplementedError("fp16 of Trainer is for accelerators")
    is_linear = training.schedule == "linear"
    return {
        "learning_rate": training.learning_rate,
        "lr_scheduler_type": "linear" if is_linear else "constant_with_warmup",
        "warmup_steps": max(0, training.warmup_updates - 1),
        "adam_beta1": training.beta1,
        "adam_beta2": training.beta2,
        "adam_epsilon": training.epsilon,
        "weight_decay": training.weight_decay,
        "max_grad_norm": training.max_grad_norm or 0.0,  # 0 is how clipping is turned off
        "bf16": training.precision == "bfloat16",
    }


def model_inputs(batch: TrainingBatch, dtype: DTypeLike) -> dict[str, NDArray[Any]]:
    """The arguments of ``forward`` but the labels: ids as int64, and who is seen.

    That is ``attention_mask`` (B, T) as everybody gives it, or, where a row has several sequences,
    numbers (B, 1, T, T) that are added to the scores.
    """
    mask = added_mask(batch, dtype) if _is_packed(batch) else batch.attention_mask.astype(np.int64)
    return {
        "input_ids": batch.inputs.astype(np.int64),
        "attention_mask": mask,
        "token_type_ids": batch.token_type_ids.astype(np.int64),
        "position_ids": batch.position_ids.astype(np.int64),
    }


def labels_of(batch: TrainingBatch) -> NDArray[np.int64]:
    """The targets where they are selected, else -100."""
    return np.where(batch.selected, batch.targets, _IGNORED).astype(np.int64)


def added_mask(batch: TrainingBatch, dtype: DTypeLike) -> NDArray[Any]:
    """0 where a position sees another, else the lowest number, (B, 1, T, T)."""
    real = batch.attention_mask
    seen = _is_same(batch) & real[:, :, None] & real[:, None]
    return np.where(seen, 0.0, np.finfo(dtype).min).astype(dtype)[:, None]


def _is_packed(batch: TrainingBatch) -> bool:
    """Whether some row has two real positions of different sequences."""
    real = batch.attention_mask
    return bool((~_is_same(batch) & real[:, :, None] & real[:, None]).any())


def _is_same(batch: TrainingBatch) -> NDArray[np.bool_]:
    """Whether two positions of a row are of one sequence, (B, T, T)."""
    ids = np.asarray(batch.sequence_id)
    same: NDArray[np.bool_] = (ids[:, :, None] == ids[:, None]).all(axis=-1)
    return same
