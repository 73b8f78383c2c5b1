"""Steps that are right on plain batches, and wrong where their entry point would be right."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlm_conformance.mutants.registry import Port, mutant_around
from mlm_spec import Status

__all__ = [
    "a_capacity_beyond_the_batch_is_cut",
    "a_special_id_may_be_any_where_nothing_is_eligible",
    "a_step_adds_a_trace_at_unselected_positions",
    "a_step_counts_its_capacity",
    "a_step_has_gradients_in_float32",
    "a_step_is_empty_where_nothing_is_eligible",
    "a_step_is_empty_where_weights_are_zero",
    "a_step_multiplies_by_the_selection",
    "a_step_without_a_bias_is_off",
    "a_step_without_max_shift",
    "an_excluded_id_makes_a_step_nan",
    "nan_weights_are_not_looked_at",
    "only_eligible_ids_are_looked_at",
]

Call = dict[str, Any]
_GOOD = "a_good_{}_has_its_effect"
_STATUS = "{}_returns_its_status"


def _states(call: Call) -> Any:
    """What is scored: hidden states or logits, in float64."""
    return call["hidden" if "hidden" in call else "logits"].astype(np.float64)


def _logits(call: Call) -> Any:
    """Of the selected positions: float64 (N, V)."""
    states = _states(call)[call["selected"]]
    if "logits" in call:
        return states
    bias = 0.0 if call["bias"] is None else call["bias"].astype(np.float64)
    return states @ call["weight"].astype(np.float64).T + bias


def _spoilt(result: Any, factor: float = np.nan) -> Any:
    return result._replace(sum=result.sum * factor)


@mutant_around("MLM-ERR-12", "score_step", "head_step", check=_GOOD)
def a_step_multiplies_by_the_selection(correct: Port, call: Call) -> Any:
    """NaN at an unselected position, times 0, is NaN in the sum."""
    result, other = correct(**call), _states(call)[~call["selected"]]
    fine = np.isfinite(other).all() or result.status != Status.OK
    return result if fine else _spoilt(result)


@mutant_around("MLM-ERR-12", "score_step", "head_step", check=_GOOD)
def an_excluded_id_makes_a_step_nan(correct: Port, call: Call) -> Any:
    """0 for an id that is no target, times its logit of -inf, is NaN in the sum."""
    result = correct(**call)
    if result.status != Status.OK or not np.isneginf(_logits(call)).any():
        return result
    return _spoilt(result)


@mutant_around("MLM-ERR-12", "head_step", check=_GOOD)
def a_step_without_max_shift(correct: Port, call: Call) -> Any:
    """Exponentials of logits beyond 88 are infinite in float32."""
    result = correct(**call)
    if result.status != Status.OK or _logits(call).max() < 88:
        return result
    return _spoilt(result)


@mutant_around("MLM-ERR-12", "head_step", check=_GOOD)
def a_step_without_a_bias_is_off(correct: Port, call: Call) -> Any:
    """Without a bias the sum is half as large again."""
    result = correct(**call)
    return _spoilt(result, 1.5) if call["bias"] is None else result


@mutant_around("MLM-ERR-12", "score_step", "head_step", check=_GOOD)
def a_step_counts_its_capacity(correct: Port, call: Call) -> Any:
    """All places that there is room for are counted."""
    result = correct(**call)
    return (
        result._replace(count=np.int64(call["capacity"])) if result.status == Status.OK else result
    )


@mutant_around("MLM-ERR-12", "score_step", "head_step", check=_GOOD)
def a_step_adds_a_trace_at_unselected_positions(correct: Port, call: Call) -> Any:
    """Places that stay empty add their gradient to the first position."""
    result = correct(**call)
    name = "grad_hidden" if "hidden" in call else "grad_logits"
    gradient = np.array(getattr(result, name))
    if result.status == Status.OK and not call["selected"].flat[0]:
        gradient[0, 0] = 1
    return result._replace(**{name: gradient})


@mutant_around("MLM-ERR-12", "score_step", "head_step", check=_GOOD)
def a_capacity_beyond_the_batch_is_cut(correct: Port, call: Call) -> Any:
    """With more room than there are positions half of the sum is lost."""
    result = correct(**call)
    return _spoilt(result, 0.5) if call["capacity"] > call["selected"].size else result


@mutant_around("MLM-ERR-12", "score_step", check=_GOOD)
def a_step_has_gradients_in_float32(correct: Port, call: Call) -> Any:
    """The gradient of logits in two bytes is returned as it was computed."""
    result = correct(**call)
    narrow = call["logits"].dtype.itemsize == 2
    gradient = np.asarray(result.grad_logits)
    return result._replace(grad_logits=gradient.astype(np.float32) if narrow else gradient)


@mutant_around("MLM-ERR-11", "score_step", "head_step", check=_STATUS)
def a_step_is_empty_where_weights_are_zero(correct: Port, call: Call) -> Any:
    """Where all weights are 0 the status says that nothing is selected."""
    result, weights = correct(**call), call["weights"]
    idle = weights is not None and not weights[call["selected"]].any()
    return result._replace(status=np.int32(Status.EMPTY)) if idle else result


@mutant_around("MLM-ERR-11", "score_step", "head_step", check=_STATUS)
def nan_weights_are_not_looked_at(correct: Port, call: Call) -> Any:
    """A weight of NaN is taken for 0, and the status is that of a good batch."""
    weights = call["weights"]
    if weights is None:
        return correct(**call)
    return correct(**{**call, "weights": np.nan_to_num(weights, nan=0.0)})


@mutant_around("MLM-ERR-11", "mask_step", check=_STATUS)
def a_step_is_empty_where_nothing_is_eligible(correct: Port, call: Call) -> Any:
    """Whether something is selected is not asked: only whether something may be."""
    result = correct(**call)
    if result.status not in (Status.OK, Status.EMPTY):
        return result
    return result._replace(status=np.int32(0 if call["eligible"].any() else Status.EMPTY))


@mutant_around("MLM-ERR-11", "mask_step", check=_STATUS)
def a_special_id_may_be_any_where_nothing_is_eligible(correct: Port, call: Call) -> Any:
    """Ids are looked at where they are eligible alone."""
    if not isinstance(call["tokens"], np.ndarray):
        return correct(**call)
    tokens = np.where(call["eligible"], call["tokens"], 0).astype(call["tokens"].dtype)
    result = correct(**{**call, "tokens": tokens})
    shown = np.where(call["eligible"], np.asarray(result.inputs), call["tokens"])
    return result._replace(inputs=shown.astype(tokens.dtype), targets=call["tokens"].copy())


@mutant_around("MLM-ERR-11", "mask_step", check=_STATUS)
def only_eligible_ids_are_looked_at(correct: Port, call: Call) -> Any:
    """An id past the last is no fault of a position that is not eligible, where others are."""
    result, tokens = correct(**call), call["tokens"]
    able = call["eligible"]
    if not able.any():
        return result
    seen = correct(**{**call, "tokens": np.where(able, tokens, 0).astype(tokens.dtype)})
    inputs = np.where(able, seen.inputs, tokens)
    return seen._replace(inputs=inputs, targets=tokens.copy())
