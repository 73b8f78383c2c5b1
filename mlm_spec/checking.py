"""Bad input, found before anything is computed (chapter ERR).

Each function returns what it checked, or raises the documented error with what was got, what
was expected, and where.  Values are checked only where they matter: at selected positions.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_spec.errors import (
    DTypeError,
    IdRangeError,
    ImpossibleTargetError,
    NoSupportError,
    NotFiniteError,
    SeedError,
    ShapeError,
)

__all__ = [
    "check_array",
    "check_capacity",
    "check_finite",
    "check_ids",
    "check_logits",
    "check_seed",
    "check_targets",
    "check_weights",
]

FLOATS = ("float64", "float32", "bfloat16", "float16")
IDS = ("int32", "int64")
_SEEDS = 2**64


def check_seed(name: str, value: object) -> int:
    """An integer in 0 .. 2**64 - 1 (MLM-ERR-8)."""
    try:
        if isinstance(value, bool | np.bool_):
            raise TypeError
        number = operator.index(value)  # type: ignore[arg-type]  # what it is made to find out
    except TypeError:
        raise SeedError(name, f"{value!r} ({type(value).__name__})", "an integer") from None
    if not 0 <= number < _SEEDS:
        raise SeedError(name, number, "an integer in 0..2**64 - 1")
    return number


def check_capacity(capacity: object) -> int:
    """How many selected positions a step has room for: an integer, 0 or more."""
    try:
        if isinstance(capacity, bool | np.bool_):
            raise TypeError
        number = operator.index(capacity)  # type: ignore[arg-type]  # what it is made to find out
    except TypeError:
        got = f"{capacity!r} ({type(capacity).__name__})"
        raise DTypeError("capacity", got, "an integer") from None
    if number < 0:
        raise ShapeError("capacity", number, "0 or more")
    return number


def check_array(
    name: str, value: object, shape: Sequence[int | str], dtypes: Sequence[str]
) -> NDArray[Any]:
    """An array of the given shape and of one of the dtypes (MLM-ERR-1, MLM-ERR-2).

    ``shape`` has numbers for axes that are known and letters for axes that are free.
    """
    if not isinstance(value, np.ndarray):
        raise DTypeError(
            name, f"a {type(value).__name__}", "a NumPy array of " + " or ".join(dtypes)
        )
    fits = value.ndim == len(shape) and all(
        isinstance(want, str) or have == want for have, want in zip(value.shape, shape, strict=True)
    )
    if not fits:
        wanted = "(" + ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "") + ")"
        raise ShapeError(name, f"of shape {value.shape}", f"shape {wanted}")
    if _name_of(value.dtype) not in dtypes:
        raise DTypeError(name, f"of dtype {value.dtype}", " or ".join(dtypes))
    return value


@lru_cache(64)
def _name_of(dtype: np.dtype[Any]) -> str:
    """Its name, which NumPy makes anew for whoever asks."""
    return dtype.name


def check_ids(name: str, ids: NDArray[Any], vocab_size: int) -> None:
    """Every id lies in 0 .. vocab_size - 1 (MLM-ERR-3)."""
    if ids.size and (ids.min() < 0 or ids.max() >= vocab_size):
        first = _first((ids < 0) | (ids >= vocab_size))
        raise IdRangeError(_at(name, first), ids[first], _id_range(vocab_size))


def check_targets(
    targets: NDArray[Any], selected: NDArray[np.bool_], vocab_size: int, name: str
) -> None:
    """Every selected target is an id; others are never looked at (MLM-ERR-3, MLM-ERR-14)."""
    bad = selected & ((targets < 0) | (targets >= vocab_size))
    if bad.any():
        first = _first(bad)
        raise IdRangeError(_at(name, first), targets[first], _id_range(vocab_size))


def check_finite(name: str, values: NDArray[Any], rows: NDArray[np.bool_] | None = None) -> None:
    """No NaN and no infinity, in the rows that matter (MLM-ERR-4)."""
    bad = ~np.isfinite(values)
    if rows is not None:
        bad &= rows.reshape(rows.shape + (1,) * (values.ndim - rows.ndim))
    if bad.any():
        first = _first(bad)
        raise NotFiniteError(_at(name, first), values[first], "a finite number")


def check_weights(weights: object, selected: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Upstream weights (B, T), finite where selected; None is all ones."""
    if weights is None:
        return np.ones(selected.shape)
    array = check_array("weights", weights, selected.shape, ("float32", "float64"))
    check_finite("weights", array, selected)
    return array.astype(np.float64)


def check_logits(
    logits: NDArray[Any], targets: NDArray[Any], index: NDArray[np.intp], name: str = "logits"
) -> None:
    """Logits of selected positions: a distribution that gives the target a chance.

    Parameters
    ----------
    logits : float (N, V), those of the selected positions.
    targets : integer (N,).
    index : (N, 2), where the rows come from, for the message.

    Raises
    ------
    NotFiniteError (NaN, +inf), NoSupportError (all -inf), ImpossibleTargetError (target -inf).
    """
    with np.errstate(invalid="ignore"):
        highest = logits.max(axis=-1)  # NaN wins over everything
    for row in np.flatnonzero(np.isnan(highest) | (highest == np.inf)):
        bad = np.isnan(logits[row]) | (logits[row] == np.inf)
        column = int(np.flatnonzero(bad)[0])
        where = _at(name, (*index[row], column))
        raise NotFiniteError(where, logits[row, column], "a number or -inf")
    for row in np.flatnonzero(highest == -np.inf):
        raise NoSupportError(_at(name, index[row]), "all -inf", "at least one finite logit")
    chosen = np.take_along_axis(logits, targets[:, None].astype(np.intp), axis=-1)[:, 0]
    for row in np.flatnonzero(chosen == -np.inf):
        where = _at(name, (*index[row], targets[row]))
        raise ImpossibleTargetError(where, "-inf", "a finite logit, since it is the target's")


def _first(bad: NDArray[np.bool_]) -> tuple[int, ...]:
    return tuple(int(i) for i in np.argwhere(bad)[0])


def _at(name: str, index: Sequence[Any]) -> str:
    return f"{name}[{', '.join(str(int(i)) for i in index)}]" if len(index) else name


def _id_range(vocab_size: int) -> str:
    return f"an id in 0..{vocab_size - 1} (vocab_size is {vocab_size})"
