"""One update of the parameters: learning rate, clipping and AdamW, in float64 (chapter OPT).

Source: Kingma and Ba, "Adam: a method for stochastic optimization", ICLR 2015; Loshchilov and
Hutter, "Decoupled weight decay regularization", ICLR 2019; Devlin et al. 2018, appendix A.2.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlm_spec.errors import InputError
from mlm_spec.training.config import TrainingConfig

__all__ = ["Moved", "adamw", "clipped", "global_norm", "is_decayed", "learning_rate"]

Arrays = Mapping[str, NDArray[Any]]


class Moved(NamedTuple):
    """What an update makes of the parameters and of their two moments.

    Attributes
    ----------
    parameters, exp_avg, exp_avg_sq : new arrays under the same names, θ, m and v.
    """

    parameters: dict[str, NDArray[Any]]
    exp_avg: dict[str, NDArray[Any]]
    exp_avg_sq: dict[str, NDArray[Any]]


def learning_rate(n: int, config: TrainingConfig) -> float:
    """η_n, the learning rate of update n = 1, 2, … (MLM-OPT-7, MLM-OPT-8).

    With W warm-up updates of M in all,

        n ≤ W:  η·n/W           then  "linear": η·(M + 1 − n)/(M + 1 − W),  "constant": η

    so that neither the first update nor the last one is lost to a rate of 0.

    Parameters
    ----------
    n : the number of the update, from 1 on.
    config : η is its learning_rate, W its warmup_updates, M its total_updates.

    Raises
    ------
    InputError : n is below 1, or the schedule is "linear" and n is beyond M.

    Source: chapter OPT; Devlin et al. 2018, appendix A.2.  Bound: 2 · 2⁻⁵³ of itself.

    >>> config = TrainingConfig(learning_rate=1.0, warmup_updates=2, total_updates=4)
    >>> [round(learning_rate(n, config), 6) for n in (1, 2, 3, 4)]
    [0.5, 1.0, 0.666667, 0.333333]
    """
    number = _update_number(n, config)
    if number <= config.warmup_updates:
        return config.learning_rate * number / config.warmup_updates
    if config.schedule == "constant":
        return config.learning_rate
    end = config.total_updates + 1
    return config.learning_rate * (end - number) / (end - config.warmup_updates)


def _update_number(n: object, config: TrainingConfig) -> int:
    last = config.total_updates if config.schedule == "linear" else math.inf
    try:
        number = operator.index(n)  # type: ignore[arg-type]  # what it is made to find out
    except TypeError:
        raise InputError("update", f"{n!r} ({type(n).__name__})", "an integer") from None
    if not 1 <= number <= last:
        wanted = "1 or more" if last == math.inf else f"in 1..{last}, the total_updates"
        raise InputError("update", number, wanted)
    return number


def global_norm(gradients: Arrays) -> float:
    """√Σ g² over all entries of all tensors, each tensor once (MLM-OPT-3).

    The entries are scaled by a power of two first, which is exact, so that no square overflows.

    Parameters
    ----------
    gradients : float arrays of any shapes, finite.

    Returns
    -------
    float, 0.0 of nothing.

    Source: chapter OPT.  Bound: (n + 3) · 2⁻⁵³ of itself for n entries, underflow of squares
    apart: entries below 2⁻⁵¹¹ of the largest add nothing.

    >>> global_norm({"a": np.array([3.0, 0.0]), "b": np.array([[4.0]])})
    5.0
    """
    largest = max((float(np.abs(g).max()) for g in gradients.values() if g.size), default=0.0)
    if largest == 0.0:
        return 0.0
    exponent = math.frexp(largest)[1]
    parts = [
        float(np.square(np.ldexp(g.astype(np.float64), -exponent)).sum())
        for g in gradients.values()
    ]
    # A float64 norm may exceed the largest float64; infinity then says just that.
    try:
        return math.ldexp(math.sqrt(math.fsum(parts)), exponent)
    except OverflowError:
        return math.inf


def clipped(
    gradients: Arrays, norm: float, max_norm: float | None
) -> dict[str, NDArray[np.float64]]:
    """Gradients of a norm of at most ``max_norm``: g·(max_norm/norm) where norm > max_norm.

    Up to ``max_norm`` they stay what they are, to the bit, and so does everything where
    ``max_norm`` is None (MLM-OPT-4).

    Parameters
    ----------
    gradients : float arrays, those of the whole global batch.
    norm : their global norm.
    max_norm : above 0, or None.

    Returns
    -------
    float64 arrays under the same names.

    Source: chapter OPT; Pascanu, Mikolov and Bengio, ICML 2013, algorithm 1.  Bound: 2 · 2⁻⁵³ of
    each entry, beside the error of the norm.

    >>> clipped({"a": np.array([3.0, 4.0])}, 5.0, 1.0)["a"].tolist()
    [0.6000000000000001, 0.8]
    >>> clipped({"a": np.array([3.0, 4.0])}, 5.0, 5.0)["a"].tolist()
    [3.0, 4.0]
    """
    wide = {name: g.astype(np.float64) for name, g in gradients.items()}
    if max_norm is None or norm <= max_norm:
        return wide
    return {name: g * (max_norm / norm) for name, g in wide.items()}


def is_decayed(parameter: NDArray[Any]) -> bool:
    """Whether a parameter is a matrix: embeddings are, biases and LayerNorm are not (MLM-OPT-6).

    Source: chapter OPT.  Bound: exact.

    >>> is_decayed(np.ones((2, 3))), is_decayed(np.ones(3))
    (True, False)
    """
    return parameter.ndim == 2


def adamw(
    parameters: Arrays,
    gradients: Arrays,
    exp_avg: Arrays,
    exp_avg_sq: Arrays,
    n: int,
    config: TrainingConfig,
) -> Moved:
    """AdamW: update n of all parameters (MLM-OPT-1, 2, 5, 6).

        m ← β₁·m + (1 − β₁)·g                 m̂ = m/(1 − β₁ⁿ)
        v ← β₂·v + (1 − β₂)·g²                v̂ = v/(1 − β₂ⁿ)
        θ ← θ − η_n·(m̂/(√v̂ + ε) + λ·θ)        λ·θ of matrices only

    Parameters
    ----------
    parameters, exp_avg, exp_avg_sq : θ, m and v before the update, under the same names.
    gradients : of the loss, averaged and clipped, under the same names.
    n : the number of the update, from 1 on.
    config : the rest.

    Returns
    -------
    Moved : new arrays, computed in float64 and rounded once to the dtype of the parameter.

    Raises
    ------
    InputError : as `learning_rate`.

    Source: chapter OPT; Loshchilov and Hutter 2019, algorithm 2, with the schedule inside η_n.
    Bound: that of chapter OPT at u = 2⁻⁵³, and one rounding to the dtype of the parameter.

    >>> config = TrainingConfig(learning_rate=0.5, warmup_updates=1, total_updates=1)
    >>> one, zero = {"b": np.array([1.0])}, {"b": np.array([0.0])}
    >>> moved = adamw(one, {"b": np.array([7.0])}, zero, zero, 1, config)
    >>> round(float(moved.parameters["b"][0]), 6)  # the first step is the rate, whatever g is
    0.5
    """
    rate = learning_rate(n, config)
    moved = Moved({}, {}, {})
    for name, parameter in parameters.items():
        theta, g = parameter.astype(np.float64), gradients[name].astype(np.float64)
        m = config.beta1 * exp_avg[name].astype(np.float64) + (1.0 - config.beta1) * g
        v = config.beta2 * exp_avg_sq[name].astype(np.float64) + (1.0 - config.beta2) * g * g
        step = m / _one_minus_power(config.beta1, n)
        step /= np.sqrt(v / _one_minus_power(config.beta2, n)) + config.epsilon
        if is_decayed(parameter):
            step += config.weight_decay * theta
        for kept, new in zip(moved, (theta - rate * step, m, v), strict=True):
            kept[name] = new.astype(parameter.dtype)
    return moved


def _one_minus_power(beta: float, n: int) -> float:
    """1 − βⁿ, accurate relative to itself: subtracting would cancel while βⁿ is near 1."""
    return -math.expm1(n * math.log(beta)) if beta else 1.0
