"""Cases in which a probability of the policy is that of one word w, times 2⁻³².

A threshold is a number of 32 bits.  Drawn probabilities tell it from one of 16 or 24 bits once in
a great many words; here the policy is made for a word that the case will draw, so that the
decision turns at exactly that word: w < T(w / 2³²) is false, w < T((w + a) / 2³²) is true for any
a > 0, however small.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.cases.masks import ROWS, SPECIAL, MaskRecipe
from mlm_conformance.cases.model import MaskCase
from mlm_conformance.cases.numbers import generator
from mlm_spec import Bernoulli, Corruption, Selection, Span, Stream, WholeWord, random_words

__all__ = ["EDGES", "EdgeRecipe"]

_Cell = tuple[int, int]
_THIRDS = Corruption("1/3", "1/3", "1/3")
_LENGTHS = ("1/2", "1/4", "1/4")
# What turns: a selection, by law; the length of a span; a kind, by unit.
EDGES = (
    *("a token is selected", "a word is selected", "a span starts", "a span is longer than 1"),
    *("a token shows the mask id", "a token keeps its id"),
    *("a word shows the mask id", "a span shows the mask id"),
)


@dataclass(frozen=True, slots=True)
class EdgeRecipe:
    """What turns, on which side of the word the threshold lies, and a seed for the rest."""

    what: str
    below: bool
    seed: int

    def build(self, run_seed: int) -> MaskCase:
        """The case; equal recipes and run seeds give equal cases."""
        base = MaskRecipe("word", "1/2", "1/3 1/3 1/3", "token", 32, 0, ROWS, self.seed)
        case = base.build(run_seed)
        cell = self._cell(case, generator(run_seed, self.seed + 1))
        selection, corruption = self._laws(case, cell)
        policy = replace(case.policy, selection=selection, corruption=corruption)
        side = "below" if self.below else "not below"
        about = f"the word that decides whether {self.what} is {side} its threshold"
        return replace(case, policy=policy, about=about)

    def _laws(self, case: MaskCase, cell: _Cell) -> tuple[Selection, Corruption]:
        """The law and the weights that turn at a word of the cell."""
        if self.what == "a token is selected":
            return Bernoulli(self._edge(case, cell, Stream.TOKEN, 0)), _THIRDS
        if self.what == "a word is selected":
            return WholeWord(self._edge(case, _leader(case, cell), Stream.RANK, 0)), _THIRDS
        if self.what == "a span starts":
            return Span(self._edge(case, cell, Stream.SPAN, 0), _LENGTHS), _THIRDS
        if self.what == "a span is longer than 1":
            one = self._edge(case, cell, Stream.SPAN, 1)
            return Span(_only_start(case, cell), (one, 1 - one)), _THIRDS
        return self._kinds(case, cell)

    def _kinds(self, case: MaskCase, cell: _Cell) -> tuple[Selection, Corruption]:
        if self.what == "a word shows the mask id":
            mask = self._edge(case, _leader(case, cell), Stream.TOKEN, 1)
            return Bernoulli(1), Corruption(mask, 1 - mask, 0, "word")
        mask = self._edge(case, cell, Stream.TOKEN, 1)
        if self.what == "a span shows the mask id":
            return Span(_only_start(case, cell), _LENGTHS), Corruption(mask, 1 - mask, 0, "span")
        if self.what == "a token keeps its id":
            return Bernoulli(1), Corruption(mask / 2, mask / 2, 1 - mask)
        return Bernoulli(1), Corruption(mask, 1 - mask, 0)

    def _cell(self, case: MaskCase, rng: np.random.Generator) -> _Cell:
        """A candidate; for spans that with the smallest word, which no other span covers."""
        candidate = case.eligible & ~np.isin(case.tokens, SPECIAL)
        if self.what == "a span is longer than 1":  # it has to show at the next position
            candidate[:, :-1] &= candidate[:, 1:]
            candidate[:, -1] = False
        able = np.argwhere(candidate)
        if "span" in self.what:
            starts = _words(case, Stream.SPAN, 0)
            return min(((int(b), int(t)) for b, t in able), key=lambda cell: int(starts[cell]))
        row, column = rng.choice(able)
        return int(row), int(column)

    def _edge(self, case: MaskCase, cell: _Cell, stream: Stream, number: int) -> Fraction:
        """(w + a) / 2³² if the word is to be below, else (w − 1 + a) / 2³², for an a up to 1."""
        word = int(_words(case, stream, number)[cell])
        # The least that is above a word: what rounds, or has fewer digits, takes it for the word.
        above = (Fraction(1), Fraction(1, 3), Fraction(1, 2**40))[self.seed % 3]
        return max(Fraction(0), word + (above if self.below else above - 1)) / 2**32


def _words(case: MaskCase, stream: Stream, number: int) -> NDArray[Any]:
    """One of the four words of each cell, uint32 (B, T)."""
    return random_words(case.seed, case.epoch, case.sequence_id, case.position, stream)[number]


def _only_start(case: MaskCase, cell: _Cell) -> Fraction:
    """The rate at which a span starts at the cell, and at no candidate with a larger word."""
    return Fraction(int(_words(case, Stream.SPAN, 0)[cell]) + 1, 2**32)


def _leader(case: MaskCase, cell: _Cell) -> _Cell:
    """The first candidate of the cell's word."""
    row = cell[0]
    assert case.word_id is not None
    able = case.eligible[row] & ~np.isin(case.tokens[row], SPECIAL)
    same = able & (case.word_id[row] == case.word_id[cell])
    return row, int(np.flatnonzero(same)[0])
