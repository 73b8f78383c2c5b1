"""Cases for the distribution of masks: many positions, few ids, one law at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.cases.masks import CLS, MASK, PAD, SEP, SPECIAL
from mlm_conformance.cases.model import SampleCase, SampleParallelCase, SampleWordsCase
from mlm_conformance.cases.numbers import generator
from mlm_spec import Bernoulli, Corruption, FixedCount, MaskingPolicy, Selection, Span, WholeWord

__all__ = [
    "DRAWS",
    "POOL",
    "SHAPE",
    "UNEVEN",
    "VOCAB",
    "WORD_LENGTHS",
    "DrawRecipe",
    "ParallelDrawRecipe",
    "SpanDrawRecipe",
    "WordDrawRecipe",
    "plain_policy",
]

SHAPE = (64, 64)
VOCAB = 32  # few ids: each is drawn often
#: What random replacements are drawn from: all ids but the special ones.
POOL = tuple(i for i in range(VOCAB) if i not in SPECIAL)
DRAWS = 32  # masks of a first look: 131,072 positions
COSTLY_DRAWS = 16  # of words and spans, which look at neighbours
_HOLES = 8  # so many columns from one place that is no candidate to the next
#: The pieces of the words of a row, which come in an order of its own: one place less than a row.
WORD_LENGTHS = (1,) * 7 + (2,) * 6 + (3,) * 5 + (4,) * 2 + (7,) * 3


#: Rows between [CLS] and [SEP]: how many candidates, and how long with both; the rest is not
#: eligible, and padding follows.  At 3/20, 30 is a tie and 48 is nearer the number below.
UNEVEN = ((48, 62), (30, 40), (14, 30), (2, 4))


@dataclass(frozen=True, slots=True)
class DrawRecipe:
    """What a `SampleCase` is made from.

    Attributes
    ----------
    rate : of selection.
    kinds : shares of mask id, random ids and kept tokens.
    law : ``bernoulli`` or ``count``.
    rows_alike : whether all rows hold the same tokens.
    uneven : whether rows differ in their candidates (`UNEVEN`); otherwise all positions are.
    counted : what else is said of the fixed count, by name.
    pool : of random ids, as a policy has it.
    """

    rate: str
    kinds: str
    law: str = "bernoulli"
    rows_alike: bool = False
    uneven: bool = False
    counted: tuple[tuple[str, Any], ...] = ()
    pool: str | tuple[int, ...] = "regular"

    def build(self, run_seed: int) -> SampleCase:
        """The case; equal recipes and run seeds give equal cases."""
        drawn = (1, SHAPE[1]) if self.rows_alike else SHAPE
        tokens = generator(run_seed, 77).choice(np.array(POOL), size=drawn)
        told = dict(self.counted)
        law = Bernoulli(self.rate) if self.law == "bernoulli" else FixedCount(self.rate, **told)
        policy = replace(plain_policy(law, self.kinds), pool=self.pool)  # type: ignore[arg-type]
        whole = np.broadcast_to(tokens, SHAPE).astype(np.int64).copy()
        able = _with_ends(whole, run_seed) if self.uneven else np.ones(SHAPE, np.bool_)
        told_of = "".join(f", {name} {value}" for name, value in self.counted)
        where = ", rows of several lengths" if self.uneven else ""
        drawn_of = "" if self.pool == "regular" else f", pool {self.pool}"
        about = f"{self.law} rate {self.rate}{told_of}, {self.kinds}{drawn_of}{where}"
        return SampleCase(whole, able, policy, DRAWS, about=about)


def _with_ends(tokens: NDArray[Any], run_seed: int) -> NDArray[np.bool_]:
    """Writes [CLS], [SEP] and padding into tokens, and says what is eligible."""
    rng = generator(run_seed, 79)
    able = np.zeros(SHAPE, np.bool_)
    for place, row in enumerate(rng.permutation(SHAPE[0])):
        candidates, length = UNEVEN[place % len(UNEVEN)]
        tokens[row, 0], tokens[row, length - 1], tokens[row, length:] = CLS, SEP, PAD
        able[row, 1 + rng.permutation(length - 2)[:candidates]] = True
    return able


@dataclass(frozen=True, slots=True)
class SpanDrawRecipe:
    """What a `SampleCase` with a span law is made from.

    Attributes
    ----------
    start : how likely a span starts at a position.
    lengths : the probabilities of the lengths 1, 2 and so on, with blanks between.
    kinds : shares of mask id, random ids and kept tokens.
    unit : what shares one decision of kind.
    holes : whether every eighth column is no candidate, nor the first and the last.
    rows_alike : whether all rows hold the same tokens.
    """

    start: str
    lengths: str
    kinds: str = "1 0 0"
    unit: str = "token"
    holes: bool = False
    rows_alike: bool = False

    def build(self, run_seed: int) -> SampleCase:
        """The case; equal recipes and run seeds give equal cases."""
        policy = plain_policy(Span(self.start, tuple(self.lengths.split())), self.kinds, self.unit)
        tokens, able = _tokens(run_seed), np.ones(SHAPE, np.bool_)
        if self.rows_alike:
            tokens[:] = tokens[0]
        if self.holes:
            _make_holes(tokens, able)
        about = f"span start {self.start}, lengths {self.lengths}, {self.kinds} by {self.unit}"
        about += ", with places that are no candidates" if self.holes else ""
        return SampleCase(tokens, able, policy, COSTLY_DRAWS, about=about)


@dataclass(frozen=True, slots=True)
class WordDrawRecipe:
    """What a `SampleWordsCase` is made from: rows of words of 1, 2, 3, 4 and 7 pieces, then [SEP].

    The words of every row have the ids 0, 1, 2 and so on.

    Attributes
    ----------
    rate : of words, or of their pieces.
    kinds : shares of mask id, random ids and kept tokens.
    unit : what shares one decision of kind.
    law : ``word``; or ``bernoulli`` or ``count``, which select single pieces.
    rows : how many; fewer are drawn the more often.
    """

    rate: str
    kinds: str = "1 0 0"
    unit: str = "token"
    law: str = "word"
    rows: int = SHAPE[0]

    def build(self, run_seed: int) -> SampleWordsCase:
        """The case; equal recipes and run seeds give equal cases."""
        rng = generator(run_seed, 78)
        orders = [rng.permutation(WORD_LENGTHS) for _ in range(self.rows)]
        ids = np.arange(len(WORD_LENGTHS), dtype=np.int32)
        words = np.full((self.rows, SHAPE[1]), -1, np.int32)
        words[:, :-1] = [np.repeat(ids, order) for order in orders]
        tokens = _tokens(run_seed)[: self.rows]
        tokens[:, -1] = SEP
        laws: dict[str, Callable[[str], Selection]] = {
            "word": WholeWord,
            "bernoulli": Bernoulli,
            "count": FixedCount,
        }
        policy = plain_policy(laws[self.law](self.rate), self.kinds, self.unit)
        about = f"{self.law} rate {self.rate}, {self.kinds} by {self.unit}"
        n = COSTLY_DRAWS * SHAPE[0] // self.rows
        return SampleWordsCase(tokens, tokens != SEP, words, policy, n, about=about)


@dataclass(frozen=True, slots=True)
class ParallelDrawRecipe:
    """What a `SampleParallelCase` with every position eligible is made from."""

    rate: str
    kinds: str
    epochs: int = 3
    workers: int = 2
    ranks: int = 3

    def build(self, run_seed: int) -> SampleParallelCase:
        """The case; equal recipes and run seeds give equal cases."""
        able, policy = np.ones(SHAPE, np.bool_), plain_policy(Bernoulli(self.rate), self.kinds)
        many = (self.epochs, self.workers, self.ranks)
        about = f"bernoulli rate {self.rate}, {self.kinds}"
        return SampleParallelCase(_tokens(run_seed), able, policy, *many, about=about)


def _tokens(run_seed: int) -> NDArray[Any]:
    return generator(run_seed, 77).choice(np.array(POOL), size=SHAPE).astype(np.int64)


def _make_holes(tokens: NDArray[Any], able: NDArray[np.bool_]) -> None:
    """Special tokens, and ineligible ones, in turn: in every eighth column, and at both ends."""
    tokens[:, 0], tokens[:, -1] = CLS, SEP
    row, hole = np.mgrid[: SHAPE[0], 1 : SHAPE[1] // _HOLES]
    special, columns = (row + hole) % 2 == 0, slice(_HOLES, -1, _HOLES)
    ids = np.array(SPECIAL)[(row // 2 + hole) % len(SPECIAL)]
    tokens[:, columns] = np.where(special, ids, tokens[:, columns])
    able[:, columns] = special


def plain_policy(law: Selection, kinds: str, unit: str = "token") -> MaskingPolicy:
    """A policy on few ids, with that law and those shares."""
    mask, random, keep = kinds.split()
    return MaskingPolicy(
        law,
        Corruption(mask, random, keep, unit),  # type: ignore[arg-type]  # checked there
        vocab_size=VOCAB,
        mask_id=MASK,
        pad_id=PAD,
        special_ids=SPECIAL,
    )
