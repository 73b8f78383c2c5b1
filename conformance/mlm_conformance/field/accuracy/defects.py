"""Two defects that were seen in peers: the rows that show them, put to every implementation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.field.accuracy.formats import FORMATS
from mlm_conformance.field.accuracy.statistics import Miss, miss
from mlm_conformance.field.accuracy.truth import Truth, truth_of
from mlm_conformance.wire import DTYPES

__all__ = ["DEFECTS", "Defect", "Observed", "Probe"]


@dataclass(frozen=True)  # without slots: the truth is kept
class Probe:
    """One row of logits and its target."""

    label: str
    dtype: str
    row: Sequence[float]
    target: int

    @property
    def logits(self) -> NDArray[Any]:
        """Logits (V,) in the dtype."""
        return np.asarray(self.row, np.float64).astype(DTYPES[self.dtype])

    @cached_property
    def truth(self) -> Truth:
        """log Pr(target)."""
        return truth_of(self.logits, self.target)

    def observe(self, answer: float) -> Observed:
        """An answer against the truth, by the ulps of the logits' dtype whatever its own."""
        return Observed(answer, miss(answer, self.truth, FORMATS[self.dtype]))


@dataclass(frozen=True, slots=True)
class Observed:
    """An answer to a probe, and how far off it is."""

    answer: float
    miss: Miss

    def to_json(self) -> dict[str, Any]:
        """Plain data; a number that JSON cannot write becomes text."""
        return {"answer": _plain(self.answer), "ulps": _plain(self.miss.ulps)}


def _plain(x: float) -> float | str:
    return x if np.isfinite(x) else str(x)


@dataclass(frozen=True, slots=True)
class Defect:
    """A defect with the rows that show it.

    Attributes
    ----------
    name, title : for data, for reports.
    about : what was seen, where, and why.
    criterion : when an answer shows it, in words; `shows` is the same as a function.
    seen_in : the entrants in which it was seen first.
    """

    name: str
    title: str
    about: str
    probes: tuple[Probe, ...]
    criterion: str
    shows: Callable[[Miss], bool]
    seen_in: tuple[str, ...]

    def is_shown(self, observed: Sequence[Observed]) -> bool:
        """Whether any of an entrant's answers shows it."""
        return any(self.shows(each.miss) for each in observed)

    def to_json(self) -> dict[str, Any]:
        """Plain data; the truth is the nearest float64."""
        probes = [{"label": p.label, "true": p.truth.nearest["float64"]} for p in self.probes]
        return {"title": self.title, "criterion": self.criterion, "probes": probes}


def _equal(size: int) -> Probe:
    return Probe(f"V = {size:,}", "float16", (0.0,) * size, 0)


def _pair(gap: int) -> Probe:
    return Probe(f"(0, {gap})", "bfloat16", (0.0, float(gap)), 1)


DEFECTS = (
    Defect(
        "float16-equal",
        "Equal logits in float16: no finite answer from V = 65,520 on",
        "All logits are 0, so Σ e^z is V. Rounded to float16, it is infinite from 65,520 on.",
        (_equal(65_519), _equal(65_520), _equal(131_072)),
        "an answer that is not finite",
        lambda found: found.lost,
        ("torch-log-softmax", "torch-cross-entropy", "jax-log-softmax"),
    ),
    Defect(
        "bfloat16-near-1",
        "Two logits in bfloat16, the target ahead: the log-likelihood is lost",
        "The sum is 1 + e^-5 or 1 + e^-6. bfloat16 has no number between 1 and 1.0078, and "
        "rounding to it before the logarithm leaves 0 of the second.",
        (_pair(5), _pair(6)),
        "an answer more than one bfloat16 ulp from the truth",
        lambda found: found.ulps > 1,
        ("torch-log-softmax", "torch-cross-entropy", "jax-log-softmax"),
    ),
)
