"""Chapter LIK: backends whose log-likelihood is off where it is hard to get right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

from mlm_conformance.mutants.inside import scored_with
from mlm_conformance.mutants.plain import at_targets, log_softmax, softmax
from mlm_conformance.mutants.registry import Port, mutant, mutant_around
from mlm_spec import log_likelihood

__all__ = [
    "a_block_of_minus_infinity_is_nan",
    "a_constant_in_the_logarithm",
    "a_float16_sum_overflows",
    "a_temperature",
    "axes_of_one_are_squeezed",
    "every_position_has_a_value",
    "excluded_ids_lie_20_nats_down",
    "float32_for_float64_logits",
    "labels_smoothed",
    "log_of_p_plus_1e_9",
    "log_of_the_softmax",
    "log_softmax_in_bfloat16",
    "logits_capped_at_100",
    "logits_rounded_to_bfloat16",
    "narrow_differences_stay_narrow",
    "narrow_logits_are_summed_in_bfloat16",
    "narrow_logits_are_summed_in_float16",
    "nats_end_at_minus_100",
    "near_certainty_is_certainty",
    "one_hot_times_log_softmax",
    "one_id_is_a_sigmoid",
    "p_clipped_at_1e_7",
    "p_clipped_below_1",
    "shifted_only_against_overflow",
    "softmax_without_max_shift",
    "the_last_id_cannot_lead",
    "the_sum_is_rounded_to_bfloat16",
    "two_ids_are_a_sigmoid",
    "unselected_positions_are_minus_infinity",
]

Call = dict[str, Any]
_BF16 = ml_dtypes.bfloat16
_OFFSET, _CONSTANT = (
    "an_offset_leaves_the_value_within_its_bound",
    "adding_a_constant_changes_nothing",
)
_ORDINARY = "ordinary_logits_give_their_log_likelihood"
_IMPROBABLE = "improbable_targets_keep_their_value"
_CERTAIN = "likely_targets_keep_their_value"
_NARROW = "narrow_logits_are_widened_exactly"
_ONE_ID = "a_vocabulary_of_one_id_has_value_and_gradient_zero"
_TWO_IDS = "one_position_and_two_ids_are_nothing_special"


def _rounded(values: Any, dtype: Any) -> Any:
    return values.astype(dtype).astype(np.float64)


@mutant("MLM-LIK-1", "score", check=_ORDINARY)
def log_softmax_in_bfloat16(**call: Any) -> Any:
    """The log-softmax is rounded to bfloat16 before the target is picked."""
    return scored_with(call, lambda z, t: at_targets(_rounded(log_softmax(z), _BF16), t))


@mutant("MLM-LIK-1", "score", check=_ORDINARY)
def logits_rounded_to_bfloat16(**call: Any) -> Any:
    """Logits are brought to bfloat16 on the way."""
    return scored_with(call, lambda z, t: log_likelihood(_rounded(z, _BF16), t))


@mutant("MLM-LIK-1", "score", check=_ORDINARY)
def labels_smoothed(**call: Any) -> Any:
    """One per cent of the target goes to all ids evenly."""

    def value(z: Any, t: Any) -> Any:
        log_p = log_softmax(z)
        return 0.99 * at_targets(log_p, t) + 0.01 * log_p.mean(axis=-1)

    return scored_with(call, value)


@mutant("MLM-LIK-1", "score", check="the_worst_ordinary_logits_are_within")
def a_temperature(**call: Any) -> Any:
    """Logits are divided by 1.001."""
    return scored_with(call, lambda z, t: log_likelihood(z.astype(np.float64) / 1.001, t))


@mutant("MLM-LIK-1", "score", check=_ORDINARY)
def float32_for_float64_logits(**call: Any) -> Any:
    """Float64 logits are accumulated in float32."""
    return scored_with(call, lambda z, t: log_likelihood(_rounded(z, np.float32), t))


def _without_shift(z: Any, t: Any) -> Any:
    wide = z.astype(np.float64 if z.dtype == np.float64 else np.float32)
    return at_targets(wide - np.log(np.exp(wide).sum(axis=-1, keepdims=True)), t)


@mutant("MLM-LIK-2", "score", check=_OFFSET)
def softmax_without_max_shift(**call: Any) -> Any:
    """Exponentials are taken of the logits as they are, and overflow."""
    return scored_with(call, _without_shift)


@mutant("MLM-LIK-2", "score", check="the_worst_offset_is_within")
def shifted_only_against_overflow(**call: Any) -> Any:
    """The maximum is taken off where exponentials would overflow, and not where they underflow."""

    def value(z: Any, t: Any) -> Any:
        top = np.maximum(z.max(axis=-1, keepdims=True), 0).astype(np.float32)
        total = np.exp((z - top).astype(np.float32)).sum(axis=-1)
        return at_targets(z - top, t) - np.log(total)

    return scored_with(call, value)


@mutant("MLM-LIK-2", "score", check=_CONSTANT)
def logits_capped_at_100(**call: Any) -> Any:
    """Logits are clipped to −100 … 100, so that exponentials do not overflow."""
    return scored_with(
        call, lambda z, t: log_likelihood(np.clip(z.astype(np.float64), -100, 100), t)
    )


@mutant("MLM-LIK-3", "score", check=_IMPROBABLE)
def log_of_the_softmax(**call: Any) -> Any:
    """The logarithm is taken of a probability in float32, which may be 0."""
    return scored_with(call, lambda z, t: np.log(at_targets(softmax(z).astype(np.float32), t)))


@mutant("MLM-LIK-3", "score", check="the_worst_improbable_target_is_within")
def log_of_p_plus_1e_9(**call: Any) -> Any:
    """1e-9 is added to the probability."""
    return scored_with(call, lambda z, t: np.log(at_targets(softmax(z), t) + 1e-9))


@mutant("MLM-LIK-3", "score", check=_IMPROBABLE)
def p_clipped_at_1e_7(**call: Any) -> Any:
    """Probabilities below 1e-7 are taken for 1e-7."""
    return scored_with(call, lambda z, t: np.log(np.maximum(at_targets(softmax(z), t), 1e-7)))


@mutant("MLM-LIK-4", "score", check=_CERTAIN)
def the_sum_is_rounded_to_bfloat16(**call: Any) -> Any:
    """The sum of exponentials is brought to bfloat16 before the logarithm."""

    def value(z: Any, t: Any) -> Any:
        wide = z.astype(np.float64)
        top = wide.max(axis=-1)
        total = _rounded(np.exp(wide - top[:, None]).sum(axis=-1), _BF16)
        return at_targets(wide, t) - top - np.log(total)

    return scored_with(call, value)


@mutant("MLM-LIK-4", "score", check="the_worst_certain_target_is_within")
def p_clipped_below_1(**call: Any) -> Any:
    """Probabilities above 1 − 1e-7 are taken for 1 − 1e-7."""
    return scored_with(call, lambda z, t: np.minimum(log_likelihood(z, t), np.log1p(-1e-7)))


@mutant("MLM-LIK-5", "score")
def one_hot_times_log_softmax(**call: Any) -> Any:
    """The target is picked by a product with a one-hot row, and 0 · −∞ is NaN."""

    def value(z: Any, t: Any) -> Any:
        one_hot = np.arange(z.shape[-1]) == t[:, None]
        return (one_hot * log_softmax(z)).sum(axis=-1)

    return scored_with(call, value)


@mutant("MLM-LIK-5", "score")
def a_block_of_minus_infinity_is_nan(**call: Any) -> Any:
    """A running maximum meets 16 ids of −∞ at once, and takes −∞ from −∞."""

    def value(z: Any, t: Any) -> Any:
        wide = z.astype(np.float64)
        top, total = np.full(len(wide), -np.inf), np.zeros(len(wide))
        for start in range(0, wide.shape[-1], 16):
            block = wide[:, start : start + 16]
            new = np.maximum(top, block.max(axis=-1))
            total = total * np.exp(top - new) + np.exp(block - new[:, None]).sum(axis=-1)
            top = new
        return at_targets(wide, t) - top - np.log(total)

    return scored_with(call, value)


@mutant("MLM-LIK-5", "score")
def excluded_ids_lie_20_nats_down(**call: Any) -> Any:
    """A logit of −∞ is replaced by −20."""

    def value(z: Any, t: Any) -> Any:
        wide = z.astype(np.float64)
        return log_likelihood(np.where(np.isneginf(wide), -20.0, wide), t)

    return scored_with(call, value)


def _unselected(result: Any, call: Call, values: Any) -> Any:
    nats = np.where(call["selected"], result.log_likelihood, values)
    return result._replace(log_likelihood=nats)


@mutant_around("MLM-LIK-8", "score")
def every_position_has_a_value(correct: Port, call: Call) -> Any:
    """The log-likelihoods of unselected positions are there too."""
    return _unselected(correct(**call), call, log_softmax(call["logits"])[..., 0])


@mutant_around("MLM-LIK-8", "score")
def unselected_positions_are_minus_infinity(correct: Port, call: Call) -> Any:
    """An unselected position has the value −∞, as if its token were impossible."""
    return _unselected(correct(**call), call, -np.inf)


def _sum_in(dtype: Any) -> Callable[[Any, Any], Any]:
    """A log-likelihood whose exponentials are added one by one in ``dtype``."""

    def value(z: Any, t: Any) -> Any:
        wide = z.astype(np.float64)
        top = wide.max(axis=-1, keepdims=True)
        power = np.exp(wide - top).astype(dtype)
        total = np.zeros(len(z), dtype)
        for column in range(z.shape[-1]):
            total = total + power[:, column]
        return at_targets(wide - top, t) - np.log(total.astype(np.float64))

    return value


def _narrow_only(value: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda z, t: value(z, t) if z.dtype.itemsize == 2 else log_likelihood(z, t)


@mutant("MLM-LIK-9", "score", check=_NARROW)
def narrow_logits_are_summed_in_bfloat16(**call: Any) -> Any:
    """The exponentials of narrow logits are added up in bfloat16."""
    return scored_with(call, _narrow_only(_sum_in(_BF16)))


@mutant("MLM-LIK-9", "score", check=_NARROW)
def narrow_logits_are_summed_in_float16(**call: Any) -> Any:
    """The exponentials of narrow logits are added up in float16."""
    return scored_with(call, _narrow_only(_sum_in(np.float16)))


@mutant("MLM-LIK-9", "score", check=_NARROW)
def a_float16_sum_overflows(**call: Any) -> Any:
    """The sum is added exactly and stored in float16: infinite from 65,520 equal logits on."""

    def value(z: Any, t: Any) -> Any:
        right = log_likelihood(z, t)
        overflows = z.dtype == np.float16 and z.shape[-1] >= 65520
        return np.full_like(right, -np.inf) if overflows else right

    return scored_with(call, _narrow_only(value))


@mutant("MLM-LIK-9", "score", check="the_worst_narrow_logits_are_within")
def narrow_differences_stay_narrow(**call: Any) -> Any:
    """The difference to the maximum is rounded to the dtype of the logits."""

    def value(z: Any, t: Any) -> Any:
        wide = z.astype(np.float64)
        return log_likelihood(_rounded(wide - wide.max(axis=-1, keepdims=True), z.dtype), t)

    return scored_with(call, _narrow_only(value))


@mutant("MLM-LIK-10", "score", check=_ONE_ID)
def a_constant_in_the_logarithm(**call: Any) -> Any:
    """1e-10 is added to the sum of exponentials."""

    def value(z: Any, t: Any) -> Any:
        wide = z.astype(np.float64)
        top = wide.max(axis=-1)
        total = np.exp(wide - top[:, None]).sum(axis=-1) + 1e-10
        return at_targets(wide, t) - top - np.log(total)

    return scored_with(call, value)


@mutant("MLM-LIK-10", "score", check=_ONE_ID)
def one_id_is_a_sigmoid(**call: Any) -> Any:
    """A vocabulary of one id is scored as yes or no."""

    def value(z: Any, t: Any) -> Any:
        wide = z.astype(np.float64)
        return -np.log1p(np.exp(-wide[:, 0])) if z.shape[-1] == 1 else log_likelihood(z, t)

    return scored_with(call, value)


@mutant("MLM-LIK-10", "score", check=_TWO_IDS)
def two_ids_are_a_sigmoid(**call: Any) -> Any:
    """A vocabulary of two ids is scored as yes or no, by the target's logit alone."""

    def value(z: Any, t: Any) -> Any:
        own = at_targets(z.astype(np.float64), t)
        return -np.log1p(np.exp(-own)) if z.shape[-1] == 2 else log_likelihood(z, t)

    return scored_with(call, value)


@mutant_around("MLM-LIK-10", "score", check=_TWO_IDS)
def axes_of_one_are_squeezed(correct: Port, call: Call) -> Any:
    """A batch of one position loses its axes, and the softmax is taken over what is left."""
    result = correct(**call)
    if call["selected"].size > 1:
        return result
    return result._replace(log_likelihood=np.zeros((1, 1)), sum=np.float64(0.0))


@mutant_around("MLM-LIK-3", "score", check=_IMPROBABLE)
def nats_end_at_minus_100(correct: Port, call: Call) -> Any:
    """Wide logits: a log-likelihood below -100 is -100, as in a well-known binary loss."""
    result = correct(**call)
    if call["logits"].dtype.name not in ("float32", "float64"):
        return result
    return result._replace(log_likelihood=np.maximum(result.log_likelihood, -100.0))


@mutant_around("MLM-LIK-4", "score", check=_CERTAIN)
def near_certainty_is_certainty(correct: Port, call: Call) -> Any:
    """Above -1e-3 nats a log-likelihood is 0, where there are more than two ids."""
    result = correct(**call)
    nats = result.log_likelihood
    near = (nats > -1e-3) & (call["logits"].shape[-1] > 2)
    return result._replace(log_likelihood=np.where(near, np.zeros_like(nats), nats))


@mutant("MLM-LIK-6", "score", check="the_whole_vocabulary_counts")
def the_last_id_cannot_lead(**call: Any) -> Any:
    """In a large vocabulary the last id is left out where it has the largest logit of all."""

    def value(logits: Any, targets: Any) -> Any:
        last = logits.shape[-1] - 1
        leads = (logits.argmax(axis=-1) == last) & (targets != last) & (last > 1000)
        logits = logits.copy()
        logits[leads, last] = -np.inf
        return log_likelihood(logits, targets)

    return scored_with(call, value)
