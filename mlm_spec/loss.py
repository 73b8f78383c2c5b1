"""The objective as a loss to minimise, with labels: what training code calls (chapter OBJ)."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mlm_spec.checking import FLOATS, IDS, check_array
from mlm_spec.errors import EmptySelectionError
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
    EmptySelectionError : a mean over nothing, or num_items 0 or None where it is needed.
        A micro-batch with nothing selected is fine under ``"sum"`` and ``"sum/num_items"``: 0.0.
    As `score`.

    >>> value, _ = loss(np.zeros((1, 2, 4)), np.array([[3, -100]]))
    >>> round(float(value), 6)
    1.386294
    """
    check_array("logits", logits, ("B", "T", "V"), FLOATS)
    check_array("labels", labels, logits.shape[:2], IDS)
    selected = labels != ignore_index
    rows, columns, vocab_size = logits.shape
    check_selection(labels, selected, (rows, columns), vocab_size, "logits", "labels")
    denominator = 1
    if reduction == "mean":
        denominator = int(selected.sum())
    elif reduction == "sum/num_items":
        denominator = num_items or 0
    if denominator == 0:
        name = "num_items" if reduction == "sum/num_items" else "the count of selected positions"
        raise EmptySelectionError(name, 0, "1 or more, to divide by")
    shares = np.full(selected.shape, 1.0 / denominator)
    result = score(logits, labels, selected, shares)
    # The value divides the sum once; only the gradient uses the rounded shares.
    total = math.fsum(result.log_likelihood[selected].tolist())
    return np.float64(0.0 - total / denominator), 0.0 - result.grad_logits
