"""Backends that are right at the usual sizes, arguments and values, and wrong beside them."""

from __future__ import annotations

from typing import Any

import numpy as np

import mlm_spec
from mlm_conformance.mutants.correct import MEAN, NUM_ITEMS, SUM
from mlm_conformance.mutants.inside import scored_with
from mlm_conformance.mutants.registry import Port, mutant, mutant_around
from mlm_spec import log_likelihood

__all__ = [
    "a_padding_id_where_the_vocabulary_is_odd",
    "columns_from_128_on_are_not_scored",
    "count_in_eight_bits",
    "count_skips_an_id",
    "excluded_ids_of_a_full_vocabulary_count",
    "gradient_of_a_narrow_loss_is_doubled",
    "many_positions_are_off",
    "minus_infinity_is_minus_10000",
    "nan_rows_are_cleared_in_place",
    "nan_states_are_cleared_in_place",
    "no_gradient_beyond_1000_ids",
    "no_narrow_gradient_of_a_full_vocabulary",
    "positions_beyond_64_are_dropped",
    "rows_from_5_on_are_not_scored",
    "the_global_mean_ignores_minus_100_only",
    "the_last_id_has_no_gradient_where_the_vocabulary_is_odd",
    "the_last_of_many_terms_is_lost",
    "the_loss_ignores_minus_100_only",
    "the_mean_ignores_minus_100_only",
]

Call = dict[str, Any]
_SUM_CHECK = "sum_is_that_of_the_selected_log_likelihoods"


def _scored(call: Call, **changes: Any) -> Any:
    """The right score of a call with other arguments."""
    return mlm_spec.score(**{**call, **changes})


def _without(call: Call, rows: slice, columns: slice) -> Any:
    selected = call["selected"].copy()
    selected[rows, columns] = False
    return _scored(call, selected=selected)


@mutant_around("MLM-OBJ-2", "score", check=_SUM_CHECK)
def positions_beyond_64_are_dropped(correct: Port, call: Call) -> Any:
    """More than 64 selected positions: the others are left out of the sum."""
    flat = call["selected"].reshape(-1)
    kept = (flat & (np.cumsum(flat) <= 64)).reshape(call["selected"].shape)
    result = correct(**call)
    return result._replace(sum=_scored(call, selected=kept).sum)


@mutant_around("MLM-OBJ-2", "score", check=_SUM_CHECK)
def columns_from_128_on_are_not_scored(correct: Port, call: Call) -> Any:
    """A row is cut at 128 columns."""
    return correct(**call)._replace(sum=_without(call, slice(None), slice(128, None)).sum)


@mutant_around("MLM-OBJ-2", "score", check=_SUM_CHECK)
def rows_from_5_on_are_not_scored(correct: Port, call: Call) -> Any:
    """A batch is cut at five rows."""
    return correct(**call)._replace(sum=_without(call, slice(5, None), slice(None)).sum)


@mutant_around("MLM-OBJ-3", "score")
def count_skips_an_id(correct: Port, call: Call) -> Any:
    """Positions whose target is id 3 are not counted."""
    return correct(**call)._replace(count=(call["selected"] & (call["targets"] != 3)).sum())


@mutant_around("MLM-OBJ-3", "score")
def count_in_eight_bits(correct: Port, call: Call) -> Any:
    """The count is kept in an unsigned byte."""
    return correct(**call)._replace(count=np.uint8(int(call["selected"].sum()) % 256))


@mutant_around("MLM-OBJ-1", "loss", reduction=MEAN)
def the_mean_ignores_minus_100_only(correct: Port, call: Call) -> Any:
    """The argument ignore_index is not read: -100 is ignored, and nothing else."""
    return correct(**{**call, "labels": _for_minus_100(call), "ignore_index": -100})


@mutant_around("MLM-OBJ-1", "loss", reduction=SUM)
def the_loss_ignores_minus_100_only(correct: Port, call: Call) -> Any:
    """The argument ignore_index is not read: -100 is ignored, and nothing else."""
    return correct(**{**call, "labels": _for_minus_100(call), "ignore_index": -100})


@mutant_around("MLM-OBJ-1", "loss", reduction=NUM_ITEMS)
def the_global_mean_ignores_minus_100_only(correct: Port, call: Call) -> Any:
    """The argument ignore_index is not read: -100 is ignored, and nothing else."""
    return correct(**{**call, "labels": _for_minus_100(call), "ignore_index": -100})


def _for_minus_100(call: Call) -> Any:
    """Labels outside the vocabulary, which a backend would stumble over, read as id 0."""
    labels = call["labels"]
    known = (labels >= 0) & (labels < call["logits"].shape[-1])
    return np.where(known | (labels == -100), labels, 0)


@mutant_around("MLM-LIK-9", "loss", reduction=MEAN)
def gradient_of_a_narrow_loss_is_doubled(correct: Port, call: Call) -> Any:
    """The gradient of bfloat16 and float16 logits is taken twice."""
    value, gradient = correct(**call)
    return value, gradient * 2 if call["logits"].dtype.itemsize == 2 else gradient


@mutant("MLM-LIK-6", "score")
def a_padding_id_where_the_vocabulary_is_odd(**call: Any) -> Any:
    """An odd vocabulary is padded by an id with logit 0, which enters the softmax."""

    def value(z: Any, t: Any) -> Any:
        padded = np.concatenate([z, np.zeros((len(z), z.shape[-1] % 2))], axis=-1)
        return log_likelihood(padded.astype(np.float64), t)

    return scored_with(call, value)


@mutant_around("MLM-GRA-1", "score")
def the_last_id_has_no_gradient_where_the_vocabulary_is_odd(correct: Port, call: Call) -> Any:
    """A kernel of pairs leaves out the last id of an odd vocabulary."""
    result = correct(**call)
    gradient = np.array(result.grad_logits)
    if gradient.shape[-1] % 2 and gradient.shape[-1] > 1:
        gradient[..., -1] = 0
    return result._replace(grad_logits=gradient)


@mutant_around("MLM-GRA-1", "score")
def no_gradient_beyond_1000_ids(correct: Port, call: Call) -> Any:
    """Beyond 1,000 ids the gradient stays zero."""
    result = correct(**call)
    keep = call["logits"].shape[-1] <= 1000
    return result._replace(grad_logits=result.grad_logits * np.asarray(keep, call["logits"].dtype))


@mutant("MLM-LIK-5", "score")
def minus_infinity_is_minus_10000(**call: Any) -> Any:
    """An excluded id gets the logit -10000, as attention masks do."""

    def value(z: Any, t: Any) -> Any:
        wide = z.astype(np.float64)
        return log_likelihood(np.where(np.isneginf(wide), -1e4, wide), t)

    return scored_with(call, value)


@mutant_around("MLM-OBJ-13", "score")
def nan_rows_are_cleared_in_place(correct: Port, call: Call) -> Any:
    """Logits of unselected positions become 0 in the caller's array, if any of them is NaN."""
    result, other = correct(**call), ~call["selected"]
    if np.isnan(call["logits"][other].astype(np.float32)).any():
        call["logits"][other] = 0
    return result


@mutant_around("MLM-OBJ-13", "head")
def nan_states_are_cleared_in_place(correct: Port, call: Call) -> Any:
    """Hidden states of unselected positions become 0 in the caller's array, if any is NaN."""
    result, other = correct(**call), ~call["selected"]
    if np.isnan(call["hidden"][other].astype(np.float32)).any():
        call["hidden"][other] = 0
    return result


@mutant_around("MLM-GRA-1", "score")
def no_narrow_gradient_of_a_full_vocabulary(correct: Port, call: Call) -> Any:
    """In two bytes and beyond 1,000 ids the gradient is 0."""
    result = correct(**call)
    if call["logits"].dtype.itemsize > 2 or call["logits"].shape[-1] <= 1000:
        return result
    return result._replace(grad_logits=np.zeros_like(result.grad_logits))


@mutant_around("MLM-LIK-5", "score")
def excluded_ids_of_a_full_vocabulary_count(correct: Port, call: Call) -> Any:
    """Beyond 1,000 ids a logit of -inf takes a tenth of a nat."""
    result = correct(**call)
    barred = np.isneginf(call["logits"].astype(np.float64)).any(axis=-1) & call["selected"]
    off = 0.1 * barred if call["logits"].shape[-1] > 1000 else 0.0 * barred
    return result._replace(log_likelihood=result.log_likelihood + off)


@mutant_around("MLM-OBJ-2", "score", check=_SUM_CHECK)
def the_last_of_many_terms_is_lost(correct: Port, call: Call) -> Any:
    """More than 128 selected positions: the sum lacks the last."""
    result, places = correct(**call), np.argwhere(call["selected"])
    if len(places) <= 128:
        return result
    fewer = call["selected"].copy()
    fewer[tuple(places[-1])] = False
    return result._replace(sum=_scored(call, selected=fewer).sum)


@mutant_around("MLM-LIK-1", "score", check="ordinary_logits_give_their_log_likelihood")
def many_positions_are_off(correct: Port, call: Call) -> Any:
    """More than 300 selected positions: each value is a hundredth too large."""
    result, many = correct(**call), call["selected"].sum() > 300
    return result._replace(log_likelihood=result.log_likelihood + 0.01 * many * call["selected"])
