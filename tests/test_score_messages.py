"""Messages of the objective, the head, the losses and the steps, in full."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from message_cases import Call, assert_says, put

import mlm_spec

INF = np.inf
Z = np.zeros((2, 3, 4))
T = np.array([[1, 2, 3], [0, 1, 2]])
S = np.array([[True, False, True], [False, True, False]])
H, W, B = np.zeros((2, 3, 5)), np.zeros((4, 5)), np.zeros(4)

SCORES: list[Call] = [
    (
        "ShapeError: logits is of shape (3, 4); expected shape (B, T, V)",
        lambda: mlm_spec.score(Z[0], T, S),
    ),
    (
        (
            "DTypeError: logits is of dtype int64; expected float64 or float32 or bfloat16 or "
            "float16"
        ),
        lambda: mlm_spec.score(Z.astype(np.int64), T, S),
    ),
    (
        "ShapeError: logits is without a vocabulary; expected at least one id",
        lambda: mlm_spec.score(Z[..., :0], T, S),
    ),
    (
        "ShapeError: targets is of shape (1, 3); expected shape (2, 3)",
        lambda: mlm_spec.score(Z, T[:1], S),
    ),
    (
        "DTypeError: targets is of dtype float64; expected int32 or int64",
        lambda: mlm_spec.score(Z, T.astype(float), S),
    ),
    (
        "ShapeError: selected is of shape (1, 3); expected shape (2, 3)",
        lambda: mlm_spec.score(Z, T, S[:1]),
    ),
    (
        "DTypeError: selected is of dtype int64; expected bool",
        lambda: mlm_spec.score(Z, T, S.astype(np.int64)),
    ),
    (
        "IdRangeError: targets[1, 1] is 4; expected an id in 0..3 (vocab_size is 4)",
        lambda: mlm_spec.score(Z, put(T, (1, 1), 4), S),
    ),
    (
        "ShapeError: weights is of shape (2, 2); expected shape (2, 3)",
        lambda: mlm_spec.score(Z, T, S, np.ones((2, 2))),
    ),
    (
        "DTypeError: weights is of dtype float16; expected float32 or float64",
        lambda: mlm_spec.score(Z, T, S, np.ones((2, 3), np.float16)),
    ),
    (
        "NotFiniteError: weights[1, 1] is nan; expected a finite number",
        lambda: mlm_spec.score(Z, T, S, put(np.ones((2, 3)), (1, 1), np.nan)),
    ),
    (
        "NotFiniteError: logits[0, 2, 1] is inf; expected a number or -inf",
        lambda: mlm_spec.score(put(Z, (0, 2, 1), INF), T, S),
    ),
    (
        "NotFiniteError: logits[0, 2, 1] is nan; expected a number or -inf",
        lambda: mlm_spec.score(put(Z, (0, 2, 1), np.nan), T, S),
    ),
    (
        "NoSupportError: logits[1, 1] is all -inf; expected at least one finite logit",
        lambda: mlm_spec.score(put(Z, (1, 1), -INF), T, S),
    ),
    (
        (
            "ImpossibleTargetError: logits[0, 2, 3] is -inf; expected a finite logit, since it "
            "is the target's"
        ),
        lambda: mlm_spec.score(put(Z, (0, 2, 3), -INF), T, S),
    ),
    (
        "InputError: count is 1.5; expected an integer",
        lambda: mlm_spec.mean_log_likelihood(-1.0, 1.5),
    ),
    (
        "InputError: count is -2; expected an integer from 0 on",
        lambda: mlm_spec.mean_log_likelihood(-1.0, -2),
    ),
    (
        (
            "EmptySelectionError: count is 0; expected at least one selected position, to take a "
            "mean over"
        ),
        lambda: mlm_spec.mean_log_likelihood(0.0, 0),
    ),
    (
        "ShapeError: hidden is of shape (3, 5); expected shape (B, T, d)",
        lambda: mlm_spec.head(H[0], W, B, T, S),
    ),
    (
        (
            "DTypeError: hidden is of dtype int64; expected float64 or float32 or bfloat16 or "
            "float16"
        ),
        lambda: mlm_spec.head(H.astype(np.int64), W, B, T, S),
    ),
    (
        "ShapeError: weight is of shape (4, 4); expected shape (V, 5)",
        lambda: mlm_spec.head(H, W[:, :4], B, T, S),
    ),
    (
        "DTypeError: weight is of dtype float32; expected float64",
        lambda: mlm_spec.head(H, W.astype(np.float32), B, T, S),
    ),
    (
        "ShapeError: bias is of shape (3,); expected shape (4,)",
        lambda: mlm_spec.head(H, W, B[:3], T, S),
    ),
    (
        "DTypeError: bias is of dtype float32; expected float64",
        lambda: mlm_spec.head(H, W, B.astype(np.float32), T, S),
    ),
    (
        "NotFiniteError: weight[2, 3] is nan; expected a finite number",
        lambda: mlm_spec.head(H, put(W, (2, 3), np.nan), B, T, S),
    ),
    (
        "NotFiniteError: hidden @ weight.T + bias[0, 0, 2] is inf; expected a number or -inf",
        lambda: mlm_spec.head(H, W, put(B, 2, INF), T, S),
    ),
    (
        "NotFiniteError: hidden[0, 2, 4] is inf; expected a finite number",
        lambda: mlm_spec.head(put(H, (0, 2, 4), INF), W, B, T, S),
    ),
    (
        "NotFiniteError: hidden @ weight.T + bias[0, 2, 1] is inf; expected a number or -inf",
        lambda: mlm_spec.head(put(H, (0, 2), 1e200), put(W, 1, 1e200), B, T, S),
    ),
    (
        "ShapeError: weight is without a vocabulary; expected at least one id",
        lambda: mlm_spec.head(H, W[:0], B[:0], T, S),
    ),
    (
        "IdRangeError: targets[0, 0] is -1; expected an id in 0..3 (vocab_size is 4)",
        lambda: mlm_spec.head(H, W, B, put(T, (0, 0), -1), S),
    ),
    (
        "ShapeError: weights is of shape (3,); expected shape (2, 3)",
        lambda: mlm_spec.head(H, W, B, T, S, np.ones(3)),
    ),
    (
        "ShapeError: logits is of shape (3, 4); expected shape (B, T, V)",
        lambda: mlm_spec.loss(Z[0], T),
    ),
    ("ShapeError: labels is of shape (3,); expected shape (2, 3)", lambda: mlm_spec.loss(Z, T[0])),
    (
        "DTypeError: labels is of dtype float64; expected int32 or int64",
        lambda: mlm_spec.loss(Z, T.astype(float)),
    ),
    (
        "IdRangeError: labels[0, 1] is 4; expected an id in 0..3 (vocab_size is 4)",
        lambda: mlm_spec.loss(Z, put(T, (0, 1), 4)),
    ),
    (
        "ShapeError: logits is without a vocabulary; expected at least one id",
        lambda: mlm_spec.loss(Z[..., :0], T),
    ),
    (
        "InputError: reduction is 'none'; expected one of sum, mean, sum/num_items",
        lambda: mlm_spec.loss(Z, T, reduction="none"),
    ),
    (
        (
            "EmptySelectionError: the count of selected positions is 0; expected 1 or more, to "
            "divide by"
        ),
        lambda: mlm_spec.loss(Z, np.full((2, 3), -100)),
    ),
    (
        "InputError: num_items is 2.5; expected the count of the global batch",
        lambda: mlm_spec.loss(Z, T, num_items=2.5, reduction="sum/num_items"),
    ),
    (
        "InputError: num_items is None; expected the count of the global batch",
        lambda: mlm_spec.loss(Z, T, reduction="sum/num_items"),
    ),
    (
        "InputError: num_items is -3; expected the count of the global batch",
        lambda: mlm_spec.loss(Z, T, num_items=-3, reduction="sum/num_items"),
    ),
    (
        "EmptySelectionError: num_items is 0; expected 1 or more, to divide by",
        lambda: mlm_spec.loss(Z, T, num_items=0, reduction="sum/num_items"),
    ),
]

STEPS: list[Call] = [
    (
        "ShapeError: logits is of shape (3, 4); expected shape (B, T, V)",
        lambda: mlm_spec.score_step(Z[0], T, S, None, 2),
    ),
    (
        "ShapeError: targets is of shape (3,); expected shape (2, 3)",
        lambda: mlm_spec.score_step(Z, T[0], S, None, 2),
    ),
    (
        "DTypeError: targets is of dtype float64; expected int32 or int64",
        lambda: mlm_spec.score_step(Z, T.astype(float), S, None, 2),
    ),
    (
        "ShapeError: selected is of shape (3,); expected shape (2, 3)",
        lambda: mlm_spec.score_step(Z, T, S[0], None, 2),
    ),
    (
        "DTypeError: selected is of dtype int64; expected bool",
        lambda: mlm_spec.score_step(Z, T, T, None, 2),
    ),
    (
        "ShapeError: weights is of shape (2,); expected shape (2, 3)",
        lambda: mlm_spec.score_step(Z, T, S, np.ones(2), 2),
    ),
    (
        "DTypeError: weights is of dtype bool; expected float32 or float64",
        lambda: mlm_spec.score_step(Z, T, S, S, 2),
    ),
    (
        "ShapeError: capacity is -1; expected 0 or more",
        lambda: mlm_spec.score_step(Z, T, S, None, -1),
    ),
    (
        "DTypeError: capacity is 1.5 (float); expected an integer",
        lambda: mlm_spec.score_step(Z, T, S, None, 1.5),
    ),
    (
        "DTypeError: capacity is True (bool); expected an integer",
        lambda: mlm_spec.score_step(Z, T, S, None, True),
    ),
    (
        "ShapeError: weight is of shape (4, 4); expected shape (V, 5)",
        lambda: mlm_spec.head_step(H, W[:, :4], B, T, S, None, 2),
    ),
    (
        "DTypeError: status is 16; expected a status word, 0..15",
        lambda: mlm_spec.raise_for_status(16),
    ),
    (
        "DTypeError: status is -1; expected a status word, 0..15",
        lambda: mlm_spec.raise_for_status(-1),
    ),
    (
        (
            "CapacityError: status is OVERFLOW; expected no more selected positions than the "
            "capacity"
        ),
        lambda: mlm_spec.raise_for_status(1),
    ),
    (
        "IdRangeError: status is ID_RANGE; expected ids in 0..vocab_size - 1",
        lambda: mlm_spec.raise_for_status(2),
    ),
    (
        "NotFiniteError: status is NOT_FINITE; expected finite numbers at selected positions",
        lambda: mlm_spec.raise_for_status(4),
    ),
    (
        ("EmptySelectionError: status is EMPTY; expected a selected position, to take a mean over"),
        lambda: mlm_spec.raise_for_status(8, mean=True),
    ),
    (
        (
            "CapacityError: status is OVERFLOW|ID_RANGE|NOT_FINITE|EMPTY; expected no more "
            "selected positions than the capacity"
        ),
        lambda: mlm_spec.raise_for_status(15),
    ),
    (
        "IdRangeError: status is ID_RANGE|NOT_FINITE|EMPTY; expected ids in 0..vocab_size - 1",
        lambda: mlm_spec.raise_for_status(14),
    ),
    (
        (
            "NotFiniteError: status is NOT_FINITE|EMPTY; expected finite numbers at selected "
            "positions"
        ),
        lambda: mlm_spec.raise_for_status(12),
    ),
]


@pytest.mark.parametrize(("message", "call"), SCORES + STEPS)
def test_a_bad_call_says_what_was_got_what_was_expected_and_where(
    message: str, call: Callable[[], object]
) -> None:
    assert_says(message, call)
