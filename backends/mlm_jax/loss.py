"""The objective as a loss to minimise, with labels: what training code calls (chapter OBJ).

`loss_sum` is differentiable; a training step divides by the count of the *global* batch, which
only it knows.  `loss` checks, and divides as it is told.

>>> import jax.numpy as jnp
>>> labels = jnp.array([[3, -100]])
>>> total, count = loss_sum(jnp.zeros((1, 2, 4)), labels)
>>> round(float(total), 6), int(count)
(1.386294, 1)
"""

from __future__ import annotations

from typing import Any, Literal

import jax
import numpy as np

from mlm_jax import checking
from mlm_jax.objective import accumulator, jitted_score_step, log_likelihood_sum
from mlm_spec.errors import EmptySelectionError, InputError

__all__ = ["Reduction", "denominator", "loss", "loss_sum"]

Array = Any  # jax.Array or numpy.ndarray
Reduction = Literal["sum", "mean", "sum/num_items"]


def loss_sum(logits: Array, labels: Array, ignore_index: int = -100) -> tuple[jax.Array, jax.Array]:
    """(−sum, count): the summed cross-entropy in nats, and the number of labels that count.

    Differentiable in the logits.  Nothing selected: 0.0 and 0.

    Parameters
    ----------
    logits : float (..., V).
    labels : int32 or int64 (...): the original token where selected, else ``ignore_index``.
    ignore_index : the label that means "not selected".

    Returns
    -------
    float32 () (float64 for float64 logits), and int32 ().

    Source: chapter OBJ.  Bound: that of chapter LIK at the accumulation dtype, for any order of
    summation.
    """
    total, count = log_likelihood_sum(logits, labels, labels != ignore_index)
    return -total, count


def loss(
    logits: Array,
    labels: Array,
    ignore_index: int = -100,
    num_items: int | None = None,
    reduction: Reduction = "mean",
) -> tuple[np.floating[Any], jax.Array]:
    """−sum, −sum / count or −sum / num_items, and its gradient; checked (MLM-OBJ-8 to 11).

    Parameters
    ----------
    logits : float (..., V).
    labels : int32 or int64 (...).
    ignore_index : the label that means "not selected".
    num_items : the count of the global batch, for ``"sum/num_items"``.
    reduction : which denominator.

    Returns
    -------
    The loss in nats, a scalar on the host (the call has waited for the device anyway), and
    d loss / d logits in the dtype of the logits.

    Raises
    ------
    InputError : another reduction, or a num_items that is no natural number.
    EmptySelectionError : a mean over nothing, or num_items 0 or None where it divides.  Under
        the other reductions, nothing selected is 0.0.
    The errors of `mlm_jax.objective.score`.

    Source: chapter OBJ.  Bound: that of chapter LIK at the accumulation dtype, for any order of
    summation, and two roundings for the division.
    """
    checking.check_score(logits, labels, labels != ignore_index, None)
    selected = np.asarray(labels) != ignore_index
    divisor = accumulator(logits.dtype)(-denominator(selected, num_items, reduction))
    ones = np.ones(selected.shape, divisor.dtype)
    ids = checking.narrow_ids(np.asarray(labels))
    step = jitted_score_step(logits, ids, selected, ones, divisor=np.asarray(divisor))
    checking.explain_score(int(step.status), logits, labels, selected, None, targets_name="labels")
    return np.asarray(step.sum)[()] / np.asarray(divisor)[()], step.grad_logits


def denominator(selected: np.ndarray, num_items: int | None, reduction: Reduction) -> int:
    """What the sum is divided by; 1 for ``"sum"``.

    Raises
    ------
    InputError : no reduction, or no number of items.
    EmptySelectionError : it would be 0.
    """
    if reduction == "sum":
        return 1
    if reduction not in ("mean", "sum/num_items"):
        raise InputError("reduction", repr(reduction), "'sum', 'mean' or 'sum/num_items'")
    if reduction != "mean" and not _is_number(num_items):
        raise InputError("num_items", repr(num_items), "an integer, 0 or more")
    count = int(np.count_nonzero(selected)) if reduction == "mean" else int(num_items or 0)
    if count == 0:
        name = "count of selected positions" if reduction == "mean" else "num_items"
        raise EmptySelectionError(name, 0, "at least 1, since the loss is divided by it")
    return count


def _is_number(items: object) -> bool:
    """None, which is 0, or a natural number."""
    if isinstance(items, bool | np.bool_):
        return False
    return items is None or (isinstance(items, int | np.integer) and items >= 0)
