"""The collator of `mlm_torch` in the workers of a `DataLoader`, as port ``sample_parallel``."""

from __future__ import annotations

from typing import Any

import numpy as np
from mlm_torch import MaskingCollator, NumberedDataset
from torch.utils.data import DataLoader

from mlm_spec.policy import MaskingPolicy

__all__ = ["Collating"]


class Collating:
    """Ranks follow each other in one process; each has its own part of the data set."""

    def sample_parallel(
        self,
        tokens: Any,
        eligible: Any,
        policy: MaskingPolicy,
        epochs: int,
        workers: int,
        ranks: int,
    ) -> dict[str, Any]:
        rows = [
            {"input_ids": ids, "special_tokens_mask": ~able}
            for ids, able in zip(tokens, eligible, strict=True)
        ]
        found = [self._rank(rows, policy, epochs, workers, rank) for rank in range(ranks)]
        names = {"inputs": "input_ids", "labels": "labels"}
        return {
            ours: np.stack([[np.stack([b[its] for b in e]) for e in one] for one in found], axis=1)
            for ours, its in names.items()
        }

    def _rank(
        self,
        rows: list[dict[str, Any]],
        policy: MaskingPolicy,
        epochs: int,
        workers: int,
        rank: int,
    ) -> list[list[dict[str, Any]]]:
        collator = MaskingCollator(policy, 5)
        mine = NumberedDataset(rows * workers, first=rank * workers * len(rows))
        # Batch w goes to worker w, and the loader gives batches in their order.
        loader: Any = DataLoader(
            mine, batch_size=len(rows), num_workers=workers, collate_fn=collator
        )
        found = []
        for epoch in range(epochs):
            collator.set_epoch(epoch)
            found.append([{n: x.numpy() for n, x in batch.items()} for batch in loader])
        return found
