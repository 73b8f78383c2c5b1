"""The order of a run's sequences, one at a time (chapter TRN)."""

from __future__ import annotations

from functools import lru_cache

from mlm_conformance.transcription.random_words import ORDER, TWO_32, draw_with

__all__ = ["epoch_order", "sequences_at"]


@lru_cache(maxsize=8)
def epoch_order(epoch: int, count: int, seed: int) -> tuple[int, ...]:
    """The numbers 0 … count − 1 by (w0, w1, number) of stream 4 at position 0 (MLM-TRN-10).

    >>> epoch_order(0, 5, 7), epoch_order(1, 5, 7)
    ((0, 4, 2, 1, 3), (4, 2, 3, 1, 0))
    """
    draw = draw_with(seed, epoch)

    def place(number: int) -> tuple[int, int, int]:
        w0, w1, _, _ = draw(ORDER, (number % TWO_32, number // TWO_32), 0)
        return w0, w1, number

    return tuple(sorted(range(count), key=place))


def sequences_at(position: int, number: int, count: int, seed: int) -> list[tuple[int, int]]:
    """Epoch and sequence at ``position`` and the places after it (MLM-TRN-11).

    >>> sequences_at(4, 4, 5, 7)
    [(0, 3), (1, 4), (1, 2), (1, 3)]
    """
    places = (divmod(place, count) for place in range(position, position + number))
    return [(epoch, epoch_order(epoch, count, seed)[at]) for epoch, at in places]
