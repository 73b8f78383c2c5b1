"""What a compiled training step does with data it cannot refuse (MLM-ERR-11 to MLM-ERR-13).

Inside a compiled step an error would cost a synchronisation with the device.  A step therefore
never raises for data: it returns a `Status`, and unless that is ``OK`` or ``EMPTY`` the call is
one without effect.  Shapes and dtypes are static, so they are refused here too.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlm_spec.batch import HeadResult, MaskedBatch, ScoreResult, Status
from mlm_spec.checking import FLOATS, IDS, check_array, check_capacity, check_seed
from mlm_spec.errors import (
    CapacityError,
    DTypeError,
    EmptySelectionError,
    IdRangeError,
    ImpossibleTargetError,
    InputError,
    NoSupportError,
    NotFiniteError,
)
from mlm_spec.head import check_layer, head
from mlm_spec.masking import check_source, mask_source
from mlm_spec.objective import score
from mlm_spec.policy import MaskingPolicy

__all__ = [
    "HeadStep",
    "MaskStep",
    "ScoreStep",
    "head_step",
    "mask_step",
    "raise_for_status",
    "score_step",
]


class MaskStep(NamedTuple):
    """`MaskedBatch` and a status; without effect: inputs equal tokens, nothing selected."""

    inputs: Any
    targets: Any
    selected: Any
    status: Status


class ScoreStep(NamedTuple):
    """Sum (nats), count, gradient and status; without effect: 0.0, 0 and zeros."""

    sum: Any
    count: Any
    grad_logits: Any
    status: Status


class HeadStep(NamedTuple):
    """Sum (nats), count, three gradients and status; without effect: 0.0, 0 and zeros."""

    sum: Any
    count: Any
    grad_hidden: Any
    grad_weight: Any
    grad_bias: Any
    status: Status


def mask_step(
    tokens: NDArray[Any],
    sequence_id: NDArray[np.uint32],
    position: NDArray[np.uint32],
    word_id: NDArray[np.int32] | None,
    eligible: NDArray[np.bool_],
    policy: MaskingPolicy,
    seed: int,
    epoch: int,
) -> MaskStep:
    """`mlm_spec.mask` inside a step: a token outside the vocabulary sets ``ID_RANGE``.

    Nothing selected sets ``EMPTY``.

    Source: chapters SEL, COR and ERR.  Bound: exact, bit for bit.
    """
    source = check_source(tokens, sequence_id, position, word_id, eligible, policy)
    seed, epoch = check_seed("seed", seed), check_seed("epoch", epoch)
    if ((tokens < 0) | (tokens >= policy.vocab_size)).any():
        nothing = MaskedBatch(tokens.copy(), tokens.copy(), np.zeros(tokens.shape, np.bool_))
        return MaskStep(*nothing, Status.ID_RANGE | Status.EMPTY)
    batch = mask_source(source, policy, seed, epoch)
    return MaskStep(*batch, Status.OK if batch.selected.any() else Status.EMPTY)


def score_step(
    logits: NDArray[Any],
    targets: NDArray[Any],
    selected: NDArray[np.bool_],
    weights: NDArray[Any] | None,
    capacity: int,
) -> ScoreStep:
    """`mlm_spec.score` inside a step that holds ``capacity`` selected positions.

    Source: chapters OBJ and ERR.  Bound: as `score`.
    """
    check_array("logits", logits, ("B", "T", "V"), FLOATS)
    shape = logits.shape[:2]
    status = _count_status(targets, selected, weights, shape, capacity)
    if not status & Status.OVERFLOW:
        try:
            result: ScoreResult = score(logits, targets, selected, weights)
            return ScoreStep(result.sum, result.count, result.grad_logits, status)
        except InputError as error:
            status |= _status_of(error)
    return ScoreStep(np.float64(0.0), np.int64(0), np.zeros_like(logits), status)


def head_step(
    hidden: NDArray[Any],
    weight: NDArray[Any],
    bias: NDArray[Any] | None,
    targets: NDArray[Any],
    selected: NDArray[np.bool_],
    weights: NDArray[Any] | None,
    capacity: int,
) -> HeadStep:
    """`mlm_spec.head` inside a step that holds ``capacity`` selected positions.

    Source: chapters HED and ERR.  Bound: as `head`.
    """
    check_layer(hidden, weight, bias)
    status = _count_status(targets, selected, weights, hidden.shape[:2], capacity)
    if not status & Status.OVERFLOW:
        try:
            result: HeadResult = head(hidden, weight, bias, targets, selected, weights)
            return HeadStep(*result, status)
        except InputError as error:
            status |= _status_of(error)
    zeros = (
        np.zeros_like(hidden),
        np.zeros_like(weight),
        None if bias is None else np.zeros_like(bias),
    )
    return HeadStep(np.float64(0.0), np.int64(0), *zeros, status)


def raise_for_status(status: int, mean: bool = False) -> None:
    """Raise what a step could not (MLM-ERR-13).

    Parameters
    ----------
    status : the word a step returned.
    mean : whether a mean is about to be read; ``EMPTY`` is an error only then.

    Raises
    ------
    CapacityError (OVERFLOW), IdRangeError (ID_RANGE), NotFiniteError (NOT_FINITE),
    EmptySelectionError (EMPTY, with ``mean``); in this order.
    DTypeError : it is no status: another bit is set.

    Source: chapter ERR.  Bound: exact, bit for bit.
    """
    if int(status) not in range(16):
        raise DTypeError("status", int(status), "a status word, 0..15")
    word = Status(int(status))
    if word & Status.OVERFLOW:
        raise CapacityError("status", word.name, "no more selected positions than the capacity")
    if word & Status.ID_RANGE:
        raise IdRangeError("status", word.name, "ids in 0..vocab_size - 1")
    if word & Status.NOT_FINITE:
        raise NotFiniteError("status", word.name, "finite numbers at selected positions")
    if mean and word & Status.EMPTY:
        raise EmptySelectionError("status", word.name, "a selected position, to take a mean over")


def _count_status(
    targets: object, selected: object, weights: object, shape: tuple[int, ...], capacity: int
) -> Status:
    """Whether the selected positions fit; shapes and dtypes are looked at first."""
    chosen = check_array("selected", selected, shape, ("bool",))
    check_array("targets", targets, shape, IDS)
    if weights is not None:
        check_array("weights", weights, shape, ("float32", "float64"))
    count = int(chosen.sum())
    if count > check_capacity(capacity):
        return Status.OVERFLOW
    return Status.OK if count else Status.EMPTY


_STATUS_OF: tuple[tuple[type[InputError], Status], ...] = (
    (IdRangeError, Status.ID_RANGE),
    (NotFiniteError, Status.NOT_FINITE),
    (NoSupportError, Status.NOT_FINITE),
    (ImpossibleTargetError, Status.NOT_FINITE),
)


def _status_of(error: InputError) -> Status:
    """The bit for an error of data; errors of shape and dtype are raised again."""
    for kind, status in _STATUS_OF:
        if isinstance(error, kind):
            return status
    raise error
