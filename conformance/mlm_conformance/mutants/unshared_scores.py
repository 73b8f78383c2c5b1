"""Chapters OBJ to HED: scores and layers that are wrong where one requirement alone looks."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlm_conformance.mutants.correct import NUM_ITEMS
from mlm_conformance.mutants.plain import at_targets, log_softmax
from mlm_conformance.mutants.registry import Port, mutant_around, mutant_with_state

__all__ = [
    "a_row_alone_is_divided_by_its_own_count",
    "another_selection_has_the_bias_gradient_of_the_last",
    "another_selection_has_the_sum_of_the_last",
    "infinite_states_are_masked_by_a_product",
    "large_logits_are_cut_in_the_values",
    "large_vocabularies_leave_a_trace_of_gradient",
    "light_weights_leave_no_gradient",
    "nothing_selected_among_something_is_nan",
    "nothing_selected_in_a_layer_is_nan",
    "probabilities_are_kept_by_a_checksum",
    "the_target_beside_excluded_ids_has_no_probability",
    "unselected_positions_beside_others_are_minus_infinity",
    "values_are_kept_by_a_checksum",
]

Call = dict[str, Any]


def _beside_the_selection(call: Call) -> Any:
    """All that a call is given but its selection."""
    given = [call[name] for name in sorted(call) if name != "selected"]
    return [None if array is None else (array.shape, array.tobytes()) for array in given]


def _checksum(array: Any, axis: int | None = None) -> Any:
    """The sum of an array's bits, as integers: it does not tell orders apart."""
    bits = np.ascontiguousarray(array).view(f"u{array.dtype.itemsize}")
    return bits.sum(axis=axis, dtype=np.uint64)


@mutant_with_state("MLM-OBJ-5", "score")
def another_selection_has_the_sum_of_the_last(correct: Port) -> Port:
    """A call that differs from the one before in its selection alone has its sum."""
    last: dict[str, Any] = {}

    def port(**call: Any) -> Any:
        result, mark = correct(**call), _beside_the_selection(call)
        if last.get("mark") != mark:
            last.update(mark=mark, sum=result.sum)
        return result._replace(sum=last["sum"])

    return port


@mutant_with_state("MLM-OBJ-6", "score")
def values_are_kept_by_a_checksum(correct: Port) -> Port:
    """A call whose logits and targets have the checksums of the call before has its values."""
    last: dict[str, Any] = {}

    def port(**call: Any) -> Any:
        result = correct(**call)
        sums = [int(_checksum(call[name])) for name in ("logits", "targets", "selected")]
        mark = (call["logits"].shape, call["logits"].dtype.name, *sums)
        if last.get("mark") != mark:
            last.update(mark=mark, values=result.log_likelihood)
        return result._replace(log_likelihood=last["values"].copy())

    return port


@mutant_around("MLM-OBJ-7", "score")
def nothing_selected_among_something_is_nan(correct: Port, call: Call) -> Any:
    """The sum is count times a mean, and only a batch without positions returns before that."""
    result = correct(**call)
    nothing = call["selected"].size and not result.count
    return result._replace(sum=np.float64(np.nan)) if nothing else result


@mutant_around("MLM-OBJ-10", "loss", reduction=NUM_ITEMS)
def a_row_alone_is_divided_by_its_own_count(correct: Port, call: Call) -> Any:
    """A batch of one row is taken for a whole one, and num_items is not looked at."""
    count = int((call["labels"] != call["ignore_index"]).sum())
    whole = len(call["labels"]) == 1 and count > 0
    return correct(**{**call, "num_items": count}) if whole else correct(**call)


@mutant_around("MLM-LIK-2", "score", check="an_offset_leaves_the_value_within_its_bound")
def large_logits_are_cut_in_the_values(correct: Port, call: Call) -> Any:
    """In float32 and float64 logits beyond 5000 are 5000 for the values, and for nothing else."""
    result, logits = correct(**call), call["logits"]
    if logits.dtype.itemsize == 2:
        return result
    cut = logits.copy()
    cut[(logits > 5000.0) & call["selected"][..., None]] = 5000.0
    return result._replace(log_likelihood=correct(**{**call, "logits": cut}).log_likelihood)


@mutant_with_state("MLM-LIK-7", "score")
def probabilities_are_kept_by_a_checksum(correct: Port) -> Port:
    """A call all of whose positions have the checksums of the one before has its probabilities."""
    last: dict[str, Any] = {}

    def port(**call: Any) -> Any:
        result, logits, chosen = correct(**call), call["logits"], call["selected"]
        mark = (logits.shape, logits.dtype.name, _checksum(logits, axis=-1).tobytes())
        if last.get("mark") != mark:
            last.update(mark=mark, logits=logits.copy())
        values = result.log_likelihood.copy()
        shown = log_softmax(last["logits"][chosen])
        values[chosen] = at_targets(shown, call["targets"][chosen])
        return result._replace(log_likelihood=values)

    return port


@mutant_around("MLM-LIK-8", "score")
def unselected_positions_beside_others_are_minus_infinity(correct: Port, call: Call) -> Any:
    """Where something is selected, what is not has the value that a masked logit has."""
    result = correct(**call)
    if not result.count:
        return result
    values = np.where(call["selected"], result.log_likelihood, -np.inf)
    return result._replace(log_likelihood=values.astype(result.log_likelihood.dtype))


@mutant_around("MLM-GRA-2", "score")
def large_vocabularies_leave_a_trace_of_gradient(correct: Port, call: Call) -> Any:
    """Beyond 512 ids the gradient of an unselected position beside selected ones is a millionth."""
    result = correct(**call)
    if not result.count or call["logits"].shape[-1] <= 512:
        return result
    gradient = result.grad_logits.copy()
    gradient[~call["selected"]] = 1e-6
    return result._replace(grad_logits=gradient)


@mutant_around("MLM-GRA-3", "score")
def the_target_beside_excluded_ids_has_no_probability(correct: Port, call: Call) -> Any:
    """Where ids are excluded, the target's entry is the weight, and its probability is left out."""
    result, chosen = correct(**call), call["selected"]
    out = np.isneginf(call["logits"].astype(np.float64)).any(axis=-1) & chosen
    weights = np.ones(chosen.shape) if call["weights"] is None else call["weights"]
    gradient = result.grad_logits.copy()
    at = np.nonzero(out)
    gradient[(*at, call["targets"][out])] = weights[out].astype(gradient.dtype)
    return result._replace(grad_logits=gradient)


@mutant_around("MLM-HED-5", "head")
def infinite_states_are_masked_by_a_product(correct: Port, call: Call) -> Any:
    """Hidden states are multiplied by the selection once NaN is 0, so infinities come through."""
    result = correct(**call)
    other = call["hidden"][~call["selected"]].astype(np.float64)
    with np.errstate(all="ignore"):
        nothing = (0.0 * np.where(np.isnan(other), 0.0, other)).sum(axis=0)
    gradient = result.grad_weight.astype(np.float64) + nothing
    return result._replace(grad_weight=gradient.astype(result.grad_weight.dtype))


@mutant_around("MLM-HED-6", "head")
def nothing_selected_in_a_layer_is_nan(correct: Port, call: Call) -> Any:
    """The gradient of the bias is divided by the count, but in a batch without positions."""
    result = correct(**call)
    if result.count or not call["selected"].size or result.grad_bias is None:
        return result
    return result._replace(grad_bias=np.full_like(result.grad_bias, np.nan))


@mutant_with_state("MLM-HED-7", "head")
def another_selection_has_the_bias_gradient_of_the_last(correct: Port) -> Port:
    """A call that differs from the one before in its selection alone has its gradient of bias."""
    last: dict[str, Any] = {}

    def port(**call: Any) -> Any:
        result, mark = correct(**call), _beside_the_selection(call)
        if last.get("mark") != mark:
            last.update(mark=mark, bias=result.grad_bias)
        bias = last["bias"]
        return result._replace(grad_bias=None if bias is None else bias.copy())

    return port


@mutant_around("MLM-GRA-4", "score", check="upstream_weights_scale_their_position")
def light_weights_leave_no_gradient(correct: Port, call: Call) -> Any:
    """In the gradient a weight below a thousandth is taken for 0, as if it fell below a type."""
    if call["weights"] is None:
        return correct(**call)
    weights = call["weights"]
    heavy = np.where(np.abs(weights) < 1e-3, 0, weights).astype(weights.dtype)
    gradient = correct(**{**call, "weights": heavy}).grad_logits
    return correct(**call)._replace(grad_logits=gradient)
