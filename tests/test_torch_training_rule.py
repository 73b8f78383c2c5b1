"""Updates in PyTorch: clipping, AdamW and the schedule, number by number."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from mlm_torch.optimizer import clip, learning_rate, mean_gradients
from torch_training_cases import (
    batch_of,
    everything,
    session_of,
    split_rows,
)

from mlm_spec.training.config import TrainingConfig

U = {np.dtype(np.float64): 2.0**-53, np.dtype(np.float32): 2.0**-24}


def moved(before: dict[str, Any], name: str, g: np.ndarray, n: int, rate: float) -> Any:
    """θ, m, v after update n, and the magnitudes of their terms, in float64."""
    theta, m, v = (
        before[f"{p}/{name}"].astype(float) for p in ("parameters", "exp_avg", "exp_avg_sq")
    )
    beta1, beta2, epsilon, decay = 0.9, 0.999, 1e-6, 0.01 if theta.ndim == 2 else 0.0
    m, size = beta1 * m + (1 - beta1) * g, beta1 * np.abs(m) + (1 - beta1) * np.abs(g)
    v = beta2 * v + (1 - beta2) * g * g
    first, second = (float(1 - Fraction(b) ** n) for b in (beta1, beta2))
    step = np.sqrt(v / second) + epsilon
    new = theta - rate * (m / first / step + decay * theta)
    return (new, m, v), (
        np.abs(theta) + rate * (size / first / step + decay * np.abs(theta)),
        size,
        v,
    )


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_an_update_is_clipping_adamw_decoupled_decay_and_the_schedule(precision: str) -> None:
    session = session_of(precision=precision)
    u = U[np.dtype(precision)]
    # 40 operations at most; 1 − β₂ⁿ is computed in float64 and loses 1 / (1 − β₂) of its digits.
    bound = 40 * u + 4 * 2.0**-53 / (1 - 0.999)
    for n in range(1, 6):
        batches, before = [batch_of(n), batch_of(n + 50, rows=2)], everything(session)
        gradients = session.gradients(batches)["gradients"]
        report = session.step(batches)
        after = everything(session)
        wide = {name: g.astype(float) for name, g in gradients.items()}
        entries = sum(g.size for g in wide.values())
        norm = math.sqrt(math.fsum(float((g * g).sum()) for g in wide.values()))
        assert abs(report["norm"] - norm) <= (entries + 8) * u * norm
        assert norm > 0.5  # so that it is clipped
        rate = 0.01 * n / 2 if n <= 2 else 0.01 * (10 - n) / 8
        assert report["update"] == n
        assert abs(report["learning_rate"] - rate) <= 4 * U[np.dtype(float)] * rate
        for name, g in wide.items():
            g = g * (0.5 / report["norm"])
            wanted, sizes = moved(before, name, g, n, rate)
            for part, want, size in zip(
                ("parameters", "exp_avg", "exp_avg_sq"), wanted, sizes, strict=True
            ):
                error = np.abs(after[f"{part}/{name}"] - want)
                assert (error <= bound * size).all(), (n, part, name)


def test_layer_norms_and_biases_do_not_decay_and_embeddings_do() -> None:
    session = session_of(weight_decay=0.5, max_grad_norm=None, learning_rate=0.5, warmup_updates=0)
    before, batch = session.parameters(), batch_of(1)
    gradients = session.gradients([batch])["gradients"]
    rate = session.step([batch])["learning_rate"]
    after = session.parameters()
    table = "bert.embeddings.position_embeddings.weight"
    still = ~gradients[table].any(axis=1)
    assert still.any()
    want = before[table][still] * (1 - rate * 0.5)
    assert (np.abs(after[table][still] - want) <= 2.0**-52 * np.abs(want)).all()
    norm = "bert.embeddings.LayerNorm.weight"
    # The first step is about η·sign(g): a decay would add ηλθ to it.
    assert (np.abs(after[norm] - before[norm]) <= rate * (1 + 2.0**-50)).all()


def test_below_the_clipping_norm_gradients_stay_as_they_are_to_the_bit() -> None:
    start = torch.tensor([3.0, -4.0, 1e-30, 2.0**-120])
    for limit, factor in ((None, 1.0), (5.0, 1.0), (4.0, 0.8)):
        g = [start.clone()]
        mean = mean_gradients(g, torch.tensor(-2.0, dtype=torch.float64))
        assert mean.norm.item() == 2.5
        clip(g, mean._replace(norm=mean.norm * 2), limit)
        assert torch.equal(g[0], start / -2 * factor)


@pytest.mark.parametrize("peak", [1e-30, 1e-4, 3e38])
def test_no_square_in_the_norm_overflows_or_vanishes(peak: float) -> None:
    g = [torch.full((4,), peak), torch.zeros(2, 2)]
    mean = mean_gradients(g, torch.tensor(-1.0, dtype=torch.float64))
    assert mean.norm.item() == 2 * torch.tensor(peak).item()
    assert bool(mean.finite) == (peak < 1e19)  # a second moment has to hold the square


@pytest.mark.parametrize("schedule", ["linear", "constant"])
@pytest.mark.parametrize("warmup", [0, 3, 7])
def test_the_rate_is_that_of_the_schedule_for_every_update(schedule: str, warmup: int) -> None:
    config = TrainingConfig(0.3, warmup_updates=warmup, total_updates=7, schedule=schedule)
    for n in range(1, 8):
        want = Fraction(0.3)
        if n <= warmup:
            want *= Fraction(n, warmup)
        elif schedule == "linear":
            want *= Fraction(8 - n, 8 - warmup)
        got = Fraction(learning_rate(torch.tensor(n), config).item())
        assert abs(got - want) <= 2 * Fraction(2) ** -53 * want


def test_the_mean_is_over_all_positions_of_all_micro_batches() -> None:
    batch, session = batch_of(5), session_of()
    counts = batch["selected"].sum(axis=1)
    assert len(set(counts)) > 1  # a mean of means would be another number
    whole, parts = session.evaluate([batch]), [session.evaluate([x]) for x in split_rows(batch)]
    report = session_of().step(split_rows(batch))
    assert report["count"] == whole["count"] == sum(part["count"] for part in parts)
    dropped = session.gradients(split_rows(batch))
    assert report["loss"] == -dropped["sum"] / dropped["count"]
