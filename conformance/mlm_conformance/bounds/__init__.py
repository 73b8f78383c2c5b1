"""How far a conforming implementation may be from the real number (derived, never guessed).

Every bound is a function of the dtype, of how a backend accumulates, and of the data of the case.
The derivations are in the specification, chapters LIK, GRA and HED, section "Bounds"; the names
here are the symbols there:

    u      unit roundoff of the accumulation: 2⁻⁵³ for float64 inputs, else 2⁻²⁴
    u_o    unit roundoff of the output, where it is narrower than the accumulation
    h      additions a term passes through; V − 1 covers any order
    k_e    error of exp in units in the last place, k_x its growth with |x|; k_l that of log
    λ      the largest absolute error of a result that underflows

Second-order terms that the derivations drop are covered by the factor 1 + 2⁻¹⁰.
"""

from __future__ import annotations

from mlm_conformance.bounds.accumulation import ANY_ORDER, Accumulation, AccumulationError
from mlm_conformance.bounds.arithmetic import Arithmetic, arithmetic, gamma
from mlm_conformance.bounds.layer import HeadBounds, head_bounds
from mlm_conformance.bounds.scoring import gradient_bound, sum_bound, value_bound

__all__ = [
    "ANY_ORDER",
    "Accumulation",
    "AccumulationError",
    "Arithmetic",
    "HeadBounds",
    "arithmetic",
    "gamma",
    "gradient_bound",
    "head_bounds",
    "sum_bound",
    "value_bound",
]
