"""Chapter ERR on losses: backends that answer bad calls of ``loss``, or name another error."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlm_conformance.mutants.correct import MEAN, NUM_ITEMS, SUM
from mlm_conformance.mutants.registry import Port, mutant_around
from mlm_spec import (
    DTypeError,
    IdRangeError,
    ImpossibleTargetError,
    InputError,
    NoSupportError,
    NotFiniteError,
    ShapeError,
)

__all__ = [
    "a_bad_loss_is_any_error",
    "a_bad_loss_says_nothing",
    "a_loss_of_labels_in_one_row",
    "a_loss_of_labels_of_any_kind",
    "an_impossible_label_costs_nothing",
    "labels_are_clamped_before_they_are_refused",
    "labels_count_from_the_end",
    "nan_in_a_loss_is_nan",
    "negative_labels_are_ignored",
    "no_support_is_a_loss_of_nan",
]

Call = dict[str, Any]
_BIO = "https://github.com/NVIDIA/bionemo-framework/commit"
_OPTAX = "https://github.com/google-deepmind/optax/issues/1185"


def _answer(call: Call, value: float) -> Any:
    return np.float64(value), np.zeros_like(call["logits"])


@mutant_around("MLM-ERR-1", "loss", reduction=SUM, raises="ValueError")
def a_bad_loss_is_any_error(correct: Port, call: Call) -> Any:
    """A wrong shape raises a plain ValueError, as a library underneath would."""
    try:
        return correct(**call)
    except ShapeError as error:
        raise ValueError(str(error)) from None


@mutant_around("MLM-ERR-1", "loss", reduction=MEAN)
def a_loss_of_labels_in_one_row(correct: Port, call: Call) -> Any:
    """Labels are flattened, so any shape with as many of them will do."""
    logits, labels = call["logits"], call["labels"]
    if isinstance(logits, np.ndarray) and isinstance(labels, np.ndarray):
        rows = logits.shape[:2]
        if len(rows) == 2 and labels.size == rows[0] * rows[1]:
            labels = labels.reshape(rows)
    return correct(**{**call, "labels": labels})


@mutant_around("MLM-ERR-2", "loss", reduction=NUM_ITEMS)
def a_loss_of_labels_of_any_kind(correct: Port, call: Call) -> Any:
    """Labels of any type become int64."""
    try:
        return correct(**call)
    except DTypeError:
        return correct(**{**call, "labels": np.asarray(call["labels"]).astype(np.int64)})


@mutant_around("MLM-ERR-3", "loss", reduction=SUM, url=f"{_BIO}/f78104390")
def negative_labels_are_ignored(correct: Port, call: Call) -> Any:
    """Two conventions, -1 and -100, are both read as nothing to score."""
    labels = call["labels"]
    if not isinstance(labels, np.ndarray) or labels.dtype.kind != "i":
        return correct(**call)
    return correct(**{**call, "labels": np.where(labels < 0, call["ignore_index"], labels)})


@mutant_around("MLM-ERR-3", "loss", reduction=MEAN, url=_OPTAX)
def labels_count_from_the_end(correct: Port, call: Call) -> Any:
    """A negative label that is not ignored counts from the end of the vocabulary."""
    try:
        return correct(**call)
    except IdRangeError:
        wrapped = call["labels"] % call["logits"].shape[-1]
        kept = np.where(call["labels"] == call["ignore_index"], call["labels"], wrapped)
        return correct(**{**call, "labels": kept.astype(call["labels"].dtype)})


@mutant_around("MLM-ERR-4", "loss", reduction=MEAN)
def nan_in_a_loss_is_nan(correct: Port, call: Call) -> Any:
    """NaN and +inf among the logits make the loss NaN, and nothing is said."""
    try:
        return correct(**call)
    except NotFiniteError:
        return _answer(call, np.nan)


@mutant_around("MLM-ERR-5", "loss", reduction=SUM)
def no_support_is_a_loss_of_nan(correct: Port, call: Call) -> Any:
    """Logits that are all -inf make the loss NaN, which is 0/0."""
    try:
        return correct(**call)
    except NoSupportError:
        return _answer(call, np.nan)


@mutant_around("MLM-ERR-6", "loss", reduction=NUM_ITEMS)
def an_impossible_label_costs_nothing(correct: Port, call: Call) -> Any:
    """A label whose logit is -inf is left out of the loss."""
    try:
        return correct(**call)
    except ImpossibleTargetError:
        return _answer(call, 0.0)


@mutant_around("MLM-ERR-9", "loss", reduction=MEAN)
def labels_are_clamped_before_they_are_refused(correct: Port, call: Call) -> Any:
    """The caller's labels are brought into range, and then refused."""
    try:
        return correct(**call)
    except IdRangeError:
        np.clip(call["labels"], 0, 3, out=call["labels"])
        raise


@mutant_around("MLM-ERR-10", "loss", reduction=SUM)
def a_bad_loss_says_nothing(correct: Port, call: Call) -> Any:
    """Every error is "bad input", without its parts."""
    try:
        return correct(**call)
    except InputError as error:
        bare = type(error).__new__(type(error))
        bare.args = ("bad input",)
        raise bare from None
