"""Chapter DST by law and pool: what selected positions show, whatever selects them.

Given which positions are selected, kinds and ids are the same trials under every law.  A law, a
unit or a pool that a masker has no option for is not claimed, each by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from numpy.typing import NDArray

from mlm_conformance.cases.distributions import DrawRecipe, WordDrawRecipe
from mlm_conformance.cases.model import SampleCase
from mlm_conformance.check import Context, Recipe, check, table
from mlm_conformance.checks.common import sampled
from mlm_conformance.checks.distributions_kinds import (
    neighbours_draw_ids_of_their_own,
    neighbours_show_kinds_of_their_own,
    random_ids_among_masked_ones_are_uniform_on_the_pool,
    selected_positions_show_the_three_kinds,
)
from mlm_conformance.checks.distributions_words import (
    a_word_is_kept_or_random_as_a_whole,
    a_word_shows_one_kind,
    pieces_of_a_word_draw_ids_of_their_own,
    pieces_of_a_word_show_kinds_of_their_own,
    words_show_the_three_kinds,
)
from mlm_conformance.distributions.judge import Tally, fits
from mlm_conformance.distributions.pool import Pool

__all__: list[str] = []  # importing the module registers its checks

Array = NDArray[Any]
_Judge = Callable[[Context, Any], None]
_BERT, _THIRDS, _HALF_RANDOM, _RANDOM = "4/5 1/10 1/10", "1/3 1/3 1/3", "1/2 1/2 0", "0 1 0"
_MASKED_OR_KEPT = "1/2 0 1/2"
_TRIALS = ("trials",)


def _register(
    requirement: str,
    port: str,
    judge: _Judge,
    suffix: str,
    recipes: Sequence[Recipe],
    needs: tuple[str, ...] = _TRIALS,
) -> None:
    def judge_of_law(context: Context, case: Any) -> None:
        judge(context, case)

    judge_of_law.__name__ = f"{judge.__name__}_{suffix}"
    judge_of_law.__doc__ = judge.__doc__
    check(requirement, port=port, recipes=table(recipes), needs=needs)(judge_of_law)


def _register_counts() -> None:
    """Fixed counts, by the checks of Bernoulli masks."""
    for requirement, judge, recipes in (
        ("MLM-DST-3", selected_positions_show_the_three_kinds, (("3/20", _BERT), ("1/2", _THIRDS))),
        (
            "MLM-DST-4",
            random_ids_among_masked_ones_are_uniform_on_the_pool,
            (("3/20", _HALF_RANDOM),),
        ),
        (
            "MLM-DST-12",
            neighbours_show_kinds_of_their_own,
            (("1/2", _THIRDS), ("1/2", _MASKED_OR_KEPT)),
        ),
        ("MLM-DST-20", neighbours_draw_ids_of_their_own, (("1/2", _RANDOM),)),
    ):
        drawn = [DrawRecipe(*told, law="count", uneven=told[0] == "3/20") for told in recipes]
        _register(requirement, "sample", judge, "by_count", drawn)


def _register_words() -> None:
    """Laws that select single pieces, where words are known: unit "token", and unit "word"."""
    kinds = ("words that show the mask id", "words that do not")
    for requirement, judge, told, needs in (
        ("MLM-DST-3", selected_positions_show_the_three_kinds, ("3/20", _BERT), _TRIALS),
        ("MLM-DST-3", words_show_the_three_kinds, ("1/2", _BERT, "word"), _TRIALS),
        (
            "MLM-DST-4",
            random_ids_among_masked_ones_are_uniform_on_the_pool,
            ("3/20", _HALF_RANDOM),
            _TRIALS,
        ),
        ("MLM-DST-11", a_word_shows_one_kind, ("1/2", _MASKED_OR_KEPT, "word"), kinds),
        ("MLM-DST-11", a_word_is_kept_or_random_as_a_whole, ("1/2", _THIRDS, "word"), _TRIALS),
        ("MLM-DST-12", pieces_of_a_word_show_kinds_of_their_own, ("1/2", _THIRDS), _TRIALS),
        (
            "MLM-DST-20",
            pieces_of_a_word_draw_ids_of_their_own,
            ("1/2", _HALF_RANDOM, "word"),
            _TRIALS,
        ),
    ):
        drawn = [replace(WordDrawRecipe(*told), law=law) for law in _LAWS]
        _register(requirement, "sample_words", judge, "by_piece", drawn, needs)


_LAWS = ("bernoulli", "count")
_LISTED = (4, 7, 8, 11, 19, 30)
_POOLS = (("a_listed_pool", _LISTED), ("the_whole_vocabulary", "all"))


def ids_are_uniform_on(context: Context, case: SampleCase) -> None:
    """Where each position is selected and shows a random id."""
    pool = Pool(case.policy)

    def counts(inputs: Array, labels: Array) -> list[Tally]:
        shown, share = inputs[labels != -100], pool.share
        return [
            Tally(f"draws of id {i}", int((shown == i).sum()), shown.size, share)
            for i in pool.ids
            if shown.size
        ]

    fits(context, case, partial(sampled, context, case), counts)


def _register_pools() -> None:
    for name, pool in _POOLS:
        drawn = [DrawRecipe("1", _RANDOM, law=law, pool=pool) for law in _LAWS]
        _register("MLM-DST-4", "sample", ids_are_uniform_on, name, drawn)


_register_counts()
_register_words()
_register_pools()
