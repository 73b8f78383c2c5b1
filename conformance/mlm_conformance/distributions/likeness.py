"""Rows of fair bits beside each other: no two agree in more places than chance, nor in fewer."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.check import Context, Violation
from mlm_conformance.distributions.binomial import p_value, smallest_deviation
from mlm_conformance.distributions.judge import ALPHA, SURE
from mlm_conformance.results import Sensitivity

__all__ = ["require_unlike"]

_HALF = Fraction(1, 2)


def require_unlike(
    context: Context, what: str, bits: NDArray[np.bool_], pairs: NDArray[np.bool_] | None = None
) -> None:
    """Each two rows of a bool (m, N) agree in about half of the places.

    It is one test, at the level of one: the p-value of the worst pair, times how many there are.

    Parameters
    ----------
    pairs : bool (m, m), which are looked at; None: all.

    Raises
    ------
    Violation : two rows agree so often, or so seldom, as some two of fair bits do with probability
        `ALPHA` at most.
    """
    count, places = bits.shape
    looked_at = np.triu(np.ones((count, count), np.bool_) if pairs is None else pairs, 1)
    number = int(looked_at.sum())
    if not number:  # of a simplified case
        return
    signs = np.where(bits, 1, -1).astype(np.float32)  # exact: sums of fewer than 2^24 ones
    products = np.where(looked_at, signs @ signs.T, 0)
    one, other = np.unravel_index(np.abs(products).argmax(), products.shape)
    same = (places + int(products[one, other])) // 2
    context.saw("pairs", number)
    context.saw("tests", 1)
    about = f"agreement of two {what}", places, str(_HALF)
    context.sees_what(
        lambda: [Sensitivity(*about, *smallest_deviation(places, _HALF, ALPHA / number, SURE))]
    )
    chance = min(1.0, number * p_value(same, places, _HALF))
    if chance < ALPHA:
        raise Violation(
            f"{what} {one} and {other} agree in {same} of {places} places, should be 1/2: p-value "
            f"{chance:.1e} among {number} pairs",
            what,
        )
