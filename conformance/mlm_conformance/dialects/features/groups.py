"""What is selected together: neighbours, and the pieces of a word.

One trial a row, so that trials are independent.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.dialects.event import Event
from mlm_conformance.dialects.features.feature import (
    Feature,
    Predict,
    Value,
    in_row,
    never,
    sometimes,
)
from mlm_conformance.dialects.probes import MASK, Drawn

__all__ = ["FEATURES"]

_Array: TypeAlias = NDArray[Any]
_WINDOW = 6  # 1/p, rounded down


def _next_too(seen: Mapping[str, Drawn]) -> _Array:
    """Of each row that has a selected token before its last: is the one after the first too?"""
    chosen = seen["long"].selected
    able = chosen[:, :-1].any(axis=1)
    first = chosen[:, :-1].argmax(axis=1)
    follows: _Array = chosen[np.arange(len(chosen)), first + 1][able]
    return follows


def _neighbours(low: str, high: str) -> Predict:
    def events(seen: Mapping[str, Drawn]) -> list[Event]:
        follows = _next_too(seen)
        what = "rows in which the token after the first selected one is selected"
        return [Event(what, int(follows.sum()), follows.size, Fraction(low), Fraction(high))]

    return events


def _windows(seen: Mapping[str, Drawn]) -> list[Event]:
    chosen = seen["long"].selected
    whole = chosen[:, : chosen.shape[1] // _WINDOW * _WINDOW]
    crowded = (whole.reshape(len(whole), -1, _WINDOW).sum(axis=2) > 1).any(axis=1)
    return [never(f"rows with two selected in one window of {_WINDOW}", crowded)]


def _pairs(pattern: str) -> list[int]:
    """Where words of exactly two pieces begin."""
    ends = pattern + "w"
    return [i for i in range(len(pattern)) if ends[i] == "w" and ends[i + 1 : i + 3] == "-w"]


def _one_pair(drawn: Drawn, wanted: _Array) -> tuple[_Array, _Array]:
    """Per row the first of its pairs that is wanted, (R, pairs) → row and column."""
    rows = np.flatnonzero(wanted.any(axis=1))
    return rows, np.array(_pairs(drawn.pattern))[wanted[rows].argmax(axis=1)]


def _halves(drawn: Drawn) -> tuple[_Array, _Array]:
    """Whether the two pieces of each pair are selected: (R, pairs) each."""
    begins = np.array(_pairs(drawn.pattern))
    return drawn.selected[:, begins], drawn.selected[:, begins + 1]


def _torn(low: str, high: str) -> Predict:
    """The first pair of a row of which anything is selected: is it only a half?"""

    def events(seen: Mapping[str, Drawn]) -> list[Event]:
        drawn = seen["words"]
        one, other = _halves(drawn)
        rows, columns = _one_pair(drawn, one | other)
        torn = drawn.selected[rows, columns] != drawn.selected[rows, columns + 1]
        what = "words of two pieces, something of which is selected, that are half selected"
        return [Event(what, int(torn.sum()), torn.size, Fraction(low), Fraction(high))]

    return events


def _whole(seen: Mapping[str, Drawn]) -> list[Event]:
    drawn = seen["words"]
    further = np.flatnonzero(drawn.at("-"))
    torn = (drawn.selected[:, further] != drawn.selected[:, further - 1]).any(axis=1)
    return [never("rows with a word that is selected in part", torn)]


def _inverted(seen: Mapping[str, Drawn]) -> list[Event]:
    """The first piece of a word goes with the token before it, whatever that is."""
    drawn = seen["words"]
    begins = [i for i, kind in enumerate(drawn.pattern) if kind == "w" and i > 1]
    chosen = drawn.selected
    apart = (chosen[:, begins] != chosen[:, [i - 1 for i in begins]]).any(axis=1)
    return [never("rows in which a word begins apart from the token before it", apart)]


def _mixed(low: str, high: str) -> Predict:
    """Of the first pair of a row that is wholly selected: does one half alone show MASK?

    Pairs that show MASK twice are left out: where everything does, nothing can be mixed.
    """

    def events(seen: Mapping[str, Drawn]) -> list[Event]:
        drawn = seen["words"]
        one, other = _halves(drawn)
        masked, begins = drawn.inputs == MASK, np.array(_pairs(drawn.pattern))
        twice = masked[:, begins] & masked[:, begins + 1]
        rows, columns = _one_pair(drawn, one & other & ~twice)
        mixed = masked[rows, columns] != masked[rows, columns + 1]
        what = "selected words of two pieces, not both MASK, of which one alone shows it"
        return [Event(what, int(mixed.sum()), mixed.size, Fraction(low), Fraction(high))]

    return events


_LARGE = "rows of one word of three pieces, CLS and SEP, with something selected"


def _any_of_large(seen: Mapping[str, Drawn]) -> _Array:
    return in_row(seen["large word"].selected)


FEATURES = (
    Feature(
        "neighbours",
        "neighbouring words",
        ("long",),
        {
            "alone": Value("are selected each for itself", _neighbours("1/8", "1/5")),
            "windows": Value("are selected one in each six at most", _windows),
            "n-grams": Value("are selected by ones, twos and threes", _neighbours("1/3", "3/5")),
            "spans": Value("are selected in long spans", _neighbours("5/8", "1")),
        },
    ),
    Feature(
        "words",
        "the pieces of a word",
        ("words",),
        {
            "whole": Value("are selected together", _whole),
            "cut": Value(
                "are selected together, but the last word is cut where the count is reached",
                _torn("1/20", "1/2"),
            ),
            "pieces": Value("are selected each for itself", _torn("3/5", "1")),
            "inverted": Value("are parted, and each word begins with the one before it", _inverted),
        },
    ),
    Feature(
        "word kinds",
        "the pieces of a word that is selected",
        ("words",),
        {
            "word": Value("show MASK, random ids or their own together", _mixed("0", "1/5")),
            "piece": Value("show what each of them draws", _mixed("3/5", "1")),
        },
    ),
    Feature(
        "large word",
        "a word longer than the count",
        ("large word",),
        {
            "skipped": Value("is left out", lambda seen: [never(_LARGE, _any_of_large(seen))]),
            "selected": Value(
                "is selected all the same", lambda seen: [sometimes(_LARGE, _any_of_large(seen))]
            ),
        },
    ),
)
