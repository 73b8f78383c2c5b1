"""Masks by who made them: in which epoch, on which rank, by which worker."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.check import Violation
from mlm_conformance.distributions.judge import Tally

__all__ = ["PROOF", "Maker", "tallies"]

#: Of that many candidates at rate 1/2, two masks are equal with probability 2⁻⁵⁰⁰.
PROOF = 500


class Maker(NamedTuple):
    """Who made a mask, and when."""

    epoch: int
    rank: int
    worker: int

    def __str__(self) -> str:
        return f"epoch {self.epoch}, rank {self.rank}, worker {self.worker}"


def tallies(
    selected: NDArray[np.bool_], pairs: Sequence[tuple[Maker, Maker]], rate: Fraction
) -> Iterator[Tally]:
    """Candidates that both masks of a pair select.

    Parameters
    ----------
    selected : bool (epochs, ranks, workers, candidates).
    pairs : of makers.
    rate : of each mask.

    Raises
    ------
    Violation : two large masks are equal.
    """
    for a, b in pairs:
        one, other = selected[a], selected[b]
        if rate == Fraction(1, 2) and one.size >= PROOF and (one == other).all():
            raise Violation(f"the masks of {a} and {b} are equal at all {one.size} candidates")
        both = int((one & other).sum())
        yield Tally(f"selected by both of {a} and {b}", both, one.size, rate**2)
