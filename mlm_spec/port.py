"""The reference as a backend: each name here is a port (docs/architecture.md).

The entry point ``numpy`` of the group ``mlm_spec.backends`` is this module.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_spec.checking import check_array
from mlm_spec.head import head
from mlm_spec.loss import loss
from mlm_spec.masking import mask
from mlm_spec.objective import score
from mlm_spec.policy import MaskingPolicy
from mlm_spec.random_words import threefry4x32
from mlm_spec.step import head_step, mask_step, raise_for_status, score_step
from mlm_spec.training.order import sequences_at
from mlm_spec.training.replicas import replica_session
from mlm_spec.training.session import session

__all__ = [
    "accumulation",
    "head",
    "head_step",
    "loss",
    "loss_reduction",
    "mask",
    "mask_step",
    "order",
    "policy",
    "raise_for_status",
    "random_words",
    "replica_session",
    "score",
    "score_step",
    "session",
    "versions",
]

loss_reduction = "mean"
# Sums over the vocabulary are those of `pairwise_sum`, all in float64 (MLM-LIK-11).
accumulation = "tree in float64"
versions = {"numpy": np.__version__}


def random_words(key: NDArray[np.uint32], counter: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Threefry4x32-20 of each key and counter, all uint32 (n, 4).

    Raises
    ------
    ShapeError, DTypeError.
    """
    keys = check_array("key", key, ("n", 4), ("uint32",))
    return threefry4x32(keys, check_array("counter", counter, (len(keys), 4), ("uint32",)))


def order(position: int, number: int, count: int, seed: int) -> dict[str, NDArray[np.int64]]:
    """The next ``number`` sequences from ``position`` on, and the epoch of each: int64 (number,).

    As `mlm_spec.training.order.sequences_at`, its parts one after the other.

    Raises
    ------
    SeedError, InputError.
    """
    parts = sequences_at(position, number, count, seed)
    nothing = np.zeros(0, np.int64)
    epochs = [np.full(part.shape, epoch, np.int64) for epoch, part in parts]
    return {
        "epoch": np.concatenate([nothing, *epochs]),
        "sequence": np.concatenate([nothing, *(part for _, part in parts)]),
    }


def policy(fields: Mapping[str, Any]) -> dict[str, Any]:
    """A policy given as plain data, validated and normalised; else `PolicyError`."""
    return MaskingPolicy.from_mapping(fields).to_mapping()
