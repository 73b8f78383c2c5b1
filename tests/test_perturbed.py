"""Perturbed runs: how far they move, and what they say of a function whose errors are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from encoder_cases import TINY, tiny_batch
from mlm_conformance.perturbed import (
    RUNS,
    envelope,
    hidden_unit_of,
    perturbation,
    relative,
    unit_of,
)

from mlm_spec.training.config import EncoderConfig

X = np.array([1.0, -2.0, 0.0, 3.0])


def test_each_number_moves_up_or_down_by_the_unit() -> None:
    moved = perturbation(0.25, seed=3)(np.ones(400))
    assert set(moved.tolist()) == {0.75, 1.25}
    again, other = perturbation(0.25, 3)(np.ones(400)), perturbation(0.25, 4)(np.ones(400))
    assert np.array_equal(moved, again)
    assert not np.array_equal(moved, other)
    assert perturbation(0.25, 3)(np.zeros(3)).tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("field", "value"),
    [("vocab_size", 1000), ("hidden_size", 1000), ("intermediate_size", 1000)],
)
def test_the_unit_is_that_of_the_longest_sum(field: str, value: int) -> None:
    config = EncoderConfig(**TINY.to_mapping() | {field: value})
    u = 2.0**-11
    assert unit_of(config, tiny_batch(), u) == value * u / (1.0 - value * u)
    assert unit_of(TINY, tiny_batch()) == 12 * 2.0**-53 / (1.0 - 12 * 2.0**-53)


def test_no_sum_before_the_head_runs_over_the_vocabulary_or_over_rows() -> None:
    u, many = 2.0**-24, EncoderConfig.from_mapping(TINY.to_mapping() | {"vocab_size": 10**6})
    length = tiny_batch().inputs.shape[1]
    n = max(TINY.hidden_size, TINY.intermediate_size, length)
    assert (
        hidden_unit_of(many, tiny_batch(), u)
        == n * u / (1.0 - n * u)
        < unit_of(TINY, tiny_batch(), u)
    )


def test_an_envelope_holds_the_largest_move_of_any_entry_and_run() -> None:
    def run(rounded: Any) -> dict[str, Any]:
        return {"once": rounded(X), "twice": rounded(rounded(X)), "never": X}

    found = envelope(run, dict.fromkeys(("once", "twice", "never"), np.abs(X)), 0.25)
    assert found == {"once": 0.25, "twice": 0.5625, "never": 0.0}


def test_every_run_moves_another_way() -> None:
    seen = []

    def run(rounded: Any) -> dict[str, Any]:
        seen.append(rounded(np.ones(64)).tobytes())
        return {"x": X}

    envelope(run, {"x": np.abs(X)}, 0.25)
    assert len(set(seen)) == len(seen) == RUNS + 1


def test_where_the_scale_is_zero_nothing_may_differ() -> None:
    scale = np.array([1.0, 4.0, 0.0, 3.0])
    assert relative(X + np.array([0.5, 1.0, 0.0, 0.0]), X, scale) == 0.5
    assert relative(X + np.array([0.0, 0.0, 1e-300, 0.0]), X, scale) == float("inf")
    assert relative(np.empty(0), np.empty(0), np.empty(0)) == 0.0
