"""The status word of steps (MLM-ERR-11, MLM-ERR-12, MLM-ERR-13)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mlm_spec.batch import Status
from mlm_spec.errors import (
    CapacityError,
    DTypeError,
    EmptySelectionError,
    IdRangeError,
    NotFiniteError,
)

__all__ = ["Found", "has_effect", "raise_for_status", "status_word"]


class Found(NamedTuple):
    """What a step found, each a bool scalar on the device, or None where it cannot occur."""

    overflow: Tensor | None = None
    id_range: Tensor | None = None
    not_finite: Tensor | None = None
    empty: Tensor | None = None


def has_effect(found: Found) -> Tensor:
    """Whether the step may have an effect: nothing was found but, perhaps, no selection."""
    bad = [bit for bit in (found.overflow, found.id_range, found.not_finite) if bit is not None]
    return ~torch.stack(bad).any()


def status_word(found: Found) -> Tensor:
    """The `mlm_spec.batch.Status` bits as one int32 scalar on the device."""
    bits = (Status.OVERFLOW, Status.ID_RANGE, Status.NOT_FINITE, Status.EMPTY)
    present = [(bit, int(value)) for bit, value in zip(found, bits, strict=True) if bit is not None]
    word = torch.zeros_like(present[0][0], dtype=torch.int32)
    for bit, value in present:
        word = word | torch.where(bit, value, 0).int()
    return word


def raise_for_status(status: Tensor | int, mean: bool = False) -> None:
    """Raise what a step could not; reads the word, and so waits for the device (MLM-ERR-13).

    Parameters
    ----------
    status : what a step returned.
    mean : whether a mean is about to be taken; an empty selection is an error only then.

    Raises
    ------
    CapacityError, IdRangeError, NotFiniteError, EmptySelectionError : for OVERFLOW, ID_RANGE,
        NOT_FINITE and, with ``mean``, EMPTY; the first that applies.
    DTypeError : bits that no step sets.

    Source: chapter ERR.  Bound: exact, bit for bit.
    """
    number = int(status)
    if not 0 <= number <= sum(Status):
        raise DTypeError("status", number, "the word of a step: bits 1, 2, 4 and 8")
    word = Status(number)
    name = "|".join(bit.name for bit in Status if bit and bit in word)
    if Status.OVERFLOW in word:
        raise CapacityError("status", name, "as many selected positions as the capacity, or fewer")
    if Status.ID_RANGE in word:
        raise IdRangeError("status", name, "ids in 0..vocab_size - 1")
    if Status.NOT_FINITE in word:
        raise NotFiniteError("status", name, "finite numbers at the selected positions")
    if mean and Status.EMPTY in word:
        raise EmptySelectionError("status", name, "a selected position, since a mean is taken")
