"""What the answers are compared with: the real number, rounded to each format directly.

The numbers are those of `mlm_spec.enclose`.  Each is also asked of ball arithmetic, which shares
no code with it, since one of the implementations in the league is this project's own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_conformance import ball
from mlm_conformance.field.accuracy.formats import FORMATS, rounded
from mlm_spec import Enclosure, enclose

__all__ = ["Truth", "TruthError", "truth_of"]


class TruthError(ArithmeticError):
    """The exact reference and ball arithmetic contradict each other."""


@dataclass(frozen=True, slots=True)
class Truth:
    """log Pr(target) of one position.

    Attributes
    ----------
    value : the real number, up to 2^-70 of itself or better; -inf for a target of probability 0.
    nearest : by format, the nearest number of it.
    """

    value: Fraction | float
    nearest: Mapping[str, float]


def truth_of(logits: NDArray[Any], target: int) -> Truth:
    """The truth at logits (V,), converted exactly.

    Raises
    ------
    TruthError : ball arithmetic says something else.
    """
    number = enclose(logits, target)
    nearest = {name: rounded(number, form) for name, form in FORMATS.items()}
    lower, upper = number.lower, number.upper
    if isinstance(lower, float) or isinstance(upper, float):
        return Truth(-math.inf, nearest)
    _confirm(logits, target, number, nearest["float64"])
    return Truth((lower + upper) / 2, nearest)


def _confirm(logits: NDArray[Any], target: int, number: Enclosure, value: float) -> None:
    other = ball.log_likelihood(logits.astype(np.float64), target)
    meets = other.lower <= number.upper and number.lower <= other.upper
    if not meets or other.nearest != value:
        raise TruthError(f"log Pr is {value!r} by enclose, {other.nearest!r} by ball arithmetic")
