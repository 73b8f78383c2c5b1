"""The port ``mask`` in unusual ways, bit for bit the same: layouts, orders, answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

import mlm_spec
from mlm_conformance import transcription
from mlm_spec import MaskedBatch

__all__ = ["MASKING"]

Array = NDArray[Any]
Call = dict[str, Any]
_PLACES = ("tokens", "sequence_id", "position", "word_id", "eligible")


@dataclass(frozen=True, slots=True)
class _Lazy:
    """An array that is there only once it is asked for."""

    make: Callable[[], Array]

    def __array__(self, dtype: Any = None, copy: Any = None) -> Array:
        return np.asarray(self.make(), dtype)


def _checked(way: Callable[[Call], Any]) -> SimpleNamespace:
    """A backend that refuses bad calls as the reference does, and answers good ones its own way."""

    def mask(**call: Any) -> Any:
        mlm_spec.mask(**call)
        return way(call)

    return SimpleNamespace(mask=mask)


def _with(call: Call, change: Callable[[Array], Array]) -> Call:
    """The call with each of its arrays changed."""
    changed = {n: None if call[n] is None else change(call[n]) for n in _PLACES}
    return {**call, **changed}


def _each(batch: MaskedBatch, change: Callable[[Array], Array]) -> MaskedBatch:
    return MaskedBatch(*(change(array) for array in batch))


def _row_by_row(call: Call) -> MaskedBatch:
    rows = range(max(1, len(call["tokens"])))  # of no rows there is one part: nothing
    parts = [mlm_spec.mask(**_row(call, i)) for i in rows]
    return MaskedBatch(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def _row(call: Call, i: int) -> Call:
    return _with(call, lambda a: a[i : i + 1])


def _columns_backwards(call: Call) -> MaskedBatch:
    turned = mlm_spec.mask(**_with(call, lambda a: a[:, ::-1]))
    return _each(turned, lambda a: a[:, ::-1])


def _columns_shuffled(call: Call) -> MaskedBatch:
    order = np.random.default_rng(0).permutation(call["tokens"].shape[1])
    back = np.argsort(order)
    return _each(mlm_spec.mask(**_with(call, lambda a: a[:, order])), lambda a: a[:, back])


def _rows_shuffled(call: Call) -> MaskedBatch:
    order = np.random.default_rng(1).permutation(len(call["tokens"]))
    back = np.argsort(order)
    return _each(mlm_spec.mask(**_with(call, lambda a: a[order])), lambda a: a[back])


def _padded(call: Call) -> MaskedBatch:
    """Columns up to a multiple of 64: of a sequence of their own, not eligible."""
    columns = call["tokens"].shape[1]
    more = -columns % 64

    def wider(name: str) -> Array | None:
        array = call[name]
        if array is None:
            return None
        shape = (len(array), more, *array.shape[2:])
        value = {"sequence_id": 2**32 - 1, "position": 0}.get(name, 0)
        filled = np.full(shape, value, array.dtype)
        if name == "position":
            filled[:] = np.arange(more, dtype=array.dtype)
        return np.concatenate([array, filled], axis=1)

    wide = mlm_spec.mask(**{**call, **{name: wider(name) for name in _PLACES}})
    return _each(wide, lambda a: a[:, :columns])


def _twice(call: Call) -> MaskedBatch:
    """The batch beside itself, one half thrown away."""
    rows = len(call["tokens"])
    return _each(mlm_spec.mask(**_with(call, lambda a: np.concatenate([a, a]))), lambda a: a[rows:])


def _in_int64(call: Call) -> MaskedBatch:
    kind = call["tokens"].dtype
    batch = mlm_spec.mask(**{**call, "tokens": call["tokens"].astype(np.int64)})
    return MaskedBatch(batch.inputs.astype(kind), batch.targets.astype(kind), batch.selected)


def _fortran_order(call: Call) -> MaskedBatch:
    return _each(mlm_spec.mask(**_with(call, np.asfortranarray)), np.asfortranarray)


def _strided(call: Call) -> MaskedBatch:
    """Every other element of arrays twice as long."""
    return mlm_spec.mask(**_with(call, lambda a: np.repeat(a, 2, axis=1)[:, ::2]))


def _read_only(call: Call) -> MaskedBatch:
    def locked(array: Array) -> Array:
        copy = array.copy()
        copy.setflags(write=False)
        return copy

    return _each(mlm_spec.mask(**_with(call, locked)), locked)


def _lazily(call: Call) -> SimpleNamespace:
    batch = mlm_spec.mask(**call)
    return SimpleNamespace(
        inputs=_Lazy(lambda: batch.inputs),
        targets=_Lazy(lambda: batch.targets),
        selected=_Lazy(lambda: batch.selected),
    )


def _as_mapping(call: Call) -> dict[str, Array]:
    batch = mlm_spec.mask(**call)
    return {"selected": batch.selected, "inputs": batch.inputs, "targets": batch.targets}


def _as_tuple(call: Call) -> tuple[Array, ...]:
    return tuple(mlm_spec.mask(**call))


def _transcribed(call: Call) -> MaskedBatch:
    """Plain Python, one position at a time, with random words of its own."""
    return transcription.mask(**call)


_WAYS: dict[str, Callable[[Call], Any]] = {
    "row_by_row": _row_by_row,
    "columns_backwards": _columns_backwards,
    "columns_shuffled": _columns_shuffled,
    "rows_shuffled": _rows_shuffled,
    "padded_to_64_columns": _padded,
    "the_batch_twice": _twice,
    "int64_inside": _in_int64,
    "fortran_order": _fortran_order,
    "strided_views": _strided,
    "read_only_arrays": _read_only,
    "lazy_arrays": _lazily,
    "a_mapping": _as_mapping,
    "a_tuple": _as_tuple,
    "plain_python": _transcribed,
}

MASKING: dict[str, SimpleNamespace] = {name: _checked(way) for name, way in _WAYS.items()}
"""Each way of masking, by name."""

# Each is a target of its own: mlm_conformance.variants.masking:row_by_row
globals().update(MASKING)
