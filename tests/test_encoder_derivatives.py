"""The encoder's values and every entry of its gradient, against ball arithmetic.

The oracle (`mlm_conformance.ball.encoder`) goes through the text number by number and
differentiates by power series, so it shares neither the forward nor the backward.  What may lie
between the two is what perturbed runs of the reference say that rounding may do.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
from encoder_cases import TINY, random_parameters, tiny_batch
from mlm_conformance.ball import encoder as oracle
from mlm_conformance.perturbed import envelope, relative, unit_of

from mlm_spec.training import attention, block, encoder, layers
from mlm_spec.training.dropout import Dropout
from mlm_spec.training.encoder import hidden_states
from mlm_spec.training.gradients import gradient_magnitudes, objective, objective_and_gradients
from mlm_spec.training.layers import identity
from mlm_spec.training.parameters import shapes

PARAMETERS = random_parameters(TINY, seed=1)
BATCH = tiny_batch()
NAMES = tuple(shapes(TINY))
UPDATE = (2**33 + 7, 3)  # seed and number
EXACT = 2.0**-80  # a ball that no float64 sees
BOTH = pytest.mark.parametrize("update", [None, UPDATE], ids=["still", "dropout"])


def dropout_of(update: Any) -> Dropout | None:
    return None if update is None else Dropout(*update)


def run(update: Any, rounded: Callable[[Any], Any] = identity) -> dict[str, Any]:
    """The sum, the hidden states at real positions and the gradients."""
    settings: dict[str, Any] = {"dropout": dropout_of(update), "rounded": rounded}
    result = objective_and_gradients(PARAMETERS, BATCH, TINY, **settings)
    states = hidden_states(PARAMETERS, BATCH, TINY, **settings)
    real = BATCH.attention_mask
    hidden = {f"hidden {n}": state[real] for n, state in enumerate(states)}
    return {"sum": np.array([result.sum]), **hidden, **result.gradients}


@cache
def scales(update: Any) -> dict[str, Any]:
    """Sums of magnitudes; of a hidden state, which is a LayerNorm's, the largest one."""
    still = run(update)
    found = {name: np.full(value.shape, np.abs(value).max()) for name, value in still.items()}
    found |= gradient_magnitudes(PARAMETERS, BATCH, TINY, dropout=dropout_of(update))
    return found


@cache
def allowed(update: Any) -> dict[str, float]:
    return envelope(lambda rounded: run(update, rounded), scales(update), unit_of(TINY, BATCH))


@cache
def exact_gradient(name: str) -> Any:
    """Every entry's derivative, one run of the oracle each."""
    found = np.zeros(PARAMETERS[name].shape)
    for index in np.ndindex(found.shape):
        direction = np.zeros(found.shape)
        direction[index] = 1.0
        result = oracle.derivative(PARAMETERS, {name: direction}, BATCH, TINY)
        assert result.radius < EXACT
        found[index] = result.slope
    return found


@BOTH
def test_the_objective_is_that_of_the_text(update: Any) -> None:
    result = oracle.derivative(PARAMETERS, {}, BATCH, TINY, update)
    assert result.radius < EXACT
    found = run(update)["sum"]
    bound = allowed(update)["sum"]
    assert relative(found, np.array([result.sum]), scales(update)["sum"]) <= bound


@BOTH
def test_the_hidden_states_of_every_layer_are_those_of_the_text(update: Any) -> None:
    expected = oracle.hidden_states(PARAMETERS, BATCH, TINY, update)
    found = run(update)
    assert len(expected) == TINY.num_hidden_layers + 1
    for number, state in enumerate(expected):
        name = f"hidden {number}"
        own = state[BATCH.attention_mask]
        assert relative(found[name], own, scales(update)[name]) <= allowed(update)[name]


@pytest.mark.parametrize("name", NAMES)
def test_every_entry_of_every_gradient_is_the_derivative(name: str) -> None:
    found, scale = run(None)[name], scales(None)[name]
    assert relative(found, exact_gradient(name), scale) <= allowed(None)[name]


@pytest.mark.parametrize("name", NAMES)
def test_with_dropout_each_gradient_is_the_derivative_in_a_random_direction(name: str) -> None:
    direction = np.random.default_rng(4).normal(size=PARAMETERS[name].shape)
    exact = oracle.derivative(PARAMETERS, {name: direction}, BATCH, TINY, UPDATE)
    found = np.array([math.fsum((run(UPDATE)[name] * direction).ravel().tolist())])
    scale = np.array([(scales(UPDATE)[name] * np.abs(direction)).sum()])
    assert relative(found, np.array([exact.slope]), scale) <= allowed(UPDATE)[name]


def test_dropout_dropped_something_at_each_of_its_sites() -> None:
    units = run(UPDATE)
    assert all(relative(units[name], run(None)[name], scales(None)[name]) > 0.0 for name in units)


# What is not the encoder -----------------------------------------------------------------------


def tanh_gelu(x: Any, rounded: Any) -> tuple[Any, Any]:
    below = (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3))) / 2.0
    return x * below, below


def epsilon_outside(x: Any, weight: Any, bias: Any, eps: float, rounded: Any) -> tuple[Any, Any]:
    centred = x - x.mean(axis=-1, keepdims=True)
    inverse = 1.0 / (np.sqrt(np.square(centred).mean(axis=-1, keepdims=True)) + eps)
    return centred * inverse * weight + bias, layers.Normalized(centred * inverse, inverse)


def unbiased(x: Any, weight: Any, bias: Any, eps: float, rounded: Any) -> tuple[Any, Any]:
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = np.square(centred).sum(axis=-1, keepdims=True) / (x.shape[-1] - 1)
    values = centred / np.sqrt(variance + eps)
    return values * weight + bias, layers.Normalized(values, 1.0 / np.sqrt(variance + eps))


def unscaled(query: Any, key: Any, *rest: Any) -> Any:
    return attention.attention(query * math.sqrt(TINY.head_size), key, *rest)


def causal(query: Any, key: Any, value: Any, *rest: Any) -> Any:
    context, kept = attention.attention(query, key, value, *rest)
    for i in range(len(query)):
        seen = slice(0, i + 1)
        context[i] = attention.attention(query[seen], key[seen], value[seen], *rest)[0][i]
    return context, kept


WRONG = {
    "tanh GELU": (block, "gelu", tanh_gelu),
    "epsilon outside the root": (block, "layer_norm", epsilon_outside),
    "unbiased variance": (encoder, "layer_norm", unbiased),
    "no scale": (block, "attention", unscaled),
    "causal": (block, "attention", causal),
}


@pytest.fixture(params=WRONG, ids=str)
def wrong(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    allowed(None)  # of the right one
    monkeypatch.setattr(*WRONG[request.param])
    return str(request.param)


def test_what_is_not_this_encoder_is_told_from_it(wrong: str) -> None:
    bound, still = allowed(None)["hidden 2"], allowed(None)["sum"]
    states = oracle.hidden_states(PARAMETERS, BATCH, TINY)[-1][BATCH.attention_mask]
    hidden = hidden_states(PARAMETERS, BATCH, TINY)[-1][BATCH.attention_mask]
    assert relative(hidden, states, np.full(states.shape, np.abs(states).max())) > bound
    total = oracle.derivative(PARAMETERS, {}, BATCH, TINY).sum
    result = np.array([objective(PARAMETERS, BATCH, TINY).sum])
    assert relative(result, np.array([total]), np.abs(result)) > still


def test_a_backward_that_forgets_a_term_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "bert.embeddings.token_type_embeddings.weight"
    bound = allowed(None)[name]
    whole = layers.layer_norm_backward

    def without_mean(dy: Any, kept: Any, weight: Any, rounded: Any) -> Any:
        dx, *terms = whole(dy, kept, weight, rounded)
        return dx + (dy * weight).mean(axis=-1, keepdims=True) * kept.inverse, *terms

    monkeypatch.setattr(encoder, "layer_norm_backward", without_mean)
    assert relative(run(None)[name], exact_gradient(name), scales(None)[name]) > bound
