"""The objective as a loss to minimise, with labels: what training code calls (chapter OBJ)."""

from __future__ import annotations

import math
import operator
from typing import Any, Literal, SupportsIndex, get_args

import numpy as np
from numpy.typing import NDArray

from mlm_spec.checking import FLOATS, IDS, check_array
from mlm_spec.errors import EmptySelectionError, InputError
from mlm_spec.objective import check_selection, score

__all__ = ["Reduction", "loss"]

Reduction = Literal["sum", "mean", "sum/num_items"]


def loss(
    logits: NDArray[Any],
    labels: NDArray[Any],
    ignore_index: int = -100,
    num_items: int | None = None,
    reduction: Reduction = "mean",
) -> tuple[np.float64, NDArray[Any]]:
    """−sum, −sum / count or −sum / num_items, and its gradient (MLM-OBJ-8 to MLM-OBJ-11).

    Parameters
    ----------
    logits : float (B, T, V).
    labels : int32 or int64 (B, T): the original token where selected, else ``ignore_index``.
    ignore_index : the label that means "not selected".
    num_items : the count of the *global* batch, for ``"sum/num_items"``.
    reduction : which denominator.

    Returns
    -------
    The loss in nats (float64), and d loss / d logits in the dtype of the logits.

    Raises
    ------
    InputError : another reduction, or a num_items that is needed and no positive integer.
    EmptySelectionError : a mean over nothing, or num_items 0.
        A micro-batch with nothing selected is fine under ``"sum"`` and ``"sum/num_items"``: 0.0.
    As `score`.

    Source: chapter OBJ.  Bound: as `score`, and 2⁻⁵³ of itself for the division.

    >>> value, _ = loss(np.zeros((1, 2, 4)), np.array([[3, -100]]))
    >>> round(float(value), 6)
    1.386294
    """
    check_array("logits", logits, ("B", "T", "V"), FLOATS)
    check_array("labels", labels, logits.shape[:2], IDS)
    selected = labels != ignore_index
    rows, columns, vocab_size = logits.shape
    check_selection(labels, selected, (rows, columns), vocab_size, "logits", "labels")
    denominator = _denominator(int(selected.sum()), num_items, reduction)
    shares = np.full(selected.shape, 1.0 / denominator)
    result = score(logits, labels, selected, shares)
    # The value divides the sum once; only the gradient uses the rounded shares.
    total = math.fsum(result.log_likelihood[selected].tolist())
    # 0.0 − x, so never -0.0; NumPy widens a bfloat16 there.
    gradient = (0.0 - result.grad_logits).astype(logits.dtype)
    return np.float64(0.0 - total / denominator), gradient


def _denominator(count: int, num_items: object, reduction: str) -> int:
    """What the sum is divided by; never 0."""
    if reduction not in get_args(Reduction):
        raise InputError("reduction", repr(reduction), "one of " + ", ".join(get_args(Reduction)))
    if reduction == "sum":
        return 1
    if reduction == "mean":
        if count == 0:
            name = "the count of selected positions"
            raise EmptySelectionError(name, 0, "1 or more, to divide by")
        return count
    if isinstance(num_items, bool) or not isinstance(num_items, SupportsIndex):
        raise InputError("num_items", repr(num_items), "the count of the global batch")
    items = operator.index(num_items)
    if items < 0:
        raise InputError("num_items", items, "the count of the global batch")
    if items == 0:
        raise EmptySelectionError("num_items", 0, "1 or more, to divide by")
    return items
