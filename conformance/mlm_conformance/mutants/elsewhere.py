"""Backends that are right at every size and value that a list would name, and wrong elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import mlm_spec
from mlm_conformance.mutants.correct import MEAN
from mlm_conformance.mutants.registry import Port, mutant, mutant_around, mutant_with_state
from mlm_spec import InputError, log_likelihood

__all__ = [
    "a_bare_column_counts_twice",
    "a_failed_call_is_remembered",
    "a_loss_of_many_positions_is_off",
    "a_middling_vocabulary_lacks_a_term",
    "a_negative_zero_is_no_logit",
    "a_step_of_many_positions_is_off",
    "a_sum_has_a_floor",
    "arrays_are_known_by_their_place",
    "bfloat16_adds_badly_beyond_30_positions",
    "biases_beyond_100_ids_are_not_learnt",
    "certain_targets_are_worth_nothing",
    "double_layers_without_bias_are_off",
    "double_weights_of_single_logits_are_ignored",
    "five_ids_are_four",
    "heavy_weights_are_clipped",
    "layers_of_more_than_96_units_are_cut",
    "light_weights_are_nothing",
    "logits_are_clipped_to_half_precision",
    "many_doubles_are_scored_as_singles",
    "no_gradient_at_a_power_of_two",
    "no_value_is_below_minus_20000",
    "rows_beyond_64_are_dropped",
    "targets_of_four_bytes_are_shifted",
    "the_last_columns_of_512_are_dropped",
    "thousands_of_ids_are_off",
    "what_a_large_call_left_is_counted",
]

Call = dict[str, Any]
_SUM_CHECK = "sum_is_that_of_the_selected_log_likelihoods"
_VALUES = "ordinary_logits_give_their_log_likelihood"
_WEIGHTS = "upstream_weights_scale_their_position"


def _moved(result: Any, where: Any, by: float) -> Any:
    """The log-likelihoods of some positions, moved."""
    nats = result.log_likelihood
    return result._replace(log_likelihood=nats + (by * where).astype(nats.dtype))


def _reweighted(correct: Port, call: Call, change: Callable[[Any], Any]) -> Any:
    """The right score of other weights."""
    if call["weights"] is None:
        return correct(**call)
    return correct(**{**call, "weights": change(call["weights"]).astype(call["weights"].dtype)})


def _selecting(correct: Port, call: Call, change: Callable[[Any], Any]) -> Any:
    """The right sum of fewer positions, and all else right."""
    fewer = mlm_spec.score(**{**call, "selected": change(call["selected"].copy())})
    return correct(**call)._replace(sum=fewer.sum)


@mutant_around("MLM-OBJ-2", "score", check=_SUM_CHECK)
def a_middling_vocabulary_lacks_a_term(correct: Port, call: Call) -> Any:
    """Between 65 and 998 ids the sum lacks its first position."""

    def change(selected: Any) -> Any:
        if 65 <= call["logits"].shape[-1] <= 998:
            selected.reshape(-1)[np.flatnonzero(selected)[:1]] = False
        return selected

    return _selecting(correct, call, change)


@mutant_around("MLM-LIK-1", "score", check=_VALUES, profile="ci")
def thousands_of_ids_are_off(correct: Port, call: Call) -> Any:
    """Between 1,001 and 30,521 ids each value is a hundredth too large."""
    wrong = 1001 <= call["logits"].shape[-1] <= 30521
    return _moved(correct(**call), wrong * call["selected"], 0.01)


@mutant_around("MLM-LIK-1", "score", check=_VALUES, profile="ci")
def five_ids_are_four(correct: Port, call: Call) -> Any:
    """A vocabulary of five ids is read without its last."""
    if call["logits"].shape[-1] != 5:
        return correct(**call)
    cut = np.where(call["targets"] > 3, 3, call["targets"]).astype(call["targets"].dtype)
    result = mlm_spec.score(call["logits"][..., :4], cut, call["selected"], call["weights"])
    return correct(**call)._replace(log_likelihood=result.log_likelihood)


@mutant_around("MLM-GRA-1", "score", profile="ci")
def no_gradient_at_a_power_of_two(correct: Port, call: Call) -> Any:
    """Where the vocabulary is a power of two from 128 on, its last id receives no gradient."""
    result, size = correct(**call), call["logits"].shape[-1]
    if 128 <= size < 65536 and size & (size - 1) == 0:
        result.grad_logits[..., -1] = 0
    return result


@mutant_around("MLM-OBJ-2", "score", check=_SUM_CHECK, profile="ci")
def rows_beyond_64_are_dropped(correct: Port, call: Call) -> Any:
    """A batch is cut at 64 rows."""

    def change(selected: Any) -> Any:
        selected[64:] = False
        return selected

    return _selecting(correct, call, change)


@mutant_around("MLM-OBJ-2", "score", check=_SUM_CHECK, profile="ci")
def the_last_columns_of_512_are_dropped(correct: Port, call: Call) -> Any:
    """A row is cut at 512 columns."""

    def change(selected: Any) -> Any:
        selected[:, 512:] = False
        return selected

    return _selecting(correct, call, change)


@mutant_around("MLM-LIK-9", "score", check="narrow_logits_are_widened_exactly")
def bfloat16_adds_badly_beyond_30_positions(correct: Port, call: Call) -> Any:
    """More than 30 selected positions in bfloat16: each value is a twentieth too small."""
    wrong = call["logits"].dtype.name == "bfloat16" and call["selected"].sum() > 30
    return _moved(correct(**call), wrong * call["selected"], -0.05)


@mutant_around("MLM-LIK-1", "score", check=_VALUES, profile="ci")
def many_doubles_are_scored_as_singles(correct: Port, call: Call) -> Any:
    """More than 100 selected positions in float64 are scored in float32."""
    result = correct(**call)
    if call["logits"].dtype.name != "float64" or call["selected"].sum() <= 100:
        return result
    return result._replace(log_likelihood=np.float64(np.float32(result.log_likelihood)))


@mutant_around("MLM-GRA-4", "score", check=_WEIGHTS)
def light_weights_are_nothing(correct: Port, call: Call) -> Any:
    """A weight below a thousandth is taken for 0."""
    return _reweighted(correct, call, lambda w: np.where(np.abs(w) < 1e-3, 0, w))


@mutant_around("MLM-GRA-4", "score", check=_WEIGHTS)
def heavy_weights_are_clipped(correct: Port, call: Call) -> Any:
    """No weight is larger than 64."""
    return _reweighted(correct, call, lambda w: np.clip(w, -64, 64))


@mutant_around("MLM-OBJ-2", "score", check=_SUM_CHECK)
def double_weights_of_single_logits_are_ignored(correct: Port, call: Call) -> Any:
    """float64 weights beside float32 logits are not read in the sum."""
    result, weights = correct(**call), call["weights"]
    if weights is None or weights.dtype == call["logits"].dtype or weights.dtype != np.float64:
        return result
    return result._replace(sum=correct(**{**call, "weights": None}).sum)


@mutant("MLM-LIK-4", "score", check="likely_targets_keep_their_value")
def certain_targets_are_worth_nothing(**call: Any) -> Any:
    """In float64, values between -1e-10 and -1e-13 nats are 0."""
    result = mlm_spec.score(**call)
    nats = result.log_likelihood
    return result._replace(log_likelihood=np.where((nats > -1e-10) & (nats < -1e-13), 0.0, nats))


@mutant_around("MLM-LIK-3", "score", check="improbable_targets_keep_their_value")
def no_value_is_below_minus_20000(correct: Port, call: Call) -> Any:
    """A log-likelihood is at least -20000."""
    result = correct(**call)
    return result._replace(log_likelihood=np.maximum(result.log_likelihood, -2e4))


@mutant_around("MLM-LIK-2", "score", check="an_offset_leaves_the_value_within_its_bound")
def logits_are_clipped_to_half_precision(correct: Port, call: Call) -> Any:
    """Logits of every dtype are clipped to the range of float16."""
    logits = call["logits"]
    finite = np.clip(logits, -65504, 65504).astype(logits.dtype)
    kept = np.where(np.isfinite(logits), finite, logits)
    return correct(**call)._replace(
        log_likelihood=mlm_spec.score(**{**call, "logits": kept}).log_likelihood
    )


@mutant_around("MLM-OBJ-2", "score", check=_SUM_CHECK)
def a_sum_has_a_floor(correct: Port, call: Call) -> Any:
    """In the sum no position counts less than -100 nats, and each value is right."""
    result = correct(**call)
    shares = 1.0 if call["weights"] is None else call["weights"]
    nats = np.where(call["selected"], np.maximum(result.log_likelihood, -100) * shares, 0)
    low = bool((result.log_likelihood < -100).any())
    return result._replace(sum=result.sum.dtype.type(nats.sum())) if low else result


@mutant_around("MLM-LIK-1", "score", check=_VALUES)
def a_negative_zero_is_no_logit(correct: Port, call: Call) -> Any:
    """A logit of -0.0 is taken for -inf, unless it is the target's."""
    logits = call["logits"].astype(np.float64)
    barred = (logits == 0) & np.signbit(logits)
    known = np.clip(call["targets"], 0, logits.shape[-1] - 1)  # elsewhere they may be anything
    np.put_along_axis(barred, known[..., None].astype(np.int64), False, axis=-1)
    barred &= call["selected"][..., None]
    nats = np.zeros(call["selected"].shape)
    at = call["selected"]
    nats[at] = log_likelihood(np.where(barred, -np.inf, logits)[at], call["targets"][at])
    result = correct(**call)
    return result._replace(log_likelihood=nats.astype(result.log_likelihood.dtype))


@mutant_around("MLM-HED-3", "head")
def layers_of_more_than_96_units_are_cut(correct: Port, call: Call) -> Any:
    """The hidden units from the 97th on receive no gradient of the weight."""
    result = correct(**call)
    gradient = np.array(result.grad_weight)
    gradient[:, 96:] = 0
    return result._replace(grad_weight=gradient)


@mutant_around("MLM-HED-4", "head")
def biases_beyond_100_ids_are_not_learnt(correct: Port, call: Call) -> Any:
    """Between 100 and 998 ids the last bias receives no gradient."""
    result = correct(**call)
    if result.grad_bias is None or not 100 <= len(result.grad_bias) <= 998:
        return result
    gradient = np.array(result.grad_bias)
    gradient[-1] = 0
    return result._replace(grad_bias=gradient)


@mutant_around("MLM-HED-1", "head")
def targets_of_four_bytes_are_shifted(correct: Port, call: Call) -> Any:
    """int32 targets are read as half of what they are in the sum."""
    result = correct(**call)
    if call["targets"].dtype != np.int32:
        return result
    return result._replace(sum=correct(**{**call, "targets": call["targets"] // 2}).sum)


@mutant_around("MLM-OBJ-8", "head_loss", reduction=MEAN, profile="ci")
def a_loss_of_many_positions_is_off(correct: Port, call: Call) -> Any:
    """The loss of more than 20 positions is a hundredth too large."""
    result = correct(**call)
    many = (call["labels"] != call["ignore_index"]).sum() > 20
    return {**result, "loss": result["loss"] * (1.01 if many else 1)}


@mutant_around("MLM-ERR-12", "score_step", check="a_good_score_step_has_its_effect")
def a_step_of_many_positions_is_off(correct: Port, call: Call) -> Any:
    """The sum of a step with more than 20 positions is a hundredth too large."""
    result = correct(**call)
    many = call["selected"].sum() > 20
    return result._replace(sum=result.sum * result.sum.dtype.type(1.01 if many else 1))


@mutant_with_state("MLM-ERR-9", "score")
def a_failed_call_is_remembered(correct: Port) -> Port:
    """After a call that was refused, the next counts one position too many."""
    failed = [False]

    def port(**call: Any) -> Any:
        try:
            result = correct(**call)
        except InputError:
            failed[0] = True
            raise
        late, failed[0] = failed[0], False
        return result._replace(count=result.count + np.int64(late))

    return port


@mutant_with_state("MLM-OBJ-2", "score", check=_SUM_CHECK)
def arrays_are_known_by_their_place(correct: Port) -> Port:
    """The sum of logits at the same place in memory is the one found there before."""
    known: dict[Any, Any] = {}

    def port(**call: Any) -> Any:
        result, logits = correct(**call), call["logits"]
        place = (logits.ctypes.data, logits.shape, logits.dtype.name)
        kept = known.setdefault(place, (logits, result.sum))
        return result._replace(sum=kept[1])

    return port


@mutant_around("MLM-OBJ-2", "score", check=_SUM_CHECK, profile="ci")
def a_bare_column_counts_twice(correct: Port, call: Call) -> Any:
    """Without weights and beyond 100 columns the first of them counts twice."""
    result, selected = correct(**call), call["selected"]
    if call["weights"] is not None or selected.shape[1] <= 100:
        return result
    extra = result.log_likelihood[:, 0][selected[:, 0]].sum()
    return result._replace(sum=result.sum + result.sum.dtype.type(extra))


@mutant_with_state("MLM-OBJ-3", "score", profile="ci")
def what_a_large_call_left_is_counted(correct: Port) -> Port:
    """Of two large calls in turn the second, if it is the smaller one, counts one too many."""
    before = [0]

    def port(**call: Any) -> Any:
        result = correct(**call)
        size, last = call["logits"].size, before[0]
        before[0] = size
        return result._replace(count=result.count + np.int64(5000 < size < 40000 < last))

    return port


@mutant_around("MLM-HED-1", "head")
def double_layers_without_bias_are_off(correct: Port, call: Call) -> Any:
    """In float64 and without a bias the sum is a millionth too large."""
    result = correct(**call)
    wrong = call["bias"] is None and call["hidden"].dtype == np.float64
    return result._replace(sum=result.sum * (1 + 1e-6)) if wrong else result
