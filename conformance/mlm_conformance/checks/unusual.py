"""Chapter ERR: what is unusual and no error: batches without positions, arrays of any layout."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mlm_conformance.cases.bad import good_head_call, good_mask_call, good_score_call
from mlm_conformance.cases.masks import mask_recipes, sample_recipes, sample_words_recipes
from mlm_conformance.cases.model import HeadCase, LossCase, MaskCase, ScoreCase, WordsCase
from mlm_conformance.cases.numbers import head_recipes, loss_recipes, score_recipes
from mlm_conformance.check import Context, Fixed, Recipe, Recipes, Violation, check, table
from mlm_conformance.checks.common import (
    equal_masks,
    expected_mask,
    field_of,
    masked,
    require_like,
    score_truth,
)
from mlm_conformance.checks.corruption import labels_are_the_original_tokens
from mlm_conformance.checks.head import bounds_of
from mlm_conformance.checks.head_loss import RECIPES, loss_arguments
from mlm_conformance.checks.head_loss import judge_loss as judge_layer_loss
from mlm_conformance.checks.loss import judge_loss, loss_call_arguments
from mlm_conformance.checks.steps import (
    a_good_head_step_has_its_effect,
    a_good_mask_step_has_its_effect,
    a_good_score_step_has_its_effect,
)
from mlm_conformance.checks.words import words_are_threefry
from mlm_conformance.layouts import LAYOUTS

__all__: list[str] = []  # importing the module registers its checks

_Judge = Callable[[Context, Any], None]


def _masks(context: Context, case: MaskCase) -> None:
    want, seen = expected_mask(context, case), masked(context, case)
    equal_masks(context, "of the batch", seen, want)
    context.equal("targets", seen.targets, case.tokens)


def _scores(context: Context, case: ScoreCase) -> None:
    """All results of ``score``."""
    truth, at = score_truth(context, case), case.selected
    result = context.call("score", case.arguments())
    context.equal("count", field_of(result, "count", ()), np.asarray(int(at.sum())))
    context.within("sum", field_of(result, "sum", ()), truth.sum, truth.sum_bound)
    seen = field_of(result, "log_likelihood", at.shape)
    context.within("log_likelihood", seen[at], truth.values, truth.value_bounds)
    if "grad_logits" in result:
        require_like(result, "grad_logits", case.logits)
        entries = result["grad_logits"]
        context.within("grad_logits", entries[at], truth.gradient, truth.gradient_bounds)
        context.equal("grad_logits, unselected", entries[~at], np.zeros(entries[~at].shape))


def _layers(context: Context, case: HeadCase) -> None:
    """All results of ``head``."""
    truth, bounds, at = context.oracle.head(**case.arguments()), bounds_of(case), case.selected
    context.saw("selected", at.sum())
    result = context.call("head", case.arguments())
    context.equal("count", field_of(result, "count", ()), np.asarray(int(at.sum())))
    context.within("sum", field_of(result, "sum", ()), truth.sum, bounds.sum)
    for name, like in (("grad_weight", case.weight), ("grad_bias", case.bias)):
        if like is not None:
            require_like(result, name, like)
            limit = getattr(bounds, name)
            context.within(name, result[name], np.asarray(getattr(truth, name)), limit)
    seen, want = field_of(result, "grad_hidden", case.hidden.shape), np.asarray(truth.grad_hidden)
    context.within("grad_hidden", seen[at], want[at], bounds.grad_hidden)


def _losses(judge: Callable[[Context, Any], object]) -> _Judge:
    """But for the loss of nothing: that is the matter of MLM-OBJ-11."""

    def judge_losses(context: Context, case: Any) -> None:
        if isinstance(case, LossCase):
            labelled = case.labels != case.ignore_index
        else:
            labelled = case.selected
        if labelled.any():
            context.saw("selected", labelled.sum())
            judge(context, case)

    return judge_losses


def _no_loss(port: str, arguments: Callable[[Context, Any], dict[str, Any]]) -> _Judge:
    """The loss of no positions is 0.0, and so are its gradients."""

    def judge(context: Context, case: Any) -> None:
        call = arguments(context, case)
        result = context.call(port, call)
        context.equal("loss", field_of(result, "loss", ()), np.asarray(0.0))
        for name in result.keys() & {"grad_logits", "grad_hidden", "grad_weight", "grad_bias"}:
            like = call[name.removeprefix("grad_")]
            context.equal(name, field_of(result, name, like.shape), np.zeros(like.shape))

    return judge


@dataclass(frozen=True, slots=True)
class _Cut:
    """What a case of no rows, or of no columns, is made from."""

    whole: MaskCase | ScoreCase | HeadCase | LossCase | WordsCase
    rows: bool
    columns: bool

    def build(self, run_seed: int) -> Any:
        """The case."""
        at = np.s_[: None if self.rows else 0, : None if self.columns else 0]
        about = "no columns" if self.rows else "no rows"
        per_position = {
            name: getattr(self.whole, name)[at]
            for name in self.whole.__dataclass_fields__
            if _is_per_position(name, getattr(self.whole, name))
        }
        return replace(self.whole, **per_position, about=about)


def _is_per_position(name: str, value: object) -> bool:
    return isinstance(value, np.ndarray) and name not in ("weight", "bias")


def _cuts(*wholes: MaskCase | ScoreCase | HeadCase | LossCase) -> list[Recipe]:
    """Each without rows, and without columns."""
    return [_Cut(case, rows, not rows) for case in wholes for rows in (False, True)]


def _whole_cases() -> Mapping[str, Any]:
    score = ScoreCase(**good_score_call())
    labels = np.where(score.selected, score.targets, -100).astype(np.int64)
    return {
        "mask": MaskCase(**good_mask_call()),
        "score": score,
        "head": HeadCase(**good_head_call()),
        "loss": LossCase(score.logits, labels),
    }


def _of_nothing(inner: _Judge) -> _Judge:
    def judge(context: Context, case: Any) -> None:
        context.saw(case.about)
        inner(context, case)

    return judge


def _named(name: str, inner: _Judge) -> _Judge:
    def judge(context: Context, case: Any) -> None:
        inner(context, case)

    judge.__name__ = name
    return judge


def _register_batches_of_nothing() -> None:
    whole = _whole_cases()
    for port, name, judge in (
        ("mask", "mask", _masks),
        ("score", "score", _scores),
        ("head", "head", _layers),
        ("mask_step", "mask", a_good_mask_step_has_its_effect),
        ("score_step", "score", a_good_score_step_has_its_effect),
        ("head_step", "head", a_good_head_step_has_its_effect),
        ("loss", "loss", _no_loss("loss", loss_call_arguments)),
        ("head_loss", "head", _no_loss("head_loss", _layer_arguments)),
    ):
        check(
            "MLM-ERR-17",
            port=port,
            recipes=table(_cuts(whole[name])),
            needs=("no rows", "no columns"),
            reductions=("sum", "sum/num_items") if "loss" in port else (),
            theorem=True,
        )(_named(f"{port}_of_no_positions_is_no_error", _of_nothing(judge)))
    none = np.zeros((0, 4), np.uint32)
    nothing = WordsCase(none, none, about="no rows")
    check(
        "MLM-ERR-17",
        port="random_words",
        recipes=table([Fixed(nothing)]),
        needs=("no rows",),
        theorem=True,
    )(_named("no_blocks_have_no_words", _of_nothing(words_are_threefry)))


def _layer_arguments(context: Context, case: HeadCase) -> dict[str, Any]:
    return loss_arguments(context, case, 1)


_register_batches_of_nothing()


_LIE = {
    "columns first": "column by column",
    "rows second": "with their rows second",
    "spaced": "with space between their entries",
    "read-only": "where nobody may write",
}


def _in_each_layout(inner: _Judge) -> _Judge:
    def judge(context: Context, case: Any) -> None:
        for layout in LAYOUTS:
            context.layout = layout
            try:
                inner(context, case)
            except Violation as violation:
                told = f"with arrays that lie {_LIE[layout]}: {violation}"
                raise Violation(told, violation.what) from None
            context.saw(layout)

    return judge


def _words(seed: int) -> WordsCase:
    key, counter = np.random.default_rng(seed).integers(2**32, size=(2, 5, 4), dtype=np.uint32)
    return WordsCase(key, counter, about="random blocks")


_ONE_BATCH: Mapping[str, tuple[_Judge, Recipes]] = {
    "mask": (_masks, mask_recipes(rates=("1/2",), kinds=("1/3 1/3 1/3",))),
    "mask_step": (
        a_good_mask_step_has_its_effect,
        mask_recipes(rates=("1/2",), kinds=("1/3 1/3 1/3",)),
    ),
    "score": (_scores, score_recipes(("normal",), ((2, 8, 64),))),
    "score_step": (
        a_good_score_step_has_its_effect,
        score_recipes(("normal",), ((2, 8, 64),), ("float32",)),
    ),
    "head": (_layers, head_recipes()),
    "head_step": (
        a_good_head_step_has_its_effect,
        head_recipes(((2, 8, 16, 64),), ("float32",), biased=(True,)),
    ),
    "loss": (_losses(judge_loss), loss_recipes(("normal", "likely"))),
    "head_loss": (_losses(judge_layer_loss), RECIPES),
    "random_words": (words_are_threefry, table([Fixed(_words(0))])),
    "sample": (labels_are_the_original_tokens, sample_recipes(rates=("1/2",))),
    "sample_words": (labels_are_the_original_tokens, sample_words_recipes(rates=("1/2",))),
}


def _register_layouts() -> None:
    for port, (judge, recipes) in _ONE_BATCH.items():
        check("MLM-ERR-18", port=port, recipes=recipes, needs=LAYOUTS, share=0.2)(
            _named(f"{port}_takes_arrays_of_any_layout", _in_each_layout(judge))
        )


_register_layouts()
