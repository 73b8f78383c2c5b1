"""Chapter HED: output layers that are not what they replace."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from mlm_conformance.mutants.registry import Port, mutant_around
from mlm_spec import logit_gradient

__all__ = [
    "a_bias_gradient_without_a_bias",
    "a_product_without_rows_fails",
    "all_logits_are_formed",
    "all_logits_are_formed_in_bfloat16",
    "all_logits_are_formed_without_a_bias",
    "an_excluded_id_takes_part",
    "bias_gets_no_gradient",
    "bias_gradient_without_weights",
    "gradient_of_another_position",
    "gradients_are_float32",
    "gradients_of_nothing_are_nan",
    "hidden_gradient_is_not_cleared",
    "hidden_states_are_masked_by_a_product",
    "ids_beyond_the_first_block_are_left_out",
    "partial_sums_in_bfloat16",
    "products_in_fewer_bits",
    "the_bias_is_left_out",
    "the_head_counts_all_positions",
    "the_head_divides_by_its_count",
    "the_head_has_no_max_shift",
    "the_head_ignores_weights",
    "the_last_ids_pass_nothing_back",
    "the_sum_has_the_dtype_of_the_states",
    "weight_gradient_is_a_mean",
    "weight_gradient_is_transposed",
    "weight_gradient_of_targets_only",
    "weight_gradient_of_the_first_block",
    "weight_gradient_without_weights",
    "weights_are_masked_by_a_product",
]

Call = dict[str, Any]
_BIAS = "https://github.com/apple/ml-cross-entropy/issues/52"
_FILTER = "https://github.com/apple/ml-cross-entropy/pull/18"
_GRADIENTS = ("grad_hidden", "grad_weight", "grad_bias")


def _signal(call: Call, weighted: bool = True) -> Any:
    """d sum / d logits at the selected positions: float64 (N, V)."""
    chosen = call["selected"]
    logits = call["hidden"][chosen].astype(np.float64) @ call["weight"].astype(np.float64).T
    if call["bias"] is not None:
        logits = logits + call["bias"].astype(np.float64)
    signal = logit_gradient(logits, call["targets"][chosen])
    if call["weights"] is None or not weighted:
        return signal
    return call["weights"][chosen].astype(np.float64)[:, None] * signal


@mutant_around("MLM-HED-1", "head", url=_BIAS)
def the_bias_is_left_out(correct: Port, call: Call) -> Any:
    """The bias is not added to the logits."""
    bias = call["bias"]
    return correct(**{**call, "bias": None if bias is None else np.zeros_like(bias)})


@mutant_around("MLM-HED-1", "head")
def products_in_fewer_bits(correct: Port, call: Call) -> Any:
    """Hidden states are rounded to bfloat16 before the product, as tensor units may do."""
    hidden = call["hidden"]
    short = hidden.astype(ml_dtypes.bfloat16).astype(hidden.dtype)
    return correct(**call)._replace(sum=correct(**{**call, "hidden": short}).sum)


@mutant_around("MLM-HED-1", "head")
def the_head_ignores_weights(correct: Port, call: Call) -> Any:
    """The sum is that of the log-likelihoods without their weights."""
    return correct(**call)._replace(sum=correct(**{**call, "weights": None}).sum)


@mutant_around("MLM-HED-1", "head")
def the_head_counts_all_positions(correct: Port, call: Call) -> Any:
    """The count is that of all positions."""
    return correct(**call)._replace(count=call["selected"].size)


def _log_likelihoods(logits: Any, targets: Any) -> Any:
    """log p of each target, from exponentials of the logits as they are."""
    with np.errstate(all="ignore"):
        total = np.exp(logits).sum(axis=-1).astype(np.float64)
    return np.take_along_axis(logits, targets[:, None], axis=-1)[:, 0] - np.log(total)


@mutant_around("MLM-HED-1", "head")
def the_head_has_no_max_shift(correct: Port, call: Call) -> Any:
    """Exponentials are taken of the logits as they are, and overflow."""
    chosen, wide = call["selected"], np.promote_types(call["hidden"].dtype, np.float32)
    logits = call["hidden"][chosen].astype(wide) @ call["weight"].astype(wide).T
    if call["bias"] is not None:
        logits = logits + call["bias"].astype(wide)
    upstream = 1.0 if call["weights"] is None else call["weights"][chosen].astype(np.float64)
    with np.errstate(all="ignore"):
        nats = _log_likelihoods(logits, call["targets"][chosen].astype(np.int64))
        return correct(**call)._replace(sum=np.sum(upstream * nats))


@mutant_around("MLM-HED-1", "head")
def ids_beyond_the_first_block_are_left_out(correct: Port, call: Call) -> Any:
    """Ids from 8,192 on take no part, unless they are targets."""
    result, bias = correct(**call), call["bias"]
    far = np.arange(len(call["weight"])) >= 8192
    far &= ~np.isin(np.arange(len(far)), call["targets"])
    if bias is None or not far.any():
        return result
    out = np.where(far, -np.inf, bias.astype(np.float64)).astype(bias.dtype)
    return result._replace(sum=correct(**{**call, "bias": out}).sum)


@mutant_around("MLM-HED-1", "head")
def an_excluded_id_takes_part(correct: Port, call: Call) -> Any:
    """A bias of −∞ is taken for 0."""
    bias = call["bias"]
    if bias is None:
        return correct(**call)
    wide = bias.astype(np.float64)
    return correct(**{**call, "bias": np.where(np.isneginf(wide), 0.0, wide).astype(bias.dtype)})


@mutant_around("MLM-HED-2", "head")
def the_last_ids_pass_nothing_back(correct: Port, call: Call) -> Any:
    """The product with the weight leaves out the last eighth of the vocabulary."""
    result, chosen = correct(**call), call["selected"]
    kept = max(len(call["weight"]) * 7 // 8, 1)
    matrix = call["weight"].astype(np.float64)[:kept]
    gradient = result.grad_hidden.copy()
    gradient[chosen] = (_signal(call)[:, :kept] @ matrix).astype(gradient.dtype)
    return result._replace(grad_hidden=gradient)


@mutant_around("MLM-HED-2", "head")
def partial_sums_in_bfloat16(correct: Port, call: Call) -> Any:
    """The gradient of the hidden states is added up in bfloat16, eight ids at a time."""
    result, chosen = correct(**call), call["selected"]
    signal, matrix = _signal(call), call["weight"].astype(np.float64)
    total = np.zeros((len(signal), matrix.shape[1]), ml_dtypes.bfloat16)
    for start in range(0, len(matrix), 8):
        block = slice(start, start + 8)
        total = total + (signal[:, block] @ matrix[block]).astype(ml_dtypes.bfloat16)
    gradient = result.grad_hidden.copy()
    gradient[chosen] = total.astype(gradient.dtype)
    return result._replace(grad_hidden=gradient)


@mutant_around("MLM-HED-2", "head")
def gradient_of_another_position(correct: Port, call: Call) -> Any:
    """The gathered gradients are put back in reverse order."""
    result, chosen = correct(**call), call["selected"]
    gradient = result.grad_hidden.copy()
    gradient[chosen] = gradient[chosen][::-1]
    return result._replace(grad_hidden=gradient)


@mutant_around("MLM-HED-3", "head", url=_FILTER)
def weight_gradient_of_targets_only(correct: Port, call: Call) -> Any:
    """Ids that are no target get no gradient."""
    result = correct(**call)
    present = np.isin(np.arange(len(call["weight"])), call["targets"][call["selected"]])
    gradient = np.where(present[:, None], result.grad_weight, result.grad_weight * 0)
    return result._replace(grad_weight=gradient)


@mutant_around("MLM-HED-3", "head")
def weight_gradient_without_weights(correct: Port, call: Call) -> Any:
    """The weights of the positions do not enter the gradient of the weight."""
    gradient = correct(**{**call, "weights": None}).grad_weight
    return correct(**call)._replace(grad_weight=gradient)


@mutant_around("MLM-HED-3", "head")
def weight_gradient_of_the_first_block(correct: Port, call: Call) -> Any:
    """Ids from 8,192 on get no gradient."""
    gradient = correct(**call).grad_weight.copy()
    gradient[8192:] = 0
    return correct(**call)._replace(grad_weight=gradient)


@mutant_around("MLM-HED-4", "head")
def bias_gradient_without_weights(correct: Port, call: Call) -> Any:
    """The weights of the positions do not enter the gradient of the bias."""
    gradient = correct(**{**call, "weights": None}).grad_bias
    return correct(**call)._replace(grad_bias=gradient)


@mutant_around("MLM-HED-4", "head", url=_BIAS)
def bias_gets_no_gradient(correct: Port, call: Call) -> Any:
    """The gradient of the bias is zero."""
    result = correct(**call)
    if result.grad_bias is None:
        return result
    return result._replace(grad_bias=np.zeros_like(result.grad_bias))


@mutant_around("MLM-HED-5", "head")
def hidden_states_are_masked_by_a_product(correct: Port, call: Call) -> Any:
    """All hidden states enter the gradient of the weight, unselected ones times 0."""
    result = correct(**call)
    other = call["hidden"][~call["selected"]].astype(np.float64)
    with np.errstate(all="ignore"):
        nothing = (0.0 * other).sum(axis=0)
    gradient = result.grad_weight.astype(np.float64) + nothing
    return result._replace(grad_weight=gradient.astype(result.grad_weight.dtype))


@mutant_around("MLM-HED-5", "head")
def weights_are_masked_by_a_product(correct: Port, call: Call) -> Any:
    """The weights of all positions enter the sum, unselected ones times 0."""
    result, weights = correct(**call), call["weights"]
    if weights is None:
        return result
    return result._replace(sum=result.sum + (0.0 * weights[~call["selected"]]).sum())


@mutant_around("MLM-HED-5", "head")
def hidden_gradient_is_not_cleared(correct: Port, call: Call) -> Any:
    """What stands at unselected positions of the gradient is whatever was in memory."""
    result = correct(**call)
    chosen = call["selected"][..., None]
    old = np.asarray(0.5).astype(result.grad_hidden.dtype)
    return result._replace(grad_hidden=np.where(chosen, result.grad_hidden, old))


@mutant_around(
    "MLM-HED-6",
    "head",
    url="https://github.com/facebookresearch/fairseq/commit/2ed65b68",
    raises="RuntimeError",
)
def a_product_without_rows_fails(correct: Port, call: Call) -> Any:
    """A call with nothing selected fails, as a launch with no rows does."""
    if not call["selected"].any():
        raise RuntimeError("invalid configuration argument")
    return correct(**call)


@mutant_around("MLM-HED-6", "head")
def gradients_of_nothing_are_nan(correct: Port, call: Call) -> Any:
    """The gradient of the weight is divided and multiplied by the count."""
    result = correct(**call)
    if result.count:
        return result
    return result._replace(grad_weight=np.full_like(result.grad_weight, np.nan))


@mutant_around("MLM-HED-7", "head")
def the_head_divides_by_its_count(correct: Port, call: Call) -> Any:
    """The sum and the gradients are those of the mean."""
    result = correct(**call)
    by = max(int(result.count), 1)
    means = {
        name: (getattr(result, name).astype(np.float64) / by).astype(call["hidden"].dtype)
        for name in _GRADIENTS
        if getattr(result, name) is not None
    }
    return result._replace(sum=result.sum / by, **means)


@mutant_around("MLM-HED-7", "head")
def weight_gradient_is_a_mean(correct: Port, call: Call) -> Any:
    """The gradient of the weight is averaged over the rows of the product."""
    result = correct(**call)
    mean = result.grad_weight.astype(np.float64) / max(int(result.count), 1)
    return result._replace(grad_weight=mean.astype(result.grad_weight.dtype))


@mutant_around("MLM-HED-8", "head")
def all_logits_are_formed(correct: Port, call: Call) -> Any:
    """Every position is projected to the vocabulary, and the selected rows are taken."""
    hidden, weight = call["hidden"], call["weight"]
    logits = hidden.reshape(-1, hidden.shape[-1]) @ weight.T
    result = correct(**call)
    del logits  # they were there all the time
    return result


def _with_all_logits(correct: Port, call: Call) -> Any:
    """The right result, by way of the logits of every position."""
    hidden, weight = call["hidden"].astype(np.float32), call["weight"].astype(np.float32)
    logits = hidden.reshape(-1, hidden.shape[-1]) @ weight.T
    result = correct(**call)
    del logits
    return result


@mutant_around("MLM-HED-8", "head")
def all_logits_are_formed_in_bfloat16(correct: Port, call: Call) -> Any:
    """Narrow states take the old way: every position is projected to the vocabulary."""
    if call["hidden"].dtype.name != "bfloat16":
        return correct(**call)
    return _with_all_logits(correct, call)


@mutant_around("MLM-HED-8", "head")
def all_logits_are_formed_without_a_bias(correct: Port, call: Call) -> Any:
    """Only the way with a bias selects before it projects."""
    return correct(**call) if call["bias"] is not None else _with_all_logits(correct, call)


@mutant_around("MLM-HED-9", "head")
def gradients_are_float32(correct: Port, call: Call) -> Any:
    """The gradients of narrow parameters are returned in float32."""
    result = correct(**call)
    return result._replace(grad_weight=result.grad_weight.astype(np.float32))


@mutant_around("MLM-HED-9", "head")
def weight_gradient_is_transposed(correct: Port, call: Call) -> Any:
    """The gradient of the weight is (d, V)."""
    result = correct(**call)
    return result._replace(grad_weight=result.grad_weight.T.copy())


@mutant_around("MLM-HED-9", "head")
def a_bias_gradient_without_a_bias(correct: Port, call: Call) -> Any:
    """The gradient of a bias that is not there is zeros."""
    result = correct(**call)
    if result.grad_bias is not None:
        return result
    return result._replace(grad_bias=np.zeros(len(call["weight"]), call["hidden"].dtype))


@mutant_around("MLM-HED-9", "head")
def the_sum_has_the_dtype_of_the_states(correct: Port, call: Call) -> Any:
    """The sum is returned in the dtype of the hidden states."""
    result = correct(**call)
    return result._replace(sum=result.sum.astype(call["hidden"].dtype))
