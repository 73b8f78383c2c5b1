"""Bad micro-batches and bad parameters: messages in full, from each public entry point."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from encoder_cases import TINY, random_parameters, tiny_batch
from message_cases import assert_says, put

from mlm_spec import NotFiniteError
from mlm_spec.training.encoder import encode, hidden_states
from mlm_spec.training.gradients import gradient_magnitudes, objective, objective_and_gradients
from mlm_spec.training.parameters import WORDS

P, B = random_parameters(TINY, seed=1), tiny_batch()
SHAPE = B.inputs.shape
KEY = "bert.encoder.layer.1.attention.self.key.bias"
PADDED = tuple(int(i) for i in np.argwhere(~B.attention_mask)[0])

EVERY: list[Callable[..., Any]] = [
    encode, hidden_states, objective, objective_and_gradients, gradient_magnitudes,
]  # fmt: skip


def batch(**fields: Any) -> Any:
    return B._replace(**fields)


def without(*names: str) -> dict[str, Any]:
    return {name: value for name, value in P.items() if name not in names}


BATCHES: list[tuple[str, Any]] = [
    ("DTypeError: batch is a tuple; expected a TrainingBatch", tuple(B)),
    ("ShapeError: inputs is of shape (6,); expected shape (B, T)", batch(inputs=B.inputs[0])),
    (
        "DTypeError: inputs is of dtype float64; expected int32 or int64",
        batch(inputs=B.inputs.astype(float)),
    ),
    (
        "DTypeError: inputs is a list; expected a NumPy array of int32 or int64",
        batch(inputs=B.inputs.tolist()),
    ),
    (
        "IdRangeError: inputs[1, 2] is 7; expected an id in 0..6 (vocab_size is 7)",
        batch(inputs=put(B.inputs, (1, 2), 7)),
    ),
    (
        "IdRangeError: inputs[0, 5] is -1; expected an id in 0..6 (vocab_size is 7)",
        batch(inputs=put(B.inputs, PADDED, -1)),  # at padding too
    ),
    (
        "IdRangeError: token_type_ids[0, 1] is 2; expected an id in 0..1 (type_vocab_size is 2)",
        batch(token_type_ids=put(B.token_type_ids, (0, 1), 2)),
    ),
    (
        "IdRangeError: position_ids[0, 1] is 5; expected an id in 0..4 "
        "(max_position_embeddings is 5)",
        batch(position_ids=put(B.position_ids, (0, 1), 5)),
    ),
    (
        "IdRangeError: targets[0, 0] is -100; expected an id in 0..6 (vocab_size is 7)",
        batch(targets=put(B.targets, (0, 0), -100)),
    ),
    (
        "InputError: selected[0, 5] is true at padding; expected false where attention_mask is "
        "false",
        batch(selected=put(B.selected, PADDED, True)),
    ),
    *(
        (
            f"ShapeError: {name} is of shape (1, 6); expected shape (2, 6)",
            batch(**{name: getattr(B, name)[:1]}),
        )
        for name in (
            "targets",
            "selected",
            "attention_mask",
            "token_type_ids",
            "position_ids",
            "position",
        )
    ),
    (
        "ShapeError: sequence_id is of shape (2, 6); expected shape (2, 6, 2)",
        batch(sequence_id=B.sequence_id[..., 0]),
    ),
    *(
        (
            f"DTypeError: {name} is of dtype int8; expected {wanted}",
            batch(**{name: getattr(B, name).astype(np.int8)}),
        )
        for name, wanted in (
            ("targets", "int32 or int64"),
            ("token_type_ids", "int32 or int64"),
            ("position_ids", "int32 or int64"),
            ("selected", "bool"),
            ("attention_mask", "bool"),
            ("sequence_id", "uint32"),
            ("position", "uint32"),
        )
    ),
]

PARAMETERS: list[tuple[str, Any]] = [
    ("InputError: parameters is a list; expected a mapping of names to arrays", [P]),
    (
        f"InputError: parameters is without {KEY}; expected every parameter of the encoder",
        without(KEY),
    ),
    (
        f"InputError: parameters is without {WORDS} and 1 more; expected every parameter of the "
        "encoder",
        without(WORDS, KEY),
    ),
    (
        "InputError: parameters is with cls.predictions.decoder.weight; expected no parameter but "
        "the encoder's",
        P | {"cls.predictions.decoder.weight": P[WORDS]},
    ),
    (f"ShapeError: {KEY} is of shape (5,); expected shape (4,)", P | {KEY: np.zeros(5)}),
    (
        f"ShapeError: {WORDS} is of shape (4, 7); expected shape (7, 4)",
        P | {WORDS: P[WORDS].T},
    ),
    (
        f"DTypeError: {KEY} is of dtype int64; expected float64 or float32 or bfloat16 or float16",
        P | {KEY: np.zeros(4, np.int64)},
    ),
    (
        f"DTypeError: {KEY} is a list; expected a NumPy array of float64 or float32 or bfloat16 or "
        "float16",
        P | {KEY: [0.0] * 4},
    ),
    (
        f"NotFiniteError: {KEY}[2] is nan; expected a finite number",
        P | {KEY: put(P[KEY], 2, np.nan)},
    ),
    (
        f"NotFiniteError: {WORDS}[6, 3] is inf; expected a finite number",
        P | {WORDS: put(P[WORDS], (6, 3), np.inf)},
    ),
]


@pytest.mark.parametrize("function", EVERY)
@pytest.mark.parametrize(("message", "given"), BATCHES)
def test_a_bad_micro_batch_is_refused_by_every_entry_point(
    message: str, given: Any, function: Callable[..., Any]
) -> None:
    assert_says(message, lambda: function(P, given, TINY))


@pytest.mark.parametrize("function", EVERY)
@pytest.mark.parametrize(("message", "given"), PARAMETERS)
def test_bad_parameters_are_refused_by_every_entry_point(
    message: str, given: Any, function: Callable[..., Any]
) -> None:
    assert_says(message, lambda: function(given, B, TINY))


@pytest.mark.parametrize("function", EVERY)
def test_a_configuration_is_an_encoder_config(function: Callable[..., Any]) -> None:
    message = "ConfigError: config is a dict; expected an EncoderConfig"
    assert_says(message, lambda: function(P, B, TINY.to_mapping()))


@pytest.mark.parametrize("function", EVERY[2:])
def test_an_objective_needs_the_head(function: Callable[..., Any]) -> None:
    given = without("cls.predictions.bias")
    message = "parameters is without cls.predictions.bias; expected every parameter of the encoder"
    assert_says(f"InputError: {message}", lambda: function(given, B, TINY))
    encode(given, B, TINY)


def test_logits_beyond_the_range_of_floats_are_said_to_be() -> None:
    far = P | {
        "cls.predictions.transform.LayerNorm.weight": np.full(4, 1e308),
        WORDS: 9.0 * P[WORDS],
    }
    with (
        np.errstate(over="ignore", invalid="ignore"),
        pytest.raises(NotFiniteError, match="logits"),
    ):
        objective(far, B, TINY)
