"""How many tokens of a row are selected, as a law of its length."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, comb, floor
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.dialects.event import Event
from mlm_conformance.dialects.features.feature import RATE, Feature, Value, in_row, never, sometimes
from mlm_conformance.dialects.probes import BARE, BRACKETED, Drawn

__all__ = ["FEATURES", "Row", "distinct", "half_even"]

#: Counts rarer than this are tested together.
_RARE = Fraction(1, 1000)


@dataclass(frozen=True, slots=True)
class Row:
    """``length`` positions, of which ``words`` are ordinary tokens."""

    length: int
    words: int


Law: TypeAlias = Callable[[Row], Mapping[int, Fraction]]


def half_even(x: Fraction) -> int:
    """The nearest integer, ties to the even one, as Python's ``round``.

    >>> [half_even(Fraction(n, 2)) for n in (1, 3, 5)]
    [0, 2, 2]
    """
    return round(x)


def distinct(draws: int, things: int) -> dict[int, Fraction]:
    """How many different things so many draws with replacement give.

    >>> {k: str(p) for k, p in distinct(2, 3).items()}
    {1: '1/3', 2: '2/3'}
    """
    found = {0: Fraction(1)}
    for _ in range(draws):
        after: Counter[int] = Counter()
        for k, p in found.items():
            after[k] += p * Fraction(k, things)  # type: ignore[assignment]
            after[k + 1] += p * Fraction(things - k, things)  # type: ignore[assignment]
        found = {k: Fraction(p) for k, p in after.items() if p}
    return found


def _exactly(k: int, row: Row) -> dict[int, Fraction]:
    return {min(k, row.words): Fraction(1)}


def _bernoulli(row: Row) -> dict[int, Fraction]:
    n = row.words
    return {k: comb(n, k) * RATE**k * (1 - RATE) ** (n - k) for k in range(n + 1)}


def _rounded(row: Row) -> int:
    return max(1, half_even(RATE * row.length))


def _by_chance(row: Row) -> dict[int, Fraction]:
    whole = floor(RATE * row.length)
    rest = RATE * row.length - whole
    return {whole: 1 - rest, whole + 1: rest} if rest else {whole: Fraction(1)}


def _fits(law: Law, *, words: bool = False) -> Callable[[Mapping[str, Drawn]], Sequence[Event]]:
    """What a law says of every length; ``words``: of ordinary tokens alone."""

    def events(seen: Mapping[str, Drawn]) -> list[Event]:
        return [event for drawn in seen.values() for event in _of_row(law, drawn, words)]

    return events


def _of_row(law: Law, drawn: Drawn, words: bool) -> Iterator[Event]:
    row, name = _row(drawn), _name(drawn)
    columns = drawn.at("w") if words else drawn.at("wcs")
    counts = Counter(drawn.selected[:, columns].sum(axis=1).tolist())
    trials = counts.total()
    likely = {k: p for k, p in law(row).items() if p >= _RARE}
    for k, p in likely.items():
        yield Event(f"rows of {name} with {k} selected", counts.pop(k, 0), trials, p, p)
    rest = 1 - sum(likely.values(), Fraction(0))
    wanted = "or ".join(f"{k} " for k in likely) if len(likely) < 4 else "a likely number "
    yield Event(f"rows of {name} without {wanted}selected", counts.total(), trials, rest, rest)


def _row(drawn: Drawn) -> Row:
    return Row(len(drawn.pattern), int(drawn.at("w").sum()))


def _name(drawn: Drawn) -> str:
    row = _row(drawn)
    marks = "" if row.words == row.length else ", CLS and SEP among them,"
    return f"{row.length} token{'s' * (row.length > 1)}{marks}"


def _within_budget(seen: Mapping[str, Drawn]) -> list[Event]:
    found = []
    for drawn in seen.values():
        most = _rounded(_row(drawn))
        over = drawn.selected.sum(axis=1) > most
        found.append(never(f"rows of {_name(drawn)} with more than {most} selected", over))
    some = np.concatenate([in_row(drawn.selected) for drawn in seen.values()])
    return [*found, sometimes("rows of any length with something selected", some)]


COUNTS: Mapping[str, Value] = {
    "bernoulli": Value(
        "each token is selected on its own, with probability p", _fits(_bernoulli, words=True)
    ),
    "round": Value(
        "max(1, p · length rounded half to even), CLS and SEP counted",
        _fits(lambda row: _exactly(_rounded(row), row)),
    ),
    "round half up": Value(
        "max(1, p · length rounded half up), CLS and SEP counted",
        _fits(lambda row: _exactly(max(1, floor(RATE * row.length + Fraction(1, 2))), row)),
    ),
    "ceiling of words": Value(
        "ceil(p · selectable tokens)", _fits(lambda row: _exactly(ceil(RATE * row.words), row))
    ),
    "ceiling of all": Value(
        "ceil(p · length), CLS and SEP counted",
        _fits(lambda row: _exactly(ceil(RATE * row.length), row)),
    ),
    "by chance": Value(
        "int(p · length + U), U uniform on 0..1, CLS and SEP counted", _fits(_by_chance)
    ),
    "replaced": Value(
        "max(1, p · length rounded half to even) drawings with replacement, CLS and SEP counted",
        _fits(lambda row: distinct(_rounded(row), row.words)),
    ),
    "budget": Value(
        "at most max(1, p · length rounded half to even), CLS and SEP counted, and seldom nothing",
        _within_budget,
    ),
}

_SHORT = "short"
_EMPTY = "rows of 4 tokens, CLS and SEP among them, with none selected"


def _empty(seen: Mapping[str, Drawn]) -> NDArray[Any]:
    return ~in_row(seen[_SHORT].selected)


FEATURES = (
    Feature(
        "count",
        "how many are selected",
        (*(f"bare {n}" for n in BARE), *(f"bracketed {n}" for n in BRACKETED)),
        COUNTS,
    ),
    Feature(
        "none",
        "rows in which nothing is selected",
        (_SHORT,),
        {
            "possible": Value("occur", lambda seen: [sometimes(_EMPTY, _empty(seen))]),
            "never": Value("do not occur", lambda seen: [never(_EMPTY, _empty(seen))]),
        },
    ),
)
