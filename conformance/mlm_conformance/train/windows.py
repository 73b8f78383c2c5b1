"""Sequences of a fixed length out of the stored documents, and batches of them.

A sequence is ``[CLS]``, up to T − 2 tokens of one document in order, ``[SEP]``; the last one of a
document is padded.  Its id is its number: those that are trained on have 0 … n − 1, those held out
n …, so that no two share a mask.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.outcomes import BadCallError
from mlm_conformance.train.documents import is_held_out
from mlm_conformance.train.store import TokenStore
from mlm_conformance.train.vocabulary import special_ids
from mlm_spec.random_words import split_words

__all__ = ["Windows", "cut"]

Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """All sequences of a store.

    Attributes
    ----------
    tokens : ids of the whole store.
    begin, size : int64 (sequences,), of each one's part of the store.
    length : T, with ``[CLS]`` and ``[SEP]``.
    trained : how many of them, the first ones, are trained on; the others are held out.
    """

    tokens: NDArray[Any]
    begin: Numbers
    size: Numbers
    length: int
    trained: int

    def batch(self, numbers: Numbers, epoch: int) -> Mapping[str, Any]:
        """A batch of tokens for a session, which masks them itself.

        Parameters
        ----------
        numbers : int64 (B,), of the sequences.
        epoch : in 0 .. 2⁶⁴ − 1; masks depend on it.
        """
        ids, shape = special_ids(), (len(numbers), self.length)
        column = np.arange(self.length)
        size = self.size[numbers][:, None]
        real, inner = column < size + 2, (column >= 1) & (column <= size)
        tokens = np.full(shape, ids["pad_id"], np.int32)
        tokens[:, 0] = ids["cls_id"]
        place = self.begin[numbers][:, None] + column - 1
        tokens[inner] = self.tokens[place[inner]]
        tokens[column == size + 1] = ids["sep_id"]
        places = np.broadcast_to(column, shape)
        return {
            "tokens": tokens,
            "eligible": inner,
            "epoch": epoch,
            "attention_mask": real,
            "token_type_ids": np.zeros(shape, np.int32),
            "position_ids": places.astype(np.int32),
            "sequence_id": np.repeat(split_words(numbers)[:, None], self.length, axis=1),
            "position": places.astype(np.uint32),
        }

    def counts(self, vocab_size: int) -> Numbers:
        """How often each id occurs in what is trained on; int64 (V,)."""
        found = np.zeros(vocab_size, np.int64)
        for begin, size in zip(self.begin[: self.trained], self.size[: self.trained], strict=True):
            found += np.bincount(self.tokens[begin : begin + size], minlength=vocab_size)
        return found


def cut(store: TokenStore, length: int) -> Windows:
    """The sequences of a store, in the order of its documents, those held out last.

    Raises
    ------
    BadCallError : nothing to train on, or nothing to hold out.
    """
    count = len(store.offsets) - 1
    parts: dict[bool, list[tuple[int, int]]] = {False: [], True: []}
    for number in range(count):
        first, end = int(store.offsets[number]), int(store.offsets[number + 1])
        held = is_held_out(number, count)
        parts[held] += [(at, min(length - 2, end - at)) for at in range(first, end, length - 2)]
    if count < 2 or not parts[False] or not parts[True]:
        raise BadCallError(
            f"the text makes {len(parts[False])} sequences to train on and {len(parts[True])} to "
            "hold out; expected some of each: give more text"
        )
    table = np.array(parts[False] + parts[True], np.int64)
    return Windows(store.tokens, table[:, 0], table[:, 1], length, len(parts[False]))
