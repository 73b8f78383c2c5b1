"""What a precision means to the reference: the dtype of what is kept, and the loss scale.

The reference computes in float64 whatever the precision.  Below float64 it keeps parameters and
moments in float32, and it takes for not finite what the gradients' dtype could not hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_spec.training.config import Precision

__all__ = ["FIRST_LOSS_SCALE", "first_loss_scale", "is_held", "kept_dtype", "next_loss_scale"]

FIRST_LOSS_SCALE = 2.0**16
_SMALLEST, _LARGEST = 1.0, 2.0**32
_GOOD_UPDATES = 2000  # between two doublings


def kept_dtype(precision: Precision) -> np.dtype[Any]:
    """The dtype of parameters and moments: float64, or float32 for all that is below.

    >>> str(kept_dtype("bfloat16"))
    'float32'
    """
    return np.dtype(np.float64 if precision == "float64" else np.float32)


def first_loss_scale(precision: Precision) -> float:
    """What the loss is multiplied by at the start: 2¹⁶ in float16, else 1 (MLM-TRN-8)."""
    return FIRST_LOSS_SCALE if precision == "float16" else 1.0


def next_loss_scale(scale: float, n: int, finite: bool, precision: Precision) -> float:
    """The loss scale after an attempt at update n (MLM-TRN-8).

    Halved where a gradient was not finite, doubled where update n was made and n is a multiple of
    2000; in 1 … 2³².  So the scale needs no counter but n.

    >>> next_loss_scale(65536.0, 7, False, "float16"), next_loss_scale(64.0, 2000, True, "float16")
    (32768.0, 128.0)
    """
    if precision != "float16":
        return scale
    if not finite:
        return max(scale / 2.0, _SMALLEST)
    return min(scale * 2.0, _LARGEST) if n % _GOOD_UPDATES == 0 else scale


def is_held(gradients: Mapping[str, NDArray[Any]], scale: float, precision: Precision) -> bool:
    """Whether every scaled gradient is finite in the dtype that gradients have in this precision.

    float16 holds numbers below 65520.  bfloat16 has the range of float32.

    >>> g = {"b": np.array([1.5])}
    >>> is_held(g, 65536.0, "float16"), is_held(g, 32768.0, "float16")
    (False, True)
    """
    dtype = np.float16 if precision == "float16" else kept_dtype(precision)
    with np.errstate(over="ignore"):
        return all(np.isfinite((g * scale).astype(dtype)).all() for g in gradients.values())
