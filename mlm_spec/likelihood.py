"""The log-likelihood of selected tokens, and its gradient, in float64 (chapters LIK and GRA)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["log_likelihood", "logit_gradient", "pairwise_sum"]

Floats = NDArray[np.float64]


def log_likelihood(logits: NDArray[Any], targets: NDArray[Any]) -> Floats:
    """log Pr(target) = z_t − log Σ_j exp z_j, accurate relative to itself, also where Pr → 1.

    With a pivot r (the target if it attains the maximum, else the first maximum),

        log Pr = (z_t − z_r) − log1p(S),   S = Σ_{j≠r} exp(z_j − z_r).

    Both terms are ≤ 0, so nothing cancels.  Two refinements keep the error at a few units in
    the last place: each difference carries its rounding error (TwoSum), and S is scaled by the
    runner-up, so that a tail that underflows one by one does not underflow as a whole.

    Parameters
    ----------
    logits : float (N, V), any float dtype, converted exactly; -inf is probability 0.
        No NaN, no +inf, a finite logit in each row, a finite logit at each target.
    targets : integer (N,), in 0 .. V - 1.

    Returns
    -------
    float64 (N,), nats, ≤ 0.  Relative error at most (14 + ⌈log2 V⌉) · 2⁻⁵³, given exp and log1p
    within 1 ulp (which is up to 2 · 2⁻⁵³ relative), outside results that underflow; -inf where
    the number is beyond the range of float64.

    Source: chapter LIK.  Bound: as above; measured in docs/field-report.md.

    >>> log_likelihood(np.array([[0.0, 40.0]]), np.array([1]))
    array([-4.24835426e-18])
    """
    z = logits.astype(np.float64)
    column = targets.astype(np.intp)[:, None]
    z_target = np.take_along_axis(z, column, axis=-1)
    top = z.max(axis=-1, keepdims=True)
    pivot = np.where(z_target == top, column, z.argmax(axis=-1, keepdims=True))
    np.put_along_axis(z, pivot, -np.inf, axis=-1)  # z is now everybody but the pivot
    with np.errstate(over="ignore"):
        nats: Floats = (z_target - top) - np.log1p(_tail(z, top))
    return nats[:, 0]  # never -0.0: nothing less nothing is 0.0


def _tail(rest: Floats, top: Floats) -> Floats:
    """S = Σ exp(rest − top), rows of ``rest`` (N, V) against ``top`` (N, 1): (N, 1)."""
    runner_up = rest.max(axis=-1, keepdims=True)
    alone = runner_up == -np.inf  # no other logit is finite: S is 0
    base = np.where(alone, 0.0, runner_up)
    total = pairwise_sum(_exp_difference(rest, base))[:, None]  # in 1 .. V - 1, or 0
    gap = np.where(alone, 0.0, base - top)
    slip = np.where(alone, 0.0, _difference_error(base, top, base - top))
    half = np.exp(gap / 2)  # exp(gap) alone may underflow where exp(gap) · total does not
    scaled = np.where(gap > -600.0, np.exp(gap) * total, (half * total) * half)
    return np.where(alone, 0.0, scaled * (1.0 + slip))


def _exp_difference(a: Floats, b: Floats) -> Floats:
    """exp(a − b) for a ≤ b finite or a = -inf, with the rounding error of a − b put back."""
    with np.errstate(over="ignore"):
        d = a - b
        slip = _difference_error(a, b, d)
        power = np.exp(d)
        power += np.where(power > 0.0, power * slip, 0.0)
    return power


def _difference_error(a: Floats, b: Floats, d: Floats) -> Floats:
    """a − b − d exactly, for d = fl(a − b) (Knuth's TwoSum); 0 where something is infinite."""
    with np.errstate(invalid="ignore", over="ignore"):
        back = d - a
        slip = (a - (d - back)) - (b + back)
    return np.where(np.isfinite(slip), slip, 0.0)


def logit_gradient(logits: NDArray[Any], targets: NDArray[Any]) -> Floats:
    """d log Pr(target) / d logits: 1[j = t] − p_j, without cancellation.

    At the target the entry is Σ_{j≠t} p_j, formed as that sum.

    Parameters
    ----------
    logits, targets : as in `log_likelihood`.

    Returns
    -------
    float64 (N, V).  Relative error at most (12 + 2⌈log2 V⌉) · 2⁻⁵³, given exp within 1 ulp,
    outside entries that underflow.  Exactly 0 where the logit is -inf.

    Source: chapter GRA.  Bound: as above.

    >>> logit_gradient(np.array([[0.0, 0.0]]), np.array([0]))
    array([[ 0.5, -0.5]])
    """
    z = logits.astype(np.float64)
    column = targets.astype(np.intp)[:, None]
    power = _exp_difference(z, z.max(axis=-1, keepdims=True))
    total = pairwise_sum(power)[:, None]
    np.put_along_axis(power, column, 0.0, axis=-1)
    others = pairwise_sum(power)[:, None]
    gradient = -power / total
    np.put_along_axis(gradient, column, others / total, axis=-1)
    return gradient + 0.0  # + 0.0: never -0.0


def pairwise_sum(values: Floats) -> Floats:
    """Sum over the last axis in a balanced tree: ⌈log2 n⌉ additions on every path.

    Written out, so that its error bound does not rest on how NumPy orders a sum.

    >>> float(pairwise_sum(np.arange(5.0)))
    10.0
    """
    while (n := values.shape[-1]) > 1:
        half = n // 2
        folded = values[..., :half] + values[..., half : 2 * half]
        if n % 2:
            folded = np.concatenate([folded, values[..., -1:]], axis=-1)
        values = folded
    return values[..., 0].copy() if values.shape[-1] else np.zeros(values.shape[:-1])
