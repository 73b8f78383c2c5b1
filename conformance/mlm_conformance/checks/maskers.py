"""Chapters SEL and COR on all ports of maskers: what must never happen there either.

The checks of the port ``sample``, on maskers that know words and on those that work in parallel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mlm_conformance.cases.masks import sample_parallel_recipes, sample_words_recipes
from mlm_conformance.check import Context, check
from mlm_conformance.checks.corruption import (
    a_masker_leaves_unselected_tokens_alone,
    a_masker_never_draws_special_ids,
    a_masker_without_random_ids_shows_mask_or_original,
    labels_are_the_original_tokens,
)
from mlm_conformance.checks.selection import a_masker_never_selects_what_is_not_eligible

__all__: list[str] = []  # importing the module registers its checks

_Judge = Callable[[Context, Any], None]
_RANDOM = ("0 1 0", "1/2 1/2 0")
#: Requirement, judge, what it has to see, and kinds where they are others than usual: of words, of
#: masks made in parallel.
_CHECKS: Sequence[tuple[str, _Judge, tuple[str, ...], Any, Any]] = (
    (
        "MLM-SEL-1",
        a_masker_never_selects_what_is_not_eligible,
        ("ineligible", "selected"),
        None,
        None,
    ),
    (
        "MLM-COR-1",
        a_masker_leaves_unselected_tokens_alone,
        ("selected", "unselected"),
        None,
        None,
    ),
    ("MLM-COR-2", labels_are_the_original_tokens, ("selected",), None, None),
    (
        "MLM-COR-4",
        a_masker_without_random_ids_shows_mask_or_original,
        ("selected",),
        None,
        ("1 0 0", "4/5 0 1/5"),
    ),
    ("MLM-COR-5", a_masker_never_draws_special_ids, ("selected",), _RANDOM, _RANDOM),
)


def _named(inner: _Judge, suffix: str) -> _Judge:
    def judge(context: Context, case: Any) -> None:
        inner(context, case)

    judge.__name__ = f"{inner.__name__}_{suffix}"
    return judge


def _register() -> None:
    for requirement, inner, needs, of_words, in_parallel in _CHECKS:
        told: dict[str, Any] = {"needs": needs, "theorem": True}
        words = {"kinds": of_words, "rates": ("1/2",)} if of_words else {}
        recipes = sample_words_recipes(**words)
        check(requirement, port="sample_words", recipes=recipes, **told)(_named(inner, "of_words"))
        others = {"kinds": in_parallel, "rates": ("1/2",)} if in_parallel else {}
        makers = sample_parallel_recipes(**others)
        named = _named(inner, "in_parallel")
        check(requirement, port="sample_parallel", recipes=makers, **told)(named)


_register()
