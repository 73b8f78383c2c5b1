"""A question about a masker, and its possible answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.dialects.event import Event
from mlm_conformance.dialects.probes import Drawn

__all__ = ["RATE", "SELDOM", "Feature", "Predict", "Value", "in_row", "never", "sometimes"]

#: The rate that every call asks for.
RATE = Fraction(3, 20)
#: What happens at all happens at least so often: in one of twenty trials.
SELDOM = Fraction(1, 20)

Predict: TypeAlias = Callable[[Mapping[str, Drawn]], Sequence[Event]]


@dataclass(frozen=True, slots=True)
class Value:
    """One answer.

    Attributes
    ----------
    about : in words; it goes on where the question stops.
    events : what it predicts of the probes of its feature; each has a binomial count.
    """

    about: str
    events: Predict


@dataclass(frozen=True, slots=True)
class Feature:
    """A question about a masker.

    Attributes
    ----------
    name : what descriptions call it.
    title : what it is about, in a few words.
    probes : what it is observed in; some of several are enough.
    values : its answers by name.  They need not exclude each other.
    """

    name: str
    title: str
    probes: tuple[str, ...]
    values: Mapping[str, Value]


def in_row(cells: NDArray[Any]) -> NDArray[Any]:
    """Whether there is one in each row: (R, T) → (R,)."""
    return np.asarray(cells.any(axis=1))


def never(what: str, happened: NDArray[Any]) -> Event:
    """An event that cannot happen: one occurrence is proof."""
    return Event(what, int(happened.sum()), happened.size, Fraction(0), Fraction(0))


def sometimes(what: str, happened: NDArray[Any]) -> Event:
    """An event that happens, at least at the rate `SELDOM`."""
    return Event(what, int(happened.sum()), happened.size, SELDOM, Fraction(1))
