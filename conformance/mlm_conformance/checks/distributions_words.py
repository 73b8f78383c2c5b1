"""Chapter DST on whole words: maskers that know words, by the distribution of their masks."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.cases.distributions import POOL, WordDrawRecipe
from mlm_conformance.cases.model import SampleWordsCase, candidates
from mlm_conformance.check import Context, Violation, check, table
from mlm_conformance.checks.common import renamed, sampled
from mlm_conformance.distributions.judge import Tally, fits
from mlm_conformance.distributions.pairs import Shown, evenly, kinds_of_both, same_ids
from mlm_conformance.distributions.proofs import proof
from mlm_conformance.distributions.relations import enough, require_no_relation
from mlm_conformance.distributions.words import Word, couples, words_of

__all__: list[str] = []  # importing the module registers its checks

Array = NDArray[Any]
_BERT = "4/5 1/10 1/10"
_KINDS = ("1/2 0 1/2", "1/2 1/2 0", _BERT)
#: Where all words are selected, and where a few are.
_BY_WORD = [
    *(WordDrawRecipe("1", k, "word") for k in _KINDS),
    WordDrawRecipe("3/20", _BERT, "word"),
]
_SAME = Fraction(1, len(POOL))  # a random id is the original one with this probability


def _words(case: SampleWordsCase) -> list[Word]:
    return words_of(case.word_id, candidates(case))


def _at(array: Array, words: list[Word], piece: int) -> Array:
    """What an (n, B, T) array holds at one piece of each word: (n, words)."""
    return array[:, [w.row for w in words], [w.columns[piece] for w in words]]


def _pieces(happened: Array, words: list[Word]) -> Array:
    """On how many pieces of each word something happened, of a bool (n, B, T): (n, words)."""
    counts = np.zeros((len(happened), len(words)), np.int64)
    for piece in range(max((len(word.columns) for word in words), default=0)):
        some = [i for i, word in enumerate(words) if len(word.columns) > piece]
        counts[:, some] += _at(happened, [words[i] for i in some], piece)
    return counts


def _shown(
    case: SampleWordsCase, inputs: Array, labels: Array, words: list[Word], piece: int = 0
) -> Shown:
    """What one piece of each word shows: (n, words)."""
    tokens = np.broadcast_to(case.tokens, inputs.shape)
    return Shown(*(_at(array, words, piece) for array in (tokens, inputs, labels != -100)))


def _ends(
    what: str, case: SampleWordsCase, inputs: Array, labels: Array, words: list[Word]
) -> tuple[str, Shown, Shown]:
    """The first and the last piece of each word."""
    first, last = (_shown(case, inputs, labels, words, piece) for piece in (0, -1))
    return what, first, last


def _repeated(
    context: Context, case: SampleWordsCase, inputs: Array, labels: Array, words: list[Word]
) -> Iterator[tuple[str, Shown, Shown]]:
    """The first piece of each word, in two samples and in two calls."""
    shown = _shown(case, inputs, labels, words)
    yield "words in two samples", shown.at(np.s_[0 : len(inputs) - 1 : 2]), shown.at(np.s_[1::2])
    other = renamed(case)
    again = _shown(other, *sampled(context, other, len(inputs)), words)
    yield "words in two calls", shown.at(np.s_[::2]), again.at(np.s_[::2])  # as many as of samples


def _rate(case: SampleWordsCase) -> Fraction:
    return Fraction(case.policy.selection.rate)  # type: ignore[union-attr]


def _differing(one: Array, other: Array, words: list[Word]) -> tuple[int, Word, int] | None:
    """How many words two facts (n, words) differ on, the first such word and its sample."""
    differs = one != other
    if not differs.any():
        return None
    sample, word = np.argwhere(differs)[0].tolist()
    return int(differs.sum()), words[word], sample


def _pairs(words: list[Word]) -> Iterator[tuple[list[Word], int, int]]:
    """The first piece of each word beside each later one: words, first piece, later piece."""
    for piece in range(1, max((len(w.columns) for w in words), default=0)):
        yield [w for w in words if len(w.columns) > piece], 0, piece


@check(
    "MLM-DST-8",
    port="sample_words",
    recipes=table([WordDrawRecipe("3/20"), WordDrawRecipe("1/2")]),
    needs=("words selected", "words not selected", "pieces"),
)
def words_are_selected_whole(context: Context, case: SampleWordsCase) -> None:
    """The first half of a word is proof of the contrary."""
    _, labels = sampled(context, case, case.n)
    chosen, words = labels != -100, _words(case)
    first = _at(chosen, words, 0)
    context.saw("words selected", first.sum())
    context.saw("words not selected", (~first).sum())
    trials = case.n * sum(len(word.columns) > 1 for word in words)
    context.sees(*([proof("words selected in part", trials)] if trials else []))
    for several, one, other in _pairs(words):
        found = _differing(_at(chosen, several, one), _at(chosen, several, other), several)
        context.saw("pieces", len(several) * case.n)
        if found is not None:
            count, word, sample = found
            seen = chosen[sample, word.row, list(word.columns)].astype(int).tolist()
            raise Violation(
                f"word {word.id} of row {word.row} is selected in part: its pieces, in columns "
                f"{list(word.columns)}, are selected as {seen} ({count} such words) [{case}]",
                "selected",
            )


@check(
    "MLM-DST-9",
    port="sample_words",
    recipes=table([WordDrawRecipe("3/20"), WordDrawRecipe("2/5")]),
    needs=("trials",),
)
def words_are_selected_at_the_rate(context: Context, case: SampleWordsCase) -> None:
    """All words; those of each length; the first, the second and so on of each row."""
    words = _words(case)

    def counts(inputs: Array, labels: Array) -> list[Tally]:
        chosen = _at(labels != -100, words, 0)
        sizes = np.array([len(w.columns) for w in words])
        places = np.array([w.place for w in words])
        groups = [("words", sizes > 0)]
        groups += [(f"words of {n} pieces", sizes == n) for n in np.unique(sizes)]
        groups += [(f"words in place {p} of their row", places == p) for p in np.unique(places)]
        return [
            Tally(f"selected {what}", int(own.sum()), own.size, _rate(case))
            for what, which in groups
            for own in [chosen[:, which]]
            if own.size
        ]

    fits(context, case, partial(sampled, context, case), counts)


@check(
    "MLM-DST-10",
    port="sample_words",
    recipes=table([WordDrawRecipe("3/20")]),
    needs=("trials",),
)
def words_are_selected_independently(context: Context, case: SampleWordsCase) -> None:
    """Words of one row, words of two rows with one id, one word in two masks and in two calls."""
    words = _words(case)

    def counts(inputs: Array, labels: Array) -> list[Tally]:
        chosen = _at(labels != -100, words, 0)
        found = []
        for what, left, right in couples(words):
            both = chosen[:, left] & chosen[:, right]
            found.append((f"{what}, both selected", both, p))
        for what, one, other in _repeated(context, case, inputs, labels, words):
            found.append((f"{what}, both selected", one.selected & other.selected, p))
        return evenly(found)

    p = _rate(case) ** 2
    fits(context, case, partial(sampled, context, case), counts)


@check(
    "MLM-DST-10",
    port="sample_words",
    recipes=table([WordDrawRecipe("1/2", rows=rows) for rows in (1, 5)]),
    needs=("relations",),
)
def no_words_decide_one_another(context: Context, case: SampleWordsCase) -> None:
    """Not any two of a batch, wherever they are; nor is one the parity of others."""
    words = _words(case)
    _, labels = sampled(context, case, max(case.n, enough(len(words))))
    require_no_relation(context, "words", _at(labels != -100, words, 0).T)


@check(
    "MLM-DST-3",
    port="sample_words",
    recipes=table(_BY_WORD),
    needs=("trials",),
)
def words_show_the_three_kinds(context: Context, case: SampleWordsCase) -> None:
    """By the first piece of each word, which has the word's kind."""
    words, shares = _words(case), case.policy.corruption
    kept = shares.keep + shares.random * _SAME

    def counts(inputs: Array, labels: Array) -> list[Tally]:
        tokens, inputs, selected = _shown(case, inputs, labels, words)
        return evenly(
            (f"words whose first piece shows {what}", seen[selected], Fraction(p))
            for what, seen, p in (
                ("the mask id", inputs == case.policy.mask_id, shares.mask),
                ("its token", inputs == tokens, kept),
            )
        )

    fits(context, case, partial(sampled, context, case), counts)


@check(
    "MLM-DST-11",
    port="sample_words",
    recipes=table(_BY_WORD),
    needs=("words that show the mask id", "words that do not"),
)
def a_word_shows_one_kind(context: Context, case: SampleWordsCase) -> None:
    """The mask id on a part of a word is proof of the contrary."""
    inputs, labels = sampled(context, case, case.n)
    words, chosen, masked = _words(case), labels != -100, inputs == case.policy.mask_id
    first, selected = _at(masked, words, 0), _at(chosen, words, 0)
    context.saw("words that show the mask id", (first & selected).sum())
    context.saw("words that do not", (~first & selected).sum())
    hidden, plain = _pieces(chosen & masked, words), _pieces(chosen & ~masked, words)
    trials = int((hidden + plain > 1).sum())
    context.sees(*([proof("words that show the mask id in part", trials)] if trials else []))
    found = _differing((hidden > 0) & (plain > 0), np.zeros(hidden.shape, np.bool_), words)
    if found is not None:
        count, word, sample = found
        shown = inputs[sample, word.row, list(word.columns)].tolist()
        raise Violation(
            f"word {word.id} of row {word.row} shows the mask id, {case.policy.mask_id}, on a "
            f"part of its pieces: {shown} ({count} such words) [{case}]",
            "inputs",
        )


@check(
    "MLM-DST-11",
    port="sample_words",
    recipes=table([WordDrawRecipe(rate, "1/3 1/3 1/3", "word") for rate in ("1", "1/2")]),
    needs=("trials",),
)
def a_word_is_kept_or_random_as_a_whole(context: Context, case: SampleWordsCase) -> None:
    """A random id may be the original one: a word that seems to be of both kinds is rare."""
    words = [w for w in _words(case) if len(w.columns) > 1]
    p = Fraction(case.policy.corruption.random) * _SAME * (1 - _SAME)

    def counts(inputs: Array, labels: Array) -> list[Tally]:
        _, first, last = _ends("", case, inputs, labels, words)
        masked = last.inputs == case.policy.mask_id
        mixed = (first.inputs == first.tokens) & (last.inputs != last.tokens) & ~masked
        what = "words with their token on the first piece and another id on the last"
        return evenly([(what, mixed[first.selected & last.selected], p)])

    fits(context, case, partial(sampled, context, case), counts)


@check(
    "MLM-DST-12",
    port="sample_words",
    recipes=table(
        [
            WordDrawRecipe("1", "1/2 0 1/2", "token"),
            WordDrawRecipe("1/2", "1/3 1/3 1/3", "token"),
        ]
    ),
    needs=("trials",),
)
def pieces_of_a_word_show_kinds_of_their_own(context: Context, case: SampleWordsCase) -> None:
    """First and last pieces, and the first one of a word in two samples and in two calls."""
    words = _words(case)
    groups = [
        ("words of two pieces", [w for w in words if len(w.columns) == 2]),
        ("first and last piece of longer words", [w for w in words if len(w.columns) > 2]),
    ]

    def counts(inputs: Array, labels: Array) -> list[Tally]:
        twos = [
            *(_ends(what, case, inputs, labels, own) for what, own in groups),
            *_repeated(context, case, inputs, labels, words),
        ]
        return evenly(
            test
            for what, one, other in twos
            for test in kinds_of_both(what, one, other, case.policy)
        )

    fits(context, case, partial(sampled, context, case), counts)


@check(
    "MLM-DST-20",
    port="sample_words",
    recipes=table([WordDrawRecipe("1", kinds, "word") for kinds in ("0 1 0", "1/2 1/2 0")]),
    needs=("trials",),
)
def pieces_of_a_word_draw_ids_of_their_own(context: Context, case: SampleWordsCase) -> None:
    """First and last pieces, and the first one of a word in two samples and in two calls."""
    words = _words(case)
    several = [w for w in words if len(w.columns) > 1]

    def counts(inputs: Array, labels: Array) -> list[Tally]:
        twos = [
            _ends("first and last pieces", case, inputs, labels, several),
            *_repeated(context, case, inputs, labels, words),
        ]
        return evenly(same_ids(what, one, other) for what, one, other in twos)

    fits(context, case, partial(sampled, context, case), counts)
