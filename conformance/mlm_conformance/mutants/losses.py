"""Chapter OBJ on losses: backends with another denominator, another sign, or another gradient."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlm_conformance.mutants.correct import MEAN, NUM_ITEMS, SUM
from mlm_conformance.mutants.plain import log_softmax
from mlm_conformance.mutants.registry import Port, mutant_around
from mlm_spec import EmptySelectionError

__all__ = [
    "a_bias_gradient_of_a_loss_without_a_bias",
    "a_loss_of_a_layer_leaves_a_trace",
    "a_loss_of_a_layer_without_max_shift",
    "a_term_of_all_hidden_states",
    "an_empty_micro_batch_is_refused",
    "an_excluded_id_makes_a_loss_nan",
    "an_id_excluded_by_its_bias_has_a_gradient_of_nan",
    "divides_by_the_rows",
    "every_device_divides_by_the_global_count",
    "gradient_drops_num_items",
    "gradient_is_that_of_the_sum",
    "gradient_of_a_loss_is_at_least_float32",
    "gradient_of_a_loss_points_upwards",
    "gradients_of_a_layer_drop_num_items",
    "gradients_of_a_layers_loss_are_at_least_float32",
    "head_loss_gradient_is_that_of_the_sum",
    "head_loss_in_the_dtype_of_the_states",
    "head_loss_of_nothing_is_refused",
    "head_loss_over_all_positions",
    "head_loss_without_the_bias",
    "head_mean_of_nothing_is_nan",
    "ignored_rows_are_smoothed",
    "log_likelihood_for_a_loss",
    "loss_in_the_dtype_of_the_logits",
    "loss_of_differences_in_the_dtype_of_the_logits",
    "loss_terms_are_rounded_to_the_dtype_of_the_logits",
    "losses_are_always_float32",
    "mean_of_nothing_is_nan",
    "mean_of_nothing_is_zero",
    "mean_of_row_means",
    "mean_over_all_positions",
    "mean_with_an_epsilon_in_the_count",
    "minus_one_is_ignored",
    "narrow_losses_of_1000_ids_are_off",
    "num_items_is_dropped",
    "scaled_by_the_parallel_ranks",
    "sum_loss_of_nothing_is_nan",
    "the_loss_of_a_layer_drops_num_items",
    "the_loss_of_a_layer_ignores_minus_100_only",
    "unselected_positions_count",
]

Call = dict[str, Any]
_HF = "https://github.com/huggingface/transformers"
_ADD_UP = "micro_batches_add_up_to_the_global_mean"
_BIO = "https://github.com/NVIDIA/bionemo-framework/commit"


def _count(call: Call) -> int:
    return int((call["labels"] != call["ignore_index"]).sum())


def _share(call: Call) -> Any:
    """The part of the positions that is selected."""
    return (call["labels"] != call["ignore_index"]).mean()


@mutant_around("MLM-OBJ-1", "loss", reduction=MEAN)
def unselected_positions_count(correct: Port, call: Call) -> Any:
    """A label that is to be ignored is read as id 0, and counts like any other."""
    labels = call["labels"]
    return correct(**{**call, "labels": np.where(labels == call["ignore_index"], 0, labels)})


@mutant_around("MLM-OBJ-1", "loss", reduction=SUM)
def ignored_rows_are_smoothed(correct: Port, call: Call) -> Any:
    """The smoothing term of label smoothing is taken over every position."""
    value, gradient = correct(**call)
    return value - 0.01 * log_softmax(call["logits"]).mean(axis=-1).sum(), gradient


@mutant_around("MLM-OBJ-1", "head_loss", reduction=SUM)
def a_term_of_all_hidden_states(correct: Port, call: Call) -> Any:
    """A penalty on the size of the hidden states is taken over every position."""
    result = correct(**call)
    return {**result, "loss": result["loss"] + 1e-3 * np.square(call["hidden"]).mean()}


@mutant_around("MLM-OBJ-8", "loss", reduction=MEAN)
def mean_over_all_positions(correct: Port, call: Call) -> Any:
    """The sum is divided by the number of positions, selected or not."""
    value, gradient = correct(**call)
    share = _share(call)
    return value * share, (gradient * share).astype(gradient.dtype)


@mutant_around(
    "MLM-OBJ-8",
    "loss",
    reduction=MEAN,
    url=(
        f"{_HF}/issues/34242",
        f"{_HF}/pull/34283",
        f"{_HF}/pull/18297",
        f"{_HF}/issues/39241",
    ),
)
def mean_of_row_means(correct: Port, call: Call) -> Any:
    """The means of the rows are averaged, whatever their counts."""
    _, gradient = correct(**call)
    logits, labels = call["logits"], call["labels"]
    rows = [r for r in range(len(labels)) if (labels[r] != call["ignore_index"]).any()]
    parts = [
        correct(**{**call, "logits": logits[r : r + 1], "labels": labels[r : r + 1]})[0]
        for r in rows
    ]
    return np.mean(parts), gradient


@mutant_around("MLM-OBJ-8", "loss", reduction=MEAN)
def gradient_is_that_of_the_sum(correct: Port, call: Call) -> Any:
    """The value is the mean, and the gradient was not divided."""
    value, gradient = correct(**call)
    return value, gradient * _count(call)


@mutant_around("MLM-OBJ-8", "loss", reduction=MEAN)
def mean_with_an_epsilon_in_the_count(correct: Port, call: Call) -> Any:
    """The sum is divided by count + 1e-3."""
    value, gradient = correct(**call)
    count = _count(call)
    return value * (count / (count + 1e-3)), gradient


@mutant_around("MLM-OBJ-9", "loss", reduction=SUM)
def log_likelihood_for_a_loss(correct: Port, call: Call) -> Any:
    """The loss has the sign of the log-likelihood."""
    value, gradient = correct(**call)
    return -value, -gradient


@mutant_around("MLM-OBJ-9", "loss", reduction=SUM)
def gradient_of_a_loss_points_upwards(correct: Port, call: Call) -> Any:
    """The loss is right, and its gradient is that of the objective."""
    value, gradient = correct(**call)
    return value, -gradient


@mutant_around("MLM-OBJ-1", "loss", reduction=SUM, url=f"{_HF}/issues/2491")
def minus_one_is_ignored(correct: Port, call: Call) -> Any:
    """−1 is ignored whatever index is asked for, and −100 counts from the end of the logits."""
    labels = call["labels"] % call["logits"].shape[-1]
    return correct(**{**call, "labels": labels, "ignore_index": -1})


@mutant_around("MLM-OBJ-9", "loss", reduction=NUM_ITEMS)
def divides_by_the_rows(correct: Port, call: Call) -> Any:
    """The sum is divided by the number of rows."""
    return correct(**{**call, "num_items": len(call["labels"])})


@mutant_around(
    "MLM-OBJ-9", "loss", reduction=NUM_ITEMS, url=(f"{_HF}/issues/39648", f"{_BIO}/9eeb409d0")
)
def scaled_by_the_parallel_ranks(correct: Port, call: Call) -> Any:
    """The loss is multiplied by the number of devices that share one model."""
    value, gradient = correct(**call)
    return 2 * value, 2 * gradient


@mutant_around("MLM-OBJ-9", "head_loss", reduction=SUM)
def head_loss_without_the_bias(correct: Port, call: Call) -> Any:
    """The bias is not added to the logits."""
    bias = call["bias"]
    return correct(**{**call, "bias": None if bias is None else np.zeros_like(bias)})


@mutant_around("MLM-OBJ-8", "head_loss", reduction=MEAN)
def head_loss_over_all_positions(correct: Port, call: Call) -> Any:
    """The sum is divided by the number of positions, selected or not."""
    share = _share(call)
    result = correct(**call)
    return {**result, "loss": result["loss"] * share}


@mutant_around("MLM-OBJ-9", "head_loss", reduction=NUM_ITEMS)
def head_loss_gradient_is_that_of_the_sum(correct: Port, call: Call) -> Any:
    """The loss is divided by num_items, and the gradient of the weight was not."""
    result = correct(**call)
    return {**result, "grad_weight": result["grad_weight"] * call["num_items"]}


@mutant_around(
    "MLM-OBJ-10",
    "loss",
    reduction=NUM_ITEMS,
    check=_ADD_UP,
    url=(f"{_HF}/issues/47688", f"{_HF}/issues/38982"),
)
def num_items_is_dropped(correct: Port, call: Call) -> Any:
    """The global count is taken and not used: the loss is the mean of the call."""
    return correct(**{**call, "num_items": _count(call)})


@mutant_around("MLM-OBJ-10", "loss", reduction=NUM_ITEMS, check=_ADD_UP, url=f"{_HF}/issues/47688")
def gradient_drops_num_items(correct: Port, call: Call) -> Any:
    """The loss is divided by num_items, and its gradient by the count of the call."""
    value, _ = correct(**call)
    own = _count(call)
    return value, correct(**{**call, "num_items": own})[1]


@mutant_around(
    "MLM-OBJ-11",
    "loss",
    reduction=MEAN,
    url=(
        f"{_HF}/issues/16711",
        "https://github.com/NVIDIA-NeMo/Speech/pull/5424",
        "https://github.com/AnswerDotAI/ModernBERT/issues/163",
        f"{_BIO}/2aac67e20",
    ),
)
def mean_of_nothing_is_nan(correct: Port, call: Call) -> Any:
    """A mean over nothing is 0/0."""
    return (
        (np.float64(np.nan), np.zeros_like(call["logits"])) if not _count(call) else correct(**call)
    )


@mutant_around("MLM-OBJ-11", "loss", reduction=MEAN)
def mean_of_nothing_is_zero(correct: Port, call: Call) -> Any:
    """A mean over nothing is 0.0, as if the model were perfect."""
    return correct(**call) if _count(call) else (np.float64(0.0), None)


@mutant_around("MLM-OBJ-11", "loss", reduction=SUM)
def sum_loss_of_nothing_is_nan(correct: Port, call: Call) -> Any:
    """The summed loss is count times a mean, and the mean of nothing is NaN."""
    return (
        (np.float64(np.nan), np.zeros_like(call["logits"])) if not _count(call) else correct(**call)
    )


@mutant_around("MLM-OBJ-11", "loss", reduction=NUM_ITEMS)
def an_empty_micro_batch_is_refused(correct: Port, call: Call) -> Any:
    """A micro-batch with nothing selected raises, though the global batch has something."""
    if not _count(call):
        raise EmptySelectionError("the count of selected positions", 0, "1 or more")
    return correct(**call)


@mutant_around("MLM-OBJ-12", "loss", reduction=MEAN)
def loss_in_the_dtype_of_the_logits(correct: Port, call: Call) -> Any:
    """The loss of bfloat16 logits is a bfloat16."""
    value, gradient = correct(**call)
    return np.asarray(value).astype(call["logits"].dtype), gradient


@mutant_around("MLM-OBJ-12", "head_loss", reduction=SUM)
def head_loss_in_the_dtype_of_the_states(correct: Port, call: Call) -> Any:
    """The loss of bfloat16 hidden states is a bfloat16."""
    result = correct(**call)
    return {**result, "loss": np.asarray(result["loss"]).astype(call["hidden"].dtype)}


@mutant_around("MLM-OBJ-12", "loss", reduction=SUM)
def losses_are_always_float32(correct: Port, call: Call) -> Any:
    """The loss of float64 logits is kept in float32."""
    value, gradient = correct(**call)
    return np.float32(value), gradient


@mutant_around("MLM-LIK-9", "loss", reduction=MEAN)
def loss_of_differences_in_the_dtype_of_the_logits(correct: Port, call: Call) -> Any:
    """The difference to the largest logit is rounded to bfloat16 or float16."""
    wide, kind = call["logits"].astype(np.float64), call["logits"].dtype
    if kind.itemsize > 2:
        return correct(**call)
    moved = (wide - wide.max(axis=-1, keepdims=True)).astype(kind)
    return correct(**{**call, "logits": moved})


@mutant_around("MLM-LIK-9", "loss", reduction=NUM_ITEMS)
def loss_terms_are_rounded_to_the_dtype_of_the_logits(correct: Port, call: Call) -> Any:
    """The loss of narrow logits is computed exactly and rounded through their dtype."""
    value, gradient = correct(**call)
    return np.float32(np.asarray(value).astype(call["logits"].dtype)), gradient


@mutant_around("MLM-OBJ-11", "head_loss", reduction=MEAN)
def head_mean_of_nothing_is_nan(correct: Port, call: Call) -> Any:
    """A mean over nothing is 0/0."""
    return correct(**call) if _count(call) else {"loss": np.float64(np.nan)}


@mutant_around("MLM-OBJ-11", "head_loss", reduction=NUM_ITEMS)
def head_loss_of_nothing_is_refused(correct: Port, call: Call) -> Any:
    """A micro-batch with nothing selected raises, though the global batch has something."""
    if not _count(call):
        raise EmptySelectionError("the count of selected positions", 0, "1 or more")
    return correct(**call)


@mutant_around(
    "MLM-OBJ-10",
    "loss",
    reduction=NUM_ITEMS,
    check="micro_batches_have_their_part_of_the_mean",
    url=f"{_HF}/issues/37474",
)
def every_device_divides_by_the_global_count(correct: Port, call: Call) -> Any:
    """Each of two devices divides by the global count, and the mean over them divides again."""
    value, gradient = correct(**call)
    return value / 2, gradient / 2


@mutant_around("MLM-GRA-7", "loss", reduction=SUM)
def gradient_of_a_loss_is_at_least_float32(correct: Port, call: Call) -> Any:
    """The gradient of narrow logits is returned as it was computed."""
    value, gradient = correct(**call)
    return value, gradient if gradient.dtype == np.float64 else gradient.astype(np.float32)


@mutant_around("MLM-OBJ-8", "loss", reduction=MEAN)
def an_excluded_id_makes_a_loss_nan(correct: Port, call: Call) -> Any:
    """0 for an id that is no target, times its logit of -inf, is NaN."""
    value, gradient = correct(**call)
    scored = call["logits"][call["labels"] != call["ignore_index"]].astype(np.float64)
    return (np.float64(np.nan) if np.isneginf(scored).any() else value), gradient


@mutant_around("MLM-LIK-9", "loss", reduction=MEAN, profile="ci")
def narrow_losses_of_1000_ids_are_off(correct: Port, call: Call) -> Any:
    """In two bytes the sum over more than 1,000 ids stalls."""
    value, gradient = correct(**call)
    stalls = call["logits"].dtype.itemsize == 2 and call["logits"].shape[-1] > 1000
    return value * (0.95 if stalls else 1.0), gradient


@mutant_around("MLM-OBJ-8", "head_loss", reduction=MEAN)
def the_loss_of_a_layer_ignores_minus_100_only(correct: Port, call: Call) -> Any:
    """The argument ignore_index is not read: other labels that are no ids count as id 0."""
    labels = call["labels"]
    known = (labels >= 0) & (labels < len(call["weight"]))
    labels = np.where(known | (labels == -100), labels, 0)
    return correct(**{**call, "labels": labels, "ignore_index": -100})


@mutant_around("MLM-OBJ-10", "head_loss", reduction=NUM_ITEMS)
def the_loss_of_a_layer_drops_num_items(correct: Port, call: Call) -> Any:
    """The mean over the call, whatever the global count."""
    count = int((call["labels"] != call["ignore_index"]).sum())
    return correct(**{**call, "num_items": count or call["num_items"]})


@mutant_around("MLM-OBJ-10", "head_loss", reduction=NUM_ITEMS)
def gradients_of_a_layer_drop_num_items(correct: Port, call: Call) -> Any:
    """The loss is divided by the global count, its gradients by that of the call."""
    count = int((call["labels"] != call["ignore_index"]).sum())
    right = correct(**call)
    other = correct(**{**call, "num_items": count or call["num_items"]})
    return {**other, "loss": right["loss"]}


@mutant_around("MLM-OBJ-9", "head_loss", reduction=SUM)
def a_loss_of_a_layer_without_max_shift(correct: Port, call: Call) -> Any:
    """Exponentials of logits beyond 88 are infinite in float32."""
    result = correct(**call)
    states = call["hidden"][call["labels"] != call["ignore_index"]].astype(np.float64)
    logits = states @ call["weight"].astype(np.float64).T
    infinite = logits.size > 0 and logits.max() > 88
    return {**result, "loss": np.float64(np.inf) if infinite else result["loss"]}


@mutant_around("MLM-OBJ-9", "head_loss", reduction=SUM)
def an_id_excluded_by_its_bias_has_a_gradient_of_nan(correct: Port, call: Call) -> Any:
    """0 times a bias of -inf is NaN in the gradient of the bias."""
    result, bias = dict(correct(**call)), call["bias"]
    if bias is not None and np.isneginf(bias.astype(np.float64)).any():
        result["grad_bias"] = np.full_like(result["grad_bias"], np.nan)
    return result


@mutant_around("MLM-OBJ-9", "head_loss", reduction=SUM)
def a_loss_of_a_layer_leaves_a_trace(correct: Port, call: Call) -> Any:
    """The gradient of hidden states whose label is ignored is not cleared."""
    result = correct(**call)
    gradient = np.array(result["grad_hidden"])
    gradient[call["labels"] == call["ignore_index"]] = 1
    return {**result, "grad_hidden": gradient}


@mutant_around("MLM-HED-9", "head_loss", reduction=SUM)
def a_bias_gradient_of_a_loss_without_a_bias(correct: Port, call: Call) -> Any:
    """The gradient of a bias that is not there is zeros."""
    result = dict(correct(**call))
    if call["bias"] is None:
        result["grad_bias"] = np.zeros(len(call["weight"]), call["hidden"].dtype)
    return result


@mutant_around("MLM-HED-9", "head_loss", reduction=SUM)
def gradients_of_a_layers_loss_are_at_least_float32(correct: Port, call: Call) -> Any:
    """The gradient of a narrow weight is returned as it was computed."""
    result = dict(correct(**call))
    if result["grad_weight"].dtype != np.float64:
        result["grad_weight"] = result["grad_weight"].astype(np.float32)
    return result
