"""Chapter OBJ on the port ``head_loss``: one scalar from hidden states and an output layer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from mlm_conformance.bounds import arithmetic
from mlm_conformance.cases.anywhere import head_series
from mlm_conformance.cases.model import HeadCase
from mlm_conformance.cases.numbers import DTYPES, HeadRecipe, generator, head_recipes
from mlm_conformance.check import Context, NotClaimed, Violation, check
from mlm_conformance.checks.common import besides, field_of, require_like, require_wide
from mlm_conformance.checks.head import HARD, bounds_of
from mlm_spec import head

__all__: list[str] = []  # importing the module registers its checks

IGNORE = -100
#: What is ignored, in turns: no ids, but for 0.
_IGNORED = (IGNORE, -1, 10**6, 0)
SHAPES = ((2, 8, 16, 64),)
RECIPES = besides(
    head_recipes(SHAPES, ("float32",)), [recipe for recipe in HARD if recipe.shape in SHAPES]
)


def loss_arguments(
    context: Context, case: HeadCase, num_items: int | None = None
) -> dict[str, Any]:
    """The arguments of ``head_loss``; without ``num_items`` the case's own count."""
    ignored = _IGNORED[case.salt % len(_IGNORED)]
    if (case.targets[case.selected] == ignored).any():
        ignored = IGNORE
    labels = np.where(case.selected, case.targets, ignored).astype(np.int64)
    items: int | None = num_items or int(case.selected.sum())
    if context.loss_reduction != "sum/num_items":
        items = None
    layer = {name: getattr(case, name) for name in ("hidden", "weight", "bias")}
    return {**layer, "labels": labels, "ignore_index": ignored, "num_items": items}


def _call(context: Context, case: HeadCase, num_items: int | None = None) -> dict[str, Any]:
    return context.call("head_loss", loss_arguments(context, case, num_items))


def judge_loss(context: Context, case: HeadCase, num_items: int | None = None) -> None:
    """The loss, and each gradient that there is, against minus the head's, divided alike."""
    count = num_items or int(case.selected.sum())
    by = 1 if context.loss_reduction == "sum" else count
    plain = replace(case, weights=np.full(case.selected.shape, 1.0 / by))
    context.saw("selected", plain.selected.sum())
    layer = (plain.hidden.astype(np.float64), plain.weight.astype(np.float64))
    bias = None if plain.bias is None else plain.bias.astype(np.float64)
    truth = head(*layer, bias, plain.targets, plain.selected, plain.weights)
    given = plain.hidden.dtype.name
    bounds, how = bounds_of(plain), arithmetic(given, given)
    result = _call(context, plain, num_items)
    seen, size = field_of(result, "loss", ()), np.abs(np.float64(truth.sum))
    limit = bounds.sum + 2 * how.unit * (size + bounds.sum)
    limit = arithmetic(given, seen.dtype.name).stored(size, limit)  # too narrow: see MLM-OBJ-12
    context.within("loss", seen, -truth.sum, limit)
    for name in ("grad_weight", "grad_bias", "grad_hidden"):
        if name not in result or (name == "grad_bias" and plain.bias is None):
            continue
        seen, want = result[name], np.asarray(getattr(truth, name))
        if name == "grad_hidden":
            other = seen[~plain.selected]
            context.equal(f"{name} where not selected", other, np.zeros(other.shape))
            seen, want = seen[plain.selected], want[plain.selected]
        size, off = np.abs(want), getattr(bounds, name)
        off = how.stored(size, off + 2 * how.unit * (size + off))  # divided after it was stored
        context.within(name, seen, -want, off)


@check(
    "MLM-OBJ-8",
    port="head_loss",
    recipes=RECIPES,
    needs=("selected",),
    reductions=("mean",),
    series=head_series,
)
def mean_of_a_layer_divides_by_the_selected_positions(context: Context, case: HeadCase) -> None:
    judge_loss(context, case)


@check(
    "MLM-OBJ-9",
    port="head_loss",
    recipes=RECIPES,
    needs=("selected",),
    reductions=("sum", "sum/num_items"),
    series=head_series,
)
def loss_of_a_layer_is_minus_the_log_likelihood(context: Context, case: HeadCase) -> None:
    judge_loss(context, case)


@check(
    "MLM-OBJ-10",
    port="head_loss",
    recipes=head_recipes(SHAPES, ("float32",), patterns=("some", "all")),
    needs=("micro-batches",),
    reductions=("sum/num_items",),
)
def micro_batches_of_a_layer_have_their_part_of_the_mean(context: Context, case: HeadCase) -> None:
    """Each row is a micro-batch, and ``num_items`` the count of them all."""
    count, rows = int(case.selected.sum()), ("hidden", "targets", "selected")
    for row in np.flatnonzero(case.selected.any(axis=1)):
        part = {name: getattr(case, name)[row : row + 1] for name in rows}
        judge_loss(context, replace(case, **part), count)
        context.saw("micro-batches")


@check(
    "MLM-OBJ-12",
    port="head_loss",
    recipes=head_recipes(SHAPES, DTYPES, patterns=("all",)),
    needs=DTYPES,
    theorem=True,
)
def losses_of_a_layer_are_at_least_float32(context: Context, case: HeadCase) -> None:
    name = case.hidden.dtype.name
    context.saw(name)
    loss = field_of(_call(context, case), "loss", ())
    require_wide("loss", loss.dtype, name)


@check(
    "MLM-OBJ-1",
    port="head_loss",
    recipes=head_recipes(SHAPES, ("float32",), patterns=("some", "one")),
    needs=("unselected",),
    theorem=True,
)
def unselected_states_do_not_change_the_loss(context: Context, case: HeadCase) -> None:
    other = ~case.selected
    if other.all():
        return  # the loss of nothing is the matter of MLM-OBJ-11
    context.saw("unselected", other.sum())
    noise = generator(case.salt, 2).normal(size=case.hidden.shape).astype(case.hidden.dtype)
    noise[..., 0] = np.nan
    moved = replace(case, hidden=np.where(other[..., None], noise, case.hidden))
    first, second = _call(context, case), _call(context, moved)
    context.equal("loss with other unselected states", second["loss"], first["loss"])


@check(
    "MLM-OBJ-11",
    port="head_loss",
    recipes=head_recipes(SHAPES, ("float32",), patterns=("none",)),
    needs=("positions",),
    theorem=True,
)
def loss_of_a_layer_and_nothing_is_zero_or_an_error(context: Context, case: HeadCase) -> None:
    context.saw("positions", case.selected.size)
    mean = context.loss_reduction == "mean"
    arguments = {name: getattr(case, name) for name in ("hidden", "weight", "bias")}
    labels = np.full(case.selected.shape, IGNORE, np.int64)
    items = 7 if context.loss_reduction == "sum/num_items" else None
    answer = context.answer(
        "head_loss",
        {**arguments, "labels": labels, "ignore_index": IGNORE, "num_items": items},
    )
    wanted = "raise EmptySelectionError" if mean else "be 0.0"
    if answer.raised is not None:
        known = mean and "EmptySelectionError" in answer.raised.classes
        message = f"nothing selected: head_loss raised {answer.raised.type}, should {wanted}"
        context.require(known, message)
        return
    context.require(answer.kind == "result", answer.text)
    value = np.asarray(answer.fields["loss"]).astype(np.float64)
    context.require(not mean, f"nothing selected: mean loss is {value}, should {wanted}")
    context.equal("loss with nothing selected", value, np.zeros(()))


@check(
    "MLM-HED-9",
    port="head_loss",
    recipes=besides(
        head_recipes(SHAPES, DTYPES, patterns=("all",)),
        [HeadRecipe(SHAPES[0], "float32", 1.0, "all", False, False, 5)],
    ),
    needs=(*DTYPES, "gradients", "no bias"),
    theorem=True,
)
def gradients_of_a_layers_loss_are_like_their_inputs(context: Context, case: HeadCase) -> None:
    """Those that there are."""
    context.saw(case.hidden.dtype.name)
    result = _call(context, case)
    names = [n for n in ("hidden", "weight", "bias") if f"grad_{n}" in result]
    context.saw("no bias", case.bias is None)
    if not names:
        raise NotClaimed("head_loss returns no gradients")
    for name in names:
        if getattr(case, name) is None:
            raise Violation(f"grad_{name} without a {name} is not None")
        context.saw("gradients")
        require_like(result, f"grad_{name}", getattr(case, name))
