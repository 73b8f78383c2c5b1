"""Chapter LIK: the accumulation class that a target declares."""

from __future__ import annotations

from mlm_conformance.bounds import arithmetic, gradient_bound, sum_bound, value_bound
from mlm_conformance.cases.model import ScoreCase
from mlm_conformance.cases.numbers import LARGE, MEDIUM, score_recipes
from mlm_conformance.cases.search import SearchRecipe
from mlm_conformance.check import Context, check
from mlm_conformance.checks.common import besides, field_of, score_truth
from mlm_conformance.checks.likelihood import BATCHES, WIDE
from mlm_conformance.checks.likelihood_searches import search

__all__: list[str] = []  # importing the module registers its checks

_GRADIENT = "grad_logits"
_CLASSED = ("normal", "likely", "few live", "offset")


@check(
    "MLM-LIK-11",
    port="score",
    recipes=besides(
        score_recipes(_CLASSED, BATCHES, ("float32", "bfloat16"), ("all",), (True,)),
        [
            SearchRecipe(shape, dtype, 0.0, gap, 0.0, "falling", 0)
            for shape, dtype, gap in (
                (MEDIUM, "float32", 17.4),
                (MEDIUM, "float64", 37.5),
                (LARGE, "float32", 17.4),
            )
        ],
    ),
    needs=WIDE,
    declared=True,
)
def the_declared_class_holds_for_values(context: Context, case: ScoreCase) -> None:
    """In the last cases each term is just too small to change a sum that holds the largest."""
    _class_holds(context, case)


@check(
    "MLM-LIK-11",
    port="score",
    recipes=search(WIDE, (1.0, 20.0, 0.0), spread=(0.0, 3.0), gap=(-20.0, 45.0)),
    needs=("selected",),
    declared=True,
    climbs=True,
)
def the_declared_class_holds_where_it_is_worst(context: Context, case: ScoreCase) -> None:
    _class_holds(context, case)


def _class_holds(context: Context, case: ScoreCase) -> None:
    assert context.accumulation is not None
    truth, name = score_truth(context, case), case.logits.dtype.name
    result = context.call("score", case.arguments())
    values = field_of(result, "log_likelihood", case.selected.shape)[case.selected]
    kind = f"bound of the declared class {context.accumulation}"
    how = arithmetic(name, values.dtype.name, context.accumulation)
    limits = value_bound(case.logits[case.selected], case.targets[case.selected], how)
    context.within("log_likelihood of selected positions", values, truth.values, limits, kind)
    total = sum_bound(truth.values, limits, case.upstream, how)
    context.within("sum", field_of(result, "sum", ()), truth.sum, total, kind)
    if (entries := result.get(_GRADIENT)) is not None:
        how = arithmetic(name, name, context.accumulation)
        limits = gradient_bound(case.logits[case.selected], truth.gradient, case.upstream, how)
        context.within(_GRADIENT, entries[case.selected], truth.gradient, limits, kind)
