"""Chapter OBJ on the port ``loss``: one scalar, with the denominator that it declares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.bounds import arithmetic, gradient_bound, sum_bound, value_bound
from mlm_conformance.cases.anywhere import loss_series, narrow_loss_series
from mlm_conformance.cases.model import HeadCase, LossCase
from mlm_conformance.cases.numbers import DTYPES, loss_recipes
from mlm_conformance.check import Context, check
from mlm_conformance.checks.common import field_of, require_like, require_wide, spoiled
from mlm_spec import log_likelihood, logit_gradient

__all__: list[str] = []  # importing the module registers its checks

_Result = dict[str, NDArray[Any]]
WIDE, NARROW = ("float32", "float64"), ("bfloat16", "float16")
# A label that is no id, one that is an id, and one before the first.
IGNORED = (-100, 0, -1, 63)
ORDINARY = ("normal", "equal", "ties", "likely")
#: What a loss is divided by if its reduction says so, in turns; under another it has no say.  None
#: stands for the count of the call.  No float32 holds the first number, and no int32 the second.
ITEMS: tuple[Callable[[int], int | None], ...] = (
    lambda count: None,
    lambda count: 2**24 + 1,
    lambda count: 2**32 + 3,
    lambda count: max(count - 1, 1),
    lambda count: 7 * count + 1,
    lambda count: 1,
)
#: With logits of −∞ among them.
_VALUES = (*ORDINARY, "impossible ids", "far below")
_SERIES = loss_series("normal", "likely", "improbable", "offset", "impossible ids")


def loss_call_arguments(
    context: Context, case: LossCase, num_items: int | None = None
) -> dict[str, Any]:
    """The arguments of ``loss``; without ``num_items`` the call's own count, where it divides."""
    arguments = case.arguments()
    own = max(arguments["num_items"], 1) if context.loss_reduction == "sum/num_items" else None
    return {**arguments, "num_items": num_items or own}


def _loss_call(context: Context, case: LossCase, num_items: int | None = None) -> _Result:
    """The loss and, where there is one, its gradient."""
    return context.call("loss", loss_call_arguments(context, case, num_items))


def _loss(context: Context, case: LossCase, num_items: int | None = None) -> NDArray[Any]:
    return field_of(_loss_call(context, case, num_items), "loss", ())


@check(
    "MLM-OBJ-1",
    port="loss",
    recipes=loss_recipes(ORDINARY, patterns=("some", "one"), ignored=IGNORED),
    needs=("unselected",),
    theorem=True,
)
def unselected_logits_do_not_change_the_loss(context: Context, case: LossCase) -> None:
    other = case.labels == case.ignore_index
    if other.all():
        return  # the loss of nothing is the matter of MLM-OBJ-11
    context.saw("unselected", other.sum())
    moved = replace(case, logits=spoiled(case.logits, other, case.salt))
    context.equal("loss with other unselected logits", _loss(context, moved), _loss(context, case))


def _gradient_limit(case: LossCase, by: int) -> NDArray[np.float64]:
    """How far d loss / d logits may be off at the selected positions, divided by ``by``."""
    selected = case.labels != case.ignore_index
    logits, targets = case.logits[selected], case.labels[selected]
    shares, name = np.full(len(targets), 1.0 / by), case.logits.dtype.name
    true = logit_gradient(logits, targets) / by
    return gradient_bound(logits, true, shares, arithmetic(name, name))


def _gradient_within(context: Context, case: LossCase, seen: NDArray[Any], by: int) -> None:
    """d loss / d logits against minus the objective's gradient, divided by ``by``."""
    selected = case.labels != case.ignore_index
    true = logit_gradient(case.logits[selected], case.labels[selected]) / by
    limit = _gradient_limit(case, by)
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


def judge_loss(
    context: Context, case: LossCase, what: str = "loss", num_items: int | None = None
) -> int:
    """The loss, and its gradient if there is one, against the declared reduction; the count."""
    total, bound, count = _true_loss(case)
    named = {"sum": 1, "mean": count, "sum/num_items": num_items or count}
    by = named[str(context.loss_reduction)]
    unit = arithmetic(case.logits.dtype.name).unit
    limit = (bound + 2 * unit * (abs(total) + bound)) / by
    result = _loss_call(context, case, num_items)
    context.within(what, field_of(result, "loss", ()), total / by, limit)
    if "grad_logits" in result:
        _gradient_within(context, case, field_of(result, "grad_logits", case.logits.shape), by)
    return count


def items_of(context: Context, case: LossCase | HeadCase, count: int) -> int | None:
    """The number that a call is given, in turns; None: its own count, or none at all."""
    items = ITEMS[case.salt % len(ITEMS)](count)
    context.saw("numbers of items that are not the count", items not in (None, count))
    return items


def _judge_with_items(context: Context, case: LossCase, what: str = "loss") -> None:
    count = int((case.labels != case.ignore_index).sum())
    context.saw("selected", judge_loss(context, case, what, items_of(context, case, count)))


@check(
    "MLM-OBJ-8",
    port="loss",
    recipes=loss_recipes(_VALUES, dtypes=WIDE, ignored=IGNORED),
    needs=("selected", "numbers of items that are not the count"),
    reductions=("mean",),
    series=_SERIES,
)
def mean_divides_by_the_selected_positions(context: Context, case: LossCase) -> None:
    """Whatever ``num_items`` is."""
    _judge_with_items(context, case, "mean loss")


@check(
    "MLM-OBJ-12",
    port="loss",
    recipes=loss_recipes(("normal",) * len(DTYPES), dtypes=DTYPES),
    needs=DTYPES,
    theorem=True,
)
def losses_are_at_least_float32(context: Context, case: LossCase) -> None:
    name = case.logits.dtype.name
    if (case.labels == case.ignore_index).all():
        return  # the loss of nothing is the matter of MLM-OBJ-11
    context.saw(name)
    require_wide("loss", _loss(context, case).dtype, name)


@check(
    "MLM-GRA-7",
    port="loss",
    recipes=loss_recipes(("normal",) * len(DTYPES), dtypes=DTYPES, patterns=("all",)),
    needs=DTYPES,
    theorem=True,
    result_field="grad_logits",
)
def gradient_of_a_loss_has_shape_and_dtype_of_the_logits(context: Context, case: LossCase) -> None:
    context.saw(case.logits.dtype.name)
    require_like(_loss_call(context, case), "grad_logits", case.logits)


@check(
    "MLM-LIK-9",
    port="loss",
    recipes=loss_recipes(
        ("normal", "likely", "offset", "equal") * 2, dtypes=NARROW, patterns=("all",)
    ),
    needs=NARROW,
    series=narrow_loss_series("normal", "likely", "equal"),
)
def narrow_logits_are_widened_exactly_in_the_loss(context: Context, case: LossCase) -> None:
    """With every position selected: a wrong denominator is no fault of the dtype."""
    context.saw(case.logits.dtype.name, judge_loss(context, case))


@check(
    "MLM-OBJ-9",
    port="loss",
    recipes=loss_recipes(_VALUES, dtypes=WIDE, ignored=IGNORED),
    needs=("selected", "numbers of items that are not the count"),
    reductions=("sum", "sum/num_items"),
    series=_SERIES,
)
def loss_is_minus_the_log_likelihood(context: Context, case: LossCase) -> None:
    """All of the batch in one call; ``num_items`` divides by itself, whatever is selected."""
    _judge_with_items(context, case)


@check(
    "MLM-OBJ-10",
    port="loss",
    recipes=loss_recipes(ORDINARY, patterns=("some", "all"), ignored=IGNORED),
    needs=("micro-batches",),
    reductions=("sum/num_items",),
    theorem=True,
)
def micro_batches_add_up_to_the_global_mean(context: Context, case: LossCase) -> None:
    """Each row is a micro-batch; ``num_items`` is the count of them all."""
    total, bound, count = _true_loss(case)
    if count == 0:
        return  # the loss of nothing is the matter of MLM-OBJ-11
    whole, rows, parts = _loss_call(context, case), *_micro_batches(context, case, count)
    mean = float(field_of(whole, "loss", ()))
    observed = sum(float(field_of(part, "loss", ())) for part in parts)
    unit = arithmetic(case.logits.dtype.name).unit
    rounding = (len(rows) + 4) * unit * (abs(total) + bound)
    times = observed / mean if mean else 1.0
    what = f"loss accumulated over {len(rows)} micro-batches ({times:.3g} times the global mean)"
    context.within(what, np.asarray(observed), mean, (2 * bound + rounding) / count)
    if "grad_logits" in whole:
        _gradients_agree(context, case, whole, dict(zip(rows, parts, strict=True)), count)


@check(
    "MLM-OBJ-10",
    port="loss",
    recipes=loss_recipes(ORDINARY, patterns=("some", "all"), ignored=IGNORED),
    needs=("micro-batches",),
    reductions=("sum/num_items",),
)
def micro_batches_have_their_part_of_the_mean(context: Context, case: LossCase) -> None:
    """The same against the number that the whole batch's loss should be."""
    total, bound, count = _true_loss(case)
    if count == 0:
        return  # the loss of nothing is the matter of MLM-OBJ-11
    rows, parts = _micro_batches(context, case, count)
    observed = sum(float(field_of(part, "loss", ())) for part in parts)
    rounding = (len(rows) + 2) * arithmetic(case.logits.dtype.name).unit * (abs(total) + bound)
    what = f"loss accumulated over {len(rows)} micro-batches"
    context.within(what, np.asarray(observed), total / count, (bound + rounding) / count)
    if "grad_logits" in parts[0]:
        gradient = np.zeros(case.logits.shape)
        for row, part in zip(rows, parts, strict=True):
            gradient[row] = field_of(part, "grad_logits", (1, *case.logits.shape[1:]))[0]
        _gradient_within(context, case, gradient, count)


def _micro_batches(
    context: Context, case: LossCase, count: int
) -> tuple[NDArray[np.intp], list[_Result]]:
    """The rows with something selected, and the results of each by itself."""
    rows = np.flatnonzero((case.labels != case.ignore_index).any(axis=1))
    context.saw("micro-batches", len(rows))
    return rows, [_loss_call(context, _row(case, row), num_items=count) for row in rows]


def _row(case: LossCase, row: int | np.integer[Any]) -> LossCase:
    here = slice(row, row + 1)
    return replace(case, logits=case.logits[here], labels=case.labels[here])


def _gradients_agree(
    context: Context, case: LossCase, whole: _Result, parts: dict[int, _Result], count: int
) -> None:
    """Of each micro-batch, with that part of the whole batch's gradient."""
    everything = field_of(whole, "grad_logits", case.logits.shape)
    for row, part in parts.items():
        chosen = case.labels[[row]] != case.ignore_index
        limit = _gradient_limit(_row(case, row), count)
        seen = field_of(part, "grad_logits", (1, *case.logits.shape[1:]))
        what = "gradient of a micro-batch's loss"
        context.within(what, seen[chosen], everything[[row]][chosen], 2 * limit)


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
