"""What rounding may do to a result: the reference with its intermediate results moved at random.

`mlm_spec.training` applies a function to the result of every operation.  `perturbation` is one that
moves each number by a relative amount, up or down by the toss of a coin.  Moved by `unit_of`, which
is what the longest sum of the model may lose, a few runs give the size of the errors that any
conforming arithmetic of that unit roundoff may make: an *envelope*, and no tolerance is chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from mlm_spec.training.batch import TrainingBatch
from mlm_spec.training.config import EncoderConfig

__all__ = ["RUNS", "envelope", "hidden_unit_of", "perturbation", "relative", "unit_of"]

Floats = NDArray[np.float64]

#: Runs of an envelope.
RUNS = 8


def perturbation(unit: float, seed: int) -> Callable[[Floats], Floats]:
    """A function for ``rounded``: x · (1 ± unit), the signs drawn independently.

    Parameters
    ----------
    unit : the relative amount.
    seed : of the signs.
    """
    rng = np.random.default_rng(seed)

    def moved(values: Floats) -> Floats:
        signs = rng.integers(0, 2, size=values.shape) * 2.0 - 1.0
        return values * (1.0 + unit * signs)

    return moved


def unit_of(config: EncoderConfig, batch: TrainingBatch, roundoff: float = 2.0**-53) -> float:
    """γ_n of the longest sum, n = max(V, d, F, B · T): what one operation may lose.

    Parameters
    ----------
    roundoff : u of the arithmetic.
    """
    longest = max(
        config.vocab_size, config.hidden_size, config.intermediate_size, batch.inputs.size
    )
    return _gamma(longest, roundoff)


def hidden_unit_of(config: EncoderConfig, batch: TrainingBatch, roundoff: float) -> float:
    """As `unit_of` where only hidden states are asked for: n = max(d, F, T).

    No sum on their way runs over the vocabulary or over rows.
    """
    longest = max(config.hidden_size, config.intermediate_size, batch.inputs.shape[1])
    return _gamma(longest, roundoff)


def _gamma(terms: int, roundoff: float) -> float:
    return float(terms * roundoff / (1.0 - terms * roundoff))


def envelope(
    run: Callable[[Callable[[Floats], Floats]], Mapping[str, Floats]],
    scales: Mapping[str, Floats],
    unit: float,
    runs: int = RUNS,
) -> dict[str, float]:
    """How far each result moves, at most over its entries and over all runs, relative to its scale.

    Parameters
    ----------
    run : from a ``rounded`` to {name: array}.
    scales : {name: array}, for each entry the sum of magnitudes that it comes from.
    unit : of `perturbation`.

    Returns
    -------
    {name: max |moved − still| / scale}; entries of scale 0 have nothing to move.
    """
    still = run(lambda values: values)
    found = dict.fromkeys(still, 0.0)
    for seed in range(runs):
        moved = run(perturbation(unit, seed))
        for name, values in still.items():
            found[name] = max(found[name], relative(moved[name], values, scales[name]))
    return found


def relative(found: Floats, expected: Floats, scale: Floats) -> float:
    """max |found − expected| / scale; where the scale is 0 the two must be equal."""
    error = np.abs(found - expected)
    if (error[scale == 0.0] != 0.0).any():
        return float("inf")
    inside = scale != 0.0
    return float(np.max(error[inside] / scale[inside], initial=0.0))
