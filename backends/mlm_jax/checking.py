"""Bad input, as documented errors (chapter ERR).

Shapes and dtypes are known before anything runs, also while JAX traces, and are checked there.
Values are checked on the device, as part of the compiled program; only when its status word says
that something is wrong do the ``explain_*`` functions look for it here, on the host, and raise.
So a good call waits for the device once and copies nothing extra.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mlm_spec.batch import Status
from mlm_spec.errors import (
    CapacityError,
    DTypeError,
    EmptySelectionError,
    IdRangeError,
    ImpossibleTargetError,
    NoSupportError,
    NotFiniteError,
    SeedError,
    ShapeError,
)

__all__ = [
    "FLOATS",
    "IDS",
    "as_positions",
    "check_array",
    "check_capacity",
    "check_head",
    "check_mask",
    "check_score",
    "check_seed",
    "explain_head",
    "explain_score",
    "is_without_effect",
    "narrow_ids",
    "raise_for_status",
    "refuse_ids",
]

FLOATS = ("float64", "float32", "bfloat16", "float16")
IDS = ("int32", "int64")
_LOGITS_OF_HEAD = "hidden @ weight.T + bias"

Array = Any  # jax.Array or numpy.ndarray


def check_array(name: str, value: Array, shape: Sequence[Any], dtypes: Sequence[str]) -> None:
    """An array, of the shape (numbers, and letters for free axes) and one of the dtypes.

    Raises
    ------
    ShapeError, DTypeError : also for float64 while JAX has 64-bit types switched off, where it
        would round the values without a word.
    """
    if not isinstance(value, np.ndarray | jax.Array):
        raise DTypeError(name, f"a {type(value).__name__}", f"an array of {' or '.join(dtypes)}")
    wanted = tuple(shape)
    fixed = [(have, want) for have, want in zip(value.shape, wanted, strict=False) if want != have]
    if value.ndim != len(wanted) or any(not isinstance(want, str) for _, want in fixed):
        text = ", ".join(str(axis) for axis in wanted) + ("," if len(wanted) == 1 else "")
        raise ShapeError(name, f"of shape {value.shape}", f"shape ({text})")
    if value.dtype.name not in dtypes:
        raise DTypeError(name, f"of dtype {value.dtype.name}", " or ".join(dtypes))
    if value.dtype == np.float64 and not jax.config.jax_enable_x64:
        expected = "float32, or a call inside jax.enable_x64(True)"
        raise DTypeError(name, "of dtype float64, and JAX has x64 off", expected)


def check_seed(name: str, value: object) -> int:
    """An integer in 0 .. 2**64 - 1, else SeedError (MLM-ERR-8)."""
    kind = type(value).__name__
    if isinstance(value, bool | np.bool_) or not hasattr(value, "__index__"):
        raise SeedError(name, f"{value!r} ({kind})", "an integer in 0..2**64 - 1")
    number = operator.index(value)
    if number not in range(2**64):
        raise SeedError(name, number, "an integer in 0..2**64 - 1")
    return number


def check_capacity(capacity: object) -> int:
    """A number of positions, static: DTypeError if it is no integer, ShapeError if below 0."""
    if isinstance(capacity, bool) or not hasattr(capacity, "__index__"):
        raise DTypeError("capacity", f"{capacity!r}", "an integer")
    number = operator.index(capacity)
    if number < 0:
        raise ShapeError("capacity", number, "0 or more")
    return number


def check_mask(
    tokens: Array, sequence_id: Array, position: Array, word_id: Array | None, eligible: Array
) -> None:
    """Shapes and dtypes of a batch of source sequences (MLM-ERR-1, 2)."""
    check_array("tokens", tokens, ("B", "T"), IDS)
    shape = tokens.shape
    check_array("sequence_id", sequence_id, (*shape, 2), ("uint32",))
    check_array("position", position, shape, ("uint32",))
    check_array("eligible", eligible, shape, ("bool",))
    if word_id is not None:
        check_array("word_id", word_id, shape, ("int32",))


def check_score(logits: Array, targets: Array, selected: Array, weights: Array | None) -> None:
    """Shapes and dtypes of logits (..., V) and what goes with them (MLM-ERR-1, 2)."""
    if not isinstance(logits, np.ndarray | jax.Array) or logits.ndim == 0:
        check_array("logits", logits, ("B", "T", "V"), FLOATS)
    lead = logits.shape[:-1]
    check_array("logits", logits, (*lead, "V"), FLOATS)
    if logits.shape[-1] == 0:
        raise ShapeError("logits", f"of shape {logits.shape}", "a vocabulary of at least one id")
    _check_selection(targets, selected, weights, lead)


def check_head(
    hidden: Array,
    weight: Array,
    bias: Array | None,
    targets: Array,
    selected: Array,
    weights: Array | None,
) -> None:
    """Shapes and dtypes of hidden states (..., d), of a layer, and what goes with them."""
    if not isinstance(hidden, np.ndarray | jax.Array) or hidden.ndim == 0:
        check_array("hidden", hidden, ("B", "T", "d"), FLOATS)
    lead, width = hidden.shape[:-1], hidden.shape[-1]
    check_array("hidden", hidden, (*lead, "d"), FLOATS)
    own = (hidden.dtype.name,)
    check_array("weight", weight, ("V", width), own)
    if weight.shape[0] == 0:
        raise ShapeError("weight", f"of shape {weight.shape}", "a vocabulary of at least one id")
    if bias is not None:
        check_array("bias", bias, (weight.shape[0],), own)
    _check_selection(targets, selected, weights, lead)


def _check_selection(
    targets: Array, selected: Array, weights: Array | None, lead: tuple[int, ...]
) -> None:
    check_array("targets", targets, lead, IDS)
    check_array("selected", selected, lead, ("bool",))
    if weights is not None:
        check_array("weights", weights, lead, ("float32", "float64"))


def narrow_ids(ids: Array) -> Array:
    """Ids as JAX can hold them: without x64, int64 NumPy ids as int32.

    JAX itself would keep the low 32 bits, and 2³² + 5 would pass for 5.  Here an id that int32
    cannot hold becomes -1, which is no id either.
    """
    if not isinstance(ids, np.ndarray) or ids.dtype == np.int32:
        return ids
    limits = np.iinfo(np.int32)
    return np.where((ids >= limits.min) & (ids <= limits.max), ids, -1).astype(np.int32)


def as_positions(values: Array) -> jax.Array:
    """An array for the device; NumPy ids narrowed first."""
    return jnp.asarray(narrow_ids(values) if values.dtype.name in IDS else values)


def is_without_effect(status: jax.Array | int) -> jax.Array | bool:
    """Whether a status holds any bit but ``EMPTY`` (MLM-ERR-12)."""
    return (status & ~int(Status.EMPTY)) != 0


def raise_for_status(status: int, mean: bool = False) -> None:
    """Raise what a compiled step could not (MLM-ERR-13).

    Parameters
    ----------
    status : the word that a step returned.
    mean : whether a mean over the selected positions is wanted; only then is ``EMPTY`` an error.

    Raises
    ------
    CapacityError, IdRangeError, NotFiniteError, EmptySelectionError : the first that applies.
    DTypeError : no status at all.

    Source: chapter ERR.  Bound: exact, bit for bit.
    """
    number = int(status)
    if number & ~0b1111:
        raise DTypeError("status", number, "four bits")
    word = Status(number)
    if word & Status.OVERFLOW:
        raise CapacityError("status", word.name, "at most as many selected positions as fit")
    if word & Status.ID_RANGE:
        raise IdRangeError("status", word.name, "ids below vocab_size, and not negative")
    if word & Status.NOT_FINITE:
        raise NotFiniteError("status", word.name, "finite numbers wherever they matter")
    if mean and word & Status.EMPTY:
        raise EmptySelectionError("status", word.name, "at least one selected position")


def refuse_ids(name: str, ids: Array, vocab_size: int, rows: Array | None = None) -> None:
    """Raise IdRangeError for the first id outside the vocabulary, in the rows that matter."""
    values = np.asarray(ids)
    bad = (values < 0) | (values >= vocab_size)
    first = _first(bad if rows is None else bad & np.asarray(rows))
    if first is not None:
        allowed = f"an id in 0..{vocab_size - 1} (vocab_size is {vocab_size})"
        raise IdRangeError(_at(name, first), values[first], allowed)


def explain_score(
    status: int,
    logits: Array,
    targets: Array,
    selected: Array,
    weights: Array | None,
    capacity: int | None = None,
    targets_name: str = "targets",
) -> None:
    """Raise the documented error for a status that is one; else return.

    Raises
    ------
    CapacityError, IdRangeError, NotFiniteError, NoSupportError, ImpossibleTargetError.
    """
    if not is_without_effect(status):
        return
    _refuse_overflow(status, selected, capacity)
    chosen, ids = np.asarray(selected), np.asarray(targets)
    refuse_ids(targets_name, ids, logits.shape[-1], chosen)
    if weights is not None:
        _refuse_not_finite("weights", weights, chosen)
    _refuse_logits("logits", np.asarray(logits)[chosen], ids[chosen], np.argwhere(chosen))
    _refuse_result()


def explain_head(
    status: int,
    hidden: Array,
    weight: Array,
    bias: Array | None,
    targets: Array,
    selected: Array,
    weights: Array | None,
    capacity: int | None = None,
) -> None:
    """`explain_score`, for the arguments of a head."""
    if not is_without_effect(status):
        return
    _refuse_overflow(status, selected, capacity)
    _refuse_not_finite("weight", weight)
    chosen, ids = np.asarray(selected), np.asarray(targets)
    refuse_ids("targets", ids, weight.shape[0], chosen)
    if weights is not None:
        _refuse_not_finite("weights", weights, chosen)
    _refuse_not_finite("hidden", hidden, chosen)
    logits = _host_logits(np.asarray(hidden)[chosen], np.asarray(weight), bias)
    _refuse_logits(_LOGITS_OF_HEAD, logits, ids[chosen], np.argwhere(chosen))
    _refuse_result()


def _host_logits(states: np.ndarray, weight: np.ndarray, bias: Array | None) -> np.ndarray:
    """Logits in float64, infinite where the accumulation dtype cannot hold them."""
    with np.errstate(over="ignore", invalid="ignore"):
        logits = states.astype(np.float64) @ weight.astype(np.float64).T
        if bias is not None:
            logits = logits + np.asarray(bias).astype(np.float64)
        if states.dtype == np.float64:
            return logits
        return logits.astype(np.float32)


def _refuse_overflow(status: int, selected: Array, capacity: int | None) -> None:
    if status & Status.OVERFLOW:
        count = int(np.count_nonzero(np.asarray(selected)))
        limit = f"at most {capacity} selected positions, the capacity"
        raise CapacityError("selected", f"true at {count} positions", limit)


def _refuse_not_finite(name: str, values: Array, rows: np.ndarray | None = None) -> None:
    held = np.asarray(values)
    bad = ~np.isfinite(held)
    if rows is not None:
        bad &= rows.reshape(rows.shape + (1,) * (held.ndim - rows.ndim))
    first = _first(bad)
    if first is not None:
        raise NotFiniteError(_at(name, first), held[first], "a finite number")


def _refuse_logits(name: str, logits: np.ndarray, targets: np.ndarray, places: np.ndarray) -> None:
    """Raise for the first of the selected rows (N, V) that is no distribution."""
    first = _first(np.isnan(logits) | (logits == np.inf))
    if first is not None:
        where = _at(name, (*places[first[0]], first[1]))
        raise NotFiniteError(where, logits[first], "a number, or -inf")
    first = _first((logits == -np.inf).all(axis=-1))
    if first is not None:
        raise NoSupportError(_at(name, places[first[0]]), "-inf throughout", "one finite logit")
    first = _first(logits[np.arange(len(targets)), targets] == -np.inf)
    if first is not None:
        where = _at(name, (*places[first[0]], targets[first[0]]))
        raise ImpossibleTargetError(where, "-inf", "finite, since it is the logit of the target")


def _refuse_result() -> None:
    """Every argument is fine, and the result is not: it has left the range of the dtype."""
    expected = "a sum that the accumulation dtype can hold"
    raise NotFiniteError("the sum of the log-likelihoods", "not finite", expected)


def _first(bad: np.ndarray) -> tuple[int, ...] | None:
    found = np.argwhere(bad)
    return tuple(int(i) for i in found[0]) if len(found) else None


def _at(name: str, index: Sequence[Any]) -> str:
    return f"{name}[{', '.join(str(int(i)) for i in index)}]"
