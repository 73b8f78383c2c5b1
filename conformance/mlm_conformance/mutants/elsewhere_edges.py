"""Backends that are wrong at the edge of a block, in long layers, or in long sums."""

from __future__ import annotations

from typing import Any

import numpy as np

import mlm_spec
from mlm_conformance.mutants.inside import scored_with
from mlm_conformance.mutants.registry import Port, mutant, mutant_around
from mlm_spec import log_likelihood

__all__ = [
    "a_last_block_of_one_id_is_left_out",
    "a_narrow_bias_gradient_is_added_row_by_row",
    "a_narrow_weight_gradient_is_added_in_chunks",
    "a_nearly_full_last_block_is_filled_up",
    "count_in_half_precision",
    "entries_of_a_layer_are_found_in_sixteen_bits",
    "half_precision_sums_of_exponentials_saturate",
]

Call = dict[str, Any]
_VOCABULARY = "the_whole_vocabulary_counts"


@mutant("MLM-LIK-6", "score", check=_VOCABULARY, profile="ci")
def a_last_block_of_one_id_is_left_out(**call: Any) -> Any:
    """With blocks of 128 ids, a last one of a single id adds nothing but where it is the target."""

    def value(z: Any, t: Any) -> Any:
        wide, last = z.astype(np.float64), z.shape[-1] - 1
        if last > 0 and last % 128 == 0:
            wide[t != last, last] = -np.inf
        return log_likelihood(wide, t)

    return scored_with(call, value)


@mutant("MLM-LIK-6", "score", check=_VOCABULARY, profile="ci")
def a_nearly_full_last_block_is_filled_up(**call: Any) -> Any:
    """Ids of logit 0 fill the last block of 1,024 where at most 16 are missing."""

    def value(z: Any, t: Any) -> Any:
        missing = -z.shape[-1] % 1024
        more = np.zeros((len(z), missing if z.shape[-1] > 1024 and missing <= 16 else 0))
        return log_likelihood(np.concatenate([z.astype(np.float64), more], axis=-1), t)

    return scored_with(call, value)


@mutant_around("MLM-OBJ-3", "score", profile="ci")
def count_in_half_precision(correct: Port, call: Call) -> Any:
    """The count is a sum of ones in float16, which holds each number up to 2,048."""
    result = correct(**call)
    return result._replace(count=np.int64(np.float16(min(int(result.count), 65504))))


@mutant("MLM-LIK-9", "score", check="narrow_logits_are_widened_exactly")
def half_precision_sums_of_exponentials_saturate(**call: Any) -> Any:
    """Sums of exponentials of float16 logits end at 65,504."""

    def value(z: Any, t: Any) -> Any:
        wide = z.astype(np.float64)
        total = np.exp(wide - wide.max(axis=-1, keepdims=True)).sum(axis=-1)
        lost = np.log(total / np.minimum(total, 65504.0))
        return log_likelihood(wide, t) + (lost if call["logits"].dtype == np.float16 else 0.0)

    return scored_with(call, value)


@mutant_around("MLM-HED-2", "head", profile="ci")
def entries_of_a_layer_are_found_in_sixteen_bits(correct: Port, call: Call) -> Any:
    """In the gradient of a state the target's row of the weight begins at id · d modulo 2¹⁶."""
    result, at, weight = correct(**call), call["selected"], call["weight"].astype(np.float64)
    ids, width = call["targets"][at].astype(np.int64), weight.shape[1]
    found = weight[ids * width % 2**16 // width]
    upstream = 1.0 if call["weights"] is None else call["weights"][at].astype(np.float64)[:, None]
    gradient = result.grad_hidden.astype(np.float64)
    gradient[at] += upstream * (found - weight[ids])
    return result._replace(grad_hidden=gradient.astype(result.grad_hidden.dtype))


def _in_parts(call: Call, name: str, parts: list[Any]) -> Any:
    """A gradient of the parts of a selection, added one by one in its dtype."""
    total: Any = 0.0
    for part in parts:
        more = getattr(mlm_spec.head(**{**call, "selected": part}), name)
        total = (np.asarray(total, np.float32) + more.astype(np.float32)).astype(more.dtype)
    return total


@mutant_around("MLM-HED-4", "head", profile="ci")
def a_narrow_bias_gradient_is_added_row_by_row(correct: Port, call: Call) -> Any:
    """Rows are added in the dtype of the states."""
    result, at = correct(**call), call["selected"]
    if call["bias"] is None or call["hidden"].dtype.itemsize > 2:
        return result
    every = np.arange(len(at))
    parts = [at & (every == row)[:, None] for row in np.flatnonzero(at.any(axis=1))]
    return result._replace(grad_bias=_in_parts(call, "grad_bias", parts)) if parts else result


@mutant_around("MLM-HED-3", "head", profile="ci")
def a_narrow_weight_gradient_is_added_in_chunks(correct: Port, call: Call) -> Any:
    """Of more than 64 positions chunks of 32 are added in bfloat16, the dtype of the states."""
    result, at = correct(**call), call["selected"]
    if call["hidden"].dtype.name != "bfloat16" or at.sum() <= 64:
        return result
    chunk = ((np.cumsum(at) - 1) // 32).reshape(at.shape)
    parts = [at & (chunk == number) for number in range(int(chunk.max()) + 1)]
    return result._replace(grad_weight=_in_parts(call, "grad_weight", parts))
