"""Chapter OBJ: the objective, its count, and what divides it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.bounds import arithmetic, sum_bound, value_bound
from mlm_conformance.cases.anywhere import score_series
from mlm_conformance.cases.masks import mask_recipes
from mlm_conformance.cases.model import MaskCase, ScoreCase, candidates
from mlm_conformance.cases.numbers import (
    MEDIUM,
    ODD,
    SMALL,
    ScoreRecipe,
    generator,
    score_recipes,
)
from mlm_conformance.check import Context, Fixed, check, table
from mlm_conformance.checks.common import (
    besides,
    field_of,
    masked,
    permuted,
    require_wide,
    score_truth,
    spoiled,
)
from mlm_spec import log_likelihood

__all__: list[str] = []  # importing the module registers its checks

ORDINARY = ("normal", "equal", "ties", "likely")
BATCHES = (*SMALL[2:], MEDIUM)


def poisoned(case: ScoreCase) -> ScoreCase:
    """Other contents at unselected positions: NaN, infinities, and ids that are none."""
    other, targets = ~case.selected, case.targets.copy()
    no_ids = generator(case.salt, 2).choice([-100, -1, 2**31 - 1, 0], size=int(other.sum()))
    targets[other] = no_ids
    logits = spoiled(case.logits, other, case.salt)
    weights = None if case.weights is None else spoiled(case.weights, other, case.salt)
    return replace(case, logits=logits, targets=targets, weights=weights)


@check(
    "MLM-OBJ-1",
    port="score",
    recipes=score_recipes(ORDINARY, BATCHES, patterns=("some", "one")),
    needs=("unselected", "selected"),
    theorem=True,
    series=score_series("normal", narrow=True),
)
def unselected_contents_change_nothing(context: Context, case: ScoreCase) -> None:
    context.saw("selected", case.selected.sum())
    context.saw("unselected", (~case.selected).sum())
    clean = context.call("score", case.arguments())
    other = context.call("score", poisoned(case).arguments())
    # What counts comes before what else there is to see: then MLM-LIK-8 or MLM-GRA-2 says more.
    for name in sorted(clean, key=lambda name: name not in ("count", "sum")):
        context.equal(f"{name} with other unselected contents", other[name], clean[name])


# The series of a sum takes its logits from all of these: a sum can be wrong for any of them.
_EVERY = ("normal", "improbable", "likely", "offset", "impossible ids")


_SUMS = besides(
    score_recipes(ORDINARY, BATCHES),
    [
        *(ScoreRecipe(shape, "float32", "normal", "some", True, 52) for shape in ODD),
        ScoreRecipe(ODD[1], "float32", "normal", "all", True, 53),
        ScoreRecipe(SMALL[2], "float32", "improbable", "all", True, 60),
        # Three rows, many, and one that is long: in shapes that compile no program of their own.
        *(
            ScoreRecipe(shape, "float32", "normal", "all", False, 61)
            for shape in ((3, 8, 64), (65, 6, 64), (1, 512, 64))
        ),
    ],
)


@check(
    "MLM-OBJ-2",
    port="score",
    recipes=_SUMS,
    needs=("selected",),
    series=score_series(*_EVERY, narrow=True),
)
def sum_is_that_of_the_selected_log_likelihoods(context: Context, case: ScoreCase) -> None:
    truth = score_truth(context, case)
    result = context.call("score", case.arguments())
    context.within("sum", field_of(result, "sum", ()), truth.sum, truth.sum_bound)


def _worked_examples() -> list[Fixed]:
    """The three examples of the chapter, as vectors: which positions count, and nothing else."""
    cases = []
    for about, length, picked in (
        ("x_0 … x_4 with x_1 and x_3 masked", 5, (1, 3)),
        ("[CLS] The early bird catches the worm, positions 2 and 6", 7, (2, 6)),
        ("The fox jumps over the dog, 'jumps' masked", 6, (2,)),
    ):
        rng = generator(0, length)
        selected = np.zeros((1, length), np.bool_)
        selected[0, list(picked)] = True
        logits = np.round(rng.normal(size=(1, length, 64)), 2).astype(np.float32)
        targets = np.arange(length, dtype=np.int64)[None] * 9
        cases.append(Fixed(ScoreCase(logits, targets, selected, None, about=about)))
    return cases


@check("MLM-OBJ-2", port="score", recipes=table(_worked_examples()), needs=("selected",))
def worked_examples_have_their_values(context: Context, case: ScoreCase) -> None:
    sum_is_that_of_the_selected_log_likelihoods(context, case)


@check(
    "MLM-OBJ-3",
    port="score",
    recipes=besides(
        score_recipes(ORDINARY, (*SMALL[1:], MEDIUM), patterns=("some", "all", "one", "none")),
        [ScoreRecipe(ODD[1], "float32", "normal", "all", True, i) for i in range(2)]
        + [
            ScoreRecipe(SMALL[2], "float32", family, pattern, True, i)
            for i, (family, pattern) in enumerate(
                (("first id", "all"), ("last id", "one"), ("normal", "none"))
            )
        ],
    ),
    needs=("selected", "unselected", "weighted"),
    theorem=True,
    series=score_series("normal"),
)
def count_is_the_number_of_selected_positions(context: Context, case: ScoreCase) -> None:
    context.saw("selected", case.selected.sum())
    context.saw("unselected", (~case.selected).sum())
    context.saw("weighted", case.weights is not None)
    count = field_of(context.call("score", case.arguments()), "count", ())
    context.require(
        np.issubdtype(count.dtype, np.integer), f"count has dtype {count.dtype}, not an integer one"
    )
    context.equal("count", count, case.selected.sum())


@check(
    "MLM-OBJ-4",
    port="mask",
    recipes=mask_recipes(rates=("1",), kinds=("0 0 1", "1/3 1/3 1/3"), laws=("bernoulli", "word")),
    needs=("kept",),
    theorem=True,
)
def positions_that_keep_their_token_are_selected(context: Context, case: MaskCase) -> None:
    candidate = candidates(case)
    batch = masked(context, case)
    context.saw("kept", (candidate & (batch.inputs == case.tokens)).sum())
    context.equal("selected, at rate 1", batch.selected, candidate)


@check(
    "MLM-OBJ-5",
    port="score",
    recipes=score_recipes(ORDINARY, BATCHES, patterns=("all", "some")),
    needs=("parts",),
    theorem=True,
)
def parts_of_a_batch_add_up(context: Context, case: ScoreCase) -> None:
    """Parts by selection, in the shape of the batch; and parts by slicing, row by row."""
    whole = score_truth(context, case)
    pieces = generator(case.salt, 3).integers(3, size=case.selected.shape)
    parts = [replace(case, selected=case.selected & (pieces == i)) for i in range(3)]
    answer = context.call("score", case.arguments())
    _parts_add_up(context, "selected in parts", answer, parts, whole.sum_bound)
    _parts_add_up(context, "row by row", answer, _rows(case), whole.sum_bound)


def _rows(case: ScoreCase) -> list[ScoreCase]:
    def row(array: NDArray[Any] | None, i: int) -> NDArray[Any] | None:
        return None if array is None else array[i : i + 1]

    return [
        replace(
            case,
            logits=case.logits[i : i + 1],
            targets=case.targets[i : i + 1],
            selected=case.selected[i : i + 1],
            weights=row(case.weights, i),
        )
        for i in range(len(case.logits))
    ]


def _parts_add_up(
    context: Context,
    how: str,
    whole: dict[str, NDArray[Any]],
    parts: list[ScoreCase],
    bound: float,
) -> None:
    answers = [context.call("score", part.arguments()) for part in parts]
    context.saw("parts", sum(bool(part.selected.any()) for part in parts))
    counts = sum(int(field_of(a, "count", ())) for a in answers)
    context.equal(f"count, {how}", np.asarray(counts), field_of(whole, "count", ()))
    total = sum(float(field_of(a, "sum", ())) for a in answers)
    bounds = bound + sum(_sum_bound(part) for part in parts)
    context.within(f"sum, {how}", np.asarray(total), field_of(whole, "sum", ()), bounds)


def _sum_bound(case: ScoreCase) -> float:
    """The bound of a case's sum, from the case alone."""
    logits, targets = case.logits[case.selected], case.targets[case.selected]
    how = arithmetic(case.logits.dtype.name)
    if len(targets) == 0:
        return 0.0
    values = log_likelihood(logits, targets)
    return sum_bound(values, value_bound(logits, targets, how), case.upstream, how)


@check(
    "MLM-OBJ-6",
    port="score",
    recipes=score_recipes(ORDINARY, BATCHES, patterns=("some", "all")),
    needs=("selected",),
    theorem=True,
)
def order_of_positions_is_immaterial(context: Context, case: ScoreCase) -> None:
    truth = score_truth(context, case)
    order = generator(case.salt, 4).permutation(case.selected.size)
    moved = permuted(case, order)
    first = context.call("score", case.arguments())
    second = context.call("score", moved.arguments())
    context.equal("count, reordered", second["count"], first["count"])
    context.within("sum, reordered", second["sum"], first["sum"], 2 * truth.sum_bound)
    limits = np.zeros(case.selected.shape)
    limits[case.selected] = 2 * truth.value_bounds
    values = field_of(first, "log_likelihood", case.selected.shape)
    context.within(
        "log_likelihood, reordered",
        field_of(second, "log_likelihood", case.selected.shape).reshape(-1),
        values.reshape(-1)[order],
        limits.reshape(-1)[order],
    )


@check(
    "MLM-OBJ-7",
    port="score",
    recipes=score_recipes(("normal", "impossible ids"), patterns=("none",)),
    needs=("positions",),
    theorem=True,
)
def nothing_selected_is_zero(context: Context, case: ScoreCase) -> None:
    context.saw("positions", case.selected.size)
    result = context.call("score", case.arguments())
    for name in ("sum", "count", "log_likelihood", "grad_logits"):
        if name in result:
            zeros = np.zeros(result[name].shape)
            context.equal(f"{name} with nothing selected", result[name], zeros)


@check(
    "MLM-OBJ-12",
    port="score",
    recipes=score_recipes(("normal",), BATCHES),
    needs=("float64", "float32", "bfloat16", "float16"),
    theorem=True,
    series=score_series("normal", narrow=True),
)
def sums_are_at_least_float32(context: Context, case: ScoreCase) -> None:
    name = case.logits.dtype.name
    context.saw(name)
    result = context.call("score", case.arguments())
    for part in ("sum", "log_likelihood"):
        require_wide(part, result[part].dtype, name)
