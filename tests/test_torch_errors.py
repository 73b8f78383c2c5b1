"""The PyTorch backend refuses bad input, names its place, and changes nothing."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from torch_cases import BERT, PORT, batch_of, layer_of, logits_of

from mlm_spec.errors import (
    DTypeError,
    IdRangeError,
    ImpossibleTargetError,
    NoSupportError,
    NotFiniteError,
    PolicyError,
    SeedError,
    ShapeError,
    WordError,
)
from mlm_spec.policy import Corruption, WholeWord


def edited(**changes: Any) -> dict[str, Any]:
    """Good arguments of all ports, but for the changes."""
    tokens, ids, position, words, able = batch_of(1)
    case, layer = logits_of(np.dtype(np.float32), 9, 1), layer_of(np.dtype(np.float32), True)
    hidden, weight, bias, targets, selected, weights = layer.call
    good: dict[str, dict[str, Any]] = {
        "mask": {
            "tokens": tokens,
            "sequence_id": ids,
            "position": position,
            "word_id": words,
            "eligible": able,
            "policy": BERT,
            "seed": 1,
            "epoch": 2,
        },
        "score": dict(vars(case)),
        "head": {
            "hidden": hidden,
            "weight": weight,
            "bias": bias,
            "targets": targets,
            "selected": selected,
            "weights": weights,
        },
        "loss": {
            "logits": np.zeros((1, 2, 4), np.float32),
            "labels": np.array([[1, -100]]),
            "ignore_index": -100,
            "num_items": None,
        },
        "random_words": {
            "key": np.zeros((2, 4), np.uint32),
            "counter": np.zeros((2, 4), np.uint32),
        },
    }
    for place, change in changes.items():
        port, name = place.split("__")
        value = good[port][name]
        good[port][name] = change(value.copy()) if callable(change) else change
        return {"port": port, "arguments": good[port]}
    raise AssertionError


def put(index: tuple[int, ...], value: Any) -> Any:
    """A change: one element (or row) of an array."""

    def change(array: Any) -> Any:
        array[index] = value
        return array

    return change


WORDS = dataclasses.replace(BERT, selection=WholeWord("1/2"))
FIRST = tuple(int(i) for i in np.argwhere(layer_of(np.dtype(np.float32), True).at)[0])
AT = f"[{FIRST[0]}, {FIRST[1]}"
ERRORS: list[tuple[dict[str, Any], type, str]] = [
    ({"mask__tokens": lambda a: a[0]}, ShapeError, "tokens is of shape (23,)"),
    ({"mask__sequence_id": lambda a: a[..., :1]}, ShapeError, "sequence_id"),
    ({"mask__position": lambda a: a.astype(np.int64)}, DTypeError, "position is of dtype int64"),
    ({"mask__tokens": lambda a: a.astype(np.float32)}, DTypeError, "int32 or int64"),
    ({"mask__eligible": lambda a: a.astype(np.int8)}, DTypeError, "eligible is of dtype int8"),
    ({"mask__tokens": lambda a: a.tolist()}, DTypeError, "tokens is a list"),
    ({"mask__tokens": lambda a: a.astype(object)}, DTypeError, "of dtype object"),
    ({"mask__tokens": put((2, 4), 30522)}, IdRangeError, "tokens[2, 4] is 30522; expected"),
    ({"mask__tokens": put((0, 1), -1)}, IdRangeError, "tokens[0, 1] is -1"),
    ({"mask__policy": "bert"}, PolicyError, "policy is a str"),
    ({"mask__seed": 2**64}, SeedError, "seed is 18446744073709551616"),
    ({"mask__seed": True}, SeedError, "seed is True"),
    ({"mask__epoch": -1}, SeedError, "epoch is -1"),
    ({"mask__epoch": 1.0}, SeedError, "epoch is 1.0 (float)"),
    ({"score__logits": lambda a: a[0]}, ShapeError, "logits is of shape (3, 9)"),
    ({"score__logits": lambda a: a[..., :0]}, ShapeError, "logits is of shape (2, 3, 0)"),
    ({"score__logits": lambda a: a.view(np.int32)}, DTypeError, "logits is of dtype int32"),
    ({"score__weights": lambda a: a.astype(np.float16)}, DTypeError, "weights is of dtype float16"),
    ({"score__selected": lambda a: a.astype(np.uint8)}, DTypeError, "selected is of dtype uint8"),
    ({"score__targets": put((1, 2), 9)}, IdRangeError, "targets[1, 2] is 9; expected an id"),
    ({"score__logits": put((0, 2, 3), np.nan)}, NotFiniteError, "logits[0, 2, 3] is nan"),
    ({"score__logits": put((1, 1, 8), np.inf)}, NotFiniteError, "logits[1, 1, 8] is inf"),
    ({"score__weights": put((1, 1), np.inf)}, NotFiniteError, "weights[1, 1] is inf"),
    ({"score__logits": put((1, 2), -np.inf)}, NoSupportError, "logits[1, 2] is all -inf"),
    ({"head__weight": lambda a: a[:, 1:]}, ShapeError, "weight is of shape (50, 15)"),
    ({"head__bias": lambda a: a.astype(np.float64)}, DTypeError, "bias is of dtype float64"),
    ({"head__hidden": put((*FIRST, 2), np.nan)}, NotFiniteError, f"{AT}, 2] is nan"),
    ({"head__weight": put((7, 1), -np.inf)}, NotFiniteError, "weight[7, 1] is -inf"),
    ({"head__bias": put((4,), np.nan)}, NotFiniteError, f"{AT}, 4] is nan"),
    ({"head__bias": lambda a: np.full_like(a, -np.inf)}, NoSupportError, "all -inf"),
    ({"head__targets": put(FIRST, 50)}, IdRangeError, "is 50; expected an id in 0..49"),
    ({"loss__labels": put((0, 0), 4)}, IdRangeError, "labels[0, 0] is 4"),
    ({"loss__labels": lambda a: a[:, :1]}, ShapeError, "labels is of shape (1, 1)"),
    ({"random_words__key": lambda a: a[:1]}, ShapeError, "counter is of shape (2, 4)"),
    ({"random_words__key": lambda a: a.astype(np.int32)}, DTypeError, "key is of dtype int32"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "error", "message"), ERRORS, ids=[e[2] for e in ERRORS])
def test_bad_input_is_refused_with_its_place_and_changes_nothing(
    changes: dict[str, Any], error: type, message: str
) -> None:
    call = edited(**changes)
    kept = {k: v.copy() for k, v in call["arguments"].items() if isinstance(v, np.ndarray)}
    with pytest.raises(error) as caught:
        getattr(PORT, call["port"])(**call["arguments"])
    assert type(caught.value) is error
    assert message in str(caught.value)
    for part in (caught.value.got, caught.value.expected, caught.value.where):
        assert part in str(caught.value)
    for name, array in kept.items():
        assert array.tobytes() == call["arguments"][name].tobytes()


def test_an_impossible_target_is_named() -> None:
    case = logits_of(np.dtype(np.float32), 9, 1)
    target = case.targets[1, 1]
    case.logits[1, 1, target] = -np.inf
    with pytest.raises(ImpossibleTargetError, match=rf"logits\[1, 1, {target}\] is -inf"):
        PORT.score(case.logits, case.targets, case.selected, case.weights)


@pytest.mark.parametrize(
    "policy", [WORDS, dataclasses.replace(BERT, corruption=Corruption(1, 0, 0, "word"))]
)
def test_a_policy_of_words_without_words_is_refused_in_both_maskers(policy: Any) -> None:
    tokens, ids, position, _, able = batch_of(1)
    for masker in (PORT.mask, PORT.mask_step):
        with pytest.raises(WordError, match="word_id is None"):
            masker(tokens, ids, position, None, able, policy, 1, 2)


def test_steps_refuse_shapes_and_dtypes_before_they_run() -> None:
    case = logits_of(np.dtype(np.float32), 9, 1)
    with pytest.raises(ShapeError):
        PORT.score_step(case.logits, case.targets[:1], case.selected, None, 4)
    with pytest.raises(DTypeError):
        PORT.score_step(case.logits.view(np.int32), case.targets, case.selected, None, 4)
    with pytest.raises(ShapeError, match="capacity is -1"):
        PORT.score_step(case.logits, case.targets, case.selected, None, -1)
