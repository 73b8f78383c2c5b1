"""Chapter ERR: backends that refuse in a way that one requirement alone rejects."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlm_conformance.mutants.registry import Port, mutant_around
from mlm_spec import (
    IdRangeError,
    InputError,
    NoSupportError,
    NotFiniteError,
    PolicyError,
    SeedError,
)

__all__ = [
    "a_batch_that_is_mostly_nan_is_refused",
    "a_wrong_seed_is_a_wrong_policy",
    "an_id_out_of_range_is_any_bad_input",
    "nan_is_any_bad_input",
    "no_support_is_no_number",
]

Call = dict[str, Any]


@mutant_around("MLM-ERR-3", "mask", "score", "head")
def an_id_out_of_range_is_any_bad_input(correct: Port, call: Call) -> Any:
    """An id out of range raises InputError, of which IdRangeError is one kind."""
    try:
        return correct(**call)
    except IdRangeError as error:
        raise InputError(error.where, error.got, error.expected) from None


@mutant_around("MLM-ERR-4", "score", "head")
def nan_is_any_bad_input(correct: Port, call: Call) -> Any:
    """A number that is none raises InputError, of which NotFiniteError is one kind."""
    try:
        return correct(**call)
    except NotFiniteError as error:
        raise InputError(error.where, error.got, error.expected) from None


@mutant_around("MLM-ERR-5", "score")
def no_support_is_no_number(correct: Port, call: Call) -> Any:
    """A position whose logits are all −∞ raises NotFiniteError."""
    try:
        return correct(**call)
    except NoSupportError as error:
        raise NotFiniteError(error.where, error.got, error.expected) from None


@mutant_around("MLM-ERR-8", "mask")
def a_wrong_seed_is_a_wrong_policy(correct: Port, call: Call) -> Any:
    """A seed that is none raises PolicyError, as a field of the policy would."""
    try:
        return correct(**call)
    except SeedError as error:
        raise PolicyError(error.where, error.got, error.expected) from None


@mutant_around("MLM-ERR-14", "score")
def a_batch_that_is_mostly_nan_is_refused(correct: Port, call: Call) -> Any:
    """A batch more than a third of whose logits are NaN is refused, whatever is selected in it."""
    result, logits = correct(**call), call["logits"].astype(np.float64)
    if np.isnan(logits).sum() > logits.size / 3:
        raise NotFiniteError("logits", "mostly nan", "numbers")
    return result
