"""Groups of candidates that a policy treats alike, and a masker might not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.cases.model import SampleCase, candidates

__all__ = ["Group", "by_place", "by_token", "candidates"]

_PARTS = 8


class Group(NamedTuple):
    """Some candidates, bool (B, T), and their name."""

    name: str
    at: NDArray[np.bool_]


def by_place(case: SampleCase) -> Iterator[Group]:
    """By columns and by rows, in eight parts each; none is empty."""
    able = candidates(case)
    for name, at in zip(("columns", "rows"), np.indices(able.shape)[::-1], strict=True):
        part = at * _PARTS // (int(at.max()) + 1)
        for i in np.unique(part[able]):
            here = able & (part == i)
            yield Group(f"{name} {at[part == i].min()} to {at[part == i].max()}", here)


def by_token(case: SampleCase) -> Iterator[Group]:
    """All; by their ids, their neighbours, and the candidates of their rows; none is empty."""
    able, tokens = candidates(case), case.tokens
    if not able.any():
        return
    many = np.broadcast_to(able.sum(axis=1, keepdims=True), able.shape)
    beside = np.pad(able, ((0, 0), (1, 0)))[:, :-1]
    middle = {name: np.median(of[able]) for name, of in (("id", tokens), ("many", many))}
    whole = (many == able.shape[1]).any()
    splits = [
        ("of even id", tokens % 2 == 0),
        ("of odd id", tokens % 2 == 1),
        ("of ids in the lower half", tokens <= middle["id"]),
        ("of ids in the upper half", tokens > middle["id"]),
        ("behind a candidate", beside),
        ("behind no candidate", ~beside),
        ("in rows with few of them", many < able.shape[1] if whole else many <= middle["many"]),
        ("in rows with many of them", many == able.shape[1] if whole else many > middle["many"]),
    ]
    yield Group("of any kind", able)
    for name, at in splits:
        if (able & at).any():
            yield Group(name, able & at)
