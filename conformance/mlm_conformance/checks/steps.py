"""Chapter ERR: the status of compiled steps, and their effect."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.cases.anywhere import biased_head_series, score_series
from mlm_conformance.cases.anywhere_masks import every_law
from mlm_conformance.cases.bad import good_head_call, good_mask_call, good_score_call
from mlm_conformance.cases.faulty_steps import faulty_step_series, faulty_steps
from mlm_conformance.cases.masks import mask_recipes
from mlm_conformance.cases.model import HeadCase, MaskCase, ScoreCase, StatusCase
from mlm_conformance.cases.numbers import HeadRecipe, head_recipes, score_recipes
from mlm_conformance.check import Context, Fixed, Violation, check, table
from mlm_conformance.checks.bad_pairs import two_faults
from mlm_conformance.checks.common import (
    besides,
    equal_masks,
    expected_mask,
    field_of,
    require_like,
    require_wide,
    score_truth,
)
from mlm_conformance.checks.head import HARD, poisoned_states
from mlm_conformance.checks.head import bounds_of as head_bounds_of
from mlm_conformance.checks.objective import poisoned
from mlm_spec import Bernoulli, MaskedBatch, Status

__all__: list[str] = []  # importing the module registers its checks


def _judge_named(name: str, inner: Any) -> Any:
    def judge(context: Context, case: StatusCase) -> None:
        inner(context, case)

    judge.__name__ = name
    return judge


def _status_cases() -> list[StatusCase]:
    return [*_mask_status_cases(), *_score_status_cases(), *_head_status_cases()]


def _mask_status_cases() -> list[StatusCase]:
    good = good_mask_call()
    bad, none = good["tokens"].copy(), np.zeros_like(good["eligible"])
    bad[1, 2] = good["policy"].vocab_size
    never = replace(good["policy"], selection=Bernoulli(0))
    unseen, passed = {**good, "eligible": none}, good["eligible"].copy()
    passed[1, 2] = False
    negative = good["tokens"].copy()
    negative[0, 0] = -1
    return [
        StatusCase("mask_step", good, Status.OK, "a good batch"),
        StatusCase("mask_step", {**good, "tokens": bad}, Status.ID_RANGE, "an id past the last"),
        StatusCase("mask_step", {**good, "tokens": negative}, Status.ID_RANGE, "a negative id"),
        StatusCase("mask_step", {**good, "eligible": none}, Status.EMPTY, "nothing eligible"),
        StatusCase("mask_step", {**good, "policy": never}, Status.EMPTY, "a rate of 0"),
        StatusCase("mask_step", {**unseen, "tokens": bad}, Status.ID_RANGE, "no id, not eligible"),
        StatusCase(
            "mask_step",
            {**good, "tokens": bad, "eligible": passed},
            Status.ID_RANGE,
            "no id, where others are eligible",
        ),
    ]


def _score_status_cases() -> list[StatusCase]:
    good = {**good_score_call(), "capacity": 4}
    logits = good["logits"].copy()
    logits[0, 1] = np.nan
    return _number_status_cases("score_step", good, {"logits": logits})


def _head_status_cases() -> list[StatusCase]:
    good = {**good_head_call(), "capacity": 4}
    hidden = good["hidden"].copy()
    hidden[0, 1] = np.nan
    return _number_status_cases("head_step", good, {"hidden": hidden})


def _number_status_cases(
    port: str, good: dict[str, Any], unseen: dict[str, Any]
) -> list[StatusCase]:
    """What is no fault of data: those are drawn."""
    chosen, many = good["selected"], {"selected": np.ones_like(good["selected"])}

    def weighing(at: NDArray[np.bool_], value: float) -> dict[str, Any]:
        return {"weights": np.where(at, value, good["weights"]).astype(np.float32)}

    return [
        StatusCase(port, {**good, **change}, bits, about)
        for change, bits, about in (
            ({}, Status.OK, "a good batch"),
            ({"capacity": 2}, Status.OK, "a capacity that is just enough"),
            (many, Status.OVERFLOW, "16 for a capacity of 4"),
            (unseen, Status.OK, "NaN where nothing is selected"),
            ({"selected": chosen & False}, Status.EMPTY, "nothing selected"),
            (weighing(chosen, 0.0), Status.OK, "weights that are 0"),
            (weighing(~chosen, np.nan), Status.OK, "a weight of NaN where nothing is selected"),
        )
    ]


def _of_port(port: str, faulty: bool = False) -> list[Fixed]:
    harmless = (Status.OK, Status.EMPTY)
    return [
        Fixed(case)
        for case in _status_cases()
        if case.port == port and not (faulty and case.status in harmless)
    ]


def _sets_status(context: Context, case: StatusCase) -> None:
    """The bits asked for; ``EMPTY`` may come with another."""
    result = context.call(case.port, case.arguments)
    status = int(field_of(result, "status", ()))
    context.saw("statuses")
    want = Status(case.status)
    if case.port != "mask_step":
        count = case.arguments["selected"].sum()
        context.saw("just enough room", count == case.arguments["capacity"])
        context.saw("too little room", count - 1 == case.arguments["capacity"])
    empty = int(Status.EMPTY)
    same = status == case.status
    if want not in (Status.OK, Status.EMPTY):
        same = status & ~empty == case.status
    context.require(same, f"{case.about}: status is {status}, should be {int(want)} ({want.name})")


def _sets_the_first_status(context: Context, case: StatusCase) -> None:
    """Of several faults the first sets its bit; whether later ones set theirs is left open."""
    result = context.call(case.port, case.arguments)
    status = int(field_of(result, "status", ()))
    context.saw("statuses")
    first = Status(case.status & -case.status)
    known = status & first and not status & ~(case.status | Status.EMPTY)
    context.require(
        bool(known), f"{case.about}: status is {status}, should have {int(first)} ({first.name})"
    )


def _has_no_effect(context: Context, case: StatusCase) -> None:
    if case.status == Status.OK:
        return  # just enough room: the matter of a good step
    result = context.call(case.port, case.arguments)
    context.saw("faulty steps")
    if case.port == "mask_step":
        for name in ("inputs", "targets"):
            context.equal(f"{name} with {case.about}", result[name], case.arguments["tokens"])
        nothing = np.zeros(result["selected"].shape, np.bool_)
        context.equal(f"selected with {case.about}", result["selected"], nothing)
        return
    for name, value in result.items():
        if name != "status":
            context.equal(f"{name} with {case.about}", value, np.zeros(value.shape))


def _register_steps() -> None:
    for port in ("mask_step", "score_step", "head_step"):
        rooms = () if port == "mask_step" else ("just enough room", "too little room")
        check(
            "MLM-ERR-11",
            port=port,
            recipes=besides(faulty_steps(port), _of_port(port)),
            needs=("statuses", *rooms),
            theorem=True,
            share=0.4,
            series=faulty_step_series(port),
        )(_judge_named(f"{port}_returns_its_status", _sets_status))
        if port != "mask_step":
            check(
                "MLM-ERR-11",
                port=port,
                recipes=table([Fixed(case) for case in two_faults(port)]),
                needs=("statuses",),
                theorem=True,
            )(_judge_named(f"{port}_returns_the_first_of_two_faults", _sets_the_first_status))
        check(
            "MLM-ERR-12",
            port=port,
            recipes=besides(faulty_steps(port), _of_port(port, faulty=True)),
            needs=("faulty steps",),
            theorem=True,
            share=0.4,
            series=faulty_step_series(port),
        )(_judge_named(f"a_faulty_{port}_has_no_effect", _has_no_effect))


_register_steps()

_STEP_SHAPES, _LAYER_STEPS = ((2, 8, 64),), ((2, 8, 16, 64),)
#: How much room a step is given, for a batch and what is selected of it; in turns.
_ROOMS: tuple[Callable[[int, int], int], ...] = (
    lambda size, count: size,
    lambda size, count: count,
    lambda size, count: 2 * size,
)


def _good_step(context: Context, port: str, case: Any, turn: int) -> dict[str, NDArray[Any]]:
    """What a step makes of a good batch; its status is OK, or EMPTY if nothing is selected."""
    size, count = case.selected.size, int(case.selected.sum())
    room = _ROOMS[turn % len(_ROOMS)](size, count)
    result = context.call(port, {**case.arguments(), "capacity": room})
    want = Status.OK if count else Status.EMPTY
    context.equal("status of a good step", field_of(result, "status", ()), np.asarray(int(want)))
    context.equal("count of a step", field_of(result, "count", ()), case.selected.sum())
    return result


def _of_selected(
    context: Context, name: str, like: NDArray[Any], result: Mapping[str, Any], selected: Any
) -> NDArray[Any]:
    """A gradient where something is selected; elsewhere it is 0, and its dtype is its input's."""
    require_like(result, name, like)
    entries = field_of(result, name, like.shape)
    other = entries[~selected]
    context.equal(f"{name} of a step, unselected", other, np.zeros(other.shape))
    chosen: NDArray[Any] = entries[selected]
    return chosen


@check(
    "MLM-ERR-12",
    port="score_step",
    recipes=score_recipes(
        ("normal", "impossible ids"), _STEP_SHAPES, patterns=("some", "none", "all")
    ),
    needs=("selected", "unselected", "excluded ids"),
    share=0.5,
    series=score_series("normal", "improbable", "offset", narrow=True),
)
def a_good_score_step_has_its_effect(context: Context, case: ScoreCase) -> None:
    """As it is, and with garbage where nothing is selected."""
    truth, given = score_truth(context, case), case.logits.dtype.name
    context.saw("unselected", (~case.selected).sum())
    context.saw("excluded ids", np.isneginf(case.logits[case.selected].astype(np.float64)).sum())
    for turn, batch in enumerate((case, poisoned(case))):
        result = _good_step(context, "score_step", batch, case.salt + turn)
        total = field_of(result, "sum", ())
        context.within("sum of a step", total, truth.sum, truth.sum_bound)
        require_wide("sum of a step", total.dtype, given)
        seen = _of_selected(context, "grad_logits", batch.logits, result, case.selected)
        context.within("grad_logits of a step", seen, truth.gradient, truth.gradient_bounds)


@check(
    "MLM-ERR-12",
    port="head_step",
    recipes=besides(
        head_recipes(_LAYER_STEPS, patterns=("some", "none"), biased=(True, False)),
        [recipe for recipe in HARD if recipe.shape in _LAYER_STEPS]
        + [HeadRecipe(_LAYER_STEPS[0], "float32", 1.0, "some", True, False, 4)],
    ),
    needs=("selected", "without bias"),
    share=0.5,
    series=biased_head_series,
)
def a_good_head_step_has_its_effect(context: Context, case: HeadCase) -> None:
    """As it is, and with garbage where nothing is selected."""
    context.saw("selected", case.selected.sum())
    context.saw("without bias", case.bias is None)
    truth, bounds = context.oracle.head(**case.arguments()), head_bounds_of(case)
    for turn, batch in enumerate((case, poisoned_states(case))):
        result = _good_step(context, "head_step", batch, 2 * turn)
        context.within("sum of a step", field_of(result, "sum", ()), truth.sum, bounds.sum)
        for name, like in (("grad_weight", case.weight), ("grad_bias", case.bias)):
            if like is None:
                context.require(name not in result, f"{name} of a step without a bias is not None")
                continue
            require_like(result, name, like)
            seen, want = result[name], getattr(truth, name)
            context.within(f"{name} of a step", seen, want, getattr(bounds, name))
        seen = _of_selected(context, "grad_hidden", batch.hidden, result, case.selected)
        want = np.asarray(truth.grad_hidden)[case.selected]
        context.within("grad_hidden of a step", seen, want, bounds.grad_hidden)


@check(
    "MLM-ERR-12",
    port="mask_step",
    recipes=mask_recipes(rates=("1/2",), kinds=("1/3 1/3 1/3",)),
    needs=("selected",),
    share=0.5,
    series=every_law,
)
def a_good_mask_step_has_its_effect(context: Context, case: MaskCase) -> None:
    want = expected_mask(context, case)
    context.saw("selected", want.selected.sum())
    result = context.call("mask_step", case.arguments())
    status = Status.OK if want.selected.any() else Status.EMPTY
    context.equal("status of a good step", field_of(result, "status", ()), np.asarray(int(status)))
    shape = case.tokens.shape
    names = ("inputs", "targets", "selected")
    seen = MaskedBatch(*(field_of(result, name, shape) for name in names))
    equal_masks(context, "of a step", seen, want)
    context.equal("targets of a step", seen.targets, case.tokens)


_RAISES = (
    (Status.OK, False, None),
    (Status.OK, True, None),
    (Status.EMPTY, False, None),
    (Status.EMPTY, True, "EmptySelectionError"),
    (Status.OVERFLOW, False, "CapacityError"),
    (Status.ID_RANGE, False, "IdRangeError"),
    (Status.NOT_FINITE, False, "NotFiniteError"),
    (Status.ID_RANGE | Status.EMPTY, False, "IdRangeError"),
    (Status.OVERFLOW | Status.EMPTY, True, "CapacityError"),
    (Status.OVERFLOW | Status.ID_RANGE, False, "CapacityError"),
    (Status.OVERFLOW | Status.NOT_FINITE, False, "CapacityError"),
    (Status.ID_RANGE | Status.NOT_FINITE, False, "IdRangeError"),
    (Status.NOT_FINITE | Status.EMPTY, True, "NotFiniteError"),
    *((no_status, mean, "DTypeError") for no_status in (16, 1024, -1) for mean in (False, True)),
)


@check(
    "MLM-ERR-13",
    port="raise_for_status",
    recipes=table(
        [
            Fixed(
                StatusCase("raise_for_status", {"status": int(s), "mean": mean}, int(s), name or "")
            )
            for s, mean, name in _RAISES
        ]
    ),
    needs=("statuses", "errors"),
    theorem=True,
)
def a_status_is_raised_when_it_is_read(context: Context, case: StatusCase) -> None:
    context.saw("statuses")
    answer = context.answer("raise_for_status", case.arguments)
    what = f"status {case.status}" + (" for a mean" if case.arguments["mean"] else "")
    if not case.about:
        context.require(answer.kind == "result", f"{what}: {answer.raised}, should raise nothing")
        return
    context.saw("errors")
    if answer.raised is None:
        raise Violation(f"{what}: raised nothing, should raise {case.about}")
    context.require(
        case.about in answer.raised.classes,
        f"{what}: raised {answer.raised.type}, should raise {case.about}",
    )
