"""What a run is between two updates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_spec.checking import check_finite
from mlm_spec.training.config import EncoderConfig, TrainingConfig
from mlm_spec.training.parameters import checked
from mlm_spec.training.precision import first_loss_scale, kept_dtype

__all__ = ["TrainingState", "initial_state"]

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class TrainingState:
    """What a run is between two updates; all else follows from its configurations.

    Attributes
    ----------
    parameters, exp_avg, exp_avg_sq : θ, m and v by name; float64 for the precision "float64", else
        float32.
    update : n, how many updates have been made.
    loss_scale : what float16 multiplies the loss by; 1.0 elsewhere.
    position : how many sequences have been consumed, all epochs together.
    """

    parameters: Arrays
    exp_avg: Arrays
    exp_avg_sq: Arrays
    update: int = 0
    loss_scale: float = 1.0
    position: int = 0


def initial_state(
    parameters: Arrays, encoder: EncoderConfig, training: TrainingConfig
) -> TrainingState:
    """The state before update 1: moments of 0, nothing consumed.

    Parameters
    ----------
    parameters : float arrays, all those of the encoder and no others.
    encoder, training : the configurations.

    Returns
    -------
    TrainingState : its arrays are copies, rounded to the dtype that is kept.

    Raises
    ------
    InputError (missing, unknown), ShapeError, DTypeError, NotFiniteError.

    Source: chapter TRN.  Bound: one rounding to the dtype that is kept.
    """
    dtype = kept_dtype(training.precision)
    with np.errstate(over="ignore"):  # looked at right below
        kept = {n: p.astype(dtype, copy=True) for n, p in checked(parameters, encoder).items()}
    for name, parameter in kept.items():
        check_finite(f"parameters[{name!r}]", parameter)
    nothing, also = ({n: np.zeros_like(p) for n, p in kept.items()} for _ in range(2))
    return TrainingState(kept, nothing, also, loss_scale=first_loss_scale(training.precision))
