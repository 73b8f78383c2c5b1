"""The columns of a batch as plain facts, one at a time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from mlm_conformance.transcription.random_words import SequenceId

__all__ = ["Place", "places", "sequences"]


class Place(NamedTuple):
    """What the rules know of one column of one row."""

    row: int
    column: int
    token: int
    sequence: SequenceId
    position: int
    word: int | None
    eligible: bool


def places(
    tokens: Any, sequence_id: Any, position: Any, word_id: Any | None, eligible: Any
) -> Iterable[Place]:
    """The columns of all rows, from the arrays of the port."""
    word_rows = [[None] * len(row) for row in tokens.tolist()]
    if word_id is not None:
        word_rows = word_id.tolist()
    rows = zip(
        tokens.tolist(), sequence_id.tolist(), position.tolist(), word_rows, eligible.tolist(),
        strict=True,
    )  # fmt: skip
    for row, columns in enumerate(rows):
        for column, (token, (low, high), where, word, free) in enumerate(
            zip(*columns, strict=True)
        ):
            yield Place(row, column, token, (low, high), where, word, free)


def sequences(every: Iterable[Place]) -> Iterable[list[Place]]:
    """The places of one row with one sequence id, in whatever columns."""
    by_id: dict[tuple[int, SequenceId], list[Place]] = {}
    for place in every:
        by_id.setdefault((place.row, place.sequence), []).append(place)
    return by_id.values()
