"""The objective on given logits, in ball arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from flint import ctx
from numpy.typing import NDArray

from mlm_conformance.ball.reals import FIRST_PRECISION, Ball, Real, ball, decide, nearest, total
from mlm_conformance.ball.softmax import Levels, Softmax, levels_of_floats
from mlm_spec.batch import ScoreResult

__all__ = ["log_likelihood", "log_likelihood_sum", "logit_gradient", "score", "upstream_weights"]

Floats = NDArray[np.float64]


def log_likelihood(logits: Sequence[float] | NDArray[Any], target: int) -> Ball:
    """log Pr(target) of one position, in nats.

    Parameters
    ----------
    logits : (V,), finite or -inf; any float dtype, converted exactly.
    target : the id of the original token, of finite logit.

    >>> log_likelihood([0.0, 40.0], 1).nearest
    -4.248354255291589e-18
    """
    levels = levels_of_floats(np.asarray(logits), target)
    return decide(lambda: ball(Softmax(levels).log_likelihood()))


def logit_gradient(
    logits: Sequence[float] | NDArray[Any], target: int, weight: float = 1.0
) -> list[Ball]:
    """weight · (1[j = t] − p_j) for each id j; exactly 0 where the logit is -inf.

    >>> [entry.nearest for entry in logit_gradient([0.0, 0.0, -np.inf], 0)]
    [0.5, -0.5, 0.0]
    """
    levels = levels_of_floats(np.asarray(logits), target)

    def attempt() -> list[Ball]:
        gradient = Softmax(levels).gradient(weight)
        by_level = [*map(ball, gradient.others), Ball(0.0, Fraction(0), Fraction(0))]  # level -1
        entries = [by_level[level] for level in levels.level_of]
        entries[target] = ball(gradient.target)
        return entries

    return decide(attempt)


def log_likelihood_sum(
    logits: NDArray[Any], targets: NDArray[Any], weights: NDArray[Any] | None = None
) -> Ball:
    """Σ w_i log Pr_i over the rows of logits (N, V), with targets (N,), weights (N,) or None.

    >>> log_likelihood_sum(np.zeros((3, 4)), np.array([0, 1, 2])).nearest
    -4.1588830833596715
    """
    every = _levels(logits, targets)
    upstream = upstream_weights(weights, len(every))
    return decide(lambda: ball(_sum(_log_likelihoods(every), upstream)))


def score(
    logits: NDArray[Any],
    targets: NDArray[Any],
    selected: NDArray[np.bool_],
    weights: NDArray[Any] | None = None,
    with_gradient: bool = True,
) -> ScoreResult:
    """The objective on given logits, each number the float64 nearest to the real one.

    Parameters
    ----------
    logits : float (B, T, V), any float dtype, converted exactly; -inf is probability 0.
    targets : integer (B, T).
    selected : bool (B, T).
    weights : float (B, T) or None, all ones.
    with_gradient : False leaves ``grad_logits`` out: None.

    Returns
    -------
    ScoreResult : float64 throughout, count int64; 0.0 at positions that are not selected.

    Raises
    ------
    UndecidedError : see the package.
    """
    rows, ids = logits[selected], targets[selected]
    weighted = upstream_weights(None if weights is None else weights[selected], len(ids))
    first, group_of = _alike(rows, ids, weighted)
    every, upstream = _levels(rows[first], ids[first]), [weighted[i] for i in first]
    pairs = zip(every, upstream, strict=True)
    answers = [_position(levels, weight, with_gradient) for levels, weight in pairs]
    nats = np.zeros(targets.shape)
    nats[selected] = np.array([nearest_nats for _, nearest_nats, _ in answers])[group_of]
    gradient = np.zeros(logits.shape) if with_gradient else None
    if gradient is not None and answers:
        gradient[selected] = np.array([row for _, _, row in answers])[group_of]
    counts = np.bincount(group_of, minlength=len(first)).tolist()

    def summed() -> float:
        at_first = ctx.prec == FIRST_PRECISION  # the positions are at hand at this precision
        reals = [real for real, _, _ in answers] if at_first else _log_likelihoods(every)
        return nearest(_sum(reals, upstream, counts))

    return ScoreResult(nats, np.float64(decide(summed)), np.int64(len(ids)), gradient)


def _alike(
    rows: NDArray[Any], ids: NDArray[Any], weights: list[float]
) -> tuple[list[int], NDArray[np.intp]]:
    """The first of each group of equal positions, and the group of each: it is computed once."""
    groups: dict[tuple[bytes, int, float], int] = {}
    first: list[int] = []
    group_of = np.zeros(len(ids), np.intp)
    for i, key in enumerate(
        zip((row.tobytes() for row in rows), ids.tolist(), weights, strict=True)
    ):
        group = groups.setdefault(key, len(first))
        if group == len(first):
            first.append(i)
        group_of[i] = group
    return first, group_of


def _position(
    levels: Levels, weight: float, with_gradient: bool
) -> tuple[Real, float, Floats | None]:
    """log Pr, its nearest float64, and the gradient (V,) or None."""

    def attempt() -> tuple[Real, float, Floats | None]:
        softmax = Softmax(levels)
        nats = softmax.log_likelihood()
        if not with_gradient:
            return nats, nearest(nats), None
        gradient = softmax.gradient(weight)
        by_level = np.array([*map(nearest, gradient.others), 0.0])  # level -1: the last
        row = by_level[levels.level_of]
        row[levels.target] = nearest(gradient.target)
        return nats, nearest(nats), row

    return decide(attempt)


def _levels(logits: NDArray[Any], targets: NDArray[Any]) -> list[Levels]:
    return [levels_of_floats(z, t) for z, t in zip(logits, targets.tolist(), strict=True)]


def _log_likelihoods(every: list[Levels]) -> list[Real]:
    return [Softmax(levels).log_likelihood() for levels in every]


def _sum(reals: list[Real], weights: list[float], counts: list[int] | None = None) -> Real:
    """Each real times its weight, as often as it is counted."""
    terms = [real.times(weight) for real, weight in zip(reals, weights, strict=True)]
    if counts is not None:
        pairs = zip(terms, counts, strict=True)
        terms = [Real(term.exact * n, term.rest * n) for term, n in pairs]
    return total(terms)


def upstream_weights(weights: NDArray[Any] | None, number: int) -> list[float]:
    """The weights of the selected positions; without any, ones."""
    return [1.0] * number if weights is None else weights.astype(np.float64).tolist()
