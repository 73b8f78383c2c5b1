"""Chapter HED: the output layer, at selected positions only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.bounds import (
    ANY_ORDER,
    Accumulation,
    HeadBounds,
    arithmetic,
    head_bounds,
)
from mlm_conformance.cases.anywhere_layers import biased_head_series, head_series
from mlm_conformance.cases.model import HeadCase
from mlm_conformance.cases.numbers import (
    DTYPES,
    HeadRecipe,
    dtype_of,
    generator,
    head_recipes,
)
from mlm_conformance.check import Context, Recipe, Unmeasurable, check, table
from mlm_conformance.checks.common import besides, field_of, require_like, spoiled
from mlm_conformance.oracle import remembering
from mlm_spec import HeadResult, logit_gradient

__all__ = ["HARD", "bounds_of", "poisoned_states"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _ExcludedIds:
    """A head recipe in which a bias of −∞ excludes about half of the ids that are no target."""

    recipe: HeadRecipe

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """B, T, d, V."""
        return self.recipe.shape

    def build(self, run_seed: int) -> HeadCase:
        """The case; equal recipes and run seeds give equal cases."""
        case = self.recipe.build(run_seed)
        assert case.bias is not None
        ids = np.arange(len(case.bias))
        out = generator(run_seed, self.recipe.seed + 1).random(ids.shape) < 0.5
        barred = out & ~np.isin(ids, case.targets)
        bias = np.where(barred, -np.inf, case.bias.astype(np.float64)).astype(case.bias.dtype)
        return replace(case, bias=bias, about=f"{case.about}, ids excluded")


# Logits whose exponentials overflow; more ids than a block of 2¹⁴ holds, at as many positions as
# MLM-HED-8; a bias of −∞.
HARD = (
    HeadRecipe((2, 8, 16, 64), "float32", 400.0, "some", True, True, 0),
    HeadRecipe((2, 8, 16, 64), "float64", 400.0, "some", True, True, 1),
    HeadRecipe((1, 4001, 2, 16385), "float32", 1.0, "one", False, True, 2),
    _ExcludedIds(HeadRecipe((2, 8, 16, 64), "float32", 1.0, "some", True, True, 3)),
)
_WITHOUT_BIAS = tuple(
    HeadRecipe((2, 8, 16, 64), dtype, 1.0, "some", True, False, 4)
    for dtype in ("float32", "float64")
)
ORDINARY = besides(head_recipes(), (*HARD, *_WITHOUT_BIAS))
_LAYERS = "layers"  # what several checks look at, so that it is computed once


def _wide(array: NDArray[Any]) -> Floats:
    return array.astype(np.float64)


def bounds_of(case: HeadCase, declared: Accumulation = ANY_ORDER) -> HeadBounds:
    """Bounds of a case, at its selected positions; from the case alone."""
    at = case.selected
    return _bounds_of_layer(
        hidden=case.hidden[at],
        weight=case.weight,
        bias=case.bias,
        targets=case.targets[at],
        upstream=case.upstream,
        declared=declared,
    )


@remembering
def _bounds_of_layer(
    hidden: NDArray[Any],
    weight: NDArray[Any],
    bias: NDArray[Any] | None,
    targets: NDArray[Any],
    upstream: NDArray[Any],
    declared: Accumulation,
) -> HeadBounds:
    name, hidden, weight = hidden.dtype.name, _wide(hidden), _wide(weight)
    bias = None if bias is None else _wide(bias)
    logits = hidden @ weight.T + (0.0 if bias is None else bias)
    signal = upstream[:, None] * logit_gradient(logits, targets)
    return head_bounds(hidden, weight, bias, targets, upstream, signal, name, declared)


def _truth(context: Context, case: HeadCase) -> HeadResult:
    context.saw("selected", case.selected.sum())
    context.saw(case.hidden.dtype.name)
    context.saw("with bias", case.bias is not None)
    return context.oracle.head(**case.arguments())


@check(
    "MLM-HED-1",
    port="head",
    recipes=ORDINARY,
    needs=("selected", "with bias", *DTYPES),
    stream=_LAYERS,
    series=head_series,
)
def value_is_that_of_the_projected_states(context: Context, case: HeadCase) -> None:
    truth = _truth(context, case)
    result = context.call("head", case.arguments())
    context.equal("count", field_of(result, "count", ()), truth.count)
    context.within("sum", field_of(result, "sum", ()), truth.sum, bounds_of(case).sum)


@check(
    "MLM-HED-2",
    port="head",
    recipes=ORDINARY,
    needs=("selected", *DTYPES),
    stream=_LAYERS,
    series=head_series,
)
def hidden_states_receive_their_gradient(context: Context, case: HeadCase) -> None:
    _gradient_within(context, case, "grad_hidden", case.selected)


def _gradient_within(
    context: Context, case: HeadCase, name: str, at: NDArray[np.bool_] | None = None
) -> None:
    """One gradient is within its bounds, ``at`` these positions of the batch where given."""
    truth = _truth(context, case)
    want = np.asarray(getattr(truth, name))
    seen = field_of(context.call("head", case.arguments()), name, want.shape)
    what = name if at is None else f"{name} of selected positions"
    kept = ... if at is None else at
    context.within(what, seen[kept], want[kept], getattr(bounds_of(case), name))


@check(
    "MLM-HED-3",
    port="head",
    recipes=ORDINARY,
    needs=("selected", *DTYPES),
    stream=_LAYERS,
    series=head_series,
)
def weight_receives_its_gradient(context: Context, case: HeadCase) -> None:
    _gradient_within(context, case, "grad_weight")


@check(
    "MLM-HED-4",
    port="head",
    recipes=besides(head_recipes(biased=(True,)), HARD),
    needs=("selected", "with bias", *DTYPES),
    series=biased_head_series,
)
def bias_receives_its_gradient(context: Context, case: HeadCase) -> None:
    _gradient_within(context, case, "grad_bias")


@check(
    "MLM-LIK-11",
    port="head",
    recipes=besides(head_recipes(), _WITHOUT_BIAS[:1]),
    needs=("selected", *DTYPES),
    declared=True,
)
def the_declared_class_holds_in_the_head(context: Context, case: HeadCase) -> None:
    """Products are added in any order; the vocabulary's sums as declared."""
    assert context.accumulation is not None
    truth, limits = _truth(context, case), bounds_of(case, context.accumulation)
    result = context.call("head", case.arguments())
    total = field_of(result, "sum", ())
    kind = f"bound of the declared class {context.accumulation}"
    how = arithmetic(case.hidden.dtype.name, total.dtype.name, context.accumulation)
    limit = how.stored(np.abs(truth.sum), np.asarray(limits.sum))
    context.within("sum", total, truth.sum, limit, kind)
    chosen, want = case.selected, np.asarray(truth.grad_hidden)
    seen = field_of(result, "grad_hidden", case.hidden.shape)
    context.within("grad_hidden", seen[chosen], want[chosen], limits.grad_hidden, kind)
    seen = field_of(result, "grad_weight", case.weight.shape)
    context.within("grad_weight", seen, truth.grad_weight, limits.grad_weight, kind)


def poisoned_states(case: HeadCase) -> HeadCase:
    """NaN, infinities and other numbers at unselected positions."""
    other, targets = ~case.selected, case.targets.copy()
    targets[other] = -100
    hidden = spoiled(case.hidden, other, case.salt)
    weights = None if case.weights is None else spoiled(case.weights, other, case.salt)
    return replace(case, hidden=hidden, targets=targets, weights=weights)


@check(
    "MLM-HED-5",
    port="head",
    recipes=head_recipes(patterns=("some", "one")),
    needs=("unselected",),
    theorem=True,
    series=head_series,
)
def unselected_hidden_states_never_matter(context: Context, case: HeadCase) -> None:
    """NaN and infinities in them change nothing, and their own gradient is exactly 0."""
    other = ~case.selected
    context.saw("unselected", other.sum())
    clean = context.call("head", case.arguments())
    dirty = context.call("head", poisoned_states(case).arguments())
    for name in clean:
        context.equal(f"{name} with other unselected states", dirty[name], clean[name])
    entries = field_of(clean, "grad_hidden", case.hidden.shape)[other]
    context.equal("grad_hidden where not selected", entries, np.zeros(entries.shape))


@check(
    "MLM-HED-6",
    port="head",
    recipes=head_recipes(patterns=("none",)),
    needs=("positions",),
    theorem=True,
)
def nothing_selected_leaves_all_gradients_zero(context: Context, case: HeadCase) -> None:
    context.saw("positions", case.selected.size)
    result = context.call("head", case.arguments())
    for name, value in result.items():
        context.equal(f"{name} with nothing selected", value, np.zeros(value.shape))


@check(
    "MLM-HED-7",
    port="head",
    recipes=head_recipes(patterns=("all", "some")),
    needs=("parts",),
    theorem=True,
)
def parts_add_up(context: Context, case: HeadCase) -> None:
    """The sum and the gradients of the layer are sums over positions."""
    pieces = generator(case.salt, 13).integers(2, size=case.selected.shape)
    parts = [replace(case, selected=case.selected & (pieces == i)) for i in range(2)]
    parts = [part for part in parts if part.selected.any()]
    context.saw("parts", len(parts) > 1)
    whole = context.call("head", case.arguments())
    answers = [context.call("head", part.arguments()) for part in parts]
    bounds = [bounds_of(c) for c in (case, *parts)]
    context.equal("count of the parts", np.sum([a["count"] for a in answers]), whole["count"])
    shapes = {"sum": (), "grad_weight": case.weight.shape, "grad_bias": case.weight.shape[:1]}
    for name, shape in shapes.items():
        if name not in whole:
            continue
        total = np.sum([_wide(field_of(a, name, shape)) for a in answers], axis=0)
        limit = np.sum([getattr(b, name) for b in bounds], axis=0)
        context.within(f"{name} of the parts", total, field_of(whole, name, shape), limit)


@dataclass(frozen=True, slots=True)
class _WideVocabulary:
    """2,048 positions, eight of them selected: all logits would take 250 MB in float32."""

    dtype: str
    biased: bool
    weighted: bool

    def build(self, run_seed: int) -> HeadCase:
        """The case, whatever the run's seed."""
        recipe = HeadRecipe(
            (1, 2048, 2, 30522), self.dtype, 1.0, "none", self.weighted, self.biased, 14
        )
        case = recipe.build(0)
        selected = case.selected.copy()
        selected[0, ::256] = True
        return replace(case, selected=selected, about="8 of 2048 positions selected")


#: Each dtype with a bias and without, with weights and without; each bias with either.
_WIDE_VOCABULARIES = (
    _WideVocabulary("float32", True, False),
    _WideVocabulary("bfloat16", False, True),
    _WideVocabulary("float16", True, True),
    _WideVocabulary("float64", False, False),
    _WideVocabulary("float32", False, True),
    _WideVocabulary("bfloat16", True, False),
    _WideVocabulary("float16", False, False),
    _WideVocabulary("float64", True, True),
)
_AT_ANY_RATE = 4  # of them; the others belong to sizes, which a quick run has few of


def _other_vocabularies(number: int) -> Sequence[Recipe]:
    return _WIDE_VOCABULARIES[_AT_ANY_RATE:][number - 1 : number] if number else ()


@check(
    "MLM-HED-8",
    port="head",
    recipes=table(_WIDE_VOCABULARIES[:_AT_ANY_RATE]),
    needs=("calls measured", *DTYPES, "with bias", "without bias", "with weights", "no weights"),
    theorem=True,
    series=_other_vocabularies,
)
def unselected_logits_are_not_formed(context: Context, case: HeadCase) -> None:
    """The second call's memory: all logits, in the narrowest dtype that holds them, do not fit."""
    if context.device != "cpu":
        raise Unmeasurable(f"the memory of {context.device} is not seen from outside")
    context.call("head", case.arguments())  # what a first call sets up is not at issue
    answer = context.answer("head", case.arguments(), measure_memory=True)
    context.result_of("head", answer)
    if answer.peak_growth is None:
        raise Unmeasurable("this system does not say what memory a call took")
    context.saw("calls measured")
    context.saw(case.hidden.dtype.name)
    context.saw("without bias" if case.bias is None else "with bias")
    context.saw("no weights" if case.weights is None else "with weights")
    limit = case.selected.size * len(case.weight) * case.hidden.dtype.itemsize
    context.within("bytes of memory", np.asarray(answer.peak_growth), 0.0, limit)


@check(
    "MLM-HED-9",
    port="head",
    recipes=ORDINARY,
    needs=("selected", *DTYPES),
    theorem=True,
    stream=_LAYERS,
    series=head_series,
)
def results_have_the_shapes_and_dtypes_of_their_inputs(context: Context, case: HeadCase) -> None:
    context.saw("selected", case.selected.sum())
    context.saw(case.hidden.dtype.name)
    result = context.call("head", case.arguments())
    for name, like in (
        ("grad_hidden", case.hidden),
        ("grad_weight", case.weight),
        ("grad_bias", case.bias),
    ):
        if like is None:
            context.require(name not in result, f"{name} without a bias is not None")
            continue
        require_like(result, name, like)
    least = dtype_of("float64" if case.hidden.dtype.name == "float64" else "float32")
    dtype = field_of(result, "sum", ()).dtype
    wide = dtype.name in ("float32", "float64") and dtype.itemsize >= least.itemsize
    context.require(wide, f"sum has dtype {dtype}, should be {least} or wider")
