"""One update in balls: the learning rate, clipping and AdamW (chapters OPT and TRN)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.training.balls import Ball, Rounding, exact, rounding
from mlm_conformance.training.names import decays
from mlm_spec.training.config import TrainingConfig

__all__ = ["Updated", "learning_rate", "norm_of", "updated"]

Array = NDArray[Any]
Arrays = Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class Updated:
    """What an update leaves.

    Attributes
    ----------
    parameters, exp_avg, exp_avg_sq : by name.
    norm : of the gradients before clipping.
    learning_rate : η_n.
    """

    parameters: dict[str, Ball]
    exp_avg: dict[str, Ball]
    exp_avg_sq: dict[str, Ball]
    norm: Ball
    learning_rate: Ball


def learning_rate(training: TrainingConfig, n: int, unit: float = 2.0**-53) -> Ball:
    """η_n of update n = 1, 2, …: a product and a quotient, each rounded."""
    warmup, last = training.warmup_updates, training.total_updates
    share = np.float64(1.0)
    if n <= warmup:
        share = np.float64(n) / np.float64(warmup)
    elif training.schedule == "linear":
        share = np.float64(last + 1 - n) / np.float64(last + 1 - warmup)
    return rounding(unit).widened(exact(np.float64(training.learning_rate) * share), 4)


def norm_of(r: Rounding, gradients: Mapping[str, Ball]) -> Ball:
    """√Σ g² over all of them, in any order."""
    terms = sum(g.value.size for g in gradients.values())
    squares = [r.total(r.times(g, g).moved(np.ravel), 0, terms) for g in gradients.values()]
    return r.root(r.add(*squares))


def updated(
    training: TrainingConfig,
    parameters: Arrays,
    exp_avg: Arrays,
    exp_avg_sq: Arrays,
    gradients: Mapping[str, Ball],
    n: int,
    unit: float = 2.0**-53,
) -> Updated:
    """Update n from a state that is known exactly, by gradients that are known as balls.

    Parameters
    ----------
    training : how it is updated.
    parameters, exp_avg, exp_avg_sq : what was before, by name.
    gradients : of the loss, before clipping.
    n : the number of this update, 1 for the first.
    unit : the unit roundoff of the implementation.
    """
    r = rounding(unit)
    norm, rate = norm_of(r, gradients), learning_rate(training, n, unit)
    share = _share(r, norm, training.max_grad_norm)
    moved: dict[str, list[Ball]] = {}
    for name, gradient in gradients.items():
        clipped = gradient if share is None else r.times(gradient, share)
        old = exact(parameters[name]), exact(exp_avg[name]), exact(exp_avg_sq[name])
        decay = training.weight_decay if decays(name, gradient.value.shape) else 0.0
        moved[name] = [b.inflated() for b in _moved(r, training, old, clipped, n, rate, decay)]
    first, second, third = ({name: found[i] for name, found in moved.items()} for i in range(3))
    return Updated(first, second, third, norm.inflated(), rate.inflated())


def _share(r: Rounding, norm: Ball, most: float | None) -> Ball | None:
    """min(1, most / norm), from its end points: whether to clip may be in doubt, this is not."""
    if most is None:
        return None
    kind = norm.value.dtype.type
    value = np.minimum(kind(1), kind(most) / norm.value)
    highest = 1.0 if norm.size == norm.radius else min(1.0, most / _least(norm))
    lowest = min(1.0, most / float(norm.size)) if norm.size > 0.0 else 1.0
    middle = float(value)
    spread = np.asarray(max(highest - middle, middle - lowest))
    is_clipped = norm.size > most
    return r.widened(Ball(value, spread), 2) if is_clipped else exact(kind(1))


def _least(norm: Ball) -> float:
    return max(float(norm.value) - float(norm.radius), float(np.finfo(np.float64).tiny))


def _moved(
    r: Rounding,
    training: TrainingConfig,
    old: tuple[Ball, Ball, Ball],
    g: Ball,
    n: int,
    rate: Ball,
    decay: float,
) -> tuple[Ball, Ball, Ball]:
    theta, m, v = old
    m = _averaged(r, m, g, training.beta1)
    v = _averaged(r, v, r.times(g, g), training.beta2)
    root = r.root(r.divided(v, _correction(r, g, training.beta2, n)))
    below = r.add(root, exact(g.value.dtype.type(training.epsilon)))
    step = r.divided(r.divided(m, _correction(r, g, training.beta1, n)), below, 4)
    step = r.add(step, r.scaled(theta, g.value.dtype.type(decay), 1))
    return r.widened(r.add(theta, -r.times(step, rate, 4)), 2), m, v


def _averaged(r: Rounding, old: Ball, new: Ball, beta: float) -> Ball:
    """β·old + (1 − β)·new, or old + (1 − β)·(new − old)."""
    kind = new.value.dtype.type
    kept, added = r.scaled(old, kind(beta), 1), r.scaled(new, kind(1) - kind(beta), 2)
    value = r.add(kept, added)
    more = r.gamma(3) * (1.0 - beta) * (old.size + new.size) + r.gamma(1) * old.size
    return Ball(value.value, value.radius + more)


def _correction(r: Rounding, like: Ball, beta: float, n: int) -> Ball:
    """1 − βⁿ: what a power is off by is large beside it, where β is near 1."""
    kind = like.value.dtype.type
    power = kind(beta) ** n
    off = float(power) * (r.function + r.gamma(n)) + r.unit
    return Ball(np.asarray(1 - power), np.asarray(off))
