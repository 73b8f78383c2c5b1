"""Chapter LIK: the log-likelihood of each selected position."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.bounds import arithmetic, sum_bound, value_bound
from mlm_conformance.cases.anywhere import edge_series, score_series
from mlm_conformance.cases.model import LossCase, ScoreCase
from mlm_conformance.cases.numbers import (
    LARGE,
    MEDIUM,
    ODD,
    SMALL,
    WIDEST,
    ScoreRecipe,
    generator,
    loss_recipes,
    score_recipes,
)
from mlm_conformance.check import Context, check
from mlm_conformance.checks.common import besides, field_of, score_truth
from mlm_spec import log_likelihood

__all__ = ["BATCHES", "NARROW", "WIDE", "values_within"]

BATCHES = (*SMALL[2:], MEDIUM)
PATTERNS = ("all", "some")
# Narrow logits have a requirement of their own, MLM-LIK-9, on all families: so an implementation
# that is wrong only there is told just that.
WIDE = ("float32", "float64")
NARROW = ("bfloat16", "float16")


def values_within(context: Context, case: ScoreCase) -> NDArray[np.float64]:
    """The selected log-likelihoods are finite and within their bounds; returns the truth."""
    truth = score_truth(context, case)
    result = context.call("score", case.arguments())
    values = field_of(result, "log_likelihood", case.selected.shape)[case.selected]
    logits, targets = case.logits[case.selected], case.targets[case.selected]
    context.accuracy.measure(logits, targets, values, truth.values)
    context.within("log_likelihood of selected positions", values, truth.values, truth.value_bounds)
    return truth.values


@check(
    "MLM-LIK-1",
    port="score",
    recipes=besides(
        score_recipes(("normal", "ties"), (*SMALL[1:], MEDIUM), WIDE, patterns=PATTERNS),
        [
            *(ScoreRecipe(shape, "float32", "normal", "some", True, 50) for shape in ODD),
            ScoreRecipe(ODD[1], "float32", "normal", "all", True, 59),
            ScoreRecipe(LARGE, "float64", "normal", "all", False, 55),
        ],
    ),
    needs=WIDE,
    series=score_series("normal", "ties"),
)
def ordinary_logits_give_their_log_likelihood(context: Context, case: ScoreCase) -> None:
    values_within(context, case)


@check(
    "MLM-LIK-2",
    port="score",
    recipes=score_recipes(("offset", "negative offset"), BATCHES, WIDE, patterns=PATTERNS),
    needs=WIDE,
    series=score_series("offset"),
)
def an_offset_leaves_the_value_within_its_bound(context: Context, case: ScoreCase) -> None:
    values_within(context, case)


def _on_a_grid(case: ScoreCase, offset: float) -> tuple[ScoreCase, ScoreCase]:
    """Logits that stay exact in their dtype when the offset is added; without and with it."""
    digits = {"float64": 52, "float32": 23, "float16": 10, "bfloat16": 7}[case.logits.dtype.name]
    step = 2.0 ** (np.ceil(np.log2(abs(offset) + 64.0)) - digits)
    logits = np.round(case.logits.astype(np.float64) / step) * step
    logits = np.clip(logits, -64.0, 64.0) if step < 64.0 else logits * 0.0 + step * (logits > 0)
    dtype = case.logits.dtype
    return (
        replace(case, logits=logits.astype(dtype)),
        replace(case, logits=(logits + offset).astype(dtype)),
    )


@check(
    "MLM-LIK-2",
    port="score",
    recipes=score_recipes(("normal",), BATCHES, WIDE, patterns=PATTERNS),
    needs=("shifted",),
    theorem=True,
)
def adding_a_constant_changes_nothing(context: Context, case: ScoreCase) -> None:
    offset = float(generator(case.salt, 9).choice([200.0, -200.0, 1e4, -1e4]))
    plain, moved = _on_a_grid(case, offset)
    exact = moved.logits.astype(np.float64) - offset == plain.logits.astype(np.float64)
    context.saw("shifted", exact.all(axis=-1)[case.selected].sum())
    if not exact[case.selected].all():  # only 1e4 in float16 and bfloat16: not a step of the grid
        return
    how, targets = arithmetic(case.logits.dtype.name), case.targets[case.selected]
    limit = sum(value_bound(c.logits[case.selected], targets, how) for c in (plain, moved))
    first, second = (_selected(context, c) for c in (plain, moved))
    context.within(f"log_likelihood with {offset:+g} on every logit", second, first, limit)


def _selected(context: Context, case: ScoreCase) -> NDArray[np.float64]:
    result = context.call("score", case.arguments())
    values = field_of(result, "log_likelihood", case.selected.shape)
    return values[case.selected].astype(np.float64)


@check(
    "MLM-LIK-3",
    port="score",
    recipes=score_recipes(
        ("improbable", "hopeless"), (*SMALL[1:], MEDIUM), WIDE, patterns=PATTERNS
    ),
    needs=(*WIDE, "below -100 nats", "below -10^6 nats"),
    series=score_series("improbable"),
)
def improbable_targets_keep_their_value(context: Context, case: ScoreCase) -> None:
    values = values_within(context, case)
    context.saw("below -100 nats", (values < -100.0).sum())
    context.saw("below -10^6 nats", (values < -1e6).sum())


@check(
    "MLM-LIK-4",
    port="score",
    recipes=besides(
        score_recipes(("likely",), (*SMALL[1:], MEDIUM), WIDE, patterns=PATTERNS),
        [ScoreRecipe(SMALL[2], "float64", "likely", "all", False, i) for i in range(4)],
    ),
    needs=(*WIDE, "above -0.01 nats"),
    series=score_series("likely"),
)
def likely_targets_keep_their_value(context: Context, case: ScoreCase) -> None:
    values = values_within(context, case)
    context.saw("above -0.01 nats", (values > -0.01).sum())


_EXCLUDED = ("impossible ids", "single", "far below", "farthest below")


@check(
    "MLM-LIK-5",
    port="score",
    recipes=besides(
        score_recipes(_EXCLUDED, BATCHES, WIDE, patterns=PATTERNS),
        [ScoreRecipe(LARGE, "float32", "impossible ids", "all", False, 58)],
    ),
    needs=(*WIDE, "logits of -inf"),
    series=score_series("impossible ids", "far below"),
)
def ids_with_logit_minus_infinity_have_no_share(context: Context, case: ScoreCase) -> None:
    context.saw("logits of -inf", np.isneginf(case.logits[case.selected]).sum())
    values_within(context, case)


_PROBES = ("negative offset", "first id", "last id", "end ids lead", "few live")


@check(
    "MLM-LIK-6",
    port="score",
    recipes=besides(
        score_recipes(_PROBES, (LARGE,), WIDE[:1], patterns=("one",)),
        [
            *(ScoreRecipe(LARGE, WIDE[0], "end ids lead", "all", False, i) for i in (20, 21)),
            ScoreRecipe(MEDIUM, WIDE[0], "negative offset", "all", False, 22),
        ],
    ),
    needs=("id 0 as target", "last id as target"),
    share=0.25,
    series=edge_series("end ids lead below"),
)
def the_whole_vocabulary_counts(context: Context, case: ScoreCase) -> None:
    ids = case.targets[case.selected]
    context.saw("id 0 as target", (ids == 0).sum())
    context.saw("last id as target", (ids == case.logits.shape[-1] - 1).sum())
    values_within(context, case)


@check(
    "MLM-LIK-6",
    port="loss",
    recipes=loss_recipes(_PROBES, patterns=("all",)),
    needs=("id 0 as target", "last id as target"),
)
def the_whole_vocabulary_counts_in_the_loss(context: Context, case: LossCase) -> None:
    """With every position selected: a wrong denominator is no fault of the vocabulary."""
    selected = case.labels != case.ignore_index
    logits, ids = case.logits[selected], case.labels[selected]
    context.saw("id 0 as target", (ids == 0).sum())
    context.saw("last id as target", (ids == case.logits.shape[-1] - 1).sum())
    how = arithmetic(case.logits.dtype.name)
    values = log_likelihood(logits, ids)
    total, ones = -float(values.sum()), np.ones(len(ids))
    bound = sum_bound(values, value_bound(logits, ids, how), ones, how)
    by = 1 if context.loss_reduction == "sum" else len(ids)
    items = len(ids) if context.loss_reduction == "sum/num_items" else None
    arguments = {"logits": case.logits, "labels": case.labels, "ignore_index": case.ignore_index}
    result = context.call("loss", {**arguments, "num_items": items})
    limit = (bound + 2 * how.unit * (total + bound)) / by
    context.within("loss", field_of(result, "loss", ()), total / by, limit)


_END_IDS = ("first id", "last id")


@check(
    "MLM-LIK-7",
    port="score",
    recipes=besides(
        score_recipes(("normal", "likely", "impossible ids"), BATCHES, WIDE, patterns=PATTERNS),
        [ScoreRecipe(SMALL[2], WIDE[0], family, "all", False, 0) for family in _END_IDS],
    ),
    needs=("selected",),
    theorem=True,
    series=score_series("normal"),
)
def names_of_ids_are_immaterial(context: Context, case: ScoreCase) -> None:
    """The vocabulary permuted, targets with it."""
    truth = score_truth(context, case)
    order = generator(case.salt, 10).permutation(case.logits.shape[-1])
    place = np.argsort(order)
    moved = replace(
        case, logits=case.logits[..., order], targets=place[case.targets].astype(case.targets.dtype)
    )
    first, second = _selected(context, case), _selected(context, moved)
    context.within("log_likelihood, ids renamed", second, first, 2 * truth.value_bounds)


@check(
    "MLM-LIK-8",
    port="score",
    recipes=score_recipes(("normal", "impossible ids"), BATCHES, patterns=("some", "one")),
    needs=("unselected",),
    theorem=True,
    series=score_series("normal"),
)
def unselected_positions_have_log_likelihood_zero(context: Context, case: ScoreCase) -> None:
    other = ~case.selected
    context.saw("unselected", other.sum())
    result = context.call("score", case.arguments())
    values = field_of(result, "log_likelihood", other.shape)[other]
    context.equal("log_likelihood where not selected", values, np.zeros(values.shape))


@check(
    "MLM-LIK-9",
    port="score",
    recipes=besides(
        score_recipes(
            (
                "equal",
                "likely pair",
                "normal",
                "offset",
                "improbable",
                "likely",
                "impossible ids",
                "farthest below",
            ),
            (*SMALL[1:], MEDIUM),
            NARROW,
            patterns=PATTERNS,
        ),
        [ScoreRecipe(WIDEST, "float16", "equal", "all", False, 51)],
    ),
    needs=NARROW,
    series=score_series("normal", "likely", "equal", wide=False, narrow=True),
)
def narrow_logits_are_widened_exactly(context: Context, case: ScoreCase) -> None:
    values_within(context, case)


@check(
    "MLM-LIK-10",
    port="score",
    recipes=score_recipes(("normal", "likely pair"), ((1, 1, 2),), WIDE, patterns=("one",)),
    needs=WIDE,
)
def one_position_and_two_ids_are_nothing_special(context: Context, case: ScoreCase) -> None:
    values_within(context, case)


@check(
    "MLM-LIK-10",
    port="score",
    recipes=score_recipes(("normal",), ((1, 1, 1),), ("float32",), patterns=("one",)),
    needs=("selected",),
    theorem=True,
)
def a_vocabulary_of_one_id_has_value_and_gradient_zero(context: Context, case: ScoreCase) -> None:
    context.saw("selected", case.selected.sum())
    result = context.call("score", case.arguments())
    for name in ("log_likelihood", "sum", "grad_logits"):
        if name in result:
            context.equal(f"{name} at V = 1", result[name], np.zeros(result[name].shape))
