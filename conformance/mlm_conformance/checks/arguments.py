"""Chapter OBJ: what a call leaves of the caller's arrays."""

from __future__ import annotations

from typing import Any

from mlm_conformance.cases.model import HeadCase, LossCase, ScoreCase
from mlm_conformance.cases.numbers import head_recipes, loss_recipes, score_recipes
from mlm_conformance.check import Context, check
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
