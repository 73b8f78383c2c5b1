"""What passes between the stages of one batch, and the status word of compiled steps."""

from __future__ import annotations

from enum import IntFlag
from typing import Any, NamedTuple

__all__ = ["HeadResult", "MaskedBatch", "ScoreResult", "Status"]


class MaskedBatch(NamedTuple):
    """A corrupted batch: x̄, x and A(x).

    The arrays are of the framework that made them.

    Attributes
    ----------
    inputs : integer (B, T).  The corrupted tokens x̄; equal to ``targets`` where not selected.
    targets : integer (B, T).  The original tokens x, at every position.
    selected : bool (B, T).  True at the positions of A(x), whatever they show.
    """

    inputs: Any
    targets: Any
    selected: Any


class ScoreResult(NamedTuple):
    """The objective on given logits, and its gradient.

    Attributes
    ----------
    log_likelihood : float (B, T), nats.  log Pr(x_i | x̄) at selected positions, 0.0 elsewhere.
    sum : float scalar, nats.  Σ weights · log_likelihood over the selected positions.
    count : integer scalar.  The number of selected positions, whatever their weights.
    grad_logits : float (B, T, V).  d sum / d logits, in the dtype of the logits; exactly 0
        at unselected positions.
    """

    log_likelihood: Any
    sum: Any
    count: Any
    grad_logits: Any


class HeadResult(NamedTuple):
    """The objective on hidden states and an output layer, and its three gradients.

    Attributes
    ----------
    sum, count : as in `ScoreResult`.
    grad_hidden : float (B, T, d); exactly 0 at unselected positions.
    grad_weight : float (V, d).
    grad_bias : float (V,), or None where there is no bias.
    """

    sum: Any
    count: Any
    grad_hidden: Any
    grad_weight: Any
    grad_bias: Any


class Status(IntFlag):
    """What a compiled step found (MLM-ERR-11 .. MLM-ERR-13).

    Inside a compiled step nothing can be raised without a synchronisation, so the step
    returns this word.  Any bit but ``EMPTY`` makes the step one without effect.
    """

    OK = 0
    OVERFLOW = 1  # more selected positions than the capacity
    ID_RANGE = 2  # a token or a selected target outside the vocabulary
    NOT_FINITE = 4  # NaN, +inf, no support or an impossible target at a selected position
    EMPTY = 8  # nothing selected: sum 0.0, count 0, zero gradients; a mean is undefined
