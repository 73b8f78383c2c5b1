"""What selected tokens show.

One trial a row, its first selected ordinary token, so that trials are independent whatever shares
a decision.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.dialects.event import Event
from mlm_conformance.dialects.features.feature import Feature, Predict, Value
from mlm_conformance.dialects.probes import CLS, MASK, PAD, POLICY, SEP, UNK, Drawn

__all__ = ["FEATURES"]

_Array: TypeAlias = NDArray[Any]
_PROBE = "kinds"


def _first(seen: Mapping[str, Drawn]) -> tuple[_Array, _Array]:
    """The first selected ordinary token of each row that has one, and what it shows."""
    drawn = seen[_PROBE]
    chosen = drawn.selected & drawn.at("w")
    rows = np.flatnonzero(chosen.any(axis=1))
    columns = chosen[rows].argmax(axis=1)
    return drawn.tokens[rows, columns], drawn.inputs[rows, columns]


def _weights(mask: str, random: str) -> Predict:
    """Shares of the mask id and of other ids.

    A random id may be the mask id or the original.  Which ids it is drawn from is another feature:
    here an eighth of the random ids at most may be the mask id, and a quarter either of the two.
    """
    share, other = Fraction(mask), Fraction(random)

    def events(seen: Mapping[str, Drawn]) -> list[Event]:
        tokens, shown = _first(seen)
        masked, changed = shown == MASK, (shown != MASK) & (shown != tokens)
        n = len(tokens)
        return [
            Event("selected tokens that show MASK", int(masked.sum()), n, share, share + other / 8),
            Event(
                "selected tokens that show another id",
                int(changed.sum()),
                n,
                other * Fraction(3, 4),
                other,
            ),
        ]

    return events


def _drawn_from(without: tuple[int, ...]) -> Predict:
    """Random ids that can be seen, that is, neither MASK nor the original: uniform but for some.

    Whether MASK itself may be drawn cannot be seen.
    """
    pool = [i for i in range(POLICY.vocab_size) if i not in without and i != MASK]

    def events(seen: Mapping[str, Drawn]) -> list[Event]:
        tokens, shown = _first(seen)
        random = shown[(shown != MASK) & (shown != tokens)]
        originals = tokens[(shown != MASK) & (shown != tokens)]
        found = [Event("random ids outside the vocabulary", _outside(random), random.size, *_NONE)]
        for i in range(POLICY.vocab_size - 1):
            share = Fraction(1, len(pool) - 1) if i in pool else Fraction(0)
            able = originals != i
            drawn = int((random[able] == i).sum())
            found.append(
                Event(f"random ids that are {_name(i)}", drawn, int(able.sum()), share, share)
            )
        return found

    return events


_NONE = (Fraction(0), Fraction(0))


def _outside(ids: _Array) -> int:
    return int(((ids < 0) | (ids >= POLICY.vocab_size)).sum())


def _name(i: int) -> str:
    names = {PAD: "PAD", UNK: "UNK", CLS: "CLS", SEP: "SEP"}
    return names.get(i, f"the ordinary id {i}")


def _shares(mask: str, random: str, keep: str) -> Value:
    about = f"show MASK, a random id, their own in {mask}, {random}, {keep} of a hundred"
    return Value(about, _weights(f"{mask}/100", f"{random}/100"))


FEATURES = (
    Feature(
        "weights",
        "selected tokens",
        (_PROBE,),
        {
            "80/10/10": _shares("80", "10", "10"),
            "80/2/18": _shares("80", "2", "18"),
            "80/0/20": _shares("80", "0", "20"),
            "85/0/15": _shares("85", "0", "15"),
            "100/0/0": _shares("100", "0", "0"),
        },
    ),
    Feature(
        "pool",
        "random ids",
        (_PROBE,),
        {
            "all": Value("come from the whole vocabulary, special ids too", _drawn_from(())),
            "not the first": Value(
                "come from all ids but PAD, UNK, CLS and SEP", _drawn_from((PAD, UNK, CLS, SEP))
            ),
            "not CLS, SEP": Value("come from all ids but CLS and SEP", _drawn_from((CLS, SEP))),
        },
    ),
)
