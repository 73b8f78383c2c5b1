"""Backends that take a large number for an infinite one, or meet an infinity that is not theirs."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlm_conformance.mutants.inside import scored_with
from mlm_conformance.mutants.registry import Port, mutant, mutant_around
from mlm_spec import log_likelihood

__all__ = [
    "a_weight_of_minus_infinity_takes_the_slow_way",
    "excluded_ids_receive_what_a_large_number_would",
    "half_precision_gradients_end_at_1000",
    "minus_infinity_is_minus_a_billion",
    "no_value_is_below_minus_a_million",
]

Call = dict[str, Any]
_FAR = -1e9


@mutant("MLM-LIK-3", "score", check="improbable_targets_keep_their_value")
def no_value_is_below_minus_a_million(**call: Any) -> Any:
    """Log-likelihoods end at −10⁶."""
    return scored_with(call, lambda z, t: np.maximum(log_likelihood(z, t), -1e6))


@mutant("MLM-LIK-5", "score")
def minus_infinity_is_minus_a_billion(**call: Any) -> Any:
    """Logits of −∞ are replaced by −10⁹, so that nothing is NaN."""

    def value(z: Any, t: Any) -> Any:
        wide = z.astype(np.float64)
        return log_likelihood(np.where(np.isneginf(wide), _FAR, wide), t)

    return scored_with(call, value)


@mutant_around("MLM-GRA-5", "score")
def excluded_ids_receive_what_a_large_number_would(correct: Port, call: Call) -> Any:
    """The gradient is that of logits in which −10⁹ stands for −∞."""
    wide = call["logits"].astype(np.float64)
    with np.errstate(over="ignore"):
        finite = np.where(np.isneginf(wide), _FAR, wide).astype(call["logits"].dtype)
    if not np.isfinite(finite[call["selected"]].astype(np.float64)).all():
        return correct(**call)  # float16 has no such number
    return correct(**call)._replace(grad_logits=correct(**{**call, "logits": finite}).grad_logits)


@mutant_around("MLM-GRA-4", "score", check="upstream_weights_scale_their_position", profile="ci")
def half_precision_gradients_end_at_1000(correct: Port, call: Call) -> Any:
    """Entries of a gradient in float16 are clipped at ±1000."""
    result = correct(**call)
    if call["logits"].dtype != np.float16:
        return result
    return result._replace(grad_logits=np.clip(result.grad_logits, -1000, 1000))


@mutant_around("MLM-OBJ-1", "score")
def a_weight_of_minus_infinity_takes_the_slow_way(correct: Port, call: Call) -> Any:
    """A sum whose weights are not all finite, selected or not, is taken again, and in float32."""
    result, weights = correct(**call), call["weights"]
    slow = weights is not None and np.isneginf(weights).any()
    return result._replace(sum=np.float64(np.float32(result.sum))) if slow else result
