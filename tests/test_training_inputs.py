"""What an update is fed with: masked batches, or tokens that it masks; and what it refuses."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from training_cases import (
    ENCODER,
    POLICY,
    batch_of,
    same,
    start,
    tokens_of,
)

from mlm_spec.errors import (
    DTypeError,
    IdRangeError,
    InputError,
    PolicyError,
    ShapeError,
    WordError,
)
from mlm_spec.masking import mask
from mlm_spec.policy import WholeWord
from mlm_spec.training.inputs import training_batch
from mlm_spec.training.update import evaluate, mean_gradients, update


def test_tokens_are_masked_inside_as_outside() -> None:
    state, training = start()
    tokens = [tokens_of(np.array([3, 8, 9]), 2), tokens_of(np.array([1]), 3)]
    masked = []
    for fields in tokens:
        rest = dict(fields)
        given = [rest.pop(name) for name in ("tokens", "word_id", "eligible", "epoch")]
        three = mask(
            given[0], rest["sequence_id"], rest["position"], given[1], given[2], POLICY,
            training.seed, given[3],
        )  # fmt: skip
        masked.append({**three._asdict(), **rest})
    inside = update(state, tokens, ENCODER, training, POLICY)
    outside = update(state, masked, ENCODER, training)
    assert inside[1] == outside[1]
    assert inside[1].count > 0
    assert same(inside[0], outside[0])
    assert inside[0].position == 4


def test_masks_follow_the_epoch_of_the_tokens_and_the_seed_of_the_run() -> None:
    numbers = np.arange(8)
    found = [
        training_batch(tokens_of(numbers, epoch), ENCODER, POLICY, seed).selected
        for epoch, seed in ((0, 5), (1, 5), (0, 6))
    ]
    assert not any(np.array_equal(found[0], other) for other in found[1:])


def without(fields: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in names}


TOKENS = tokens_of(np.arange(3), 0)
MASKED = batch_of(3)._asdict()
BAD: dict[str, tuple[Any, type[Exception], str]] = {
    "no mapping": ([1], InputError, "batch is a list; expected a mapping of fields"),
    "no epoch": (without(TOKENS, "epoch"), InputError, "batch is without epoch; expected all of"),
    "no inputs": (without(MASKED, "inputs"), InputError, "batch is without inputs; expected all"),
    "more": ({**MASKED, "labels": 1}, InputError, "batch is with labels; expected only inputs, ta"),
    "both": ({**TOKENS, "inputs": 1}, InputError, "batch is with inputs; expected only tokens, el"),
    "negative epoch": ({**TOKENS, "epoch": -1}, ValueError, "epoch is -1"),
    "short mask": (
        {**MASKED, "attention_mask": np.ones((6, 9), bool)}, ShapeError, "attention_mask is of",
    ),
    "floats": ({**MASKED, "inputs": np.ones((5, 9))}, DTypeError, "inputs is of dtype float64"),
    "an id beyond": ({**MASKED, "inputs": np.full((5, 9), 17)}, IdRangeError, "inputs[0, 0] is 17"),
    "padding selected": (
        {**MASKED, "attention_mask": np.zeros((5, 9), bool)}, InputError, "true at padding",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_batch_is_refused_wherever_it_stands(kind: str) -> None:
    given, error, message = BAD[kind]
    state, training = start()
    for batches in ([given], [batch_of(3), given]):
        for call in (update, mean_gradients):
            with pytest.raises(error, match=re.escape(message)):
                call(state, batches, ENCODER, training, POLICY)  # type: ignore[operator]
        with pytest.raises(error, match=re.escape(message)):
            evaluate(state.parameters, batches, ENCODER, training, POLICY)


def test_a_batch_that_is_a_tuple_is_looked_at_as_a_mapping_is() -> None:
    state, training = start()
    bad = batch_of(3)._replace(attention_mask=np.ones((6, 9), bool))
    with pytest.raises(ShapeError, match="attention_mask is of shape"):
        update(state, [bad], ENCODER, training)


def test_words_are_masked_inside_as_outside() -> None:
    policy = replace(POLICY, selection=WholeWord("1/2"))
    fields = tokens_of(np.arange(6), 1)
    words = np.arange(54, dtype=np.int32).reshape(6, 9) // 3
    found = training_batch({**fields, "word_id": words}, ENCODER, policy, 5)
    wanted = mask(
        fields["tokens"], fields["sequence_id"], fields["position"], words, fields["eligible"],
        policy, 5, 1,
    )  # fmt: skip
    assert np.array_equal(found.selected, wanted.selected)
    assert found.selected.any()
    with pytest.raises(WordError):
        training_batch(without(fields, "word_id"), ENCODER, policy, 5)


def test_tokens_without_a_policy_are_refused() -> None:
    state, training = start()
    with pytest.raises(PolicyError, match="policy is None; expected a MaskingPolicy, since the ba"):
        update(state, [TOKENS], ENCODER, training)
