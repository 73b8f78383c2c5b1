"""Exact integer thresholds for random words (MLM-RNG-5, MLM-RNG-6)."""

from __future__ import annotations

from fractions import Fraction
from numbers import Rational

import numpy as np
from numpy.typing import NDArray

from mlm_spec.errors import PolicyError

__all__ = ["below", "pool_index", "threshold"]

Words = NDArray[np.uint32]
_RANGE = 2**32


def threshold(p: Fraction) -> int:
    """T(p) = ceil(p · 2³²): a word w decides "yes" iff w < T(p).

    The probability of "yes" is T(p) / 2³², which is at least p and exceeds it by less than 2⁻³².

    Raises
    ------
    PolicyError : no exact fraction (a float is none), or one outside [0, 1].

    Source: chapter RNG.  Bound: exact; a rate moves by less than 2⁻³².

    >>> threshold(Fraction(3, 20)), threshold(Fraction(0)), threshold(Fraction(1)) == 2**32
    (644245095, 0, True)
    """
    if not isinstance(p, Rational) or not 0 <= p <= 1:
        raise PolicyError("p", repr(p), "an exact fraction in [0, 1]")
    return -((-p.numerator * _RANGE) // p.denominator)


def below(words: Words, p: Fraction) -> NDArray[np.bool_]:
    """words < T(p), a comparison of integers.

    Parameters
    ----------
    words : uint32 (...).
    p : an exact probability.

    Returns
    -------
    bool (...).
    """
    limit = threshold(p)
    if limit == _RANGE:  # 2**32 is no uint32; every word is below it
        return np.ones(words.shape, np.bool_)
    result: NDArray[np.bool_] = words < np.uint32(limit)
    return result


def pool_index(w2: Words, w3: Words, size: int) -> Words:
    """An index into a pool of ``size`` ids: (w2 if w2 ≤ ⌊2³²/K⌋·K − 1 else w3) mod K.

    w2 is used where it falls into a whole number of copies of the pool; w3 gets the rest, so the
    bias is at most (K/2³²)² and nothing loops.

    Parameters
    ----------
    w2, w3 : uint32 (...).
    size : K ≥ 1.

    Returns
    -------
    uint32 (...), each in 0 .. K − 1.

    >>> pool_index(np.array([7, 2**32 - 1], np.uint32), np.array([0, 8], np.uint32), 5).tolist()
    [2, 3]
    """
    last = _RANGE // size * size - 1
    word = np.where(w2 <= np.uint32(last), w2, w3)
    index: Words = word % np.uint32(size)
    return index
