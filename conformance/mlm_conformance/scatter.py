"""How far results scatter when the reference's intermediate results are moved at random.

The entries of a result depend on some thousand roundings.  To first order each entry's error is a
weighted sum of these, no weight outweighs all others, and so it is nearly normal.  Runs of the
reference in which every intermediate result is moved up or down by the unit roundoff, which is the
most that a conforming one may lose there, show the size of that error, entry by entry: the root of
the mean square over K runs.  A target whose roundings are no larger, over that root, has Student's
distribution with K degrees of freedom, or one with shorter tails; the factor of the verdict is
its quantile for the error that a run of the suite may make in all, shared by all entries.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.distributions.judge import ALPHA
from mlm_conformance.oracle import remembering
from mlm_conformance.student import quantile

__all__ = ["RUNS", "Scatter", "scatter", "scatter_of"]

Floats = NDArray[np.float64]
Results = Mapping[str, Floats]

#: Even.  With fewer the quantile grows fast; with more it hardly falls.
RUNS = 32


@dataclass(frozen=True, slots=True, eq=False)
class Scatter:
    """Results of the reference, and how far they scatter.

    Attributes
    ----------
    still : by name, computed in float64.
    spread : by name, for each entry the root of the mean square of its moves.
    factor : so many spreads are the most that a target may be off.
    """

    still: dict[str, Floats]
    spread: dict[str, Floats]
    factor: float

    def limit(self, name: str) -> Floats:
        """How far each entry may be from the still one."""
        found: Floats = self.factor * self.spread[name]
        return found


def scatter(run: Callable[[int | None], Mapping[str, Any]], runs: int = RUNS) -> Scatter:
    """Results without any move, and what ``runs`` runs with moves make of them.

    Parameters
    ----------
    run : from a seed of the moves to results by name; None: nothing is moved.
    """
    still = {name: np.asarray(value, np.float64) for name, value in run(None).items()}
    squares = {name: np.zeros(value.shape) for name, value in still.items()}
    for seed in range(runs):
        for name, value in run(seed).items():
            squares[name] = squares[name] + np.square(value - still[name])
    entries = max(1, sum(value.size for value in still.values()))
    spread = {name: np.sqrt(total / runs) for name, total in squares.items()}
    return Scatter(still, spread, quantile(ALPHA / entries, runs))


class _Runs:
    """Runs that are told apart by their mark."""

    __slots__ = ("mark", "run")

    def __init__(self, mark: Hashable, run: Callable[[int | None], Mapping[str, Any]]) -> None:
        self.mark, self.run = mark, run

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Runs) and self.mark == other.mark

    def __hash__(self) -> int:
        return hash(self.mark)


def scatter_of(mark: Hashable, run: Callable[[int | None], Mapping[str, Any]]) -> Scatter:
    """`scatter`, kept by what tells these runs from others: it is the same for every target."""
    return _scattered(runs=_Runs(mark, run))


_scattered = remembering(lambda runs: scatter(runs.run))
