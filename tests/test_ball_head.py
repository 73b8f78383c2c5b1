"""The head in ball arithmetic, against the chain rule in interval arithmetic and exact facts."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest
from mlm_conformance import ball

import mlm_spec

INF = math.inf


class Layer:
    """A head whose logits are eighths, so that float64 has them exactly."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.hidden = rng.integers(-3, 4, (2, 3, 4)) / 2
        self.weight = rng.integers(-3, 4, (5, 4)).astype(float)
        self.bias = rng.integers(-9, 10, 5) / 8
        self.targets = rng.integers(0, 5, (2, 3))
        self.selected = np.array([[True, True, False], [True, False, True]])
        self.weights = rng.random((2, 3))

    def head(self) -> mlm_spec.HeadResult:
        return ball.head(
            self.hidden, self.weight, self.bias, self.targets, self.selected, self.weights
        )

    def logits(self) -> np.ndarray:
        return self.hidden @ self.weight.T + self.bias

    def signal(self) -> Iterator[tuple[tuple[int, int], list[ball.Ball]]]:
        for b, t in np.argwhere(self.selected).tolist():
            w = float(self.weights[b, t])
            yield (b, t), ball.logit_gradient(self.logits()[b, t], self.targets[b, t], w)


def assert_within(value: float, terms: list[tuple[ball.Ball, float]]) -> None:
    """Whether ``value`` is the nearest float of Σ ball · factor, in interval arithmetic."""
    ends = [sorted((entry.lower * Fraction(x), entry.upper * Fraction(x))) for entry, x in terms]
    assert float(sum(low for low, _ in ends)) == value == float(sum(high for _, high in ends))


@pytest.mark.parametrize("seed", range(4))
def test_the_head_is_the_score_of_its_logits(seed: int) -> None:
    layer = Layer(seed)
    score = ball.score(layer.logits(), layer.targets, layer.selected, layer.weights)
    result = layer.head()
    assert (result.sum, result.count) == (score.sum, score.count)


@pytest.mark.parametrize("seed", range(4))
def test_the_gradients_of_the_head_are_the_chain_rule(seed: int) -> None:
    layer = Layer(seed)
    result, signal = layer.head(), list(layer.signal())
    for at, row in signal:
        for k in range(4):
            column = layer.weight[:, k].tolist()
            assert_within(result.grad_hidden[at][k], list(zip(row, column, strict=True)))
    for j in range(5):
        assert_within(result.grad_bias[j], [(row[j], 1.0) for _, row in signal])
        for k in range(4):
            terms = [(row[j], float(layer.hidden[at][k])) for at, row in signal]
            assert_within(result.grad_weight[j, k], terms)


def test_the_logits_of_the_head_are_exact() -> None:
    """z_0 − z_1 = 2⁻¹⁰⁰ survives beside products of 2²⁰⁰, which cancel."""
    hidden = np.array([[[2.0**100, 2.0**100, 2.0**-50]]])
    weight = np.array([[2.0**100, -(2.0**100), 2.0**-50], [0.0, 0.0, 0.0]])
    arguments = np.array([[0]]), np.array([[True]])
    result = ball.head(hidden, weight, None, *arguments)
    same = ball.score(np.array([[[2.0**-100, 0.0]]]), *arguments)
    assert result.sum == same.sum
    assert result.grad_bias is None


def test_equal_logits_of_the_head_give_rational_gradients() -> None:
    """(W_0 − W_1)/2 of W = (1 + 2⁻⁵², −2⁻⁵³) is a midpoint: to even."""
    weight = np.array([[1.0 + 2.0**-52], [-(2.0**-53)]])
    result = ball.head(np.zeros((1, 1, 1)), weight, None, np.array([[0]]), np.array([[True]]))
    assert result.grad_hidden.tolist() == [[[0.5 + 2.0**-52]]]
    assert result.grad_weight.tolist() == [[0.0], [0.0]]


def test_a_column_of_equal_weights_gives_no_gradient_of_hidden() -> None:
    rng = np.random.default_rng(5)
    weight = np.stack([np.full(6, 0.1), rng.normal(0, 1, 6)], axis=1)
    hidden = rng.normal(0, 1, (1, 1, 2))
    result = ball.head(hidden, weight, None, np.array([[2]]), np.array([[True]]))
    assert result.grad_hidden[0, 0, 0] == 0.0
    assert result.grad_hidden[0, 0, 1] != 0.0


def test_the_head_looks_at_selected_positions_only_and_knows_impossible_ids() -> None:
    hidden = np.array([[[1.0], [np.nan]]])
    weight, bias = np.array([[1.0], [1.0], [9.0]]), np.array([0.0, 0.0, -INF])
    targets, selected = np.array([[0, -100]]), np.array([[True, False]])
    result = ball.head(hidden, weight, bias, targets, selected)
    assert result.sum == -math.log(2)
    assert result.grad_hidden.tolist() == [[[0.0], [0.0]]]
    assert result.grad_weight.tolist() == [[0.5], [-0.5], [0.0]]
    assert result.grad_bias.tolist() == [0.5, -0.5, 0.0]


def test_nothing_selected_gives_a_head_of_zeros() -> None:
    layer = Layer(0)
    layer.selected[:] = False
    result = layer.head()
    assert (result.sum, result.count) == (0.0, 0)
    for array in result[2:]:
        assert not array.any()
