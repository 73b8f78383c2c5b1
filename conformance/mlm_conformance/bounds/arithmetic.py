"""What a backend computes in and stores its results in (chapter LIK, "Arithmetic")."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.bounds.accumulation import ANY_ORDER, Accumulation

__all__ = ["SLACK", "Arithmetic", "arithmetic", "gamma"]

Floats = NDArray[np.float64]

SLACK = 1.0 + 2.0**-10
K_EXP = 4.0  # accepted error of exp, ulps: twice CUDA's documented 2 ulps for expf
K_SLOPE = 0.0  # and no more for larger arguments: a fast exp does not qualify
K_LOG = 4.0
_UNIT = {"float64": 2.0**-53, "float32": 2.0**-24, "bfloat16": 2.0**-8, "float16": 2.0**-11}
# Half the spacing of float16's subnormals: flushing them would let a zero gradient pass on most
# entries of a large vocabulary.  The others may flush to zero: their smallest normal number.
_TINY = {"float64": 2.0**-1022, "float32": 2.0**-126, "bfloat16": 2.0**-126, "float16": 2.0**-25}


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """What a backend computes in, in which order it adds, and what it stores its results in.

    Attributes
    ----------
    unit, tiny : u and λ of the accumulation.
    output_unit, output_tiny : u_o and λ_o; 0 where the output is as wide as the accumulation.
    order : the class of its sums over the vocabulary.
    exp_ulps, exp_slope, log_ulps : k_e, k_x and k_l.
    """

    unit: float
    tiny: float
    output_unit: float = 0.0
    output_tiny: float = 0.0
    order: Accumulation = ANY_ORDER
    exp_ulps: float = K_EXP
    exp_slope: float = K_SLOPE
    log_ulps: float = K_LOG

    def stored(self, sizes: Floats, bounds: Floats) -> Floats:
        """Bounds of results of these sizes once they are stored in the output dtype."""
        if self.output_unit == 0.0:  # and an infinite bound stays one: 0 · inf is NaN
            return bounds
        return bounds + self.output_unit * (sizes + bounds) + self.output_tiny


def arithmetic(
    dtype: str, output: str | None = None, declared: Accumulation = ANY_ORDER
) -> Arithmetic:
    """The arithmetic the specification asks for, or the one that is declared.

    Parameters
    ----------
    dtype : of the inputs.  Accumulation is float64 for float64 inputs and at least float32
        otherwise (MLM-LIK-9, MLM-OBJ-12), unless ``declared`` names another.
    output : the dtype a result is stored in, if it may be narrower than the accumulation.
    declared : how sums over the vocabulary are taken.
    """
    wide = declared.dtype or ("float64" if dtype == "float64" else "float32")
    narrow = output is not None and _UNIT[output] > _UNIT[wide]
    return Arithmetic(
        _UNIT[wide],
        _TINY[wide],
        _UNIT[output] if narrow and output else 0.0,
        _TINY[output] if narrow and output else 0.0,
        declared,
    )


def gamma(n: float, unit: float) -> float:
    """γ_n = n u / (1 − n u); infinite where nothing can be certified."""
    return n * unit / (1.0 - n * unit) if n * unit < 1.0 else np.inf
