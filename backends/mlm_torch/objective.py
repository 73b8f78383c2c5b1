"""The objective on logits: Σ_{i∈A(x)} w_i log Pr(x_i | x̄), to be maximised (chapter OBJ)."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from mlm_spec.batch import ScoreResult
from mlm_spec.errors import EmptySelectionError
from mlm_torch.checking import (
    check_capacity,
    check_finite,
    check_ids,
    check_logits,
    check_rows,
    check_selection,
)
from mlm_torch.differentiation import with_gradients
from mlm_torch.gathering import Slots, find_selected, find_slots, gather, gather_values, leaf_of
from mlm_torch.likelihood import accumulation_dtype, log_likelihood, weighted_sum
from mlm_torch.status import Found, has_effect, status_word

__all__ = [
    "ScoreStep",
    "StepSum",
    "log_likelihood_sum",
    "mean",
    "rows_sum",
    "score",
    "score_step",
    "step_log_likelihood_sum",
]


class StepSum(NamedTuple):
    """Sum (nats, differentiable), count and status of a step; without effect: 0.0 and 0."""

    sum: Any
    count: Any
    status: Any


class ScoreStep(NamedTuple):
    """Sum (nats), count, d sum / d logits and status of a step; without effect: all zero."""

    sum: Any
    count: Any
    grad_logits: Any
    status: Any


def log_likelihood_sum(
    logits: Tensor, targets: Tensor, selected: Tensor, weights: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The pair (sum, count), differentiable: what a training loop calls.

    Values are not checked; call `score` to find out what is wrong with a batch.

    Parameters
    ----------
    logits : float64, float32, bfloat16 or float16 (B, T, V); −inf is probability 0.
    targets : int32 or int64 (B, T), the original ids; not read where not selected.
    selected : bool (B, T), the positions of A(x).
    weights : float32 or float64 (B, T), upstream weights, or None for 1.

    Returns
    -------
    sum : scalar in nats, float64 for float64 logits, else float32.  To minimise, negate it.
    count : int64 scalar, the number of selected positions, whatever their weights.

    Raises
    ------
    ShapeError, DTypeError.

    Source: chapters OBJ and LIK.  Bound: that of chapter LIK at the accumulation dtype, for any
    order of summation.

    >>> logits = torch.zeros(1, 2, 4, requires_grad=True)
    >>> total, count = log_likelihood_sum(
    ...     logits, torch.tensor([[3, -100]]), torch.tensor([[True, False]]))
    >>> (-total / count).backward()
    >>> logits.grad.tolist()
    [[[0.25, 0.25, 0.25, -0.75], [0.0, 0.0, 0.0, 0.0]]]
    """
    check_logits(logits)
    check_selection(targets, selected, weights, tuple(logits.shape[:2]))
    index = find_selected(selected)
    ids = gather_values(targets, index).long()
    upstream = None if weights is None else gather_values(weights, index)
    total = weighted_sum(log_likelihood(gather(logits, index), ids), upstream)
    return total.to(accumulation_dtype(logits.dtype)), selected.sum()


def score(
    logits: Tensor, targets: Tensor, selected: Tensor, weights: Tensor | None = None
) -> ScoreResult:
    """The objective, position by position and summed, and its gradient; input is checked.

    Parameters
    ----------
    logits, targets, selected, weights : as in `log_likelihood_sum`.

    Returns
    -------
    ScoreResult : log_likelihood (B, T) and sum in nats, float64 for float64 logits, else
        float32; count int64; grad_logits (B, T, V) in the dtype of the logits.  Nothing
        selected: 0.0, 0 and zeros.

    Raises
    ------
    ShapeError, DTypeError, IdRangeError, NotFiniteError, NoSupportError, ImpossibleTargetError :
        values only at selected positions.

    Source: chapters OBJ, LIK and GRA.  Bound: those of chapters LIK and GRA at the accumulation
    dtype, for any order of summation.

    >>> result = score(torch.zeros(1, 1, 2), torch.tensor([[0]]), torch.tensor([[True]]))
    >>> round(result.sum.item(), 6), result.grad_logits.tolist()
    (-0.693147, [[[0.5, -0.5]]])
    """
    check_logits(logits)
    check_selection(targets, selected, weights, tuple(logits.shape[:2]))
    check_ids("targets", targets, logits.shape[2], selected)
    if weights is not None:
        check_finite("weights", weights, selected)
    with torch.inference_mode(False), torch.enable_grad():
        leaf = leaf_of(logits)
        total, nats = rows_sum("logits", leaf, targets, selected, weights)
        (gradient,) = torch.autograd.grad(total, leaf)
    kind = accumulation_dtype(logits.dtype)
    every = torch.zeros(selected.shape, dtype=kind, device=logits.device)
    every.view(-1).index_copy_(0, find_selected(selected), nats.detach().to(kind))
    return ScoreResult(every, total.detach().to(kind), selected.sum(), gradient)


def rows_sum(
    name: str, logits: Tensor, targets: Tensor, selected: Tensor, weights: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The weighted sum in float64, a scalar, and its terms (N,); the selected logits checked."""
    index = find_selected(selected)
    rows, ids = gather(logits, index), gather_values(targets, index).long()
    check_rows(name, rows.detach(), ids, index, targets.shape[1])
    nats = log_likelihood(rows, ids)
    return weighted_sum(nats, None if weights is None else gather_values(weights, index)), nats


def mean(total: Tensor, count: Tensor | int) -> Tensor:
    """sum / count, nats per selected position of the global batch; differentiable (MLM-OBJ-8).

    Raises
    ------
    EmptySelectionError : nothing is selected; a mean would be 0 / 0.

    Source: MLM-OBJ-8.  Bound: two roundings of the dtype of the sum.
    """
    if int(count) == 0:
        raise EmptySelectionError("count", 0, "1 or more, since a mean is taken")
    return total / count


def step_log_likelihood_sum(
    logits: Tensor,
    targets: Tensor,
    selected: Tensor,
    weights: Tensor | None,
    capacity: int,
) -> StepSum:
    """`log_likelihood_sum` for a compiled step: static shapes, no synchronisation, a status.

    Parameters
    ----------
    logits, targets, selected, weights : as in `log_likelihood_sum`.
    capacity : how many selected positions there is room for, a Python integer.

    Returns
    -------
    StepSum : sum, count and status.  With a status other than ``OK`` and ``EMPTY`` the sum is
        0.0, the count 0, and every gradient exactly 0 (MLM-ERR-12).

    Raises
    ------
    ShapeError, DTypeError : these are known before the step runs.

    Source: chapters OBJ and ERR.  Bound: that of chapter LIK at the accumulation dtype, for any
    order of summation.
    """
    check_logits(logits)
    check_selection(targets, selected, weights, tuple(logits.shape[:2]))
    check_capacity(capacity)
    slots = find_slots(selected, capacity)
    rows = gather(logits, slots.index)
    kind = accumulation_dtype(logits.dtype)
    return sum_of_slots(rows, targets, selected, weights, slots, capacity, kind)


def sum_of_slots(
    rows: Tensor,
    targets: Tensor,
    selected: Tensor,
    weights: Tensor | None,
    slots: Slots,
    capacity: int,
    kind: torch.dtype,
    not_finite: Tensor | None = None,
) -> StepSum:
    """The sum over slots, and the status.

    Parameters
    ----------
    rows : float (C, V), the logits of the slots; anything where not used.
    targets, selected, weights : (B, T).
    slots, capacity : the slots, and how many were asked for.
    kind : the dtype of the sum.
    not_finite : bool scalar, what the caller has found already.
    """
    vocab_size, used = rows.shape[1], slots.used
    ids = gather_values(targets, slots.index).long().clamp(0, vocab_size - 1)
    upstream = used.double()
    if weights is not None:
        upstream = torch.where(used, gather_values(weights, slots.index).double(), 0.0)
    peak = rows.detach().amax(dim=1)
    chosen = rows.detach().gather(1, ids[:, None])[:, 0]
    bad = ~torch.isfinite(peak) | (chosen == -torch.inf) | ~torch.isfinite(upstream)
    bad = (used & bad).any()
    found = Found(
        overflow=slots.count > capacity,
        id_range=(selected & ((targets < 0) | (targets >= vocab_size))).any(),
        not_finite=bad if not_finite is None else bad | not_finite,
        empty=slots.count == 0,
    )
    effect = has_effect(found)
    # Without effect, and in spare slots, everything is 0 before it is used: 0 · NaN is NaN.
    keep = used & effect
    rows = torch.where(keep[:, None], rows, 0.0)
    nats = log_likelihood(rows, ids, torch.where(keep, peak, 0.0))
    total = weighted_sum(nats, torch.where(keep, upstream, 0.0))
    return StepSum(total.to(kind), torch.where(effect, slots.count, 0), status_word(found))


def score_step(
    logits: Tensor,
    targets: Tensor,
    selected: Tensor,
    weights: Tensor | None,
    capacity: int,
) -> ScoreStep:
    """Sum, count, gradient and status for a compiled step; see `step_log_likelihood_sum`.

    Source: chapters OBJ, LIK, GRA and ERR.  Bound: as `score`.
    """
    check_logits(logits)

    def objective(leaf: Tensor) -> StepSum:
        return step_log_likelihood_sum(leaf, targets, selected, weights, capacity)

    result, (gradient,) = with_gradients(objective, [logits])
    return ScoreStep(result.sum, result.count, gradient, result.status)
