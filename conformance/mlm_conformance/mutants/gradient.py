"""Chapter GRA: backends with the right value and a wrong gradient."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from mlm_conformance.mutants.plain import softmax
from mlm_conformance.mutants.registry import Port, mutant_around
from mlm_spec import logit_gradient

__all__ = [
    "a_trace_of_gradient_is_everywhere",
    "a_weight_of_0_leaves_a_trace",
    "every_position_has_the_mean_weight",
    "excluded_ids_are_smoothed",
    "excluded_ids_have_a_gradient_of_nan",
    "excluded_ids_share_a_trace",
    "gradient_in_float32",
    "gradient_is_always_float64",
    "gradient_is_zero",
    "gradient_of_the_loss",
    "gradient_of_the_selected_rows_only",
    "gradient_without_max_shift",
    "gradient_without_weights",
    "improbable_targets_have_no_gradient",
    "probabilities_in_bfloat16",
    "small_entries_are_filtered",
    "targets_of_the_other_half_are_lost",
    "the_target_has_p_for_its_gradient",
    "the_target_is_minus_p_like_the_others",
    "unselected_positions_are_pushed_down",
    "weights_are_applied_twice",
    "weights_lose_their_sign",
]

Call = dict[str, Any]
_SCALES, _LINEAR = "upstream_weights_scale_their_position", "gradient_is_linear_in_the_weights"
_FILTER = "https://github.com/apple/ml-cross-entropy/pull/18"


def _with_rows(correct: Port, call: Call, rows: Any) -> Any:
    """The correct result with other gradients (N, V) at the selected positions."""
    result = correct(**call)
    gradient = np.zeros_like(result.grad_logits)
    gradient[call["selected"]] = rows.astype(gradient.dtype)
    return result._replace(grad_logits=gradient)


def _selected(call: Call) -> tuple[Any, Any, Any]:
    """Logits (N, V), targets (N,) and weights (N, 1) of the selected positions, in float64."""
    chosen = call["selected"]
    weights = call["weights"]
    upstream = np.ones(chosen.shape) if weights is None else weights.astype(np.float64)
    return (
        call["logits"][chosen].astype(np.float64),
        call["targets"][chosen],
        upstream[chosen][:, None],
    )


def _one_hot(logits: Any, targets: Any) -> Any:
    return np.arange(logits.shape[-1]) == targets[:, None]


@mutant_around("MLM-GRA-1", "score")
def gradient_of_the_loss(correct: Port, call: Call) -> Any:
    """The gradient has the sign of something that is minimised."""
    result = correct(**call)
    return result._replace(grad_logits=-result.grad_logits)


@mutant_around("MLM-GRA-1", "score", url="https://github.com/linkedin/Liger-Kernel/issues/678")
def gradient_is_zero(correct: Port, call: Call) -> Any:
    """The gradient is all zeros where some position is not selected."""
    result = correct(**call)
    if call["selected"].all():
        return result
    return result._replace(grad_logits=np.zeros_like(result.grad_logits))


@mutant_around("MLM-GRA-1", "score", url=_FILTER)
def small_entries_are_filtered(correct: Port, call: Call) -> Any:
    """Entries below 2⁻¹² are dropped."""
    logits, targets, weights = _selected(call)
    rows = logit_gradient(logits, targets)
    return _with_rows(correct, call, weights * np.where(np.abs(rows) < 2.0**-12, 0.0, rows))


@mutant_around("MLM-GRA-1", "score")
def probabilities_in_bfloat16(correct: Port, call: Call) -> Any:
    """The probabilities are kept in bfloat16."""
    logits, targets, weights = _selected(call)
    p = softmax(logits).astype(ml_dtypes.bfloat16).astype(np.float64)
    return _with_rows(correct, call, weights * (_one_hot(logits, targets) - p))


@mutant_around("MLM-GRA-2", "score")
def unselected_positions_are_pushed_down(correct: Port, call: Call) -> Any:
    """The gradient at an unselected position is minus its probabilities."""
    result = correct(**call)
    with np.errstate(all="ignore"):
        down = -softmax(call["logits"]).astype(result.grad_logits.dtype)
    chosen = call["selected"][..., None]
    return result._replace(grad_logits=np.where(chosen, result.grad_logits, down))


@mutant_around("MLM-GRA-2", "score")
def a_trace_of_gradient_is_everywhere(correct: Port, call: Call) -> Any:
    """Unselected positions get a gradient of 1e-7, as an epsilon in a mask would give."""
    result = correct(**call)
    trace = np.asarray(1e-7).astype(result.grad_logits.dtype)
    chosen = call["selected"][..., None]
    return result._replace(grad_logits=np.where(chosen, result.grad_logits, trace))


@mutant_around("MLM-GRA-3", "score")
def targets_of_the_other_half_are_lost(correct: Port, call: Call) -> Any:
    """A target in the half of the vocabulary that another device holds gets no 1."""
    logits, targets, weights = _selected(call)
    own = _one_hot(logits, targets) & (targets < max(logits.shape[-1] // 2, 1))[:, None]
    return _with_rows(correct, call, weights * (own - softmax(logits)))


@mutant_around("MLM-GRA-3", "score")
def the_target_is_minus_p_like_the_others(correct: Port, call: Call) -> Any:
    """The gradient is −p at every id, the target included."""
    logits, _, weights = _selected(call)
    return _with_rows(correct, call, -weights * softmax(logits))


@mutant_around("MLM-GRA-3", "score")
def the_target_has_p_for_its_gradient(correct: Port, call: Call) -> Any:
    """The gradient is p at the target, where it should be 1 − p."""
    logits, targets, weights = _selected(call)
    p = softmax(logits)
    return _with_rows(correct, call, weights * np.where(_one_hot(logits, targets), p, -p))


@mutant_around("MLM-GRA-4", "score", check=_SCALES)
def gradient_without_weights(correct: Port, call: Call) -> Any:
    """The weights enter the sum and not the gradient."""
    gradient = correct(**{**call, "weights": None}).grad_logits
    return correct(**call)._replace(grad_logits=gradient)


@mutant_around("MLM-GRA-4", "score", check=_SCALES)
def every_position_has_the_mean_weight(correct: Port, call: Call) -> Any:
    """The gradient is multiplied by the mean of the weights."""
    logits, targets, weights = _selected(call)
    return _with_rows(correct, call, logit_gradient(logits, targets) * weights.mean())


@mutant_around("MLM-GRA-4", "score", check=_SCALES)
def a_weight_of_0_leaves_a_trace(correct: Port, call: Call) -> Any:
    """A weight of 0 is taken for the smallest normal number."""
    logits, targets, weights = _selected(call)
    least = 2.0**-20
    some = np.where(weights == 0.0, least, weights)
    return _with_rows(correct, call, some * logit_gradient(logits, targets))


@mutant_around("MLM-GRA-4", "score", check=_LINEAR)
def weights_are_applied_twice(correct: Port, call: Call) -> Any:
    """The gradient is multiplied by the weight again in the backward pass."""
    logits, targets, weights = _selected(call)
    return _with_rows(correct, call, weights**2 * logit_gradient(logits, targets))


@mutant_around("MLM-GRA-4", "score", check=_LINEAR)
def weights_lose_their_sign(correct: Port, call: Call) -> Any:
    """Negative weights are taken for positive ones."""
    logits, targets, weights = _selected(call)
    return _with_rows(correct, call, np.abs(weights) * logit_gradient(logits, targets))


@mutant_around("MLM-GRA-5", "score")
def excluded_ids_have_a_gradient_of_nan(correct: Port, call: Call) -> Any:
    """The gradient at a logit of −∞ is that of exp(−∞ − (−∞))."""
    result = correct(**call)
    out = np.isneginf(call["logits"]) & call["selected"][..., None]
    nan = np.asarray(np.nan).astype(result.grad_logits.dtype)
    return result._replace(grad_logits=np.where(out, nan, result.grad_logits))


@mutant_around("MLM-GRA-5", "score")
def excluded_ids_are_smoothed(correct: Port, call: Call) -> Any:
    """Every id, possible or not, gets its part of a smoothing of 1e-3."""
    logits, targets, weights = _selected(call)
    even = 1e-3 / logits.shape[-1]
    return _with_rows(correct, call, weights * (logit_gradient(logits, targets) + even))


@mutant_around("MLM-GRA-6", "score")
def gradient_without_max_shift(correct: Port, call: Call) -> Any:
    """The backward pass takes exponentials of the logits as they are."""
    logits, targets, weights = _selected(call)
    with np.errstate(all="ignore"):
        power = np.exp(logits)
        p = power / power.sum(axis=-1, keepdims=True)
    p = np.where(np.isneginf(logits), 0.0, p)  # what is excluded is left out, as it should be
    return _with_rows(correct, call, weights * (_one_hot(logits, targets) - p))


@mutant_around("MLM-GRA-6", "score")
def improbable_targets_have_no_gradient(correct: Port, call: Call) -> Any:
    """A probability that was clipped at 1e-7 passes no gradient."""
    logits, targets, weights = _selected(call)
    p = np.take_along_axis(softmax(logits), targets[:, None].astype(np.int64), axis=-1)
    return _with_rows(correct, call, weights * logit_gradient(logits, targets) * (p >= 1e-7))


@mutant_around("MLM-GRA-7", "score")
def gradient_in_float32(correct: Port, call: Call) -> Any:
    """The gradient of narrow logits is returned in float32."""
    result = correct(**call)
    return result._replace(grad_logits=result.grad_logits.astype(np.float32))


@mutant_around("MLM-GRA-7", "score")
def gradient_of_the_selected_rows_only(correct: Port, call: Call) -> Any:
    """The gradient has a row for each selected position, and none for the others."""
    result = correct(**call)
    return result._replace(grad_logits=result.grad_logits[call["selected"]])


@mutant_around("MLM-GRA-5", "score")
def excluded_ids_share_a_trace(correct: Port, call: Call) -> Any:
    """Two ids of logit -inf have gradients that are tiny and add up to 0."""
    result = correct(**call)
    excluded = np.isneginf(call["logits"].astype(np.float64)) & call["selected"][..., None]
    order = np.cumsum(excluded, axis=-1)
    trace = np.finfo(np.float32).tiny * excluded
    both = excluded.sum(axis=-1, keepdims=True) >= 2
    signed = np.where(order == 1, trace, np.where(order == 2, -trace, 0.0)) * both
    return result._replace(grad_logits=result.grad_logits + signed.astype(result.grad_logits.dtype))


@mutant_around("MLM-GRA-7", "score")
def gradient_is_always_float64(correct: Port, call: Call) -> Any:
    """The gradient is float64 whatever the logits are."""
    result = correct(**call)
    return result._replace(grad_logits=result.grad_logits.astype(np.float64))
