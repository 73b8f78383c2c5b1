"""The logarithm of Σ e^z as a maximum and a sum relative to it: (N, V) → (N,), (N,)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.variants.sums import Sum, one_by_one

__all__ = ["Normaliser", "Parts", "by_chunks", "by_element", "by_shards", "two_passes"]

Array = NDArray[Any]


class Parts(NamedTuple):
    """log Σ e^z = top + log(total); both have the dtype of the logits."""

    top: Array
    total: Array


Normaliser = Callable[[Array], Parts]


def two_passes(add: Sum) -> Normaliser:
    """The maximum, then the sum."""

    def parts(z: Array) -> Parts:
        top = z.max(axis=-1)
        return Parts(top, add(np.exp(z - top[..., None])))

    return parts


def by_chunks(size: int) -> Normaliser:
    """One pass over blocks, with the maximum so far; what was summed before is rescaled."""

    def parts(z: Array) -> Parts:
        running = Parts(np.full(z.shape[:-1], -np.inf, z.dtype), np.zeros(z.shape[:-1], z.dtype))
        for start in range(0, z.shape[-1], size):
            block = z[..., start : start + size]
            top = np.maximum(running.top, block.max(axis=-1))
            alive = np.where(top > -np.inf, top, 0).astype(z.dtype)  # -inf less -inf is NaN
            scale = np.exp(running.top - alive)
            running = Parts(
                top, running.total * scale + one_by_one(np.exp(block - alive[..., None]))
            )
        return running

    return parts


def by_element() -> Normaliser:
    """One pass, id by id (Milakov and Gimelshein 2018, algorithm 3).

    Where the maximum moves with every id, chapter LIK names it as not covered in theory; on
    logits that are not built for that it stays within the bounds.
    """
    return by_chunks(1)


def by_shards(number: int) -> Normaliser:
    """A vocabulary in parts: each has its own maximum and sum, which are then joined."""

    def parts(z: Array) -> Parts:
        shards = [
            two_passes(one_by_one)(np.where(part > -np.inf, part, _least(z.dtype)))
            for part in np.array_split(z, number, axis=-1)
            if part.shape[-1]
        ]
        top = np.max([shard.top for shard in shards], axis=0)
        scaled = [shard.total * np.exp(shard.top - top) for shard in shards]
        return Parts(top, one_by_one(np.stack(scaled, axis=-1)))

    return parts


def _least(dtype: Any) -> Any:
    """Where a shard has nothing but -inf, its maximum is still a number; e to it is 0."""
    return np.finfo(dtype).min / 4
