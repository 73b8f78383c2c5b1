"""Backends that are right on the batches that everybody tries first."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlm_conformance.mutants.correct import SUM
from mlm_conformance.mutants.registry import Port, mutant_around
from mlm_spec import ShapeError

__all__ = [
    "a_batch_without_columns_is_refused",
    "a_batch_without_rows_has_no_largest_entry",
    "arguments_are_written_to_and_restored",
    "arrays_are_read_in_the_order_of_memory",
    "gradients_of_nothing_have_no_shape",
    "no_blocks_get_a_word",
    "rows_are_as_far_apart_as_they_are_long",
    "the_loss_of_no_positions_is_their_mean",
    "the_step_between_entries_is_not_looked_at",
]

Call = dict[str, Any]
_MAIN = ("tokens", "logits", "hidden", "key")


def _main(call: Call) -> tuple[str, Any]:
    """The array that a port is about, and its name."""
    name = next(name for name in _MAIN if name in call)
    return name, call[name]


@mutant_around(
    "MLM-ERR-17",
    *("mask", "score", "head", "mask_step", "score_step", "head_step", "loss", "head_loss"),
    reduction=SUM,
    raises="ValueError",
)
def a_batch_without_rows_has_no_largest_entry(correct: Port, call: Call) -> Any:
    """The largest entry of all is asked for, and there is none."""
    _, array = _main(call)
    if isinstance(array, np.ndarray) and array.ndim > 1 and len(array) == 0:
        raise ValueError("zero-size array to reduction operation maximum which has no identity")
    return correct(**call)


@mutant_around(
    "MLM-ERR-17",
    *("mask", "score", "head", "mask_step", "score_step", "head_step", "loss", "head_loss"),
    reduction=SUM,
)
def a_batch_without_columns_is_refused(correct: Port, call: Call) -> Any:
    """A row needs a position."""
    name, array = _main(call)
    if isinstance(array, np.ndarray) and array.ndim > 1 and array.shape[1] == 0:
        raise ShapeError(name, f"of shape {array.shape}", "a column at least")
    return correct(**call)


@mutant_around(
    "MLM-ERR-17",
    "loss",
    "head_loss",
    reduction=SUM,
)
def the_loss_of_no_positions_is_their_mean(correct: Port, call: Call) -> Any:
    """Of a batch of nothing the loss is 0/0."""
    result = correct(**call)
    if call["labels"].size:
        return result
    return (result[0] * np.nan, *result[1:])


@mutant_around("MLM-ERR-17", "score", "score_step")
def gradients_of_nothing_have_no_shape(correct: Port, call: Call) -> Any:
    """Rows are found again by their number, which no rows have not."""
    result, logits = correct(**call), call["logits"]
    if logits.size:
        return result
    return result._replace(grad_logits=np.zeros((0, logits.shape[-1]), logits.dtype))


@mutant_around("MLM-ERR-17", "random_words")
def no_blocks_get_a_word(correct: Port, call: Call) -> Any:
    """A grid has a block at least."""
    none = np.shape(call["key"]) == (0, 4)
    return np.zeros((1, 4), np.uint32) if none else correct(**call)


@mutant_around(
    "MLM-ERR-18",
    *("mask", "score", "head", "mask_step", "score_step", "head_step", "loss", "head_loss"),
    *("random_words", "sample", "sample_words"),
    reduction=SUM,
)
def arrays_are_read_in_the_order_of_memory(correct: Port, call: Call) -> Any:
    """What lies by columns is read by rows."""
    name, array = _main(call)
    if not isinstance(array, np.ndarray):
        return correct(**call)
    return correct(**{**call, name: array.ravel(order="K").reshape(array.shape)})


@mutant_around(
    "MLM-ERR-18",
    *("mask", "score", "head", "mask_step", "score_step", "head_step", "loss", "head_loss"),
    *("random_words", "sample", "sample_words"),
    reduction=SUM,
)
def the_step_between_entries_is_not_looked_at(correct: Port, call: Call) -> Any:
    """Of a wider array the first entries are read, as many as there are."""
    name, array = _main(call)
    spaced = isinstance(array, np.ndarray) and array.strides[-1:] > (array.itemsize,)
    if not spaced or array.base is None or array.flags.f_contiguous:
        return correct(**call)
    first = array.base.reshape(-1)[: array.size]
    return correct(**{**call, name: first.reshape(array.shape)})


@mutant_around(
    "MLM-ERR-18",
    *("score", "score_step", "loss"),
    reduction=SUM,
    url="https://github.com/NVIDIA/TransformerEngine/issues/2734",
)
def rows_are_as_far_apart_as_they_are_long(correct: Port, call: Call) -> Any:
    """Where the logits of a position lie side by side, so do the positions of a row."""
    logits = call["logits"]
    if not isinstance(logits, np.ndarray):
        return correct(**call)
    beside = logits.strides[-1:] == (logits.itemsize,) and not logits.flags.c_contiguous
    if not beside:
        return correct(**call)
    return correct(**{**call, "logits": logits.ravel(order="K").reshape(logits.shape)})


@mutant_around(
    "MLM-ERR-18", "score", "head", "loss", "head_loss", "mask", reduction=SUM, raises="ValueError"
)
def arguments_are_written_to_and_restored(correct: Port, call: Call) -> Any:
    """What must not be written to cannot be borrowed."""
    for array in call.values():
        if isinstance(array, np.ndarray) and array.size:
            first = (0,) * array.ndim
            array[first] = array[first]
    return correct(**call)
