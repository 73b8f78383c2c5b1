"""Chapter OBJ on scores: backends that add up something else, or count something else."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from mlm_conformance.mutants.registry import Port, mutant_around
from mlm_spec import log_likelihood

__all__ = [
    "a_product_masks_the_sum",
    "count_is_at_least_one",
    "count_of_non_zero_weights",
    "count_skips_id_0",
    "count_with_an_epsilon",
    "divides_by_its_own_count",
    "gradient_of_nothing_is_nan",
    "logits_of_the_position_before",
    "mean_in_place_of_the_sum",
    "odd_columns_count_a_little_more",
    "positions_beyond_a_multiple_of_8_are_dropped",
    "selected_is_what_changed",
    "sum_in_bits",
    "sum_in_the_dtype_of_the_logits",
    "sum_of_nothing_is_nan",
    "sums_are_always_float32",
    "targets_read_with_a_wrong_stride",
    "terms_are_added_in_bfloat16",
    "values_in_bfloat16",
    "weights_are_divided_by_their_mean",
    "weights_do_nothing",
    "weights_of_the_first_row_for_all",
]

Call = dict[str, Any]
_SUM_CHECK = "sum_is_that_of_the_selected_log_likelihoods"
_EXAMPLES_CHECK = "worked_examples_have_their_values"


@mutant_around("MLM-OBJ-1", "score")
def a_product_masks_the_sum(correct: Port, call: Call) -> Any:
    """Every position is scored and multiplied by the selection, so NaN comes through."""
    logits, selected = call["logits"], call["selected"]
    ids = np.where(selected, call["targets"], 0).reshape(-1)
    with np.errstate(all="ignore"):
        nats = log_likelihood(logits.reshape(-1, logits.shape[-1]), ids).reshape(selected.shape)
        upstream = 1.0 if call["weights"] is None else call["weights"]
        return correct(**call)._replace(sum=np.sum(upstream * nats * selected))


@mutant_around("MLM-OBJ-1", "score")
def weights_are_divided_by_their_mean(correct: Port, call: Call) -> Any:
    """Weights are normalised by their mean over all positions, selected or not."""
    result, weights = correct(**call), call["weights"]
    return result if weights is None else result._replace(sum=result.sum / weights.mean())


@mutant_around("MLM-OBJ-2", "score", check=_SUM_CHECK)
def sum_in_bits(correct: Port, call: Call) -> Any:
    """The logarithm has base 2."""
    result = correct(**call)
    return result._replace(sum=result.sum / np.log(2.0))


@mutant_around(
    "MLM-OBJ-2", "score", check=_SUM_CHECK, url="https://github.com/d2l-ai/d2l-en/pull/2688"
)
def weights_do_nothing(correct: Port, call: Call) -> Any:
    """The weights are taken and not used."""
    return correct(**{**call, "weights": None})


@mutant_around("MLM-OBJ-2", "score", check=_EXAMPLES_CHECK)
def mean_in_place_of_the_sum(correct: Port, call: Call) -> Any:
    """The sum is divided by the count."""
    result = correct(**call)
    return result._replace(sum=result.sum / max(int(result.count), 1))


@mutant_around("MLM-OBJ-2", "score", check=_EXAMPLES_CHECK)
def logits_of_the_position_before(correct: Port, call: Call) -> Any:
    """Logits are shifted by one position, as for a causal model."""
    logits = call["logits"]
    ready = np.where(call["selected"][..., None], np.roll(logits, 1, axis=1), logits)
    return correct(**{**call, "logits": ready})


@mutant_around("MLM-OBJ-2", "score", check=_SUM_CHECK)
def terms_are_added_in_bfloat16(correct: Port, call: Call) -> Any:
    """The terms are right, and their sum is kept in bfloat16."""
    result, total = correct(**call), ml_dtypes.bfloat16(0.0)
    weights = 1.0 if call["weights"] is None else call["weights"]
    for term in (weights * result.log_likelihood)[call["selected"]]:
        total = ml_dtypes.bfloat16(float(total) + float(term))
    return result._replace(sum=np.float64(total))


@mutant_around("MLM-OBJ-3", "score")
def count_of_non_zero_weights(correct: Port, call: Call) -> Any:
    """A selected position of weight 0 is not counted."""
    result, weights = correct(**call), call["weights"]
    if weights is None:
        return result
    return result._replace(count=np.count_nonzero(weights[call["selected"]]))


@mutant_around("MLM-OBJ-3", "score")
def count_is_at_least_one(correct: Port, call: Call) -> Any:
    """The count is max(count, 1), so that a mean never divides by 0."""
    result = correct(**call)
    return result._replace(count=max(int(result.count), 1))


@mutant_around("MLM-OBJ-3", "score", url="https://github.com/mosaicml/examples/issues/457")
def count_skips_id_0(correct: Port, call: Call) -> Any:
    """A selected position whose target is id 0 is not counted (``labels > 0``)."""
    count = int((call["targets"][call["selected"]] > 0).sum())
    return correct(**call)._replace(count=count)


@mutant_around("MLM-OBJ-3", "score")
def count_with_an_epsilon(correct: Port, call: Call) -> Any:
    """1e-5 is added to the count."""
    result = correct(**call)
    return result._replace(count=np.float32(result.count) + np.float32(1e-5))


@mutant_around("MLM-OBJ-4", "mask")
def selected_is_what_changed(correct: Port, call: Call) -> Any:
    """A position counts as selected where its input is not its token."""
    batch = correct(**call)
    return batch._replace(selected=batch.inputs != batch.targets)


@mutant_around("MLM-OBJ-5", "score")
def divides_by_its_own_count(correct: Port, call: Call) -> Any:
    """Each call is normalised by itself, so parts do not add up to the whole."""
    result = correct(**call)
    return result._replace(sum=result.sum / max(int(result.count), 1))


@mutant_around(
    "MLM-OBJ-5",
    "score",
    url="https://github.com/JonasGeiping/cramming/blob/196c991/cramming/architectures/"
    "crammed_bert.py",
)
def positions_beyond_a_multiple_of_8_are_dropped(correct: Port, call: Call) -> Any:
    """The room for selected positions is rounded down, and the rest is left out."""
    places = np.flatnonzero(call["selected"])
    kept = np.zeros(call["selected"].size, np.bool_)
    kept[places[: len(places) // 8 * 8]] = True
    return correct(**{**call, "selected": kept.reshape(call["selected"].shape)})


@mutant_around("MLM-OBJ-6", "score")
def weights_of_the_first_row_for_all(correct: Port, call: Call) -> Any:
    """The weights of the first row are used in every row."""
    weights = call["weights"]
    if weights is None:
        return correct(**call)
    return correct(**{**call, "weights": np.broadcast_to(weights[:1], weights.shape).copy()})


@mutant_around(
    "MLM-OBJ-6",
    "score",
    url="https://github.com/Dao-AILab/flash-attention/commit/bedf8774",
)
def targets_read_with_a_wrong_stride(correct: Port, call: Call) -> Any:
    """Each row's targets are read from one place before its own."""
    targets = call["targets"]
    rows, columns = targets.shape
    at = np.arange(rows)[:, None] * (columns - 1) + np.arange(columns)
    return correct(**{**call, "targets": targets.reshape(-1)[at]})


@mutant_around("MLM-OBJ-7", "score", url="https://github.com/huggingface/transformers/issues/16711")
def sum_of_nothing_is_nan(correct: Port, call: Call) -> Any:
    """The sum is count times a mean, and the mean of nothing is NaN."""
    result = correct(**call)
    return result if result.count else result._replace(sum=np.float64(np.nan))


@mutant_around("MLM-OBJ-7", "score")
def gradient_of_nothing_is_nan(correct: Port, call: Call) -> Any:
    """The gradient is divided and multiplied by the count."""
    result = correct(**call)
    if result.count:
        return result
    return result._replace(grad_logits=np.full_like(result.grad_logits, np.nan))


@mutant_around("MLM-OBJ-12", "score")
def sum_in_the_dtype_of_the_logits(correct: Port, call: Call) -> Any:
    """The sum is returned in the dtype of the logits."""
    result = correct(**call)
    return result._replace(sum=result.sum.astype(call["logits"].dtype))


@mutant_around("MLM-OBJ-12", "score")
def values_in_bfloat16(correct: Port, call: Call) -> Any:
    """The log-likelihoods of narrow logits are returned in bfloat16."""
    result = correct(**call)
    if call["logits"].dtype.itemsize > 2:
        return result
    return result._replace(log_likelihood=result.log_likelihood.astype(ml_dtypes.bfloat16))


@mutant_around("MLM-OBJ-12", "score")
def sums_are_always_float32(correct: Port, call: Call) -> Any:
    """The sum of float64 logits is kept in float32."""
    result = correct(**call)
    return result._replace(sum=np.float32(result.sum))


@mutant_around("MLM-OBJ-6", "score")
def odd_columns_count_a_little_more(correct: Port, call: Call) -> Any:
    """Odd columns have a thousandth more weight, so that whole rows still add up."""
    odd = np.arange(call["selected"].shape[1]) % 2
    weights = np.ones(call["selected"].shape) if call["weights"] is None else call["weights"]
    changed = (weights * (1.0 + odd / 1000.0)).astype(weights.dtype)
    return correct(**call)._replace(sum=correct(**{**call, "weights": changed}).sum)
