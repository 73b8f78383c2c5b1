"""Chapter LIK, searched: each requirement that bounds a value, where its inputs are worst.

What is always in: a small vocabulary and a larger one, in two of the checks a full one.
"""

from __future__ import annotations

from mlm_conformance.cases.model import ScoreCase
from mlm_conformance.cases.numbers import LARGE, MEDIUM, SMALL
from mlm_conformance.cases.search import Range, SearchRecipe, search_recipes
from mlm_conformance.check import Context, Recipes, check
from mlm_conformance.checks.likelihood import BATCHES, NARROW, WIDE, values_within

__all__ = ["search"]  # importing the module registers its checks


def search(
    dtypes: tuple[str, ...],
    at: tuple[float, float | None, float],
    most: tuple[int, int, int] = MEDIUM,
    **ranges: Range,
) -> Recipes:
    """A search over those ranges; spread, gap and offset of what is always in, at two shapes."""
    always = [
        SearchRecipe(shape, dtype, *at, "drawn", 0)
        for shape, dtype in ((SMALL[2], dtypes[1]), (most, dtypes[0]))
    ]
    return search_recipes(BATCHES, dtypes, **ranges), always


@check(
    "MLM-LIK-1",
    port="score",
    recipes=search(WIDE, (3.0, None, 0.0), LARGE),
    needs=("selected",),
    climbs=True,
)
def the_worst_ordinary_logits_are_within(context: Context, case: ScoreCase) -> None:
    values_within(context, case)


@check(
    "MLM-LIK-2",
    port="score",
    recipes=search(WIDE, (3.0, None, -200.0), spread=(0.0, 3.0), offset=(-1e4, 1e4)),
    needs=("selected",),
    climbs=True,
)
def the_worst_offset_is_within(context: Context, case: ScoreCase) -> None:
    values_within(context, case)


@check(
    "MLM-LIK-3",
    port="score",
    recipes=search(WIDE, (1.0, -130.0, 0.0), LARGE, spread=(0.0, 3.0), gap=(-1e4, -10.0)),
    needs=("selected",),
    climbs=True,
)
def the_worst_improbable_target_is_within(context: Context, case: ScoreCase) -> None:
    values_within(context, case)


@check(
    "MLM-LIK-4",
    port="score",
    recipes=search(WIDE, (1.0, 20.0, 0.0), spread=(0.0, 3.0), gap=(1.0, 45.0)),
    needs=("selected",),
    climbs=True,
)
def the_worst_certain_target_is_within(context: Context, case: ScoreCase) -> None:
    values_within(context, case)


@check(
    "MLM-LIK-9",
    port="score",
    recipes=search(NARROW, (3.0, None, 0.0), LARGE, gap=(-40.0, 20.0), offset=(-200.0, 200.0)),
    needs=("selected",),
    climbs=True,
)
def the_worst_narrow_logits_are_within(context: Context, case: ScoreCase) -> None:
    values_within(context, case)
