"""A collator in the workers of PyTorch's ``DataLoader``, as Hugging Face's ``Trainer`` runs it.

On each rank: ``set_seed`` with the seed of the script, the same everywhere; a ``DataLoader`` with
``num_workers`` and Trainer's ``seed_worker``, which adds the rank; one collator for all epochs.
Ranks are processes of their own in use; here they follow each other in one, each from the seed on.
"""

# mypy: disable-error-code="import-not-found, import-untyped"

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import transformers
from numpy.typing import NDArray
from torch.utils.data import DataLoader
from transformers.trainer_utils import seed_worker

__all__ = ["load"]


def load(
    make_collator: Callable[[], Any],
    rows: list[dict[str, Any]],
    epochs: int,
    workers: int,
    ranks: int,
    seed: int,
) -> dict[str, NDArray[Any]]:
    """What each worker of each rank makes of ``rows`` in each epoch.

    Parameters
    ----------
    make_collator : called once for each rank.
    rows : B rows of a data set, of T tokens each.
    seed : of the training script.

    Returns
    -------
    inputs, labels : int64 (epochs, ranks, workers, B, T).
    """
    found = [_rank(make_collator(), rows, epochs, workers, rank, seed) for rank in range(ranks)]
    return {name: np.stack([one[name] for one in found], axis=1) for name in found[0]}


def _rank(
    collator: Any, rows: list[dict[str, Any]], epochs: int, workers: int, rank: int, seed: int
) -> dict[str, NDArray[Any]]:
    """What the workers of one rank make: (epochs, workers, B, T) each."""
    transformers.set_seed(seed)
    # Batch w goes to worker w, and the loader gives batches in their order.
    data: Any = rows * workers
    loader: Any = DataLoader(
        data,
        batch_size=len(rows),
        num_workers=workers,
        collate_fn=collator,
        worker_init_fn=partial(seed_worker, num_workers=workers, rank=rank),
    )
    batches = [list(loader) for _ in range(epochs)]
    names = {"inputs": "input_ids", "labels": "labels"}
    return {
        ours: np.stack([[np.asarray(batch[its]) for batch in epoch] for epoch in batches])
        for ours, its in names.items()
    }
