"""Chapter ERR on sessions: trainers that begin with what is none, after making it good."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import numpy as np

from mlm_conformance.mutants.registry import register_mutant
from mlm_conformance.mutants.trainer import correct_trainer
from mlm_spec import InputError, MaskingPolicy
from mlm_spec.errors import DTypeError
from mlm_spec.training.config import EncoderConfig, TrainingConfig
from mlm_spec.training.parameters import initial_parameters, shapes

__all__ = [
    "a_dropout_may_be_a_float",
    "a_fraction_that_is_none_is_a_value_error",
    "a_policy_that_is_none_is_left_out",
    "a_refused_session_has_made_its_parameters_finite",
    "a_warm_up_ends_with_the_run",
    "half_floats_are_no_floats",
    "heads_need_not_divide_the_width",
    "missing_parameters_are_drawn",
    "parameters_are_made_finite",
    "parameters_broadcast",
    "parameters_may_be_integers",
    "parameters_saturate_at_what_is_kept",
    "unknown_fields_are_passed_over",
    "unknown_parameters_are_passed_over",
]

Call = dict[str, Any]
_MEANT = "a_configuration_without_a_meaning_is_refused"
_OF_ANOTHER = "parameters_of_another_encoder_are_refused"


def beginning(requirement: str, check: str, raises: str | None = None) -> Callable[..., Any]:
    """Register a function from the arguments of ``session`` to those that it begins with."""

    def register(made: Callable[[Call], Call]) -> SimpleNamespace:
        register_mutant(made, requirement, ("session",), check, (), raises=raises)
        return SimpleNamespace(session=lambda **call: correct_trainer.session(**made(call)))

    return register


def _fields_of(kind: Any, given: Any) -> Any:
    known = set(kind.__dataclass_fields__)
    return {n: v for n, v in given.items() if n in known} if isinstance(given, Mapping) else given


@beginning("MLM-ERR-19", _MEANT)
def unknown_fields_are_passed_over(call: Call) -> Call:
    """A field that nobody knows is ignored."""
    encoder = _fields_of(EncoderConfig, call["encoder"])
    return {**call, "encoder": encoder, "training": _fields_of(TrainingConfig, call["training"])}


@beginning("MLM-ERR-19", _MEANT)
def a_dropout_may_be_a_float(call: Call) -> Call:
    """A dropout of 0.1 is taken for the fraction next to it."""

    def exact(value: Any) -> Any:
        return str(Fraction(value).limit_denominator(1000)) if type(value) is float else value

    given = call["encoder"]
    if isinstance(given, Mapping):
        given = {n: exact(v) if n.endswith("_dropout") else v for n, v in given.items()}
    return {**call, "encoder": given}


@beginning("MLM-ERR-19", _MEANT)
def heads_need_not_divide_the_width(call: Call) -> Call:
    """A width that the heads do not divide is cut into fewer of them."""
    given = call["encoder"]
    if isinstance(given, Mapping):
        width, heads = given.get("hidden_size"), given.get("num_attention_heads")
        if type(width) is int and type(heads) is int and 0 < heads < width and width % heads:
            given = {**given, "num_attention_heads": 1}
    return {**call, "encoder": given}


@beginning("MLM-ERR-19", _MEANT)
def a_warm_up_ends_with_the_run(call: Call) -> Call:
    """A warm-up that is longer than the run is as long as the run."""
    given = call["training"]
    if isinstance(given, Mapping):
        warmup, total = given.get("warmup_updates"), given.get("total_updates")
        if type(warmup) is int and type(total) is int and warmup > total > 0:
            given = {**given, "warmup_updates": total}
    return {**call, "training": given}


@beginning("MLM-ERR-19", _MEANT, raises="ValueError")
def a_fraction_that_is_none_is_a_value_error(call: Call) -> Call:
    """A dropout that is no fraction raises what Python's fractions raise."""
    given = call["encoder"]
    value = given.get("hidden_dropout") if isinstance(given, Mapping) else None
    if isinstance(value, str) and value != "1/0":
        Fraction(value)
    return call


@beginning("MLM-ERR-19", "a_policy_that_is_none_begins_no_session")
def a_policy_that_is_none_is_left_out(call: Call) -> Call:
    """A policy of another kind counts as no policy."""
    policy = call["policy"]
    return {**call, "policy": policy if isinstance(policy, MaskingPolicy) else None}


def _repaired(call: Call, repair: Callable[[Any, tuple[int, ...]], Any]) -> Call:
    """The parameters that the encoder has, each as it is made good for its shape."""
    given = call["parameters"]
    if not isinstance(given, Mapping):
        return call
    wanted = shapes(EncoderConfig.from_mapping(call["encoder"]))
    repaired = {n: repair(p, wanted[n]) if n in wanted else p for n, p in given.items()}
    return {**call, "parameters": repaired}


@beginning("MLM-ERR-20", _OF_ANOTHER)
def missing_parameters_are_drawn(call: Call) -> Call:
    """A parameter that is not given has its first value."""
    given = call["parameters"]
    if not isinstance(given, Mapping):
        return call
    return {**call, "parameters": {**_first(call), **given}}


def _first(call: Call) -> dict[str, Any]:
    return dict(initial_parameters(EncoderConfig.from_mapping(call["encoder"]), seed=0))


@beginning("MLM-ERR-20", _OF_ANOTHER)
def unknown_parameters_are_passed_over(call: Call) -> Call:
    """A parameter that the encoder has not is ignored."""
    given = call["parameters"]
    if not isinstance(given, Mapping):
        return call
    wanted = shapes(EncoderConfig.from_mapping(call["encoder"]))
    return {**call, "parameters": {n: p for n, p in given.items() if n in wanted}}


@beginning("MLM-ERR-20", _OF_ANOTHER)
def parameters_broadcast(call: Call) -> Call:
    """A parameter of a smaller rank is repeated along the axes that it lacks."""

    def repair(array: Any, shape: tuple[int, ...]) -> Any:
        if isinstance(array, np.ndarray) and array.shape == shape[1:]:
            return np.broadcast_to(array, shape)
        return array

    return _repaired(call, repair)


@beginning("MLM-ERR-20", _OF_ANOTHER)
def parameters_may_be_integers(call: Call) -> Call:
    """A parameter of integers is converted."""

    def repair(array: Any, shape: tuple[int, ...]) -> Any:
        integers = isinstance(array, np.ndarray) and array.dtype.kind in "iu"
        return array.astype(np.float64) if integers else array

    return _repaired(call, repair)


@beginning("MLM-ERR-20", _OF_ANOTHER)
def parameters_are_made_finite(call: Call) -> Call:
    """NaN in a parameter is 0, and infinity a large number."""

    def repair(array: Any, shape: tuple[int, ...]) -> Any:
        floats = isinstance(array, np.ndarray) and array.dtype.kind == "f"
        return np.nan_to_num(array, posinf=1.0, neginf=-1.0) if floats else array

    return _repaired(call, repair)


@beginning("MLM-ERR-20", "parameters_that_float32_cannot_hold_are_refused")
def parameters_saturate_at_what_is_kept(call: Call) -> Call:
    """A parameter that float32 cannot hold is its largest number."""
    training = TrainingConfig.from_mapping(call["training"])
    if training.precision == "float64":
        return call
    most = float(np.finfo(np.float32).max)

    def repair(array: Any, shape: tuple[int, ...]) -> Any:
        wide = isinstance(array, np.ndarray) and array.dtype == np.float64
        return np.where(np.isfinite(array), np.clip(array, -most, most), array) if wide else array

    return _repaired(call, repair)


@beginning("MLM-ERR-20", "parameters_of_any_float_dtype_are_taken")
def half_floats_are_no_floats(call: Call) -> Call:
    """A parameter in float16 or bfloat16 is refused."""
    given = call["parameters"]
    for name, array in given.items() if isinstance(given, Mapping) else ():
        if isinstance(array, np.ndarray) and array.dtype.itemsize == 2:
            raise DTypeError(name, f"of dtype {array.dtype}", "float64 or float32")
    return call


def _beside(happens: Callable[..., Any]) -> SimpleNamespace:
    """Register a function that begins a session."""
    check = "a_session_that_cannot_begin_changes_nothing"
    register_mutant(happens, "MLM-ERR-22", ("session",), check, ())
    return SimpleNamespace(session=happens)


@_beside
def a_refused_session_has_made_its_parameters_finite(**call: Any) -> Any:
    """NaN in the caller's parameters is replaced, and then refused."""
    try:
        return correct_trainer.session(**call)
    except InputError:
        given = call["parameters"]
        for array in given.values() if isinstance(given, Mapping) else ():
            if isinstance(array, np.ndarray) and array.dtype == np.float64:
                array[~np.isfinite(array)] = 0.0
        raise
