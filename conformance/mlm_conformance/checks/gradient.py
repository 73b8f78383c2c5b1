"""Chapter GRA: the gradient with respect to the logits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.bounds import arithmetic, gradient_bound
from mlm_conformance.cases.anywhere import score_series
from mlm_conformance.cases.model import ScoreCase
from mlm_conformance.cases.numbers import (
    DTYPES,
    LARGE,
    MEDIUM,
    ODD,
    SMALL,
    WIDEST,
    ScoreRecipe,
    generator,
    score_recipes,
)
from mlm_conformance.check import Context, check
from mlm_conformance.checks.common import besides, field_of, require_like, score_truth
from mlm_spec import logit_gradient

__all__: list[str] = []  # importing the module registers its checks

BATCHES = (*SMALL[2:], MEDIUM)
FIELD = "grad_logits"


def _gradient(context: Context, case: ScoreCase) -> NDArray[np.float64]:
    """All of the target's gradient, (B, T, V)."""
    result = context.call("score", case.arguments())
    return field_of(result, FIELD, case.logits.shape)


def _entries_within(context: Context, case: ScoreCase) -> None:
    truth = score_truth(context, case)
    entries = _gradient(context, case)[case.selected]
    context.within("grad_logits", entries, truth.gradient, truth.gradient_bounds)


@check(
    "MLM-GRA-1",
    port="score",
    recipes=besides(
        score_recipes(("normal", "ties", "equal"), (*SMALL[1:], MEDIUM), weighted=(False,)),
        [
            *(ScoreRecipe(shape, "float32", "normal", "some", False, 54) for shape in ODD),
            ScoreRecipe(LARGE, "float32", "normal", "one", False, 54),
            ScoreRecipe(LARGE, "bfloat16", "normal", "one", True, 56),
            ScoreRecipe(WIDEST, "float16", "normal", "one", True, 57),
        ],
    ),
    needs=DTYPES,
    result_field=FIELD,
    series=score_series("normal", "ties", narrow=True, weighted=False),
)
def gradient_is_target_minus_probability(context: Context, case: ScoreCase) -> None:
    _entries_within(context, case)


@check(
    "MLM-GRA-2",
    port="score",
    recipes=score_recipes(("normal", "impossible ids"), BATCHES, patterns=("some", "one", "none")),
    needs=("unselected",),
    theorem=True,
    result_field=FIELD,
    series=score_series("normal", narrow=True),
)
def unselected_logits_receive_exactly_zero(context: Context, case: ScoreCase) -> None:
    context.saw("unselected", (~case.selected).sum())
    entries = _gradient(context, case)[~case.selected]
    context.equal("grad_logits where not selected", entries, np.zeros(entries.shape))


@check(
    "MLM-GRA-3",
    port="score",
    recipes=score_recipes(("normal", "likely", "impossible ids"), BATCHES),
    needs=("selected",),
    theorem=True,
    result_field=FIELD,
)
def a_positions_gradient_sums_to_zero(context: Context, case: ScoreCase) -> None:
    truth = score_truth(context, case)
    entries = _gradient(context, case)[case.selected].astype(np.float64)
    context.within(
        "sum of a position's gradient",
        entries.sum(axis=-1),
        np.zeros(len(entries)),
        truth.gradient_bounds.sum(axis=-1),
    )


@check(
    "MLM-GRA-4",
    port="score",
    recipes=score_recipes(("normal", "likely"), BATCHES, weighted=(True,)),
    needs=("weights that differ",),
    result_field=FIELD,
    series=score_series("normal", "likely", narrow=True, weighted=True),
)
def upstream_weights_scale_their_position(context: Context, case: ScoreCase) -> None:
    context.saw("weights that differ", len(np.unique(case.upstream)) > 1)
    _entries_within(context, case)
    idle = _gradient(context, case)[case.selected][case.upstream == 0.0]
    context.equal("grad_logits at weight 0", idle, np.zeros(idle.shape))


@check(
    "MLM-GRA-4",
    port="score",
    recipes=score_recipes(("normal",), BATCHES, weighted=(True,)),
    needs=("selected",),
    theorem=True,
    result_field=FIELD,
)
def gradient_is_linear_in_the_weights(context: Context, case: ScoreCase) -> None:
    """The gradients of two weights add up to that of their sum."""
    assert case.weights is not None
    context.saw("selected", case.selected.sum())
    rng = generator(case.salt, 11)
    quarter = 0.25  # multiples of it add exactly in every dtype of weights
    parts = [rng.integers(-8, 9, size=case.weights.shape) * quarter for _ in range(2)]
    cases = [
        replace(case, weights=w.astype(case.weights.dtype)) for w in (*parts, parts[0] + parts[1])
    ]
    seen = [_gradient(context, c)[case.selected].astype(np.float64) for c in cases]
    limit = sum(_bounds(c) for c in cases)
    context.within("grad_logits of w + w'", seen[2], seen[0] + seen[1], limit)


def _bounds(case: ScoreCase) -> NDArray[np.float64]:
    logits, targets = case.logits[case.selected], case.targets[case.selected]
    gradient = case.upstream[:, None] * logit_gradient(logits, targets)
    name = case.logits.dtype.name
    return gradient_bound(logits, gradient, case.upstream, arithmetic(name, name))


@check(
    "MLM-GRA-5",
    port="score",
    recipes=score_recipes(("impossible ids", "single", "farthest below"), BATCHES),
    needs=("logits of -inf",),
    theorem=True,
    result_field=FIELD,
    series=score_series("impossible ids"),
)
def logits_of_minus_infinity_receive_exactly_zero(context: Context, case: ScoreCase) -> None:
    at = np.isneginf(case.logits.astype(np.float64)) & case.selected[..., None]
    context.saw("logits of -inf", at.sum())
    entries = _gradient(context, case)[at]
    context.equal("grad_logits at -inf", entries, np.zeros(entries.shape))


@check(
    "MLM-GRA-6",
    port="score",
    recipes=score_recipes(("offset", "improbable", "hopeless", "likely", "likely pair"), BATCHES),
    needs=DTYPES,
    result_field=FIELD,
    series=score_series("offset", "improbable", "likely", weighted=False),
)
def hard_logits_have_their_gradient(context: Context, case: ScoreCase) -> None:
    _entries_within(context, case)


@check(
    "MLM-GRA-7",
    port="score",
    recipes=score_recipes(("normal",), BATCHES),
    needs=DTYPES,
    theorem=True,
    result_field=FIELD,
    series=score_series("normal", narrow=True),
)
def gradient_has_shape_and_dtype_of_the_logits(context: Context, case: ScoreCase) -> None:
    context.saw(case.logits.dtype.name)
    require_like(context.call("score", case.arguments()), FIELD, case.logits)
