"""In which order a run sees its sequences (MLM-TRN-10, MLM-TRN-11).

Nothing is kept of the order but a position, so any process can make any part of it.
"""

from __future__ import annotations

import operator
from typing import NamedTuple

import torch
from torch import Tensor

from mlm_spec.errors import InputError
from mlm_torch.random_words import STREAM_ORDER, make_key, signed, unsigned, words

__all__ = ["RunPart", "epoch_order", "sequences_at"]


class RunPart(NamedTuple):
    """Sequences that come one after the other, and the epoch of each: int64 (n,)."""

    epoch: Tensor
    sequence: Tensor


def epoch_order(
    epoch: int, count: int, seed: int, device: torch.device | str | None = None
) -> Tensor:
    """The sequence numbers 0 .. count − 1 in the order of an epoch: int64 (count,) (MLM-TRN-10).

    Raises
    ------
    InputError, SeedError.

    Source: chapters TRN and RNG.  Bound: exact.

    >>> epoch_order(1, 5, seed=7).tolist()
    [4, 2, 3, 1, 0]
    """
    numbers = torch.arange(_integer("count", count, 1), device=device)
    low, high = numbers.view(torch.int32).view(-1, 2).clone().unbind(1)
    nowhere = torch.zeros_like(low)
    w0, w1, _, _ = words(make_key(seed, epoch, device), STREAM_ORDER, nowhere, low, high)
    # One int64 that compares as the pair of unsigned words does; the sort keeps ties in order.
    pair = ((w0 ^ signed(2**31)).long() << 32) | unsigned(w1)
    return torch.argsort(pair, stable=True)


def sequences_at(
    position: int,
    number: int,
    count: int,
    seed: int,
    device: torch.device | str | None = None,
) -> RunPart:
    """The next ``number`` sequences of the concatenation of all epochs (MLM-TRN-11).

    Parameters
    ----------
    position : how many sequences the run has consumed, 0 or more.
    number : how many come next, 0 or more.
    count : how many sequences there are, 1 or more.
    seed : of the run, in 0 .. 2⁶⁴ − 1.
    device : where the result is made.

    Raises
    ------
    InputError, SeedError.

    Source: chapter TRN.  Bound: exact.

    >>> [part.tolist() for part in sequences_at(4, 4, 5, seed=7)]
    [[0, 1, 1, 1], [3, 4, 2, 3]]
    """
    here, count = _integer("position", position, 0), _integer("count", count, 1)
    end = here + _integer("number", number, 0)
    none = torch.zeros(0, dtype=torch.int64, device=device)
    epochs, sequences = [none], [none]
    while here < end:
        epoch, start = divmod(here, count)
        part = epoch_order(epoch, count, seed, device)[start : start + end - here]
        epochs.append(torch.full_like(part, epoch))
        sequences.append(part)
        here += len(part)
    return RunPart(torch.cat(epochs), torch.cat(sequences))


def _integer(where: str, value: object, low: int) -> int:
    try:
        number = operator.index(value)  # type: ignore[arg-type]  # what it is made to find out
    except TypeError:
        raise InputError(where, f"{value!r} ({type(value).__name__})", "an integer") from None
    if number < low:
        raise InputError(where, number, f"{low} or more")
    return number
