"""The output layer and the objective on it, at selected positions only (chapter HED)."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mlm_spec.batch import HeadResult
from mlm_torch.checking import (
    check_capacity,
    check_finite,
    check_ids,
    check_layer,
    check_rows,
    check_selection,
)
from mlm_torch.differentiation import with_gradients
from mlm_torch.gathering import find_selected, find_slots, gather, gather_values, leaf_of
from mlm_torch.likelihood import accumulation_dtype, log_likelihood, weighted_sum
from mlm_torch.objective import StepSum, sum_of_slots
from mlm_torch.precision import full_precision, project

__all__ = [
    "HeadStep",
    "head",
    "head_log_likelihood_sum",
    "head_step",
    "step_head_log_likelihood_sum",
]


class HeadStep(NamedTuple):
    """Sum (nats), count, three gradients and status of a step; without effect: all zero."""

    sum: Any
    count: Any
    grad_hidden: Any
    grad_weight: Any
    grad_bias: Any
    status: Any


def head_log_likelihood_sum(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    selected: Tensor,
    weights: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """(sum, count) of logits = hidden · weightᵀ + bias, differentiable in all three.

    The hidden states of selected positions are gathered first; logits of other positions never
    exist, and their hidden states are never read.  Values are not checked.

    Parameters
    ----------
    hidden : float64, float32, bfloat16 or float16 (B, T, d).
    weight : (V, d), in the dtype of hidden.
    bias : (V,), in the dtype of hidden, or None.
    targets, selected, weights : as in `mlm_torch.log_likelihood_sum`.

    Returns
    -------
    sum : scalar in nats, float64 for float64 hidden states, else float32.
    count : int64 scalar.

    Raises
    ------
    ShapeError, DTypeError.

    Notes
    -----
    Products follow the process's precision flags, so that a training run keeps its own choice.
    For float32 exactness on a GPU leave ``torch.backends.cuda.matmul.fp32_precision`` at "ieee".

    Source: chapter HED.  Bound: that of chapter HED at the accumulation dtype, for any order of
    summation.
    """
    check_layer(hidden, weight, bias)
    check_selection(targets, selected, weights, tuple(hidden.shape[:2]))
    index = find_selected(selected)
    ids = gather_values(targets, index).long()
    upstream = None if weights is None else gather_values(weights, index)
    logits = project(gather(hidden, index), weight, bias)
    total = weighted_sum(log_likelihood(logits, ids), upstream)
    return total.to(accumulation_dtype(hidden.dtype)), selected.sum()


def head(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    selected: Tensor,
    weights: Tensor | None = None,
) -> HeadResult:
    """(sum, count) and the three gradients; input is checked, products are at full precision.

    Parameters
    ----------
    hidden, weight, bias, targets, selected, weights : as in `head_log_likelihood_sum`.

    Returns
    -------
    HeadResult : sum in nats and count; grad_hidden (B, T, d), exactly 0 where not selected;
        grad_weight (V, d); grad_bias (V,) or None; gradients in the dtype of hidden.

    Raises
    ------
    ShapeError, DTypeError, IdRangeError, NotFiniteError, NoSupportError, ImpossibleTargetError :
        hidden states only at selected positions; weight everywhere.  A bias of −inf excludes an
        id, as a logit of −inf does.

    Source: chapter HED.  Bound: that of chapter HED at the accumulation dtype, for any order of
    summation.

    >>> result = head(torch.ones(1, 1, 2), torch.zeros(4, 2), torch.zeros(4),
    ...               torch.tensor([[1]]), torch.tensor([[True]]))
    >>> round(result.sum.item(), 6), result.grad_bias.tolist()
    (-1.386294, [-0.25, 0.75, -0.25, -0.25])
    """
    check_layer(hidden, weight, bias)
    check_selection(targets, selected, weights, tuple(hidden.shape[:2]))
    check_ids("targets", targets, weight.shape[0], selected)
    if weights is not None:
        check_finite("weights", weights, selected)
    check_finite("weight", weight)
    check_finite("hidden", hidden, selected)
    with torch.inference_mode(False), torch.enable_grad(), full_precision():
        index = find_selected(selected)
        ids = gather_values(targets, index).long()
        leaves = [leaf_of(x) for x in (hidden, weight, bias) if x is not None]
        states, matrix, *offset = leaves
        logits = project(gather(states, index), matrix, offset[0] if offset else None)
        check_rows("hidden @ weight.T + bias", logits.detach(), ids, index, targets.shape[1])
        upstream = None if weights is None else gather_values(weights, index)
        total = weighted_sum(log_likelihood(logits, ids), upstream)
        gradients = list(torch.autograd.grad(total, leaves))
    if bias is None:
        gradients.append(None)
    kind = accumulation_dtype(hidden.dtype)
    return HeadResult(total.detach().to(kind), selected.sum(), *gradients)


def step_head_log_likelihood_sum(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    selected: Tensor,
    weights: Tensor | None,
    capacity: int,
) -> StepSum:
    """`head_log_likelihood_sum` for a compiled step: static shapes, no synchronisation, a status.

    Parameters
    ----------
    hidden, weight, bias, targets, selected, weights : as in `head_log_likelihood_sum`.
    capacity : how many selected positions there is room for, a Python integer.

    Returns
    -------
    StepSum : with a status other than ``OK`` and ``EMPTY`` the sum is 0.0, the count 0, and all
        three gradients exactly 0 (MLM-ERR-12).

    Raises
    ------
    ShapeError, DTypeError : these are known before the step runs.

    Source: chapters HED and ERR.  Bound: that of chapter HED at the accumulation dtype, for any
    order of summation.
    """
    check_layer(hidden, weight, bias)
    check_selection(targets, selected, weights, tuple(hidden.shape[:2]))
    check_capacity(capacity)
    slots = find_slots(selected, capacity)
    rows = gather(hidden, slots.index)
    bad_rows = (slots.used & ~torch.isfinite(rows.detach()).all(dim=1)).any()
    not_finite = bad_rows | ~torch.isfinite(weight.detach()).all()
    # Zeros go in where anything is wrong, and the gradient that comes back there is replaced by
    # zeros too, so a NaN in the layer ends here.
    rows = torch.where((slots.used & ~not_finite)[:, None], rows, 0.0)
    kind = accumulation_dtype(hidden.dtype)
    # The logits have no name here: it would keep their memory while a cleaned copy is in use.
    return sum_of_slots(
        project(rows, weight, bias), targets, selected, weights, slots, capacity, kind, not_finite
    )


def head_step(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    selected: Tensor,
    weights: Tensor | None,
    capacity: int,
) -> HeadStep:
    """Sum, count, gradients and status for a step; see `step_head_log_likelihood_sum`.

    Run eagerly, products are at full precision; compiled, they follow the process's flags.

    Source: chapters HED and ERR.  Bound: that of chapter HED at the accumulation dtype, for any
    order of summation.
    """
    check_layer(hidden, weight, bias)

    def objective(states: Tensor, matrix: Tensor, offset: Tensor | None = None) -> StepSum:
        return step_head_log_likelihood_sum(
            states, matrix, offset, targets, selected, weights, capacity
        )

    layer = (hidden, weight) if bias is None else (hidden, weight, bias)
    with nullcontext() if torch.compiler.is_compiling() else full_precision():
        result, gradients = with_gradients(objective, layer)
    grad_bias = None if bias is None else gradients[2]
    return HeadStep(result.sum, result.count, *gradients[:2], grad_bias, result.status)
