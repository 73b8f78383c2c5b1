"""What is done to special tokens, and to what is not selected."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.dialects.event import Event
from mlm_conformance.dialects.features.feature import Feature, Value, in_row, never, sometimes
from mlm_conformance.dialects.probes import Drawn

__all__ = ["FEATURES"]


def _selected(name: str, probe: str, kind: str) -> Feature:
    """Whether a special token is ever selected; one trial a row, at its first position."""
    what = f"rows whose first {name} is selected"

    def first(seen: Mapping[str, Drawn]) -> NDArray[Any]:
        drawn = seen[probe]
        return drawn.selected[:, int(np.argmax(drawn.at(kind)))]

    def anywhere(seen: Mapping[str, Drawn]) -> list[Event]:
        drawn = seen[probe]
        chosen = drawn.selected[:, drawn.at(kind)]
        return [never(f"rows with {name} selected", in_row(chosen))]

    return Feature(
        name.lower(),
        f"{name} in the text",
        (probe,),
        {
            "selected": Value("is selected too", lambda seen: [sometimes(what, first(seen))]),
            "never": Value("is never selected", anywhere),
        },
    )


def _changed(name: str, title: str, probe: str, kinds: str, text: str) -> Feature:
    """Whether cells that are not selected show something else than their token."""

    def rows(seen: Mapping[str, Drawn]) -> NDArray[Any]:
        drawn = seen[probe]
        changed = (drawn.inputs != drawn.tokens) & ~drawn.selected
        return in_row(changed[:, drawn.at(kinds)])

    return Feature(
        name,
        title,
        (probe,),
        {
            "changed": Value("is changed all the same", lambda seen: [sometimes(text, rows(seen))]),
            "never": Value("is left alone", lambda seen: [never(text, rows(seen))]),
        },
    )


FEATURES = (
    _selected("CLS", "kinds", "c"),
    _selected("SEP", "kinds", "s"),
    _selected("UNK", "unknown", "u"),
    _selected("MASK", "mask", "m"),
    _selected("PAD", "padded", "p"),
    _changed(
        "unselected",
        "a token that is not selected",
        "kinds",
        "cws",
        "rows in which a token without a label is changed",
    ),
    _changed(
        "unselected pad",
        "padding that is not selected",
        "padded",
        "p",
        "rows in which padding without a label is changed",
    ),
)
