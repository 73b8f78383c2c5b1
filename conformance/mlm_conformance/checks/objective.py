"""Chapter OBJ: the objective, its count, and what divides it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.bounds import arithmetic, gradient_bound, sum_bound, value_bound
from mlm_conformance.cases.masks import mask_recipes
from mlm_conformance.cases.model import LossCase, MaskCase, ScoreCase
from mlm_conformance.cases.numbers import (
    MEDIUM,
    SMALL,
    ScoreRecipe,
    dtype_of,
    generator,
    loss_recipes,
    score_recipes,
)
from mlm_conformance.check import Context, Fixed, check, table
from mlm_conformance.checks.common import besides, field_of, masked, permuted, score_truth
from mlm_spec import log_likelihood, logit_gradient

__all__: list[str] = []  # importing the module registers its checks

ORDINARY = ("normal", "equal", "ties", "likely")
BATCHES = (*SMALL[2:], MEDIUM)


def _poisoned(case: ScoreCase) -> ScoreCase:
    """Other contents at unselected positions, down to NaN and ids that are none."""
    rng = generator(case.salt, 2)
    other = ~case.selected
    logits, targets = case.logits.copy(), case.targets.copy()
    noise = rng.normal(size=logits.shape) * 50.0
    noise[rng.random(noise.shape) < 0.2] = np.nan
    noise[rng.random(noise.shape) < 0.1] = np.inf
    logits[other] = noise[other].astype(logits.dtype)
    targets[other] = rng.choice([-100, -1, 2**31 - 1, 0], size=int(other.sum()))
    weights = None if case.weights is None else np.where(case.selected, case.weights, np.nan)
    if weights is not None and case.weights is not None:
        weights = weights.astype(case.weights.dtype)
    return replace(case, logits=logits, targets=targets, weights=weights)


@check(
    "MLM-OBJ-1",
    port="score",
    recipes=score_recipes(ORDINARY, BATCHES, patterns=("some", "one")),
    needs=("unselected", "selected"),
    theorem=True,
)
def unselected_contents_change_nothing(context: Context, case: ScoreCase) -> None:
    context.saw("selected", case.selected.sum())
    context.saw("unselected", (~case.selected).sum())
    clean = context.call("score", case.arguments())
    other = context.call("score", _poisoned(case).arguments())
    for name in clean:
        context.equal(f"{name} with other unselected contents", other[name], clean[name])


@check(
    "MLM-OBJ-1",
    port="loss",
    recipes=loss_recipes(ORDINARY, patterns=("some", "one")),
    needs=("unselected",),
    theorem=True,
)
def unselected_logits_do_not_change_the_loss(context: Context, case: LossCase) -> None:
    other = case.labels == case.ignore_index
    if other.all():
        return  # the loss of nothing is the matter of MLM-OBJ-11
    context.saw("unselected", other.sum())
    noise = generator(case.salt, 2).normal(size=case.logits.shape).astype(case.logits.dtype)
    noise[..., 0] = np.nan
    moved = replace(case, logits=np.where(other[..., None], noise, case.logits))
    context.equal("loss with other unselected logits", _loss(context, moved), _loss(context, case))


@check("MLM-OBJ-2", port="score", recipes=score_recipes(ORDINARY, BATCHES), needs=("selected",))
def sum_is_that_of_the_selected_log_likelihoods(context: Context, case: ScoreCase) -> None:
    truth = score_truth(context, case)
    result = context.call("score", case.arguments())
    context.within("sum", field_of(result, "sum", ()), truth.sum, truth.sum_bound)


def _worked_examples() -> list[Fixed]:
    """The three examples of the chapter, as vectors: which positions count, and nothing else."""
    cases = []
    for about, length, picked in (
        ("x_0 … x_4 with x_1 and x_3 masked", 5, (1, 3)),
        ("[CLS] The early bird catches the worm, positions 2 and 6", 7, (2, 6)),
        ("The fox jumps over the dog, 'jumps' masked", 6, (2,)),
    ):
        rng = generator(0, length)
        selected = np.zeros((1, length), np.bool_)
        selected[0, list(picked)] = True
        logits = np.round(rng.normal(size=(1, length, 8)), 2).astype(np.float32)
        targets = np.arange(length, dtype=np.int64)[None] % 8
        cases.append(Fixed(ScoreCase(logits, targets, selected, None, about=about)))
    return cases


@check("MLM-OBJ-2", port="score", recipes=table(_worked_examples()), needs=("selected",))
def worked_examples_have_their_values(context: Context, case: ScoreCase) -> None:
    sum_is_that_of_the_selected_log_likelihoods(context, case)


@check(
    "MLM-OBJ-3",
    port="score",
    recipes=besides(
        score_recipes(ORDINARY, (*SMALL[1:], MEDIUM), patterns=("some", "all", "one", "none")),
        [
            ScoreRecipe(SMALL[2], "float32", family, pattern, True, i)
            for i, (family, pattern) in enumerate(
                (("first id", "all"), ("last id", "one"), ("normal", "none"))
            )
        ],
    ),
    needs=("selected", "unselected", "weighted"),
    theorem=True,
)
def count_is_the_number_of_selected_positions(context: Context, case: ScoreCase) -> None:
    context.saw("selected", case.selected.sum())
    context.saw("unselected", (~case.selected).sum())
    context.saw("weighted", case.weights is not None)
    count = field_of(context.call("score", case.arguments()), "count", ())
    context.require(
        np.issubdtype(count.dtype, np.integer), f"count has dtype {count.dtype}, not an integer one"
    )
    context.equal("count", count, case.selected.sum())


@check(
    "MLM-OBJ-4",
    port="mask",
    recipes=mask_recipes(rates=("1",), kinds=("0 0 1", "1/3 1/3 1/3"), laws=("bernoulli", "word")),
    needs=("kept",),
    theorem=True,
)
def positions_that_keep_their_token_are_selected(context: Context, case: MaskCase) -> None:
    candidate = case.eligible & ~np.isin(case.tokens, case.policy.special_ids)
    batch = masked(context, case)
    context.saw("kept", (candidate & (batch.inputs == case.tokens)).sum())
    context.equal("selected, at rate 1", batch.selected, candidate)


@check(
    "MLM-OBJ-5",
    port="score",
    recipes=score_recipes(ORDINARY, BATCHES, patterns=("all", "some")),
    needs=("parts",),
    theorem=True,
)
def parts_of_a_batch_add_up(context: Context, case: ScoreCase) -> None:
    """Parts by selection, in the shape of the batch; and parts by slicing, row by row."""
    whole = score_truth(context, case)
    pieces = generator(case.salt, 3).integers(3, size=case.selected.shape)
    parts = [replace(case, selected=case.selected & (pieces == i)) for i in range(3)]
    _parts_add_up(context, "selected in parts", case, parts, whole.sum_bound)
    _parts_add_up(context, "row by row", case, _rows(case), whole.sum_bound)


def _rows(case: ScoreCase) -> list[ScoreCase]:
    def row(array: NDArray[Any] | None, i: int) -> NDArray[Any] | None:
        return None if array is None else array[i : i + 1]

    return [
        replace(
            case,
            logits=case.logits[i : i + 1],
            targets=case.targets[i : i + 1],
            selected=case.selected[i : i + 1],
            weights=row(case.weights, i),
        )
        for i in range(len(case.logits))
    ]


def _parts_add_up(
    context: Context, how: str, case: ScoreCase, parts: list[ScoreCase], bound: float
) -> None:
    whole = context.call("score", case.arguments())
    answers = [context.call("score", part.arguments()) for part in parts]
    context.saw("parts", sum(bool(part.selected.any()) for part in parts))
    counts = sum(int(field_of(a, "count", ())) for a in answers)
    context.equal(f"count, {how}", np.asarray(counts), field_of(whole, "count", ()))
    total = sum(float(field_of(a, "sum", ())) for a in answers)
    bounds = bound + sum(_sum_bound(part) for part in parts)
    context.within(f"sum, {how}", np.asarray(total), field_of(whole, "sum", ()), bounds)


def _sum_bound(case: ScoreCase) -> float:
    """The bound of a case's sum, from the case alone."""
    logits, targets = case.logits[case.selected], case.targets[case.selected]
    how = arithmetic(case.logits.dtype.name)
    if len(targets) == 0:
        return 0.0
    values = log_likelihood(logits, targets)
    return sum_bound(values, value_bound(logits, targets, how), case.upstream, how)


@check(
    "MLM-OBJ-6",
    port="score",
    recipes=score_recipes(ORDINARY, BATCHES, patterns=("some", "all")),
    needs=("selected",),
    theorem=True,
)
def order_of_positions_is_immaterial(context: Context, case: ScoreCase) -> None:
    truth = score_truth(context, case)
    order = generator(case.salt, 4).permutation(case.selected.size)
    moved = permuted(case, order)
    first = context.call("score", case.arguments())
    second = context.call("score", moved.arguments())
    context.equal("count, reordered", second["count"], first["count"])
    context.within("sum, reordered", second["sum"], first["sum"], 2 * truth.sum_bound)
    limits = np.zeros(case.selected.shape)
    limits[case.selected] = 2 * truth.value_bounds
    values = field_of(first, "log_likelihood", case.selected.shape)
    context.within(
        "log_likelihood, reordered",
        field_of(second, "log_likelihood", case.selected.shape).reshape(-1),
        values.reshape(-1)[order],
        limits.reshape(-1)[order],
    )


@check(
    "MLM-OBJ-7",
    port="score",
    recipes=score_recipes(("normal", "impossible ids"), patterns=("none",)),
    needs=("positions",),
    theorem=True,
)
def nothing_selected_is_zero(context: Context, case: ScoreCase) -> None:
    context.saw("positions", case.selected.size)
    result = context.call("score", case.arguments())
    for name in ("sum", "count", "log_likelihood", "grad_logits"):
        if name in result:
            zeros = np.zeros(result[name].shape)
            context.equal(f"{name} with nothing selected", result[name], zeros)


def _loss_call(
    context: Context, case: LossCase, num_items: int | None = None
) -> dict[str, NDArray[Any]]:
    """The loss and, where there is one, its gradient; without ``num_items`` the call's count."""
    arguments = case.arguments()
    if context.loss_reduction != "sum/num_items":
        arguments["num_items"] = None
    else:
        arguments["num_items"] = num_items or max(arguments["num_items"], 1)
    return context.call("loss", arguments)


def _loss(context: Context, case: LossCase, num_items: int | None = None) -> NDArray[Any]:
    return field_of(_loss_call(context, case, num_items), "loss", ())


def _gradient_within(context: Context, case: LossCase, seen: NDArray[Any], by: int) -> None:
    """d loss / d logits against minus the objective's gradient, divided by ``by``."""
    selected = case.labels != case.ignore_index
    logits, targets = case.logits[selected], case.labels[selected]
    shares = np.full(len(targets), 1.0 / by)
    true = logit_gradient(logits, targets) / by
    name = case.logits.dtype.name
    limit = gradient_bound(logits, true, shares, arithmetic(name, name))
    context.within("gradient of the loss", seen[selected], -true, limit)
    other = seen[~selected]
    context.equal("gradient of the loss where not selected", other, np.zeros(other.shape))


def _true_loss(case: LossCase) -> tuple[float, float, int]:
    """Minus the summed log-likelihood, its bound (stored in the logits' dtype), the count."""
    selected = case.labels != case.ignore_index
    logits, targets = case.logits[selected], case.labels[selected]
    how = arithmetic(case.logits.dtype.name)
    values = log_likelihood(logits, targets)
    bound = sum_bound(values, value_bound(logits, targets, how), np.ones(len(values)), how)
    return -float(values.sum()), bound, len(values)


@check(
    "MLM-OBJ-8",
    port="loss",
    recipes=loss_recipes(ORDINARY),
    needs=("selected",),
    reductions=("mean",),
)
def mean_divides_by_the_selected_positions(context: Context, case: LossCase) -> None:
    total, bound, count = _true_loss(case)
    context.saw("selected", count)
    unit = arithmetic(case.logits.dtype.name).unit
    limit = (bound + 2 * unit * (abs(total) + bound)) / count
    result = _loss_call(context, case)
    context.within("mean loss", field_of(result, "loss", ()), total / count, limit)
    if "grad_logits" in result:
        _gradient_within(context, case, field_of(result, "grad_logits", case.logits.shape), count)


@check(
    "MLM-OBJ-9",
    port="loss",
    recipes=loss_recipes(ORDINARY),
    needs=("selected",),
    reductions=("sum", "sum/num_items"),
)
def loss_is_minus_the_log_likelihood(context: Context, case: LossCase) -> None:
    """All of the batch in one call, with its own count as ``num_items``."""
    total, bound, count = _true_loss(case)
    context.saw("selected", count)
    unit = arithmetic(case.logits.dtype.name).unit
    by = 1 if context.loss_reduction == "sum" else count
    limit = (bound + 2 * unit * (abs(total) + bound)) / by
    result = _loss_call(context, case)
    context.within("loss", field_of(result, "loss", ()), total / by, limit)
    if "grad_logits" in result:
        _gradient_within(context, case, field_of(result, "grad_logits", case.logits.shape), by)


@check(
    "MLM-OBJ-10",
    port="loss",
    recipes=loss_recipes(ORDINARY, patterns=("some", "all")),
    needs=("micro-batches",),
    reductions=("sum/num_items",),
)
def micro_batches_add_up_to_the_global_mean(context: Context, case: LossCase) -> None:
    """Each row is a micro-batch; ``num_items`` is the count of them all."""
    total, bound, count = _true_loss(case)
    observed, gradient = 0.0, np.zeros(case.logits.shape)
    for row in range(len(case.labels)):
        part = replace(case, logits=case.logits[row : row + 1], labels=case.labels[row : row + 1])
        if not (part.labels != part.ignore_index).any():
            continue
        result = _loss_call(context, part, num_items=count)
        observed += float(field_of(result, "loss", ()))
        if "grad_logits" in result:
            gradient[row] = field_of(result, "grad_logits", part.logits.shape)[0]
        context.saw("micro-batches")
    unit = arithmetic(case.logits.dtype.name).unit
    rounding = (len(case.labels) + 2) * unit * (abs(total) + bound)
    parts = int((case.labels != case.ignore_index).any(axis=1).sum())
    times = observed * count / total if total else 1.0
    what = f"loss accumulated over {parts} micro-batches ({times:.3g} times the global mean)"
    limit = (2 * bound + rounding) / count
    context.within(what, np.asarray(observed), total / count, limit)
    if "grad_logits" in result:
        _gradient_within(context, case, gradient, count)


@check(
    "MLM-OBJ-11",
    port="loss",
    recipes=loss_recipes(("normal",), patterns=("none",)),
    needs=("positions",),
    theorem=True,
)
def loss_of_nothing_is_zero_or_an_error_but_never_nan(context: Context, case: LossCase) -> None:
    context.saw("positions", case.labels.size)
    mean = context.loss_reduction == "mean"
    items = 7 if context.loss_reduction == "sum/num_items" else None
    answer = context.answer("loss", {**case.arguments(), "num_items": items})
    if answer.kind == "raised" and answer.raised is not None:
        known = mean and "EmptySelectionError" in answer.raised.classes
        context.require(
            known,
            f"nothing selected: loss raised {answer.raised.type}, should "
            + ("raise EmptySelectionError" if mean else "be 0.0"),
        )
        return
    context.require(answer.kind == "result", answer.text)
    value = np.asarray(answer.fields["loss"]).astype(np.float64)
    context.require(
        not mean, f"nothing selected: mean loss is {value}, should raise EmptySelectionError"
    )
    context.equal("loss with nothing selected", value, np.zeros(()))


@check(
    "MLM-OBJ-12",
    port="score",
    recipes=score_recipes(("normal",), BATCHES),
    needs=("float64", "float32", "bfloat16", "float16"),
    theorem=True,
)
def sums_are_at_least_float32(context: Context, case: ScoreCase) -> None:
    name = case.logits.dtype.name
    context.saw(name)
    least = "float64" if name == "float64" else "float32"
    result = context.call("score", case.arguments())
    for part in ("sum", "log_likelihood"):
        dtype = result[part].dtype
        wide = dtype.name in ("float32", "float64") and dtype.itemsize >= dtype_of(least).itemsize
        context.require(wide, f"{part} has dtype {dtype} for {name} logits, should be {least}")
