"""The last pass over a failing case: drop, zero and round whatever does not matter.

Hypothesis has made the recipe small; here the contents are.  A step is kept if the case still
violates the same check.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.cases.model import (
    HeadCase,
    LossCase,
    MaskCase,
    SampleCase,
    SampleParallelCase,
    SampleWordsCase,
    ScoreCase,
)
from mlm_conformance.cases.training import TrainingCase
from mlm_conformance.cases.training_batches import smaller_runs

__all__ = ["reductions", "simplify"]

Array = NDArray[Any]


def simplify(
    case: Any, message: str, violates: Callable[[Any], str | None], seconds: float
) -> tuple[Any, str]:
    """A smaller case that fails the same check, and its message.

    Parameters
    ----------
    case, message : the failing case, and what was said of it.
    violates : the message for another case, or None where it does not fail.
    seconds : when to stop trying.
    """
    deadline = time.perf_counter() + seconds
    tried: set[bytes] = set()
    progress = True
    while progress:
        progress = False
        for smaller in reductions(case):
            if time.perf_counter() > deadline:
                return case, message
            mark = _fingerprint(smaller)
            if mark in tried:
                continue
            tried.add(mark)
            found = violates(smaller)
            if found is not None and (" raised " in found) == (" raised " in message):
                case, message, progress = smaller, found, True
                break
    return case, message


def reductions(case: Any) -> Iterator[Any]:
    """Cases that are a little simpler, the boldest first."""
    if isinstance(case, ScoreCase | LossCase):
        yield from _fewer_positions(case)
        yield from _fewer_ids(case)
        yield from _plainer(case, "logits")
        if isinstance(case, ScoreCase):
            yield from _unweighted(case)
    elif isinstance(case, HeadCase):
        yield from _fewer_positions(case)
        yield from _unweighted(case)
        for name in ("hidden", "weight", "bias"):
            yield from _plainer(case, name)
    elif isinstance(case, MaskCase | SampleCase | SampleWordsCase | SampleParallelCase):
        yield from _fewer_positions(case)
        yield from _ineligible(case)
        if isinstance(case, MaskCase) and (case.seed or case.epoch):
            yield replace(case, seed=0, epoch=0)
    elif isinstance(case, TrainingCase):
        yield from smaller_runs(case)


def _shape(case: Any) -> tuple[int, int]:
    for name in ("tokens", "labels", "targets"):
        if hasattr(case, name):
            rows, columns = getattr(case, name).shape
            return rows, columns
    raise TypeError(type(case).__name__)


def _positional(case: Any) -> list[str]:
    """The fields with a row for each position."""
    shape = _shape(case)
    return [
        f.name
        for f in fields(case)
        if isinstance(value := getattr(case, f.name), np.ndarray) and value.shape[:2] == shape
    ]


def _fewer_positions(case: Any) -> Iterator[Any]:
    """Half of the rows or columns, then one less."""
    for axis, length in enumerate(_shape(case)):
        for keep in _parts(length):
            yield replace(case, **{n: getattr(case, n).take(keep, axis) for n in _positional(case)})


def _parts(length: int) -> Iterator[list[int]]:
    everything = list(range(length))
    if length > 3:
        yield everything[: length // 2]
        yield everything[length // 2 :]
    if 1 < length <= 16:
        for gone in everything:
            yield everything[:gone] + everything[gone + 1 :]


def _fewer_ids(case: Any) -> Iterator[Any]:
    """A smaller vocabulary: only where no target is lost."""
    name = "labels" if isinstance(case, LossCase) else "targets"
    selected = case.labels != case.ignore_index if name == "labels" else case.selected
    ids, vocab = getattr(case, name), case.logits.shape[-1]
    needed = int(ids.max(initial=0)) + 1  # also of unselected targets: none becomes a bad id
    for size in sorted({max(needed, 2), max(needed, vocab // 2), max(needed, vocab - 1)}):
        if size < vocab:
            yield replace(case, logits=case.logits[..., :size].copy())
    if needed > 2 and selected.any():  # rename the targets to 0: swap their logits with id 0's
        logits, renamed = case.logits.copy(), ids.copy()
        for at in map(tuple, np.argwhere(selected)):
            target = int(ids[at])
            logits[(*at, [0, target])] = logits[(*at, [target, 0])]
            renamed[at] = 0
        renamed[~selected & (renamed >= 0)] = 0
        yield replace(case, logits=logits, **{name: renamed})


def _plainer(case: Any, name: str) -> Iterator[Any]:
    """Zeros instead of numbers, or fewer digits."""
    values = getattr(case, name)
    if values is None:
        return
    wide = values.astype(np.float64)
    for digits in (0, 1):
        rounded = np.round(wide, digits)
        if not np.array_equal(rounded, wide, equal_nan=True):
            yield replace(case, **{name: rounded.astype(values.dtype)})
    flat = wide.reshape(-1)
    if flat.size > 64:
        return
    for index in np.flatnonzero(flat):
        zeroed = flat.copy()
        zeroed[index] = 0.0
        yield replace(case, **{name: zeroed.reshape(values.shape).astype(values.dtype)})


def _unweighted(case: Any) -> Iterator[Any]:
    if case.weights is not None:
        yield replace(case, weights=None)
        ones = np.ones_like(case.weights)
        if not np.array_equal(ones, case.weights):
            yield replace(case, weights=ones)


def _ineligible(case: Any) -> Iterator[Any]:
    """One eligible position less."""
    places = np.argwhere(case.eligible)
    if len(places) <= 16:
        for at in map(tuple, places):
            eligible = case.eligible.copy()
            eligible[at] = False
            yield replace(case, eligible=eligible)


def _fingerprint(case: Any) -> bytes:
    parts = []
    for f in fields(case):
        value = getattr(case, f.name)
        if isinstance(value, np.ndarray):
            parts.append(repr(value.shape).encode() + value.tobytes())
        else:
            parts.append(repr(value).encode())
    return b"|".join(parts)
