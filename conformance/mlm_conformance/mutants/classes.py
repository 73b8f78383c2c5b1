"""MLM-LIK-11: backends that declare more than they keep; none is beyond the any-order bound."""

from __future__ import annotations

from typing import Any

import numpy as np

import mlm_spec
from mlm_conformance.mutants.registry import mutant
from mlm_conformance.variants.normalisers import by_chunks, two_passes
from mlm_conformance.variants.scoring import Way, score_by
from mlm_conformance.variants.sums import compensated, one_by_one, tree
from mlm_spec import HeadResult, ScoreResult

__all__ = [
    "a_float32_head_declared_as_float64",
    "compensation_that_is_dropped",
    "float32_declared_as_float64",
    "one_by_one_declared_as_a_tree",
    "one_by_one_declared_as_lanes",
    "one_chunk_declared_as_many",
    "only_the_gradient_is_added_one_by_one",
    "the_sum_alone_is_narrow",
]

_VALUES, _SEARCH = (
    "the_declared_class_holds_for_values",
    "the_declared_class_holds_where_it_is_worst",
)
_one_by_one = score_by(Way(two_passes(one_by_one)))
_tree = score_by(Way(two_passes(tree)))


@mutant("MLM-LIK-11", "score", accumulation="tree", check=_VALUES)
def one_by_one_declared_as_a_tree(**call: Any) -> Any:
    """A tree is declared, and terms are added one by one."""
    return _one_by_one(**call)


@mutant("MLM-LIK-11", "score", accumulation="lanes 16", check=_VALUES)
def one_by_one_declared_as_lanes(**call: Any) -> Any:
    """Sixteen lanes are declared, and there is one."""
    return _one_by_one(**call)


@mutant("MLM-LIK-11", "score", accumulation="any in float64", check=_SEARCH)
def float32_declared_as_float64(**call: Any) -> Any:
    """float64 is declared, and float32 used."""
    result = _tree(**call)
    nats, total = np.float64(result.log_likelihood), np.float64(result.sum)
    return ScoreResult(nats, total, result.count, result.grad_logits)


@mutant("MLM-LIK-11", "score", accumulation="compensated", check=_VALUES)
def compensation_that_is_dropped(**call: Any) -> Any:
    """What rounding loses is found and never added, as by a compiler that may reassociate."""
    return _one_by_one(**call)


@mutant("MLM-LIK-11", "score", accumulation="chunks 64", check=_VALUES)
def one_chunk_declared_as_many(**call: Any) -> Any:
    """Chunks of 64 ids are declared, and one holds the whole vocabulary."""
    mlm_spec.score(**call)  # refuses what it should
    return score_by(Way(by_chunks(call["logits"].shape[-1])))(**call)


@mutant("MLM-LIK-11", "score", accumulation="tree", check=_VALUES)
def only_the_gradient_is_added_one_by_one(**call: Any) -> Any:
    """The value comes from a tree; the backward pass adds one by one."""
    return _tree(**call)._replace(grad_logits=_one_by_one(**call).grad_logits)


@mutant("MLM-LIK-11", "score", accumulation="compensated in float64", check=_SEARCH)
def the_sum_alone_is_narrow(**call: Any) -> Any:
    """Each position is right in float64; their sum is taken in float32."""
    result = score_by(Way(two_passes(compensated), dtype="float64"))(**call)
    total = np.float64(result.log_likelihood.astype(np.float32).sum(dtype=np.float32))
    return result._replace(sum=total) if call["weights"] is None else result


@mutant("MLM-LIK-11", "head", accumulation="any in float64")
def a_float32_head_declared_as_float64(**call: Any) -> Any:
    """The output layer declares float64, and works in float32."""
    right = mlm_spec.head(**call)
    hidden, weight = call["hidden"].astype(np.float32), call["weight"].astype(np.float32)
    bias = 0 if call["bias"] is None else call["bias"].astype(np.float32)
    logits = hidden @ weight.T + bias
    logits[~call["selected"]] = 0
    scored = _tree(logits, call["targets"], call["selected"], call["weights"])
    kind = call["hidden"].dtype
    return HeadResult(
        np.float64(scored.sum),
        right.count,
        (scored.grad_logits @ weight).astype(kind),
        right.grad_weight,
        right.grad_bias,
    )
