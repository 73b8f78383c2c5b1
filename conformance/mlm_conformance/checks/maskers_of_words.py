"""Chapters SEL and COR on maskers that know words: what must never happen there either."""

from __future__ import annotations

from mlm_conformance.cases.masks import sample_words_recipes
from mlm_conformance.cases.model import SampleWordsCase
from mlm_conformance.check import Context, check
from mlm_conformance.checks import corruption, selection

__all__: list[str] = []  # importing the module registers its checks

_PORT = "sample_words"


@check(
    "MLM-SEL-1",
    port=_PORT,
    recipes=sample_words_recipes(),
    needs=("ineligible", "selected"),
    theorem=True,
)
def a_masker_of_words_never_selects_what_is_not_eligible(
    context: Context, case: SampleWordsCase
) -> None:
    selection.a_masker_never_selects_what_is_not_eligible(context, case)


@check(
    "MLM-COR-1",
    port=_PORT,
    recipes=sample_words_recipes(),
    needs=("selected", "unselected"),
    theorem=True,
)
def a_masker_of_words_leaves_unselected_tokens_alone(
    context: Context, case: SampleWordsCase
) -> None:
    corruption.a_masker_leaves_unselected_tokens_alone(context, case)


@check("MLM-COR-2", port=_PORT, recipes=sample_words_recipes(), needs=("selected",), theorem=True)
def labels_of_words_are_the_original_tokens(context: Context, case: SampleWordsCase) -> None:
    corruption.labels_are_the_original_tokens(context, case)


@check("MLM-COR-4", port=_PORT, recipes=sample_words_recipes(), needs=("selected",), theorem=True)
def a_masker_of_words_shows_nothing_but_the_mask_id(
    context: Context, case: SampleWordsCase
) -> None:
    corruption.a_masker_without_random_ids_shows_mask_or_original(context, case)


@check(
    "MLM-COR-5",
    port=_PORT,
    recipes=sample_words_recipes(rates=("1/2",), kinds=("0 1 0", "1/2 1/2 0")),
    needs=("selected",),
    theorem=True,
)
def a_masker_of_words_never_draws_special_ids(context: Context, case: SampleWordsCase) -> None:
    corruption.a_masker_never_draws_special_ids(context, case)
