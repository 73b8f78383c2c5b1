"""The objective on given logits: Σ_{i∈A(x)} log Pr(x_i | x̄) (chapters OBJ, LIK, GRA)."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_spec.batch import ScoreResult
from mlm_spec.checking import FLOATS, IDS, check_array, check_logits, check_targets, check_weights
from mlm_spec.errors import EmptySelectionError, InputError, ShapeError
from mlm_spec.likelihood import log_likelihood, logit_gradient

__all__ = ["mean_log_likelihood", "score"]


def score(
    logits: NDArray[Any],
    targets: NDArray[Any],
    selected: NDArray[np.bool_],
    weights: NDArray[Any] | None = None,
) -> ScoreResult:
    """The pair (sum, count), the log-likelihood of each position, and d sum / d logits.

    sum = Σ_{i∈A(x)} w_i log Pr_i(x_i | x̄); with all weights 1 it is the objective.  Maximise it.

    Parameters
    ----------
    logits : float64, float32, bfloat16 or float16 (B, T, V); -inf is probability 0.
    targets : int32 or int64 (B, T), the original tokens; looked at only where selected.
    selected : bool (B, T), the positions of A(x).
    weights : float32 or float64 (B, T), upstream weights; None is all ones.

    Returns
    -------
    ScoreResult : log_likelihood float64 (B, T) in nats, sum float64, count int, grad_logits in
        the dtype of the logits.  Nothing selected: 0.0, 0 and zeros.

    Raises
    ------
    ShapeError, DTypeError, IdRangeError, NotFiniteError, NoSupportError, ImpossibleTargetError.

    Source: chapters OBJ, LIK and GRA.  Bound: a log-likelihood (14 + ⌈log2 V⌉) · 2⁻⁵³ of itself,
    the sum that of its terms and 2⁻⁵³ for each product, an entry of the gradient (13 + 2⌈log2 V⌉)
    · 2⁻⁵³ of itself and one rounding to the dtype of the logits.

    >>> result = score(np.zeros((1, 2, 4)), np.array([[3, 0]]), np.array([[True, False]]))
    >>> round(float(result.sum), 6), int(result.count)
    (-1.386294, 1)
    >>> result.grad_logits[0, 0].tolist()
    [-0.25, -0.25, -0.25, 0.75]
    """
    check_array("logits", logits, ("B", "T", "V"), FLOATS)
    rows, columns, vocab_size = logits.shape
    check_selection(targets, selected, (rows, columns), vocab_size, "logits")
    upstream = check_weights(weights, selected)
    at = np.nonzero(selected)
    chosen, ids = logits[at], targets[at]
    check_logits(chosen, ids, np.argwhere(selected))

    nats = np.zeros((rows, columns))
    nats[at] = log_likelihood(chosen, ids)
    gradient = np.zeros(logits.shape, logits.dtype)
    gradient[at] = (upstream[at][:, None] * logit_gradient(chosen, ids)).astype(logits.dtype)
    total = math.fsum((upstream[at] * nats[at]).tolist())
    return ScoreResult(nats, np.float64(total), np.int64(ids.size), gradient)


def mean_log_likelihood(total: float, count: int) -> float:
    """sum / count over the global batch: nats per selected token; the only mean (MLM-OBJ-8).

    Raises
    ------
    EmptySelectionError : count is 0.
    InputError : count is no integer, or negative.

    Source: chapter OBJ.  Bound: one rounding, 2⁻⁵³ of itself.

    >>> mean_log_likelihood(-6.0, 3)
    -2.0
    """
    try:
        number = operator.index(count)
    except TypeError:
        raise InputError("count", repr(count), "an integer") from None
    if number < 0:
        raise InputError("count", number, "an integer from 0 on")
    if number == 0:
        raise EmptySelectionError("count", 0, "at least one selected position, to take a mean over")
    return float(total) / number


def check_selection(
    targets: object,
    selected: object,
    shape: tuple[int, int],
    vocab_size: int,
    name: str,
    targets_name: str = "targets",
) -> None:
    """targets and selected, against the shape that ``name`` has set."""
    if vocab_size == 0:
        raise ShapeError(name, "without a vocabulary", "at least one id")
    ids = check_array(targets_name, targets, shape, IDS)
    chosen = check_array("selected", selected, shape, ("bool",))
    check_targets(ids, chosen, vocab_size, targets_name)
