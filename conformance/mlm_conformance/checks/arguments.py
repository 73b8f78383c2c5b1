"""Chapters OBJ and COR: what a call leaves of the caller's arrays, and of earlier results."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any, NamedTuple

import numpy as np

from mlm_conformance.answer import Answer
from mlm_conformance.cases.anywhere import head_series, loss_series, score_series
from mlm_conformance.cases.anywhere_masks import every_law
from mlm_conformance.cases.bad_steps import STEPS
from mlm_conformance.cases.masks import (
    mask_recipes,
    sample_parallel_recipes,
    sample_recipes,
    sample_words_recipes,
)
from mlm_conformance.cases.model import LossCase
from mlm_conformance.cases.numbers import head_recipes, loss_recipes, score_recipes
from mlm_conformance.check import (
    CHECKS,
    Context,
    NotClaimed,
    Recipe,
    Recipes,
    Series,
    Unmeasurable,
    check,
)
from mlm_conformance.checks import corruption, gradient, selection, selection_layout
from mlm_conformance.checks.head import poisoned_states
from mlm_conformance.checks.head_loss import RECIPES, loss_arguments
from mlm_conformance.checks.likelihood import BATCHES
from mlm_conformance.checks.loss import loss_call_arguments
from mlm_conformance.checks.objective import poisoned
from mlm_conformance.profiles import PROFILES

__all__: list[str] = []  # importing the module registers its checks

_Call = dict[str, Any]


class _Asked(NamedTuple):
    """How a port is asked.

    Attributes
    ----------
    chapter : of its requirements.
    recipes : of its cases.
    call : the arguments that a case is.
    other : a case of the same shape with other results.
    garbage : the case with other contents where they do not matter.
    series : of the cases that show whether it leaves its arguments alone; None: the recipes do.
    """

    chapter: str
    recipes: Recipes
    call: Callable[[Context, Any], _Call]
    other: Callable[[Any], Any]
    garbage: Callable[[Any], Any]
    series: Series | None = None


def _plain(context: Context, case: Any) -> _Call:
    arguments: _Call = case.arguments()
    return arguments


def _with_room(context: Context, case: Any) -> _Call:
    return {**case.arguments(), "capacity": case.selected.size}


def _other_masks(case: Any) -> Any:
    """The same eligible positions with the tokens of others; another seed where there is one."""
    seed = {"seed": case.seed ^ 1} if hasattr(case, "seed") else {}
    return replace(case, tokens=np.flip(case.tokens).copy(), **seed)


def _backwards(name: str) -> Callable[[Any], Any]:
    """The case with logits, or states, backwards, and garbage where nothing is selected."""
    spoil: Mapping[str, Callable[[Any], Any]] = {"logits": poisoned, "hidden": poisoned_states}
    return lambda case: spoil[name](_turned(name)(case))


def _turned(name: str) -> Callable[[Any], Any]:
    return lambda case: replace(case, **{name: getattr(case, name)[..., ::-1].copy()})


def _poisoned_logits(case: LossCase) -> LossCase:
    """NaN where nothing is labelled."""
    logits = case.logits.copy()
    logits[case.labels == case.ignore_index] = np.nan
    return replace(case, logits=logits)


def _is_of_nothing(port: str, case: Any) -> bool:
    """The loss of nothing is the matter of MLM-OBJ-11."""
    if port not in ("loss", "head_loss"):
        return False
    labelled = case.selected if port == "head_loss" else case.labels != case.ignore_index
    return not labelled.any()


_MASKS = mask_recipes(rates=("1/2",), kinds=("1/3 1/3 1/3",))
_SCORES = score_recipes(("normal",), BATCHES)
_STEPS = score_recipes(("normal",), ((2, 8, 64),), ("float32",))
_LAYERS = head_recipes()
_LAYER_STEPS = head_recipes(((2, 8, 16, 64),), ("float32",), biased=(True,))


def _masker(recipes: Recipes, series: Series | None = None) -> _Asked:
    return _Asked("COR", recipes, _plain, _other_masks, _other_masks, series)


_OF_LOGITS = (_backwards("logits"), poisoned, score_series("normal", "impossible ids"))
_OF_STATES = (_backwards("hidden"), poisoned_states, head_series)
_LOSSES = loss_recipes(("normal", "likely"))
_SERIES = loss_series("normal", "impossible ids")
_ASKED: Mapping[str, _Asked] = {
    "mask": _masker(_MASKS, every_law),
    "mask_step": _masker(_MASKS, every_law),
    "sample": _masker(sample_recipes(rates=("1/2",))),
    "sample_words": _masker(sample_words_recipes(rates=("1/2",))),
    "sample_parallel": _masker(sample_parallel_recipes(rates=("1/2",))),
    "score": _Asked("OBJ", _SCORES, _plain, *_OF_LOGITS),
    "score_step": _Asked("OBJ", _STEPS, _with_room, *_OF_LOGITS),
    "head": _Asked("OBJ", _LAYERS, _plain, *_OF_STATES),
    "head_step": _Asked("OBJ", _LAYER_STEPS, _with_room, *_OF_STATES),
    "loss": _Asked(
        "OBJ", _LOSSES, loss_call_arguments, _turned("logits"), _poisoned_logits, _SERIES
    ),
    "head_loss": _Asked(
        "OBJ", RECIPES, loss_arguments, _turned("hidden"), poisoned_states, head_series
    ),
}
_LEAVES, _STAY = (
    {"OBJ": "MLM-OBJ-13", "COR": "MLM-COR-9"},
    {"OBJ": "MLM-OBJ-14", "COR": "MLM-COR-10"},
)


#: Where else there are cases of these ports: all that is registered there is looked at below.
_ELSEWHERE = (corruption, gradient, selection, selection_layout)
#: What makes no other kind of case.  A program that writes into its arguments does so for a kind.
_OF_ONE_KIND = ("shape", "seed", "dtype", "vocab", "variant", "rate")


def _hard_cases(port: str) -> list[Recipe]:
    """One of each kind that other checks of the port always look at, its dtypes in turns.

    Of a step: those of its checked twin.  What is drawn from a masker with random numbers of its
    own takes too many masks.
    """
    kinds: dict[tuple[str, ...], list[Recipe]] = {}
    for other in CHECKS:
        if other.port == STEPS.get(port, port) and "-ERR-" not in other.requirement:
            for recipe in other.always:
                kinds.setdefault(_kind(recipe), []).append(recipe)
    return [found[place % len(found)] for place, found in enumerate(kinds.values())]


def _with_hard_cases(port: str, series: Series) -> Series:
    """For each size its cases, and a part of the hard ones; with the sizes of ``ci`` they are all.

    In the short profile they would take as long as all else about the caller's arrays.
    """
    hard, parts = _hard_cases(port), PROFILES["ci"].sizes
    return lambda number: [*series(number), *(hard[number::parts] if number < parts else [])]


def _kind(recipe: Any) -> tuple[str, ...]:
    told = [repr(getattr(recipe, f.name)) for f in fields(recipe) if f.name not in _OF_ONE_KIND]
    return (type(recipe).__name__, *told)


def _answers(context: Context, port: str, calls: list[_Call]) -> list[Answer]:
    """What became of the calls, each of them a result."""
    found = []
    for call in calls:
        answer = context.answer(port, call, keep_results=True)
        if answer.not_implemented and answer.raised is not None:
            raise NotClaimed(answer.raised.message)
        context.result_of(port, answer)
        found.append(answer)
    return found


def _leaves(port: str, asked: _Asked) -> Callable[[Context, Any], None]:
    def judge(context: Context, case: Any) -> None:
        if _is_of_nothing(port, case):
            return
        cases = (case, asked.garbage(case))
        for answer in _answers(context, port, [asked.call(context, one) for one in cases]):
            context.saw("calls")
            context.require(not answer.mutated, f"{port} modified {', '.join(answer.mutated)}")

    judge.__name__ = f"{port}_leaves_its_arguments_alone"
    return judge


def _stay(port: str, asked: _Asked) -> Callable[[Context, Any], None]:
    def judge(context: Context, case: Any) -> None:
        if _is_of_nothing(port, case):
            return
        cases = (case, asked.other(case), case)
        found = _answers(context, port, [asked.call(context, one) for one in cases])
        if found[-1].overwritten is None:
            raise Unmeasurable("the target's process does not say what became of earlier results")
        context.saw("later calls", max(len(found) - 1, 0))
        lost = sorted({name for answer in found[1:] for name in answer.overwritten or ()})
        context.require(
            not lost, f"a later call of {port} overwrote {', '.join(lost)} of an earlier one"
        )

    judge.__name__ = f"results_of_{port}_stay_what_they_were"
    return judge


def _register() -> None:
    for port, asked in _ASKED.items():
        told: dict[str, Any] = {"port": port, "theorem": True, "share": 0.5}
        told["recipes"] = asked.recipes
        series = None if asked.series is None else _with_hard_cases(port, asked.series)
        leaves = check(_LEAVES[asked.chapter], needs=("calls",), series=series, **told)
        leaves(_leaves(port, asked))
        check(_STAY[asked.chapter], needs=("later calls",), **told)(_stay(port, asked))


_register()
