"""One update of training in balls: each number with how far a conforming one may be from it.

A number x̂ that a conforming implementation computes, in whatever order it adds, lies within the
radius of the ball that stands for it here; so does the real number x.  The formulas are those of
chapters ENC, OPT and TRN, written from the text: nothing of the reference's training is used, so
this is also what the reference is checked against.
"""

from __future__ import annotations

from mlm_conformance.training.balls import Ball, Rounding, exact, rounding
from mlm_conformance.training.names import decays, shapes
from mlm_conformance.training.objective import Objective, evaluated, objective
from mlm_conformance.training.update import Updated, learning_rate, updated

__all__ = [
    "Ball",
    "Objective",
    "Rounding",
    "Updated",
    "decays",
    "evaluated",
    "exact",
    "learning_rate",
    "objective",
    "rounding",
    "shapes",
    "updated",
]
