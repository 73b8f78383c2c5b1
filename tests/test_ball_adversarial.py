"""Ball arithmetic and the reference on the inputs on which common formulas lose digits."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from mlm_conformance import ball

import mlm_spec

INF = math.inf
U = Fraction(1, 2**53)
SIZES = (1, 2, 3, 17, 64, 1000)
QUANTUM = Fraction(1, 2**1074)  # spacing of the denormals


class Case(NamedTuple):
    family: str
    logits: np.ndarray
    target: int


def adversarial(seed: int, sizes: tuple[int, ...]) -> Iterator[Case]:
    """One case of each family and size: inputs on which common formulas lose digits."""
    for size in sizes:
        rng = np.random.default_rng((seed, size))
        for family, make in FAMILIES.items():
            target = int(rng.integers(size))
            logits = make(rng, size, target)
            logits[target] = max(logits[target], -1.79e308)  # possible
            yield Case(family, logits, target)


def raised(logits: np.ndarray, target: int, gap: float) -> np.ndarray:
    """The target ``gap`` above all others."""
    logits[target] = logits.max() + gap
    return logits


def nudged(logits: np.ndarray, at: int, by: float) -> np.ndarray:
    logits[at] += by
    return logits


Rng = np.random.Generator
FAMILIES: dict[str, Callable[[Rng, int, int], np.ndarray]] = {
    "normal": lambda r, n, t: r.normal(0, r.choice([0.1, 1, 3, 10, 50]), n),
    "near one": lambda r, n, t: raised(r.normal(0, 1, n), t, 10 ** r.uniform(-2, 2.85)),
    "nearer one": lambda r, n, t: raised(r.normal(0, 1, n), t, r.uniform(690, 760)),
    "top": lambda r, n, t: raised(r.normal(0, 1, n), t, 0.0),
    "ties": lambda r, n, t: nudged(np.full(n, r.normal(0, 100)), -1, r.choice([0, -1e-8, -1])),
    "impossible ids": lambda r, n, t: np.where(r.random(n) < 0.5, r.normal(0, 3, n), -INF),
    "spread": lambda r, n, t: r.uniform(-1e4, 1e4, n),
    "offset": lambda r, n, t: r.normal(0, 3, n) + r.choice([1e4, -1e6, 1e8, 1e12, 2.0**52]),
    "denormal": lambda r, n, t: r.integers(-(2**20), 2**20, n) * 5e-324,
    "huge": lambda r, n, t: r.choice([-1, 1], n) * r.uniform(0.1, 8e307, n),
    "far tail": lambda r, n, t: raised(r.uniform(-700, -1, n), t, 1.0),
    "collective underflow": lambda r, n, t: raised(r.uniform(-745, -744.5, n), t, 744.75),
}


def test_each_gradient_sums_to_zero() -> None:
    for case in adversarial(7, sizes=(1, 2, 5, 40)):
        entries = ball.logit_gradient(case.logits, case.target, 0.7)
        low, high = sum(e.lower for e in entries), sum(e.upper for e in entries)
        assert low <= 0 <= high, case.family


def test_score_agrees_with_the_balls_of_its_entries() -> None:
    for case in adversarial(11, sizes=(1, 2, 5, 40)):
        logits = case.logits[None, None]
        result = ball.score(logits, np.array([[case.target]]), np.array([[True]]))
        value = ball.log_likelihood(case.logits, case.target).nearest
        assert result.sum == result.log_likelihood[0, 0] == value
        entries = [e.nearest for e in ball.logit_gradient(case.logits, case.target)]
        assert result.grad_logits[0, 0].tolist() == entries


def tree_depth(size: int) -> int:
    """⌈log2 V⌉, the additions that a term of the reference's sum passes through."""
    return (size - 1).bit_length()


def test_the_log_likelihood_of_the_reference_is_within_its_derived_bound() -> None:
    """(14 + ⌈log2 V⌉) u relative, u = 2⁻⁵³, with exp and log1p within 1 ulp = 2u each.

    exp of a difference 2u + u, the tree, exp of half the gap twice 4u + 2u, TwoSum's 1 + slip
    2u, log1p 2u, the last subtraction u.  Where exp or a product underflows, and in log1p and
    the slip of such a number, up to a quantum each.  2⁻¹⁰ for the second order.
    """
    for case in (case for seed in range(5) for case in adversarial(seed, SIZES)):
        logits, target = case.logits, case.target
        value = ball.log_likelihood(logits, target)
        result = float(mlm_spec.log_likelihood(logits[None], np.array([target]))[0])
        relative = (14 + tree_depth(logits.size)) * U * (1 + Fraction(1, 2**10))
        bound = relative * abs(value.lower) + 4 * QUANTUM
        assert value.error(result) <= bound, f"{case.family}: {result!r}, {value.nearest!r}"


def test_the_gradient_of_the_reference_is_within_its_derived_bound() -> None:
    """(12 + 2⌈log2 V⌉) u relative, and a quantum for each exponential that underflows."""
    for case in (case for seed in range(5) for case in adversarial(seed, (1, 2, 3, 17, 64))):
        logits, target = case.logits, case.target
        result = mlm_spec.logit_gradient(logits[None], np.array([target]))[0]
        relative = (12 + 2 * tree_depth(logits.size)) * U * (1 + Fraction(1, 2**10))
        for j, entry in enumerate(ball.logit_gradient(logits, target)):
            magnitude = max(abs(entry.lower), abs(entry.upper))
            bound = relative * magnitude + (logits.size + 1) * QUANTUM
            assert entry.error(float(result[j])) <= bound, f"{case.family}[{j}]"


def test_the_oracle_sees_a_log_softmax_without_a_pivot() -> None:
    """The bound that the reference keeps is broken by z_t − max − log Σ exp(z − max)."""
    broken = set()
    for case in adversarial(0, (17,)):
        shifted = case.logits - case.logits.max()
        naive = float(shifted[case.target] - np.log(np.exp(shifted).sum()))
        value = ball.log_likelihood(case.logits, case.target)
        bound = (14 + 5) * U * abs(value.lower) + 4 * QUANTUM
        if value.error(naive) > bound:
            broken.add(case.family)
    assert {"nearer one", "collective underflow"} <= broken
