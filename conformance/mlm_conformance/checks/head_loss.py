"""Chapter OBJ on the port ``head_loss``: one scalar from hidden states and an output layer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.bounds import arithmetic
from mlm_conformance.cases.anywhere_layers import head_series
from mlm_conformance.cases.model import HeadCase
from mlm_conformance.cases.numbers import DTYPES, HeadRecipe, head_recipes
from mlm_conformance.check import Context, NotClaimed, Violation, check
from mlm_conformance.checks.common import besides, field_of, require_like, require_wide, spoiled
from mlm_conformance.checks.head import HARD, bounds_of
from mlm_conformance.checks.loss import items_of
from mlm_spec import head

__all__: list[str] = []  # importing the module registers its checks

IGNORE = -100
#: What is ignored, in turns: no ids, but for 0.
_IGNORED = (IGNORE, -1, 10**6, 0)
SHAPES = ((2, 8, 16, 64),)
RECIPES = besides(
    head_recipes(SHAPES, ("float32",)),
    [
        *(recipe for recipe in HARD if recipe.shape in SHAPES),
        HeadRecipe(SHAPES[0], "float32", 1.0, "some", False, True, 2),
    ],
)


def loss_arguments(
    context: Context, case: HeadCase, num_items: int | None = None
) -> dict[str, Any]:
    """The arguments of ``head_loss``; without ``num_items`` the case's own count, if it divides."""
    ignored = _IGNORED[case.salt % len(_IGNORED)]
    if (case.targets[case.selected] == ignored).any():
        ignored = IGNORE
    labels = np.where(case.selected, case.targets, ignored).astype(np.int64)
    own = int(case.selected.sum()) if context.loss_reduction == "sum/num_items" else None
    layer = {name: getattr(case, name) for name in ("hidden", "weight", "bias")}
    return {**layer, "labels": labels, "ignore_index": ignored, "num_items": num_items or own}


def _call(context: Context, case: HeadCase, num_items: int | None = None) -> dict[str, Any]:
    return context.call("head_loss", loss_arguments(context, case, num_items))


@dataclass(frozen=True, slots=True)
class _Truth:
    """The loss of a layer and its gradients, by field, and how far off each may be."""

    values: dict[str, NDArray[Any]]
    limits: dict[str, NDArray[Any]]


def _truth(case: HeadCase, by: int) -> _Truth:
    """Minus the head's results, divided by ``by``."""
    plain = replace(case, weights=np.full(case.selected.shape, 1.0 / by))
    layer = (plain.hidden.astype(np.float64), plain.weight.astype(np.float64))
    bias = None if plain.bias is None else plain.bias.astype(np.float64)
    truth = head(*layer, bias, plain.targets, plain.selected, plain.weights)
    given = plain.hidden.dtype.name
    bounds, how = bounds_of(plain), arithmetic(given, given)
    values, limits = {"loss": np.asarray(-truth.sum)}, {}
    size = np.abs(np.float64(truth.sum))
    limits["loss"] = np.asarray(bounds.sum + 2 * how.unit * (size + bounds.sum))
    for name in ("grad_weight", "grad_bias", "grad_hidden"):
        if getattr(truth, name) is None:
            continue
        values[name] = -np.asarray(getattr(truth, name))
        size = np.abs(values[name][plain.selected] if name == "grad_hidden" else values[name])
        off = getattr(bounds, name)
        limits[name] = how.stored(size, off + 2 * how.unit * (size + off))  # divided when stored
    return _Truth(values, limits)


def judge_loss(context: Context, case: HeadCase, num_items: int | None = None) -> None:
    """The loss, and each gradient that there is, against minus the head's, divided alike."""
    count = int(case.selected.sum())
    named = {"sum": 1, "mean": count, "sum/num_items": num_items or count}
    truth = _truth(case, named[str(context.loss_reduction)])
    context.saw("selected", count)
    result = _call(context, case, num_items)
    seen, want, given = field_of(result, "loss", ()), truth.values["loss"], case.hidden.dtype.name
    how = arithmetic(given, seen.dtype.name)  # too narrow: see MLM-OBJ-12
    context.within("loss", seen, want, how.stored(np.abs(want), truth.limits["loss"]))
    for name in ("grad_weight", "grad_bias", "grad_hidden"):
        if name not in result or name not in truth.values:
            continue
        seen, want = result[name], truth.values[name]
        if name == "grad_hidden":
            other = seen[~case.selected]
            context.equal(f"{name} where not selected", other, np.zeros(other.shape))
            seen, want = seen[case.selected], want[case.selected]
        context.within(name, seen, want, truth.limits[name])


def _judge_with_items(context: Context, case: HeadCase) -> None:
    judge_loss(context, case, items_of(context, case, int(case.selected.sum())))


@check(
    "MLM-OBJ-8",
    port="head_loss",
    recipes=RECIPES,
    needs=("selected", "numbers of items that are not the count"),
    reductions=("mean",),
    series=head_series,
)
def mean_of_a_layer_divides_by_the_selected_positions(context: Context, case: HeadCase) -> None:
    _judge_with_items(context, case)


@check(
    "MLM-OBJ-9",
    port="head_loss",
    recipes=RECIPES,
    needs=("selected", "numbers of items that are not the count"),
    reductions=("sum", "sum/num_items"),
    series=head_series,
)
def loss_of_a_layer_is_minus_the_log_likelihood(context: Context, case: HeadCase) -> None:
    _judge_with_items(context, case)


@check(
    "MLM-OBJ-10",
    port="head_loss",
    recipes=head_recipes(SHAPES, ("float32",), patterns=("some", "all")),
    needs=("micro-batches",),
    reductions=("sum/num_items",),
    theorem=True,
)
def micro_batches_of_a_layer_add_up_to_the_mean(context: Context, case: HeadCase) -> None:
    """Each row is a micro-batch, and ``num_items`` the count of them all."""
    count, rows = int(case.selected.sum()), np.flatnonzero(case.selected.any(axis=1))
    context.saw("micro-batches", len(rows))
    if count == 0:
        return  # the loss of nothing is the matter of MLM-OBJ-11
    parts = [_row(case, row) for row in rows]
    limits = [_truth(one, count).limits for one in (case, *parts)]
    whole, *answers = (_call(context, one, count) for one in (case, *parts))
    for name in ("loss", "grad_weight", "grad_bias"):
        if name not in whole or name not in limits[0]:
            continue
        total = np.sum([answer[name].astype(np.float64) for answer in answers], axis=0)
        limit = np.sum([limit[name] for limit in limits], axis=0)
        context.within(f"{name} of the micro-batches", total, whole[name], limit)
    for row, answer, limit in zip(rows, answers, limits[1:], strict=True):
        if "grad_hidden" in whole:
            seen, want = answer["grad_hidden"][0], whole["grad_hidden"][row]
            chosen, off = case.selected[row], 2 * limit["grad_hidden"]
            context.within("grad_hidden of a micro-batch", seen[chosen], want[chosen], off)


def _row(case: HeadCase, row: int | np.integer[Any]) -> HeadCase:
    here = slice(row, row + 1)
    rows = {name: getattr(case, name)[here] for name in ("hidden", "targets", "selected")}
    return replace(case, **rows, weights=None)


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
    moved = replace(case, hidden=spoiled(case.hidden, other, case.salt))
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
