"""Chapter ERR: bad input."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.cases.bad import bad_calls
from mlm_conformance.cases.bad_steps import STEPS, bad_step_calls, bad_word_calls
from mlm_conformance.cases.faults import fault_series, faulty_calls, has_faults
from mlm_conformance.cases.masks import mask_recipes
from mlm_conformance.cases.model import (
    BadCallCase,
    HeadCase,
    MaskCase,
    ScoreCase,
)
from mlm_conformance.cases.numbers import head_recipes, score_recipes
from mlm_conformance.check import Context, Fixed, Recipes, Violation, check, table
from mlm_conformance.checks.bad_pairs import further_bad_calls
from mlm_conformance.checks.common import (
    besides,
    equal_masks,
    expected_mask,
    masked,
)

__all__: list[str] = []  # importing the module registers its checks

_PORTS = ("mask", "score", "head", "loss")
_UNCHECKED = ("random_words", *STEPS)
_STATIC = ("MLM-ERR-1", "MLM-ERR-2")  # what these refuse too
#: Errors of data, in some entry of an array.
_IN_AN_ENTRY = ("IdRangeError", "NotFiniteError", "NoSupportError", "ImpossibleTargetError")
_ERRORS = {
    "MLM-ERR-1": ("ShapeError",),
    "MLM-ERR-2": ("DTypeError",),
    "MLM-ERR-3": ("IdRangeError",),
    "MLM-ERR-4": ("NotFiniteError",),
    "MLM-ERR-5": ("NoSupportError",),
    "MLM-ERR-6": ("ImpossibleTargetError",),
    "MLM-ERR-8": ("SeedError",),
    "MLM-ERR-15": ("WordError",),
}


def _refused(context: Context, case: BadCallCase) -> None:
    """The documented error, and no other; no answer."""
    context.saw("bad calls")
    answer = context.answer(case.port, _arguments(context, case))
    if answer.kind == "result":
        raise Violation(f"{case.about}: {case.port} gave a result, should raise {case.error}")
    if answer.kind == "malformed":
        raise Violation(f"{case.about}: {answer.text}")
    assert answer.raised is not None
    context.require(
        case.error in answer.raised.classes,
        f"{case.about}: raised {answer.raised.type} ({answer.raised.message}),"
        f" should raise {case.error}",
    )


def _arguments(context: Context, case: BadCallCase) -> dict[str, Any]:
    """Those of the case; a loss per num_items gets one."""
    items = {"num_items": 2} if context.loss_reduction == "sum/num_items" else {}
    return {**case.arguments, **items} if case.port == "loss" else case.arguments


def _calls_of(port: str) -> tuple[BadCallCase, ...]:
    if port == "random_words":
        return bad_word_calls()
    return bad_step_calls(port) if port in STEPS else (*_fixed(port), *further_bad_calls(port))


def _fixed(port: str) -> tuple[BadCallCase, ...]:
    """Those that are wrong as they are, and not by an entry: that is drawn."""
    return tuple(case for case in _plain(port) if case.error not in _IN_AN_ENTRY)


def _plain(port: str) -> tuple[BadCallCase, ...]:
    """The bad calls of a port, but for the loss of nothing: MLM-OBJ-11 has that."""
    return tuple(case for case in bad_calls(port) if case.error != "EmptySelectionError")


def _register_refusals() -> None:
    for requirement, errors in _ERRORS.items():
        for port in (*_PORTS, *(_UNCHECKED if requirement in _STATIC else ())):
            cases = [Fixed(c) for c in _calls_of(port) if c.error in errors]
            of_data = has_faults(port, errors)
            if cases or of_data:
                judge = _named(f"{port}_raises_{'_or_'.join(errors)}")
                drawn = besides(faulty_calls(port, errors), cases) if of_data else table(cases)
                check(
                    requirement,
                    port=port,
                    recipes=drawn,
                    needs=("bad calls",),
                    theorem=True,
                    share=0.4,
                    series=fault_series(port, errors) if of_data else None,
                )(judge)


def _named(name: str) -> Any:
    def judge(context: Context, case: BadCallCase) -> None:
        _refused(context, case)

    judge.__name__ = name
    return judge


_register_refusals()


def _some(port: str) -> list[Fixed]:
    """One bad call of each error, and every seventh of the rest."""
    calls = _plain(port)
    first = {case.error: case for case in reversed(calls)}
    return [Fixed(case) for case in (*first.values(), *calls[::7])]


def _unharmed(context: Context, case: BadCallCase) -> None:
    """Arguments as they were, and the next good call answers as the one before."""
    context.saw("bad calls")
    good = _arguments(context, replace(case, arguments=case.good))
    before = context.call(case.port, good)
    answer = context.answer(case.port, _arguments(context, case))
    context.require(
        not answer.mutated, f"{case.about}: {case.port} modified {', '.join(answer.mutated)}"
    )
    after = context.call(case.port, good)
    for name in before:
        context.equal(f"{name} of a good call after {case.about}", after[name], before[name])


def _explained(context: Context, case: BadCallCase) -> None:
    """Where, got and expected are said, and the message has them all."""
    answer = context.answer(case.port, _arguments(context, case))
    if answer.kind != "raised" or answer.raised is None:
        raise Violation(f"{case.about}: {case.port} raised nothing")
    context.saw("messages")
    raised = answer.raised
    for name in ("where", "got", "expected"):
        part = getattr(raised, name)
        context.require(bool(part), f"{case.about}: {raised.type} has no {name}")
        context.require(
            str(part) in raised.message, f"{case.about}: {name} is not in the message: {raised}"
        )
    context.require(
        case.where in raised.message,
        f"{case.about}: the message does not say {case.where!r}: {raised.message}",
    )


def _register_for_each_port() -> None:
    for requirement, judge_of, needs, name in (
        ("MLM-ERR-9", _unharmed, "bad calls", "a_refused_{}_call_changes_nothing"),
        ("MLM-ERR-10", _explained, "messages", "{}_errors_say_where_got_and_expected"),
    ):
        for port in _PORTS:
            recipes: Recipes = table(_some(port))
            if judge_of is _explained:
                cases = [Fixed(case) for case in _calls_of(port)]
                recipes = besides(faulty_calls(port, _IN_AN_ENTRY), cases)
            judge = _judge_named(name.format(port), judge_of)
            told: Any = {"port": port, "recipes": recipes, "needs": (needs,), "share": 0.4}
            check(requirement, theorem=True, **told)(judge)


def _judge_named(name: str, inner: Any) -> Any:
    def judge(context: Context, case: BadCallCase) -> None:
        inner(context, case)

    judge.__name__ = name
    return judge


_register_for_each_port()


def _weights(case: ScoreCase | HeadCase) -> NDArray[Any]:
    """The upstream weights, ones where there are none."""
    if case.weights is None:
        return np.ones(case.selected.shape, np.float32)
    return case.weights.copy()


@check(
    "MLM-ERR-14",
    port="score",
    recipes=score_recipes(("normal",), ((2, 8, 64),), patterns=("some", "one")),
    needs=("unselected",),
    theorem=True,
    share=0.5,
)
def bad_values_at_unselected_positions_are_no_error(context: Context, case: ScoreCase) -> None:
    other = ~case.selected
    context.saw("unselected", other.sum())
    logits, targets, weights = case.logits.copy(), case.targets.copy(), _weights(case)
    logits[other], targets[other], weights[other] = np.nan, -100, np.nan
    worse = replace(case, logits=logits, targets=targets, weights=weights)
    result = context.call("score", worse.arguments())
    total = float(result["sum"])
    context.require(math.isfinite(total), f"sum is {total}, should be finite")


@check(
    "MLM-ERR-14",
    port="head",
    recipes=head_recipes(((2, 8, 16, 64),), patterns=("some", "one")),
    needs=("unselected",),
    theorem=True,
    share=0.5,
)
def bad_states_at_unselected_positions_are_no_error(context: Context, case: HeadCase) -> None:
    other = ~case.selected
    context.saw("unselected", other.sum())
    hidden, targets, weights = case.hidden.copy(), case.targets.copy(), _weights(case)
    hidden[other], targets[other], weights[other] = np.nan, -100, np.nan
    worse = replace(case, hidden=hidden, targets=targets, weights=weights)
    result = context.call("head", worse.arguments())
    for name in ("sum", "grad_weight"):
        finite = np.isfinite(result[name].astype(np.float64)).all()
        context.require(finite, f"{name} is not finite")


@check(
    "MLM-ERR-15",
    port="mask",
    recipes=mask_recipes(laws=("bernoulli", "count", "span"), rates=("1/2",)),
    needs=("selected",),
    share=0.5,
)
def a_policy_that_looks_at_no_words_needs_none(context: Context, case: MaskCase) -> None:
    plain = replace(case, word_id=None)
    want = expected_mask(context, plain)
    context.saw("selected", want.selected.sum())
    equal_masks(context, "without word ids", masked(context, plain), want)
