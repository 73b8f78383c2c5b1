"""Other micro-batches with the same sequences in them, which make the same update."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.cases.training import TrainingCase

__all__ = [
    "in_other_rows",
    "repadded",
    "resplit",
    "smaller_runs",
    "tokens_of",
    "unpacked",
    "widened",
]

Array = NDArray[Any]
Batch = dict[str, Array]
_IDS = ("inputs", "targets", "token_type_ids", "position_ids")


def repadded(batch: Batch, rng: np.random.Generator, limits: dict[str, int]) -> Batch:
    """Other contents at padding: ids below ``limits``, sequences and positions."""
    padding = ~batch["attention_mask"]
    found = {name: array.copy() for name, array in batch.items()}
    for name in _IDS:
        count = int(padding.sum())
        found[name][padding] = rng.integers(limits[name], size=count)
    # The ids of real sequences, so that an encoder that goes by these alone attends to padding.
    rows = np.nonzero(padding)[0]
    found["sequence_id"][padding] = batch["sequence_id"][rows, 0]
    found["position"][padding] = rng.integers(2**32, size=int(padding.sum()), dtype=np.uint64)
    return found


def widened(batch: Batch, columns: int) -> Batch:
    """With columns of padding at the right."""

    def wide(array: Array) -> Array:
        return np.pad(array, [(0, 0), (0, columns), *[(0, 0)] * (array.ndim - 2)])

    return {name: wide(array) for name, array in batch.items()}


def unpacked(batch: Batch) -> Batch:
    """Each sequence in a row of its own, at the start."""
    real, ids = batch["attention_mask"], batch["sequence_id"]
    places = []
    for row in range(len(real)):
        for sequence in np.unique(ids[row][real[row]], axis=0):
            at = real[row] & (ids[row] == sequence).all(-1)
            places.append((row, np.flatnonzero(at)))
    found = {}
    for name, array in batch.items():
        rows = np.zeros((len(places), *array.shape[1:]), array.dtype)
        for into, (row, columns) in zip(rows, places, strict=True):
            into[: len(columns)] = array[row, columns]
        found[name] = rows
    return found


def in_other_rows(batch: Batch, rng: np.random.Generator) -> Batch:
    """The rows in another order."""
    order = rng.permutation(len(batch["inputs"]))
    return {name: array[order] for name, array in batch.items()}


def resplit(batches: Sequence[Batch], parts: int) -> list[Batch]:
    """All rows of an update in so many micro-batches of nearly one size."""
    whole = {name: np.concatenate([b[name] for b in batches]) for name in batches[0]}
    cuts = {name: np.array_split(array, parts) for name, array in whole.items()}
    each = [{name: pieces[i] for name, pieces in cuts.items()} for i in range(parts)]
    return [batch for batch in each if len(batch["inputs"])]


def tokens_of(batch: Batch, epoch: int) -> dict[str, Any]:
    """The same sequences before they are masked, all real positions eligible."""
    masked = ("inputs", "targets", "selected")
    rest = {name: array for name, array in batch.items() if name not in masked}
    columns = np.arange(batch["inputs"].shape[1], dtype=np.int32)
    return {
        "tokens": batch["targets"],
        "word_id": np.broadcast_to(columns // 2, batch["inputs"].shape).copy(),
        "eligible": batch["attention_mask"].copy(),
        "epoch": epoch,
        **rest,
    }


def smaller_runs(case: TrainingCase) -> Iterator[TrainingCase]:
    """A little simpler: fewer updates, micro-batches and rows, no dropout, a layer less."""
    updates, encoder = case.updates, case.encoder
    if len(updates) > 1:
        yield replace(case, updates=updates[: (len(updates) + 1) // 2])
    if any(len(update) > 1 for update in updates):
        yield replace(case, updates=[update[:1] for update in updates])
        yield replace(case, updates=[update[-1:] for update in updates])
    if any(len(batch["inputs"]) > 1 for update in updates for batch in update):
        for keep in (slice(1), slice(-1, None)):
            rows = [[{n: a[keep] for n, a in b.items()} for b in update] for update in updates]
            yield replace(case, updates=rows)
    for name in ("hidden_dropout", "attention_dropout"):
        if encoder[name] != "0":
            yield replace(case, encoder={**encoder, name: "0"})
    last = encoder["num_hidden_layers"] - 1
    if last >= 0:
        gone = f"bert.encoder.layer.{last}."
        kept = {n: p for n, p in case.parameters.items() if not n.startswith(gone)}
        yield replace(case, encoder={**encoder, "num_hidden_layers": last}, parameters=kept)
