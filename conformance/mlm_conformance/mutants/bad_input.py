"""Chapter ERR: backends that let bad input pass, or say the wrong thing about it."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import numpy as np

from mlm_conformance.mutants.registry import Port, mutant, mutant_around
from mlm_spec import (
    DTypeError,
    ImpossibleTargetError,
    NoSupportError,
    NotFiniteError,
    SeedError,
    ShapeError,
    Status,
    checking,
    masking,
)

__all__ = [
    "a_capacity_of_any_kind_is_made_an_integer",
    "a_negative_capacity_is_no_capacity",
    "a_truth_value_is_a_seed",
    "a_wrong_dtype_is_a_wrong_shape",
    "a_wrong_seed_is_any_error",
    "a_wrong_shape_is_any_error",
    "an_impossible_target_has_no_support",
    "an_impossible_target_is_minus_infinity",
    "an_overflow_hides_a_wrong_shape",
    "eligible_is_broadcast",
    "long_seeds_are_cut",
    "minus_infinity_in_the_layer_is_a_number",
    "nan_in_the_layer_becomes_0",
    "nan_is_an_arithmetic_error",
    "nan_logits_become_0",
    "nan_weights_become_0",
    "no_support_is_nan",
    "no_support_is_uniform",
    "only_eligible_tokens_are_looked_at",
    "selected_is_converted",
    "targets_are_clamped",
    "targets_count_from_the_end",
    "the_bias_is_flattened",
    "the_id_after_the_last_is_allowed",
    "the_weight_is_converted",
    "tokens_are_converted",
    "tokens_are_not_looked_at",
    "weights_are_broadcast",
    "words_of_any_kind_are_taken",
]

Call = dict[str, Any]
_STEPS = ("mask_step", "score_step", "head_step")
_OPTAX = "https://github.com/google-deepmind/optax/issues/1185"


@mutant_around("MLM-ERR-1", "mask", "score", "head", "random_words", *_STEPS, raises="ValueError")
def a_wrong_shape_is_any_error(correct: Port, call: Call) -> Any:
    """A wrong shape raises a plain ValueError, as a library underneath would."""
    try:
        return correct(**call)
    except ShapeError as error:
        raise ValueError(str(error)) from None


def _broadcast(call: Call, name: str, like: str) -> Call:
    """The call with an array broadcast to the first two axes of another, where that is possible."""
    if not isinstance(call[name], np.ndarray) or not isinstance(call[like], np.ndarray):
        return call
    try:
        return {**call, name: np.broadcast_to(call[name], call[like].shape[:2]).copy()}
    except ValueError:
        return call


@mutant_around("MLM-ERR-1", "mask")
def eligible_is_broadcast(correct: Port, call: Call) -> Any:
    """An eligible row applies to all rows."""
    return correct(**_broadcast(call, "eligible", "tokens"))


@mutant_around("MLM-ERR-1", "score")
def weights_are_broadcast(correct: Port, call: Call) -> Any:
    """A row of weights applies to all rows."""
    return correct(**_broadcast(call, "weights", "logits"))


@mutant_around("MLM-ERR-1", "head")
def the_bias_is_flattened(correct: Port, call: Call) -> Any:
    """A bias of shape (1, V) is taken for (V,)."""
    bias = call["bias"]
    return correct(**{**call, "bias": bias.reshape(-1) if isinstance(bias, np.ndarray) else bias})


@mutant_around("MLM-ERR-2", "mask", "score", "head", "random_words", *_STEPS)
def a_wrong_dtype_is_a_wrong_shape(correct: Port, call: Call) -> Any:
    """A wrong element type raises ShapeError."""
    try:
        return correct(**call)
    except DTypeError as error:
        raise ShapeError(error.where, error.got, error.expected) from None


@mutant_around("MLM-ERR-2", "mask")
def tokens_are_converted(correct: Port, call: Call) -> Any:
    """Tokens of any type become int64."""
    tokens = np.asarray(call["tokens"])
    return correct(
        **{**call, "tokens": tokens if tokens.dtype == np.int32 else tokens.astype("i8")}
    )


@mutant_around("MLM-ERR-2", "score")
def selected_is_converted(correct: Port, call: Call) -> Any:
    """A selection of integers or floats is read as true and false."""
    return correct(**{**call, "selected": np.asarray(call["selected"]).astype(np.bool_)})


@mutant_around("MLM-ERR-2", "head")
def the_weight_is_converted(correct: Port, call: Call) -> Any:
    """A weight of another dtype is brought to that of the hidden states."""
    if not isinstance(call["weight"], np.ndarray) or not isinstance(call["hidden"], np.ndarray):
        return correct(**call)
    return correct(**{**call, "weight": call["weight"].astype(call["hidden"].dtype)})


@mutant_around("MLM-ERR-2", "score_step", "head_step")
def a_capacity_of_any_kind_is_made_an_integer(correct: Port, call: Call) -> Any:
    """A capacity of 2.5 is 2, one of "4" is 4."""
    capacity = call["capacity"]
    return correct(
        **{**call, "capacity": int(capacity) if isinstance(capacity, float | str) else capacity}
    )


@mutant_around("MLM-ERR-1", "score_step", "head_step")
def a_negative_capacity_is_no_capacity(correct: Port, call: Call) -> Any:
    """A capacity below 0 holds nothing."""
    capacity = call["capacity"]
    return correct(**{**call, "capacity": max(capacity, 0) if type(capacity) is int else capacity})


@mutant_around("MLM-ERR-1", "score_step", "head_step")
def an_overflow_hides_a_wrong_shape(correct: Port, call: Call) -> Any:
    """More selected positions than the capacity: nothing else is looked at."""
    try:
        return correct(**call)
    except ShapeError:
        fits = not isinstance(call["capacity"], int) or call["capacity"] < 0
        if fits or not np.count_nonzero(call["selected"]) > call["capacity"]:
            raise
        return {"sum": np.float64(0.0), "count": np.int64(0), "status": Status.OVERFLOW}


@mutant_around("MLM-ERR-2", "random_words")
def words_of_any_kind_are_taken(correct: Port, call: Call) -> Any:
    """Keys and counters of other integers become words."""
    return correct(**{n: _as_words(x) for n, x in call.items()})


def _as_words(array: Any) -> Any:
    whole = isinstance(array, np.ndarray) and array.dtype.kind in "iu"
    return array.astype(np.uint32) if whole else array


@mutant("MLM-ERR-3", "mask")
def tokens_are_not_looked_at(**call: Any) -> Any:
    """Tokens outside the vocabulary are masked like others."""
    with patch.multiple(masking, check_ids=lambda *anything: None):
        return masking.mask(**call)


@mutant("MLM-ERR-3", "mask")
def the_id_after_the_last_is_allowed(**call: Any) -> Any:
    """Ids run from 0 to V."""
    right = checking.check_ids
    with patch.multiple(masking, check_ids=lambda name, ids, size: right(name, ids, size + 1)):
        return masking.mask(**call)


@mutant_around("MLM-ERR-3", "mask")
def only_eligible_tokens_are_looked_at(correct: Port, call: Call) -> Any:
    """A token outside the vocabulary is let be where it is not eligible."""
    tokens, able = call["tokens"], call["eligible"]
    fit = isinstance(tokens, np.ndarray) and isinstance(able, np.ndarray)
    if not fit or tokens.shape != able.shape or able.dtype != np.bool_:
        return correct(**call)
    return correct(**{**call, "tokens": np.where(able, tokens, 0).astype(tokens.dtype)})


def _with_ids(call: Call, change: Any) -> Call:
    """The call with its targets changed by ``change(targets, V)``, if they are an array."""
    layer, targets = call.get("logits", call.get("weight")), call["targets"]
    if not all(isinstance(a, np.ndarray) and a.size for a in (layer, targets)):
        return call
    if targets.dtype.kind != "i":
        return call
    size = call["logits"].shape[-1] if "logits" in call else len(call["weight"])
    return {**call, "targets": change(targets, size).astype(targets.dtype)}


@mutant_around("MLM-ERR-3", "score", "head", url=_OPTAX)
def targets_count_from_the_end(correct: Port, call: Call) -> Any:
    """A target of −1 is the last id, and one of V the first."""
    return correct(**_with_ids(call, lambda ids, size: ids % size))


@mutant_around("MLM-ERR-3", "score", "head")
def targets_are_clamped(correct: Port, call: Call) -> Any:
    """A target outside the vocabulary is taken for the nearest id."""
    return correct(**_with_ids(call, lambda ids, size: np.clip(ids, 0, size - 1)))


def _cleaned(call: Call, *names: str) -> Call:
    """The call with NaN turned into 0 and infinities into large numbers."""
    return {**call, **{name: _finite(call[name]) for name in names}}


def _finite(values: Any) -> Any:
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "fV":
        return values
    wide = values.astype(np.float64)
    wide[np.isnan(wide)] = 0.0
    return np.where(np.isposinf(wide), 1e4, wide).astype(values.dtype)


@mutant_around("MLM-ERR-4", "score")
def nan_logits_become_0(correct: Port, call: Call) -> Any:
    """NaN among the logits is turned into 0, and +∞ into a large number."""
    return correct(**_cleaned(call, "logits"))


@mutant_around("MLM-ERR-4", "score", "head")
def nan_weights_become_0(correct: Port, call: Call) -> Any:
    """NaN among the upstream weights is turned into 0."""
    return correct(**_cleaned(call, "weights"))


@mutant_around("MLM-ERR-4", "head")
def nan_in_the_layer_becomes_0(correct: Port, call: Call) -> Any:
    """NaN in the weight and the bias is turned into 0."""
    return correct(**_cleaned(call, "weight", "bias"))


@mutant_around("MLM-ERR-4", "head")
def minus_infinity_in_the_layer_is_a_number(correct: Port, call: Call) -> Any:
    """−∞ among the hidden states and in the weight is taken for a large number."""
    return correct(**{**call, **{n: _bounded(call[n]) for n in ("hidden", "weight")}})


def _bounded(values: Any) -> Any:
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "fV":
        return values
    wide = values.astype(np.float64)
    return np.where(np.isneginf(wide), -1e3, wide).astype(values.dtype)


@mutant_around("MLM-ERR-4", "score", "head", raises="FloatingPointError")
def nan_is_an_arithmetic_error(correct: Port, call: Call) -> Any:
    """NaN raises FloatingPointError."""
    try:
        return correct(**call)
    except NotFiniteError as error:
        raise FloatingPointError(str(error)) from None


@mutant_around("MLM-ERR-5", "score")
def no_support_is_uniform(correct: Port, call: Call) -> Any:
    """Logits that are all −∞ are taken for equal ones: the value is −log V."""
    logits = call["logits"]
    if not isinstance(logits, np.ndarray) or logits.dtype.kind not in "fV" or not logits.size:
        return correct(**call)
    barred = np.isneginf(logits.astype(np.float64)).all(axis=-1, keepdims=True)
    zero = np.zeros((), logits.dtype)
    return correct(**{**call, "logits": np.where(barred, zero, logits)})


@mutant_around("MLM-ERR-5", "score", "head")
def no_support_is_nan(correct: Port, call: Call) -> Any:
    """Logits that are all −∞ give NaN, which is 0/0."""
    try:
        return correct(**call)
    except NoSupportError:
        nothing = correct(**{**call, "selected": np.zeros_like(call["selected"])})
        return nothing._replace(sum=np.float64(np.nan))


@mutant_around("MLM-ERR-6", "score", "head")
def an_impossible_target_is_minus_infinity(correct: Port, call: Call) -> Any:
    """A target with logit −∞ makes the sum −∞."""
    try:
        return correct(**call)
    except ImpossibleTargetError:
        nothing = correct(**{**call, "selected": np.zeros_like(call["selected"])})
        return nothing._replace(sum=np.float64(-np.inf))


@mutant_around("MLM-ERR-6", "score", "head")
def an_impossible_target_has_no_support(correct: Port, call: Call) -> Any:
    """A target with logit −∞ raises NoSupportError, as if all logits were."""
    try:
        return correct(**call)
    except ImpossibleTargetError as error:
        raise NoSupportError(error.where, error.got, error.expected) from None


def _key_as(call: Call, change: Any) -> Call:
    return {**call, "seed": change(call["seed"]), "epoch": change(call["epoch"])}


@mutant_around("MLM-ERR-8", "mask")
def long_seeds_are_cut(correct: Port, call: Call) -> Any:
    """A seed is taken modulo 2⁶⁴."""
    plain = int
    return correct(**_key_as(call, lambda n: n % 2**64 if type(n) is plain else n))


@mutant_around("MLM-ERR-8", "mask")
def a_truth_value_is_a_seed(correct: Port, call: Call) -> Any:
    """True is the seed 1."""
    return correct(**_key_as(call, lambda n: int(n) if isinstance(n, bool) else n))


@mutant_around("MLM-ERR-8", "mask", raises="OverflowError")
def a_wrong_seed_is_any_error(correct: Port, call: Call) -> Any:
    """A seed that is out of range raises OverflowError."""
    try:
        return correct(**call)
    except SeedError as error:
        raise OverflowError(str(error)) from None
