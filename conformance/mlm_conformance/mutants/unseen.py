"""Chapter ERR: backends that see a fault in some entries, dtypes and counts, and not in others."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlm_conformance.mutants.correct import MEAN
from mlm_conformance.mutants.registry import Port, mutant_around
from mlm_spec import IdRangeError, InputError, NotFiniteError, Status

__all__ = [
    "a_capacity_is_rounded_up_to_eights",
    "an_infinite_state_passes_a_step",
    "an_overflow_leaves_a_gradient_of_the_bias",
    "ids_are_cut_to_32_bits",
    "minus_100_is_always_ignored",
    "nan_at_the_last_id_is_not_seen",
    "one_more_than_the_capacity_fits",
    "only_the_last_row_has_its_ids_checked",
    "only_wide_numbers_are_looked_at",
    "the_end_of_the_vocabulary_is_not_looked_at",
    "tokens_of_a_step_are_cut_to_32_bits",
]

Call = dict[str, Any]
_STATUS, _FAULTY = "{}_returns_its_status", "a_faulty_{}_has_no_effect"


def _with_capacity(call: Call, change: Any) -> Call:
    """The call with another capacity, if it has one that can be changed."""
    capacity = call["capacity"]
    fits = type(capacity) is int and capacity > 0
    return {**call, "capacity": change(capacity)} if fits else call


@mutant_around("MLM-ERR-11", "score_step", "head_step", check=_STATUS)
def a_capacity_is_rounded_up_to_eights(correct: Port, call: Call) -> Any:
    """A step has room for a multiple of eight, and takes as many."""
    return correct(**_with_capacity(call, lambda capacity: -(-capacity // 8) * 8))


@mutant_around("MLM-ERR-11", "score_step", "head_step", check=_STATUS)
def one_more_than_the_capacity_fits(correct: Port, call: Call) -> Any:
    """More than the capacity is more than one more."""
    return correct(**_with_capacity(call, lambda capacity: capacity + 1))


@mutant_around("MLM-ERR-12", "head_step", check=_FAULTY)
def an_overflow_leaves_a_gradient_of_the_bias(correct: Port, call: Call) -> Any:
    """An overflow is reported, and the bias has the gradient of what fits if that is some."""
    result = correct(**call)
    if not result.status & Status.OVERFLOW or call["capacity"] <= 8:
        return result
    kept = np.zeros_like(call["selected"])
    kept[tuple(np.argwhere(call["selected"])[: call["capacity"]].T)] = True
    return result._replace(grad_bias=correct(**{**call, "selected": kept}).grad_bias)


def _replaced(values: Any, bad: Any) -> Any:
    """The numbers with 0 for each that is bad."""
    return np.where(bad, np.zeros((), values.dtype), values)


def _is_bad(values: Any) -> Any:
    """NaN or +∞, of a float of any dtype."""
    wide = values.astype(np.float64)
    return np.isnan(wide) | (wide == np.inf)


@mutant_around("MLM-ERR-4", "score")
def nan_at_the_last_id_is_not_seen(correct: Port, call: Call) -> Any:
    """A vocabulary is looked at in pairs of ids, and the last one of them is left out."""
    try:
        return correct(**call)
    except NotFiniteError:
        logits = call["logits"].copy()
        logits[..., -1] = _replaced(logits[..., -1], _is_bad(logits[..., -1]))
        return correct(**{**call, "logits": logits})


@mutant_around("MLM-ERR-4", "head")
def the_end_of_the_vocabulary_is_not_looked_at(correct: Port, call: Call) -> Any:
    """NaN and +∞ beyond the first sixteen ids of the weight and the bias are taken for 0."""
    try:
        return correct(**call)
    except NotFiniteError:
        layer = {n: call[n].copy() for n in ("weight", "bias") if call[n] is not None}
        for array in layer.values():
            array[16:] = _replaced(array[16:], _is_bad(array[16:]))
        return correct(**{**call, **layer})


@mutant_around("MLM-ERR-11", "head_step", check=_STATUS)
def an_infinite_state_passes_a_step(correct: Port, call: Call) -> Any:
    """A hidden state of −∞ is taken for 0."""
    result = correct(**call)
    if not result.status & Status.NOT_FINITE:
        return result
    hidden = call["hidden"]
    return correct(**{**call, "hidden": _replaced(hidden, np.isneginf(hidden.astype(np.float64)))})


@mutant_around("MLM-ERR-11", "score_step", "head_step", check=_STATUS)
def only_wide_numbers_are_looked_at(correct: Port, call: Call) -> Any:
    """Numbers that are none are reported in float32 and float64."""
    result = correct(**call)
    narrow = call["logits" if "logits" in call else "hidden"].dtype.itemsize == 2
    return result._replace(status=result.status & ~Status.NOT_FINITE) if narrow else result


@mutant_around("MLM-ERR-3", "score", "head")
def only_the_last_row_has_its_ids_checked(correct: Port, call: Call) -> Any:
    """A target outside the vocabulary is taken for 0 in every row but the last."""
    try:
        return correct(**call)
    except IdRangeError:
        targets = call["targets"].copy()
        size = call["logits"].shape[-1] if "logits" in call else len(call["weight"])
        targets[:-1][(targets[:-1] < 0) | (targets[:-1] >= size)] = 0
        return correct(**{**call, "targets": targets})


def _cut(call: Call, name: str) -> Call:
    """The call with its int64 ids cut to 32 bits."""
    ids = call[name]
    is_long = isinstance(ids, np.ndarray) and ids.dtype == np.int64
    return {**call, name: ids.astype(np.int32).astype(np.int64)} if is_long else call


@mutant_around("MLM-ERR-3", "mask", "score", "head")
def ids_are_cut_to_32_bits(correct: Port, call: Call) -> Any:
    """An id of 2³² + 5 is 5."""
    return correct(**_cut(call, "tokens" if "tokens" in call else "targets"))


@mutant_around("MLM-ERR-11", "mask_step", check=_STATUS)
def tokens_of_a_step_are_cut_to_32_bits(correct: Port, call: Call) -> Any:
    """A token of 2³² + 5 is 5."""
    return correct(**_cut(call, "tokens"))


@mutant_around("MLM-ERR-3", "loss", reduction=MEAN)
def minus_100_is_always_ignored(correct: Port, call: Call) -> Any:
    """A label of −100 is ignored, whatever else is to be."""
    try:
        return correct(**call)
    except IdRangeError as error:
        labels = np.where(call["labels"] == -100, call["ignore_index"], call["labels"])
        try:
            return correct(**{**call, "labels": labels})
        except InputError:
            raise error from None
