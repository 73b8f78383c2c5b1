"""Messages of the exact values, in full."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from message_cases import Call, assert_says, put

import mlm_spec
from mlm_spec.exact import Enclosure, enclose, enclose_gradient, enclose_sum, rounded_gradient

INF, B, Z = np.inf, np.zeros(4), np.zeros((3, 4))

EXACT: list[Call] = [
    (
        (
            "DTypeError: logits is a list; expected a NumPy array of float64 or float32 or "
            "bfloat16 or float16"
        ),
        lambda: enclose([0.0], 0),
    ),
    ("ShapeError: logits is of shape (3, 4); expected shape (V,)", lambda: enclose(Z, 0)),
    (
        "ShapeError: logits is without a vocabulary; expected at least one id",
        lambda: enclose(np.zeros(0), 0),
    ),
    ("InputError: target is True; expected an integer", lambda: enclose(B, True)),
    ("IdRangeError: target is 4; expected an id in 0..3", lambda: enclose(B, 4)),
    (
        "NotFiniteError: logits[2] is inf; expected a number or -inf",
        lambda: enclose(put(B, 2, INF), 0),
    ),
    (
        "NotFiniteError: logits[2] is nan; expected a number or -inf",
        lambda: enclose(put(B, 2, np.nan), 0),
    ),
    (
        "NoSupportError: logits is all -inf; expected at least one finite logit",
        lambda: enclose(B - INF, 0),
    ),
    (
        (
            "ImpossibleTargetError: logits[2] is -inf; expected a finite logit, since it is the "
            "target's"
        ),
        lambda: enclose_gradient(put(B, 2, -INF), 2, 0),
    ),
    ("InputError: entry is True; expected an integer", lambda: enclose_gradient(B, 0, True)),
    ("IdRangeError: entry is 4; expected an id in 0..3", lambda: enclose_gradient(B, 0, 4)),
    (
        (
            "ImpossibleTargetError: logits[2] is -inf; expected a finite logit, since it is the "
            "target's"
        ),
        lambda: rounded_gradient(put(B, 2, -INF), 2),
    ),
    (
        "DTypeError: targets is of dtype float64; expected integers",
        lambda: enclose_sum(Z, [0.5, 1, 2]),
    ),
    (
        (
            "ShapeError: logits, targets, weights is of shapes (3, 4), (2,), (2,); expected (N, "
            "V), (N,), (N,)"
        ),
        lambda: enclose_sum(Z, [0, 1]),
    ),
    (
        (
            "ShapeError: logits, targets, weights is of shapes (3, 4), (3,), (1,); expected (N, "
            "V), (N,), (N,)"
        ),
        lambda: enclose_sum(Z, [0, 1, 2], [1.0]),
    ),
    (
        (
            "ShapeError: logits, targets, weights is of shapes (4,), (1,), (1,); expected (N, "
            "V), (N,), (N,)"
        ),
        lambda: enclose_sum(B, [0]),
    ),
    (
        "NotFiniteError: weights is inf; expected finite numbers",
        lambda: enclose_sum(Z, [0, 1, 2], [1.0, INF, 1.0]),
    ),
    (
        "InputError: weights is negative at a log-likelihood of -inf; expected above 0 there",
        lambda: enclose_sum(put(Z, (1, 1), -INF), [0, 1, 2], [1.0, -1.0, 1.0]),
    ),
    (
        (
            "UndecidedError: float(enclosure) is undecided; expected ends that round alike: "
            "Enclosure(lower=Fraction(0, 1), upper=Fraction(1, 1))"
        ),
        lambda: float(Enclosure(Fraction(0), Fraction(1))),
    ),
]


@pytest.mark.parametrize(("message", "call"), EXACT)
def test_a_bad_call_says_what_was_got_what_was_expected_and_where(
    message: str, call: Callable[[], object]
) -> None:
    assert_says(message, call)


def test_an_undecided_float_brings_its_enclosure() -> None:
    wide = Enclosure(Fraction(0), Fraction(1))
    with pytest.raises(mlm_spec.UndecidedError) as caught:
        float(wide)
    assert caught.value.enclosure == wide
