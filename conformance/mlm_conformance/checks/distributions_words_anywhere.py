"""Chapter DST on whole words of any names, in rows of any length, and dealt out or not."""

from __future__ import annotations

from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.cases.distributions import WordDrawRecipe
from mlm_conformance.cases.distributions_anywhere import AnywhereWords, words_series
from mlm_conformance.cases.model import SampleWordsCase, candidates
from mlm_conformance.check import Context, check, table
from mlm_conformance.checks.common import sampled
from mlm_conformance.checks.distributions_words import words_are_selected_whole
from mlm_conformance.distributions.judge import Tally, bluntest, fits
from mlm_conformance.distributions.spread import usually
from mlm_conformance.distributions.words import Word, words_of

__all__: list[str] = []  # importing the module registers its checks

Array = NDArray[Any]
_ANYWHERE: dict[str, Any] = {
    "port": "sample_words",
    "recipes": table([AnywhereWords(number, "1/2") for number in range(4)]),
    "series": words_series,
}
_MOST_PIECES = 3


def _words(case: SampleWordsCase) -> list[Word]:
    return words_of(case.word_id, candidates(case))


def _chosen(labels: Array, words: list[Word], piece: int = 0) -> Array:
    """Whether a piece of each word is selected: bool (n, words)."""
    at = [word.row for word in words], [word.columns[piece] for word in words]
    chosen: Array = labels[:, at[0], at[1]] != -100
    return chosen


@check("MLM-DST-8", needs=("words selected", "words not selected"), **_ANYWHERE)
def words_of_any_names_are_selected_whole(context: Context, case: SampleWordsCase) -> None:
    words_are_selected_whole(context, case)


@check("MLM-DST-9", needs=("trials",), **_ANYWHERE)
def words_of_any_names_are_selected_at_the_rate(context: Context, case: SampleWordsCase) -> None:
    """All of them, those of one, two and three pieces, and those in each quarter of the columns."""
    words = _words(case)
    rate = Fraction(case.policy.selection.rate)  # type: ignore[union-attr]
    pieces = np.array([len(word.columns) for word in words])
    quarter = np.array([4 * word.columns[0] // case.tokens.shape[1] for word in words])
    groups = [("words", pieces > 0)]
    groups += [(f"words of {k} pieces", pieces == k) for k in range(1, _MOST_PIECES + 1)]
    groups += [(f"words in quarter {k} of the columns", quarter == k) for k in range(4)]

    def counts(inputs: Array, labels: Array) -> list[Tally]:
        chosen = _chosen(labels, words)
        return [
            Tally(f"selected {what}", int(own.sum()), own.size, rate)
            for what, which in groups
            for own in [chosen[:, which]]
            if own.size
        ]

    fits(context, case, partial(sampled, context, case), counts, told=bluntest)


@check("MLM-DST-10", needs=("trials",), **_ANYWHERE)
def neighbours_of_any_names_are_selected_apart(context: Context, case: SampleWordsCase) -> None:
    """Each two words that follow one another, none of them twice."""
    words = _words(case)
    pairs = [
        (i, i + 1)
        for i in range(len(words) - 1)
        if words[i].place % 2 == 0 and words[i + 1].row == words[i].row
    ]
    rate = Fraction(case.policy.selection.rate)  # type: ignore[union-attr]

    def counts(inputs: Array, labels: Array) -> list[Tally]:
        chosen = _chosen(labels, words)
        one, other = (chosen[:, [pair[side] for pair in pairs]] for side in (0, 1))
        return [
            Tally(f"neighbouring words, {what}", int(both.sum()), both.size, p)
            for what, both, p in (
                ("both selected", one & other, rate**2),
                ("one of them selected", one ^ other, 2 * rate * (1 - rate)),
            )
            if both.size
        ]

    fits(context, case, partial(sampled, context, case), counts, told=bluntest)


@check(
    "MLM-DST-10",
    port="sample_words",
    recipes=table([WordDrawRecipe("3/20"), WordDrawRecipe("1/2")]),
    needs=("trials",),
)
def words_are_not_dealt_out(context: Context, case: SampleWordsCase) -> None:
    """How many words are selected differs from batch to batch, and from row to row."""
    words = _words(case)
    rate = Fraction(case.policy.selection.rate)  # type: ignore[union-attr]
    row_of = np.array([word.row for word in words], np.intp)
    many = np.bincount(row_of, minlength=len(case.tokens))
    able = np.arange(max(many, default=0)) < many[:, None]

    def counts(inputs: Array, labels: Array) -> list[Tally]:
        chosen = np.zeros((len(labels), *able.shape), np.bool_)
        chosen[:, able] = _chosen(labels, words)[:, np.argsort(row_of, kind="stable")]
        return list(usually("words selected", chosen, able, rate))

    fits(context, case, partial(sampled, context, case), counts)
