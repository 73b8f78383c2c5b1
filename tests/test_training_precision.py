"""Below float64: PyTorch and JAX scatter no more than a moved reference, and what a verdict is.

``MLM_SPEC_TRAINING_RUNS`` asks for the nightly number of seeds; its value is that of the runs in
random order (`training_machine`).
"""

from __future__ import annotations

import math
import os
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from mlm_conformance.check import Context, Violation
from mlm_conformance.checks.training_precision import READY
from mlm_conformance.distributions.judge import ALPHA
from mlm_conformance.in_process import InProcessTarget
from mlm_conformance.oracle import reference_oracle
from mlm_conformance.scatter import RUNS, scatter
from mlm_conformance.student import quantile, tail
from mlm_jax.port import JaxPort
from mlm_torch.port import TorchPort

SEEDS = range(5 if "MLM_SPEC_TRAINING_RUNS" in os.environ else 1)
#: In JAX every precision of a judgement is two programs or more.
JAX = {"losses_and_gradients_scatter_no_more_than_rounding": ("bfloat16",)}


def judged(target: object, ready: Any, seed: int, precisions: tuple[str, ...] = ()) -> Context:
    context = Context(InProcessTarget(target), reference_oracle(), frozenset({"session"}), None)
    for recipe in ready.recipes[1]:
        if not precisions or recipe.precision in precisions:
            case = recipe.build(seed)
            context.case = str(case)
            ready.judge(context, case)
    return context


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("ready", READY, ids=lambda ready: ready.name)
def test_pytorch_scatters_no_more_than_rounding(ready: Any, seed: int) -> None:
    context = judged(TorchPort(), ready, seed)
    assert [need for need in ready.needs if not context.seen[need]] == []
    assert context.worst is None or 0.0 < context.worst.ratio <= 1.0


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", JAX if len(SEEDS) == 1 else [ready.name for ready in READY])
def test_jax_scatters_no_more_than_rounding(name: str, seed: int) -> None:
    (ready,) = (ready for ready in READY if ready.name == name)
    context = judged(JaxPort(), ready, seed, () if len(SEEDS) > 1 else JAX[name])
    assert context.worst is None or 0.0 < context.worst.ratio <= 1.0


def test_products_in_bfloat16_are_seen_in_float32() -> None:
    """A session of another precision than it was asked for."""

    def narrow(encoder: Any, training: Any, parameters: Any, policy: Any) -> Any:
        return TorchPort().session(
            encoder, {**training, "precision": "bfloat16"}, parameters, policy
        )

    target = SimpleNamespace(session=narrow)
    (ready,) = (ready for ready in READY if ready.name in JAX)
    judged(target, ready, 0, ("bfloat16",))
    with pytest.raises(Violation, match="spreads of 32 moved runs"):
        judged(target, ready, 0, ("float32",))


def test_the_tail_of_students_distribution() -> None:
    # Two degrees of freedom have a closed form: Pr(|T| ≥ t) = 1 − t/√(2 + t²).
    for t in (0.5, 3.0, 40.0):
        exact = 2.0 / (math.sqrt(2.0 + t * t) * (math.sqrt(2.0 + t * t) + t))
        assert abs(tail(t, 2) / exact - 1.0) <= 64 * 2.0**-53
    # Four too: 1 − s·(1 + c/2), s = t/√(4 + t²), c = 4/(4 + t²).
    c = 4.0 / (4.0 + 1.0)
    assert abs(tail(1.0, 4) - (1.0 - math.sqrt(1.0 - c) * (1.0 + c / 2.0))) <= 2.0**-50
    assert tail(0.0, 8) == 1.0
    for freedom in (0, 3):
        with pytest.raises(ValueError, match="expected an even number"):
            tail(1.0, freedom)


def test_a_quantile_is_where_its_tail_is() -> None:
    for error in (0.3, 1e-6, ALPHA):
        t = quantile(error, 32)
        assert tail(t, 32) <= error < tail(math.nextafter(t, 0.0), 32) * (1.0 + 2.0**-40)


def test_numbers_that_scatter_alike_exceed_their_quantile_as_often_as_it_says() -> None:
    """20000 targets, each with 8 runs: the number beyond has a binomial distribution."""
    rng, error, targets = np.random.default_rng(0), 0.01, 20_000
    spread = np.sqrt(np.square(rng.normal(size=(8, targets))).mean(0))
    beyond = int((np.abs(rng.normal(size=targets)) > quantile(error, 8) * spread).sum())
    sigma = math.sqrt(targets * error * (1.0 - error))
    # Six standard deviations: one seed in 5e8 would be refused, and this is one seed.
    assert abs(beyond - targets * error) < 6.0 * sigma


def test_results_scatter_by_the_root_of_the_mean_square() -> None:
    def run(seed: int | None) -> dict[str, Any]:
        step = 0.0 if seed is None else (1.0 if seed % 2 else -3.0)
        return {"moved": np.array([5.0 + step, 7.0]), "number": 2.0 + step}

    found = scatter(run)
    assert found.still["moved"].tolist() == [5.0, 7.0]
    assert found.spread["moved"].tolist() == [math.sqrt(5.0), 0.0]
    assert found.limit("number") == found.factor * math.sqrt(5.0)
    assert found.factor == quantile(ALPHA / 3, RUNS)
