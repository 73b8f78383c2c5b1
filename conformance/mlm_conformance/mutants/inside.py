"""Ways to be wrong inside the reference, for the length of one call.

Each of them replaces names of the reference's modules while the call runs, and puts them back:
whatever expects the right answer in the same process gets it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from itertools import accumulate
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np

import mlm_spec
from mlm_spec import (
    FixedCount,
    MaskingPolicy,
    Span,
    Stream,
    corruption,
    masking,
    objective,
    random_words,
    selection,
)
from mlm_spec.selection import Source
from mlm_spec.thresholds import below

__all__ = [
    "count_law",
    "counted",
    "covered",
    "is_there",
    "keyed",
    "masked_from",
    "scored_with",
    "selected_with",
    "shown_with",
    "streams",
    "words_by",
]

Call = dict[str, Any]
Words = Callable[..., Any]
Checked = tuple[Source, MaskingPolicy, int, int]


def masked_from(
    correct: Callable[..., Any],
    call: Call,
    change: Callable[[Source, MaskingPolicy, int, int], Checked],
) -> Any:
    """The right masks of what ``change(source, policy, seed, epoch)`` makes of a checked call."""
    right = masking.mask_source
    with patch.multiple(masking, mask_source=lambda *checked: right(*change(*checked))):
        return correct(**call)


def keyed(
    correct: Callable[..., Any], call: Call, change: Callable[[int, int], tuple[int, int]]
) -> Any:
    """The right masks of another seed and epoch, which are ``change(seed, epoch)``."""
    return masked_from(correct, call, lambda source, policy, *key: (source, policy, *change(*key)))


def selected_with(call: Call, **names: Any) -> Any:
    """The reference's masks, with other functions in its module of selection."""
    with patch.multiple(selection, **names):
        return mlm_spec.mask(**call)


def shown_with(call: Call, **names: Any) -> Any:
    """The reference's masks, with other functions in its module of corruption."""
    with patch.multiple(corruption, **names):
        return mlm_spec.mask(**call)


def scored_with(call: Call, value: Callable[[Any, Any], Any]) -> Any:
    """The reference's score, with another log-likelihood of logits (N, V) and targets (N,)."""
    sums = SimpleNamespace(fsum=_any_sum)
    with np.errstate(all="ignore"), patch.multiple(objective, log_likelihood=value, math=sums):
        return mlm_spec.score(**call)


def _any_sum(values: list[float]) -> float:
    """`math.fsum`, and of infinities the sum that hardware gives, where that raises."""
    return math.fsum(values) if np.isfinite(values).all() else float(np.sum(values))


def words_by(change: Callable[..., Any]) -> Words:
    """`random_words` whose four words are changed by ``change(w0, w1, w2, w3)``."""

    def words(seed: int, epoch: int, sequence: Any, position: Any, stream: Stream) -> Any:
        return change(*random_words(seed, epoch, sequence, position, stream))

    return words


def streams(**names: Stream) -> Words:
    """`random_words` with other streams: ``rank=Stream.TOKEN`` takes ranks from stream 0."""
    other = {Stream[name.upper()]: stream for name, stream in names.items()}

    def words(seed: int, epoch: int, sequence: Any, position: Any, stream: Stream) -> Any:
        return random_words(seed, epoch, sequence, position, other.get(stream, stream))

    return words


def count_law(law: FixedCount, **changes: Any) -> FixedCount:
    """A fixed count with some of its parameters changed."""
    names = ("rate", "floor", "cap", "base", "rounding")
    return FixedCount(**{**{name: getattr(law, name) for name in names}, **changes})


def counted(call: Call, base: str | None = None, pad_is_known: bool = True) -> Any:
    """The reference's masks, where fixed counts are shares of something else."""
    right = selection._smallest_words

    def smallest(source: Source, candidate: Any, law: FixedCount, pad: Any, *key: int) -> Any:
        law = law if base is None else count_law(law, base=base)
        return right(source, candidate, law, pad if pad_is_known else None, *key)

    return selected_with(call, _smallest_words=smallest)


def covered(
    source: Source, law: Span, seed: int, epoch: int, *, may_start: Callable[[Any], Any]
) -> Any:
    """`mlm_spec.selection.span_anchor`, where ``may_start(start)`` says who may start a span."""
    position = source.position
    inside, anchor = np.zeros(position.shape, np.bool_), position.copy()
    reached = [Fraction(0), *accumulate(law.lengths)]
    for back in reversed(range(len(law.lengths))):
        start = position - np.uint32(back)
        w0, w1, _, _ = random_words(seed, epoch, source.sequence_id, start, Stream.SPAN)
        covers = may_start(start) & below(w0, law.start) & ~below(w1, reached[back])
        inside, anchor = inside | covers, np.where(covers, start, anchor)
    return inside, anchor


def is_there(source: Source, where: Any, start: Any) -> Any:
    """Whether ``start`` is the position of a place of its row and sequence, among ``where``."""
    same = (source.sequence_id[:, :, None] == source.sequence_id[:, None, :]).all(axis=-1)
    found = (source.position[:, None, :] == start[:, :, None]) & same & where[:, None, :]
    return found.any(axis=-1)
