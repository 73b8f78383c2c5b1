"""Chapters OBJ and COR: what a call leaves of the caller's arrays, and of earlier results."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mlm_conformance.cases.masks import mask_recipes
from mlm_conformance.cases.model import HeadCase, LossCase, MaskCase, ScoreCase
from mlm_conformance.cases.numbers import head_recipes, loss_recipes, score_recipes
from mlm_conformance.check import Context, Unmeasurable, check
from mlm_conformance.checks.head import poisoned_states
from mlm_conformance.checks.head_loss import RECIPES, loss_arguments
from mlm_conformance.checks.likelihood import BATCHES
from mlm_conformance.checks.loss import loss_call_arguments
from mlm_conformance.checks.objective import poisoned

__all__: list[str] = []  # importing the module registers its checks


def _untouched(context: Context, port: str, arguments: dict[str, Any]) -> None:
    answer = context.answer(port, arguments)
    context.result_of(port, answer)
    context.saw("arguments", len(arguments))
    context.require(not answer.mutated, f"{port} modified {', '.join(answer.mutated)}")


@check(
    "MLM-OBJ-13",
    port="score",
    recipes=score_recipes(("normal", "impossible ids"), BATCHES),
    needs=("arguments",),
    theorem=True,
    share=0.5,
)
def score_leaves_its_arguments_alone(context: Context, case: ScoreCase) -> None:
    _untouched(context, "score", case.arguments())
    _untouched(context, "score", poisoned(case).arguments())


@check(
    "MLM-OBJ-13",
    port="head",
    recipes=head_recipes(),
    needs=("arguments",),
    theorem=True,
    share=0.5,
)
def head_leaves_its_arguments_alone(context: Context, case: HeadCase) -> None:
    _untouched(context, "head", case.arguments())
    _untouched(context, "head", poisoned_states(case).arguments())


@check(
    "MLM-OBJ-13",
    port="loss",
    recipes=loss_recipes(("normal", "likely")),
    needs=("arguments",),
    theorem=True,
    share=0.5,
)
def loss_leaves_its_arguments_alone(context: Context, case: LossCase) -> None:
    _untouched(context, "loss", loss_call_arguments(context, case))


@check(
    "MLM-OBJ-13",
    port="head_loss",
    recipes=RECIPES,
    needs=("arguments",),
    theorem=True,
    share=0.5,
)
def head_loss_leaves_its_arguments_alone(context: Context, case: HeadCase) -> None:
    _untouched(context, "head_loss", loss_arguments(context, case))


def _kept(context: Context, port: str, *calls: dict[str, Any]) -> None:
    """The results of each call are the same after the next."""
    found = [context.answer(port, call, keep_results=True) for call in calls]
    for answer in found:
        context.result_of(port, answer)
    if found[-1].overwritten is None:
        raise Unmeasurable("the target's process does not say what became of earlier results")
    context.saw("later calls", len(found) - 1)
    lost = sorted({name for answer in found[1:] for name in answer.overwritten or ()})
    context.require(
        not lost, f"a later call of {port} overwrote {', '.join(lost)} of an earlier one"
    )


@check(
    "MLM-OBJ-14",
    port="score",
    recipes=score_recipes(("normal",), BATCHES),
    needs=("later calls",),
    theorem=True,
    share=0.5,
)
def scores_stay_what_they_were(context: Context, case: ScoreCase) -> None:
    other = replace(case, logits=case.logits[..., ::-1].copy())
    _kept(context, "score", case.arguments(), other.arguments(), case.arguments())


@check(
    "MLM-OBJ-14",
    port="head",
    recipes=head_recipes(),
    needs=("later calls",),
    theorem=True,
    share=0.5,
)
def results_of_a_layer_stay_what_they_were(context: Context, case: HeadCase) -> None:
    other = replace(case, hidden=case.hidden[..., ::-1].copy())
    _kept(context, "head", case.arguments(), other.arguments(), case.arguments())


@check(
    "MLM-OBJ-14",
    port="loss",
    recipes=loss_recipes(("normal", "likely")),
    needs=("later calls",),
    theorem=True,
    share=0.5,
)
def losses_stay_what_they_were(context: Context, case: LossCase) -> None:
    if (case.labels == case.ignore_index).all():
        return  # the loss of nothing is the matter of MLM-OBJ-11
    other = replace(case, logits=case.logits[..., ::-1].copy())
    _kept(context, "loss", *(loss_call_arguments(context, one) for one in (case, other, case)))


@check(
    "MLM-OBJ-14",
    port="head_loss",
    recipes=RECIPES,
    needs=("later calls",),
    theorem=True,
    share=0.5,
)
def losses_of_a_layer_stay_what_they_were(context: Context, case: HeadCase) -> None:
    if not case.selected.any():
        return
    other = replace(case, hidden=case.hidden[..., ::-1].copy())
    _kept(context, "head_loss", *(loss_arguments(context, one) for one in (case, other, case)))


@check(
    "MLM-COR-10",
    port="mask",
    recipes=mask_recipes(rates=("1/2",), kinds=("1/3 1/3 1/3",)),
    needs=("later calls",),
    theorem=True,
    share=0.5,
)
def masks_stay_what_they_were(context: Context, case: MaskCase) -> None:
    other = replace(case, seed=case.seed ^ 1)
    _kept(context, "mask", case.arguments(), other.arguments(), case.arguments())
