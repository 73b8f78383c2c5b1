"""The words of a batch, and pairs of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Word", "couples", "words_of"]


@dataclass(frozen=True, slots=True)
class Word:
    """One word of a row.

    Attributes
    ----------
    row : of the batch.
    id : its word id.
    columns : of its candidates, ascending.
    place : which word of its row it is.
    """

    row: int
    id: int
    columns: tuple[int, ...]
    place: int


def words_of(word_id: NDArray[Any], candidate: NDArray[np.bool_]) -> list[Word]:
    """All words, row by row in the order of their first pieces: candidates with one id.

    Parameters
    ----------
    word_id : int (B, T).
    candidate : bool (B, T).

    >>> words_of(np.array([[7, 7, 5, 7]]), np.array([[True, False, True, True]]))[0].columns
    (0, 3)
    """
    found = []
    for row, (ids, able) in enumerate(zip(word_id, candidate, strict=True)):
        pieces: dict[int, list[int]] = {}
        for column in np.flatnonzero(able).tolist():
            pieces.setdefault(int(ids[column]), []).append(column)
        found += [Word(row, i, tuple(at), n) for n, (i, at) in enumerate(pieces.items())]
    return found


def couples(words: Sequence[Word]) -> Iterator[tuple[str, list[int], list[int]]]:
    """Three kinds of pairs, each of which has no word twice: what, the ones and the others.

    Words are named by their index in ``words``.
    """
    at = {(word.row, word.place): i for i, word in enumerate(words)}
    for what, rows, apart in (
        ("neighbouring words", 0, 1),
        ("words two apart", 0, 2),
        ("words in one place of neighbouring rows", 1, 0),
    ):
        step = rows or apart
        pairs = [
            (one, at[row + rows, place + apart])
            for (row, place), one in at.items()
            if (row if rows else place) // step % 2 == 0 and (row + rows, place + apart) in at
        ]
        yield what, [one for one, _ in pairs], [other for _, other in pairs]
