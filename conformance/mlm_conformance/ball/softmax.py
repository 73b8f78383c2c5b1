"""The softmax of one position.

With n logits at the top, far = Σ exp(z_k − z_top) over the lower ones, and S = n + far,

    log Pr(target) = (z_t − z_top) − log1p(n − 1 + far)
    p_top = 1/n − far/(n S)          p_k = 0 + exp(z_k − z_top)/S

Each is an exact part and a rest, so neither log Pr near 0 nor 1 − p_t loses a digit to
cancellation.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from flint import arb, arf, fmpq
from numpy.typing import NDArray

from mlm_conformance.ball.reals import Real, exact_value, rational

__all__ = ["Gradient", "Levels", "Softmax", "levels_of_floats", "levels_of_integers"]


class Levels(NamedTuple):
    """The distinct finite logits of a position, from the highest, and who has them.

    Equal logits have equal exponentials and gradients: each is computed once.

    Attributes
    ----------
    values : arb, exact.
    counts : how many ids have the value.
    level_of : (V,), the level of each id; -1 for a logit of -inf.
    target : the id of the target.
    """

    values: list[Any]
    counts: list[int]
    level_of: NDArray[np.intp]
    target: int

    @property
    def target_level(self) -> int:
        """The level of the target."""
        return int(self.level_of[self.target])


def levels_of_floats(logits: NDArray[Any], target: int) -> Levels:
    """The levels of one row of logits (V,), of any float dtype, converted exactly."""
    negated, level_of, counts = np.unique(
        -logits.astype(np.float64), return_inverse=True, return_counts=True
    )
    finite = int(np.count_nonzero(negated < np.inf))
    values = [arb(-value) for value in negated[:finite].tolist()]
    level_of = np.where(level_of < finite, level_of, -1)
    return _with_target(values, counts[:finite].tolist(), level_of, target)


def levels_of_integers(logits: list[int | None], scale: int, target: int) -> Levels:
    """The levels of logits · 2^-scale; None is -inf."""
    distinct = sorted({z for z in logits if z is not None}, reverse=True)
    rank = {z: level for level, z in enumerate(distinct)}
    level_of = np.array([-1 if z is None else rank[z] for z in logits], np.intp)
    counts = np.bincount(level_of[level_of >= 0], minlength=len(distinct)).tolist()
    values = [arb(arf((z, -scale))) for z in distinct]
    return _with_target(values, counts, level_of, target)


def _with_target(
    values: list[Any], counts: list[int], level_of: NDArray[np.intp], target: int
) -> Levels:
    if level_of[target] < 0:
        raise ValueError(f"the target, {target}, has logit -inf")
    return Levels(values, counts, level_of, int(target))


class Gradient(NamedTuple):
    """weight · (1[j = t] − p_j): by level for the other ids, and for the target."""

    others: list[Real]
    target: Real


class Softmax:
    """The softmax of one position, at the precision that is current when it is made."""

    def __init__(self, levels: Levels) -> None:
        self.levels = levels
        top = levels.values[0]
        self._powers = [(value - top).exp() for value in levels.values[1:]]
        self.n = levels.counts[0]
        self.far = sum(_counted(levels.counts[1:], self._powers), arb(0))

    def log_likelihood(self) -> Real:
        """log Pr(target)."""
        values = self.levels.values
        lead = exact_value(values[self.levels.target_level]) - exact_value(values[0])
        return Real(lead, -(self.n - 1 + self.far).log1p())

    def gradient(self, weight: float) -> Gradient:
        """d (weight · log Pr(target)) / d logits."""
        inverse = 1 / (self.n + self.far)
        factor, zero = -arb(weight) * inverse, fmpq(0)
        others = [Real(zero, factor * power) for power in (-self.far / self.n, *self._powers)]
        others[0] = others[0]._replace(exact=-rational(weight) / self.n)
        mine = others[self.levels.target_level]
        return Gradient(others, mine._replace(exact=mine.exact + rational(weight)))


def _counted(counts: list[int], powers: list[Any]) -> list[Any]:
    """The powers, each times its count."""
    if max(counts, default=1) == 1:
        return powers
    return [n if k == 1 else k * n for k, n in zip(counts, powers, strict=True)]
