"""Chapters OBJ and COR: what a call leaves of the caller's arrays, and of earlier results."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from mlm_conformance.answer import Answer
from mlm_conformance.cases.masks import (
    UNITS,
    mask_recipes,
    sample_parallel_recipes,
    sample_recipes,
    sample_words_recipes,
)
from mlm_conformance.cases.numbers import head_recipes, loss_recipes, score_recipes
from mlm_conformance.check import Context, NotClaimed, Recipes, Unmeasurable, check
from mlm_conformance.checks.common import HeadlessWords
from mlm_conformance.checks.head import poisoned_states
from mlm_conformance.checks.head_loss import RECIPES, loss_arguments
from mlm_conformance.checks.likelihood import BATCHES
from mlm_conformance.checks.loss import loss_call_arguments
from mlm_conformance.checks.objective import poisoned

__all__: list[str] = []  # importing the module registers its checks

_Call = dict[str, Any]
#: The arguments of calls: the second differs from the first, and the third is the first again.
_Calls = Callable[[Context, Any], list[_Call]]


class _Asked(NamedTuple):
    """How a port is asked."""

    chapter: str
    recipes: Recipes
    calls: _Calls


def _of(other: Callable[[Any], Any], also: Callable[[Any], _Call] = lambda case: {}) -> _Calls:
    """A case, another one made of it, and the case again."""
    return lambda _, case: [{**one.arguments(), **also(one)} for one in (case, other(case), case)]


def _other_masks(case: Any) -> Any:
    """The same eligible positions with the tokens of others; another seed where there is one."""
    seed = {"seed": case.seed ^ 1} if hasattr(case, "seed") else {}
    return replace(case, tokens=np.flip(case.tokens).copy(), **seed)


def _backwards(name: str) -> Callable[[Any], Any]:
    """The case with logits, or states, backwards, and garbage where nothing is selected."""
    spoil: Mapping[str, Callable[[Any], Any]] = {"logits": poisoned, "hidden": poisoned_states}
    return lambda case: spoil[name](replace(case, **{name: getattr(case, name)[..., ::-1].copy()}))


def _room(case: Any) -> _Call:
    return {"capacity": case.selected.size}


def _losses(case: Any) -> list[Any]:
    """None where nothing is selected: the loss of nothing is the matter of MLM-OBJ-11."""
    name = "hidden" if hasattr(case, "hidden") else "logits"
    other = replace(case, **{name: getattr(case, name)[..., ::-1].copy()})
    labelled = case.selected if name == "hidden" else case.labels != case.ignore_index
    return [case, other, case] if labelled.any() else []


_DRAWN, _ALWAYS = mask_recipes(rates=("1/2",), kinds=("1/3 1/3 1/3",), units=UNITS)
_MASKS = _DRAWN, tuple(map(HeadlessWords, _ALWAYS))  # with ineligible positions everywhere
_SCORES = score_recipes(("normal",), BATCHES)
_STEPS = score_recipes(("normal",), ((2, 8, 64),), ("float32",))
_LAYERS = head_recipes()
_LAYER_STEPS = head_recipes(((2, 8, 16, 64),), ("float32",), biased=(True,))

_ASKED: Mapping[str, _Asked] = {
    "mask": _Asked("COR", _MASKS, _of(_other_masks)),
    "mask_step": _Asked("COR", _MASKS, _of(_other_masks)),
    "sample": _Asked("COR", sample_recipes(rates=("1/2",)), _of(_other_masks)),
    "sample_words": _Asked("COR", sample_words_recipes(rates=("1/2",)), _of(_other_masks)),
    "sample_parallel": _Asked("COR", sample_parallel_recipes(rates=("1/2",)), _of(_other_masks)),
    "score": _Asked("OBJ", _SCORES, _of(_backwards("logits"))),
    "score_step": _Asked("OBJ", _STEPS, _of(_backwards("logits"), _room)),
    "head": _Asked("OBJ", _LAYERS, _of(_backwards("hidden"))),
    "head_step": _Asked("OBJ", _LAYER_STEPS, _of(_backwards("hidden"), _room)),
    "loss": _Asked(
        "OBJ",
        loss_recipes(("normal", "likely")),
        lambda context, case: [loss_call_arguments(context, one) for one in _losses(case)],
    ),
    "head_loss": _Asked(
        "OBJ",
        RECIPES,
        lambda context, case: [loss_arguments(context, one) for one in _losses(case)],
    ),
}
_LEAVES, _STAY = (
    {"OBJ": "MLM-OBJ-13", "COR": "MLM-COR-9"},
    {"OBJ": "MLM-OBJ-14", "COR": "MLM-COR-10"},
)


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


def _leaves(port: str, calls: _Calls) -> Callable[[Context, Any], None]:
    def judge(context: Context, case: Any) -> None:
        for answer in _answers(context, port, calls(context, case)[:2]):
            context.saw("calls")
            context.require(not answer.mutated, f"{port} modified {', '.join(answer.mutated)}")

    judge.__name__ = f"{port}_leaves_its_arguments_alone"
    return judge


def _stay(port: str, calls: _Calls) -> Callable[[Context, Any], None]:
    def judge(context: Context, case: Any) -> None:
        found = _answers(context, port, calls(context, case))
        if found and found[-1].overwritten is None:
            raise Unmeasurable("the target's process does not say what became of earlier results")
        context.saw("later calls", max(len(found) - 1, 0))
        lost = sorted({name for answer in found[1:] for name in answer.overwritten or ()})
        context.require(
            not lost, f"a later call of {port} overwrote {', '.join(lost)} of an earlier one"
        )

    judge.__name__ = f"results_of_{port}_stay_what_they_were"
    return judge


def _register() -> None:
    for port, (chapter, recipes, calls) in _ASKED.items():
        told: dict[str, Any] = {"port": port, "recipes": recipes, "theorem": True, "share": 0.5}
        check(_LEAVES[chapter], needs=("calls",), **told)(_leaves(port, calls))
        check(_STAY[chapter], needs=("later calls",), **told)(_stay(port, calls))


_register()
