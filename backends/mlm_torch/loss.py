"""The objective as a loss to minimise, with labels (MLM-OBJ-8 .. MLM-OBJ-11)."""

from __future__ import annotations

from typing import Literal, get_args

from torch import Tensor

from mlm_spec.errors import EmptySelectionError, InputError
from mlm_torch.checking import IDS, check_ids, check_logits, check_tensor
from mlm_torch.likelihood import accumulation_dtype
from mlm_torch.objective import rows_sum

__all__ = ["Reduction", "loss", "mean_loss"]

Reduction = Literal["sum", "mean", "sum/num_items"]


def loss(
    logits: Tensor,
    labels: Tensor,
    ignore_index: int = -100,
    num_items: int | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """−sum, −sum / count or −sum / num_items, differentiable; input is checked.

    Parameters
    ----------
    logits : float64, float32, bfloat16 or float16 (B, T, V).
    labels : int32 or int64 (B, T), the original id where selected, else ``ignore_index``.
    ignore_index : the label that means "not selected".
    num_items : the count of the whole batch, over all its micro-batches and ranks.
    reduction : ``"sum"``, ``"mean"`` over this call's positions, or ``"sum/num_items"``.

    Returns
    -------
    A scalar in nats, float64 for float64 logits, else float32.  Nothing selected: 0.0 for
    ``"sum"`` and ``"sum/num_items"``, never NaN.

    Raises
    ------
    InputError : another reduction, or a num_items that is no int.
    EmptySelectionError : a mean over nothing, or ``"sum/num_items"`` without a positive num_items.
    ShapeError, DTypeError, IdRangeError, NotFiniteError, NoSupportError, ImpossibleTargetError.

    Source: chapter OBJ.  Bound: that of chapter LIK at the accumulation dtype, for any order of
    summation, and two roundings for the division.

    >>> import torch
    >>> value = loss(torch.zeros(1, 2, 4), torch.tensor([[3, -100]]), reduction="sum")
    >>> round(value.item(), 6)
    1.386294
    """
    check_logits(logits)
    check_tensor("labels", labels, tuple(logits.shape[:2]), IDS)
    selected = labels != ignore_index
    check_ids("labels", labels, logits.shape[2], selected)
    divisor = _divisor(selected, num_items, reduction)
    total, _ = rows_sum("logits", logits, labels, selected, None)
    # Divided in float64 and rounded once; 0.0 − x, since −x makes an empty sum −0.0.
    return (0.0 - total / divisor).to(accumulation_dtype(logits.dtype))


def mean_loss(logits: Tensor, labels: Tensor, ignore_index: int = -100) -> Tensor:
    """`loss` with the mean over the positions of this call.

    With several micro-batches or ranks, the mean of means is not the mean: use
    ``loss(..., num_items=count, reduction="sum/num_items")`` (MLM-OBJ-10).

    Source: MLM-OBJ-8.  Bound: that of chapter LIK at the accumulation dtype, for any order of
    summation, and two roundings for the division.
    """
    return loss(logits, labels, ignore_index)


def _divisor(selected: Tensor, num_items: int | None, reduction: Reduction) -> int:
    if reduction not in get_args(Reduction):
        raise InputError("reduction", repr(reduction), " or ".join(get_args(Reduction)))
    if reduction == "sum":
        return 1
    if reduction == "mean":
        name, divisor = "the count of selected positions", int(selected.sum())
    else:
        name, divisor = "num_items", num_items
        if isinstance(num_items, bool) or not isinstance(num_items, int | None):
            raise InputError(name, repr(num_items), "a number of positions, an int")
    if divisor is None or divisor < 1:
        raise EmptySelectionError(name, divisor, "1 or more, to divide by")
    return divisor
