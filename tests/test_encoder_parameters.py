"""Names, shapes and first values of parameters, and the way to checkpoints and back."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from encoder_cases import TINY, random_parameters
from message_cases import Call, assert_says
from mlm_conformance.transcription import threefry4x32_20

from mlm_spec.training.config import EncoderConfig
from mlm_spec.training.parameters import (
    WORDS,
    initial_parameters,
    shapes,
    with_tied_copies,
    without_tied_copies,
)

BASE = EncoderConfig(
    vocab_size=30522, hidden_size=768, num_hidden_layers=12, num_attention_heads=12,
    intermediate_size=3072,
)  # fmt: skip
LAYER = {
    "attention.self.query.weight": (4, 4),
    "attention.self.query.bias": (4,),
    "attention.self.key.weight": (4, 4),
    "attention.self.key.bias": (4,),
    "attention.self.value.weight": (4, 4),
    "attention.self.value.bias": (4,),
    "attention.output.dense.weight": (4, 4),
    "attention.output.dense.bias": (4,),
    "attention.output.LayerNorm.weight": (4,),
    "attention.output.LayerNorm.bias": (4,),
    "intermediate.dense.weight": (6, 4),
    "intermediate.dense.bias": (6,),
    "output.dense.weight": (4, 6),
    "output.dense.bias": (4,),
    "output.LayerNorm.weight": (4,),
    "output.LayerNorm.bias": (4,),
}


def test_the_names_and_shapes_are_those_of_berts_checkpoints() -> None:
    expected = {
        "bert.embeddings.word_embeddings.weight": (7, 4),
        "bert.embeddings.position_embeddings.weight": (5, 4),
        "bert.embeddings.token_type_embeddings.weight": (2, 4),
        "bert.embeddings.LayerNorm.weight": (4,),
        "bert.embeddings.LayerNorm.bias": (4,),
    }
    for layer in range(2):
        expected |= {f"bert.encoder.layer.{layer}.{name}": s for name, s in LAYER.items()}
    expected |= {
        "cls.predictions.transform.dense.weight": (4, 4),
        "cls.predictions.transform.dense.bias": (4,),
        "cls.predictions.transform.LayerNorm.weight": (4,),
        "cls.predictions.transform.LayerNorm.bias": (4,),
        "cls.predictions.bias": (7,),
    }
    assert list(shapes(TINY).items()) == list(expected.items())


def test_bert_base_has_the_number_of_parameters_that_it_has() -> None:
    # 109,514,298: published as "110M", the pooler's 590,592 not among them.
    assert sum(math.prod(shape) for shape in shapes(BASE).values()) == 109_514_298


def test_first_values_are_those_of_the_text() -> None:
    seed = 2**40 + 9
    found = initial_parameters(TINY, seed)
    for number, (name, shape) in enumerate(shapes(TINY).items()):
        if len(shape) == 1:
            assert set(found[name].tolist()) == {float(name.endswith("LayerNorm.weight"))}
            continue
        for element, value in enumerate(found[name].reshape(-1).tolist()):
            key, counter = (9, 2**8, 0, 0), (element // 2, 0x4D4C4D05, number, 0)
            w0, w1, w2, w3 = threefry4x32_20(key, counter)
            u = ((w0 >> 5) * 2**26 + (w1 >> 6) + 1) / 2**53
            v = ((w2 >> 5) * 2**26 + (w3 >> 6) + 1) / 2**53
            turn = (math.cos, math.sin)[element % 2](2.0 * math.pi * v)
            exact = TINY.initializer_range * (math.sqrt(-2.0 * math.log(u)) * turn)
            # The nearest float32, and one beside it where libraries of functions differ.
            near = np.float32(exact)
            assert np.float32(value) == value
            assert value in (near, np.nextafter(near, np.float32(9)), np.nextafter(near, -near))


def test_first_values_are_normal_with_the_given_deviation() -> None:
    config = EncoderConfig(**TINY.to_mapping() | {"vocab_size": 20_000, "initializer_range": 0.5})
    z = np.sort(initial_parameters(config, 3)[WORDS].reshape(-1) / 0.5)
    n = z.size
    below = np.array([math.erfc(-x * math.sqrt(0.5)) / 2.0 for x in z.tolist()])
    gap = max(np.abs(below - np.arange(n) / n).max(), np.abs(below - np.arange(1, n + 1) / n).max())
    # Dvoretzky, Kiefer and Wolfowitz: a gap of √(ln(2/α)/(2n)) has probability α at most.
    assert gap < math.sqrt(math.log(2e12) / (2 * n))


def test_every_seed_and_every_matrix_has_values_of_its_own() -> None:
    found = [
        values.reshape(-1)[:8].tobytes()
        for seed in (0, 1, 2**32, 2**63)
        for values in initial_parameters(TINY, seed).values()
        if values.ndim == 2
    ]
    assert len(set(found)) == len(found) == 4 * 16
    again = initial_parameters(TINY, 1)
    assert all(np.array_equal(again[n], v) for n, v in initial_parameters(TINY, 1).items())


def test_parameters_move_to_a_checkpoint_and_back() -> None:
    parameters = random_parameters(TINY, seed=1)
    written = with_tied_copies(parameters)
    assert written["cls.predictions.decoder.weight"] is parameters[WORDS]
    assert written["cls.predictions.decoder.bias"] is parameters["cls.predictions.bias"]
    extra = {
        "bert.pooler.dense.weight": np.zeros((4, 4)),
        "cls.seq_relationship.bias": np.zeros(2),
        "bert.embeddings.position_ids": np.arange(5)[None],
    }
    for state in (written, written | extra, parameters):
        back = without_tied_copies(dict(reversed(state.items())), TINY)
        assert list(back) == list(shapes(TINY))
        assert all(back[name] is parameters[name] for name in back)


def _changed(**names: Any) -> dict[str, Any]:
    state = with_tied_copies(random_parameters(TINY, seed=1))
    return {**state, **{name.replace("__", "."): value for name, value in names.items()}}


def _without(*names: str) -> dict[str, Any]:
    return {n: v for n, v in _changed().items() if n not in names}


BAD: list[Call] = [
    (
        "InputError: cls.predictions.decoder.weight is not equal to "
        "bert.embeddings.word_embeddings.weight; expected a copy of it, since the two are tied",
        lambda: without_tied_copies(
            _changed(cls__predictions__decoder__weight=np.zeros((7, 4))), TINY
        ),
    ),
    (
        "InputError: cls.predictions.decoder.weight is not equal to "
        "bert.embeddings.word_embeddings.weight; expected a copy of it, since the two are tied",
        lambda: without_tied_copies(_without(WORDS), TINY),
    ),
    (
        "InputError: state is without cls.predictions.transform.dense.bias; expected every "
        "parameter of the encoder",
        lambda: without_tied_copies(_without("cls.predictions.transform.dense.bias"), TINY),
    ),
    (
        "InputError: state is with model.weight; expected no parameter but the encoder's",
        lambda: without_tied_copies(_changed(model__weight=np.zeros(3)), TINY),
    ),
    (
        "SeedError: seed is -1; expected an integer in 0..2**64 - 1",
        lambda: initial_parameters(TINY, -1),
    ),
]


@pytest.mark.parametrize(("message", "call"), BAD)
def test_what_is_no_checkpoint_of_this_encoder_is_refused(message: str, call: Any) -> None:
    assert_says(message, call)
