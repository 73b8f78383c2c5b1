"""Cases for the distribution of masks from anywhere: sizes, ids, rates, shares and candidates.

A masker may be right at one size and one vocabulary only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.cases.anywhere import uniform_by_size
from mlm_conformance.cases.anywhere_masks import AnywhereMask
from mlm_conformance.cases.distributions import COSTLY_DRAWS, POOL, SHAPE, plain_policy
from mlm_conformance.cases.model import SampleCase, SampleParallelCase, SampleWordsCase
from mlm_conformance.cases.numbers import generator
from mlm_conformance.distributions.relations import enough
from mlm_spec import Bernoulli, Corruption, FixedCount, MaskingPolicy, WholeWord

__all__ = [
    "AnywhereCount",
    "AnywhereDraw",
    "AnywhereWords",
    "EvenDraw",
    "FairDraw",
    "WideDraw",
    "WideParallelDraw",
    "anywhere_series",
    "count_series",
    "even_series",
    "fair_series",
    "may_be_declined",
    "words_series",
]

_CELLS, _DRAWS = 2**16, 2**10  # positions of a first look, and masks at most
#: More sizes than this tell nothing new of a distribution: each has its own share of the error.
_MOST_SIZES = 8
_PAD = 0
#: The largest vocabulary that a tokenizer is expected to be made for.
_LARGEST = 2**20
_CONTENTS = 2**44
#: An odd multiple of 9, of which 7/18 is a whole number and a half.
_TIES = 99
#: Columns of which any two of some hundred rows agree in about half.
_WIDE = 1024


@dataclass(frozen=True, slots=True)
class AnywhereDraw:
    """What a `SampleCase` from anywhere is made from, with a Bernoulli law.

    Three of four policies are such as most maskers can be asked for; the fourth is any.

    Attributes
    ----------
    number : which of the run's sizes.
    """

    number: int

    def build(self, run_seed: int) -> SampleCase:
        """The case; equal recipes and run seeds give equal cases."""
        # The sizes of masks change with every second number.
        drawn = AnywhereMask(2 * self.number, "bernoulli").build(run_seed)
        tokens, policy = drawn.tokens, drawn.policy
        if self.number % 4 != 3:
            rng = generator(run_seed, _CONTENTS + self.number)
            policy = _usual(rng, self.number)
            tokens = rng.integers(policy.vocab_size, size=tokens.shape)
            some = rng.choice(np.array(policy.special_ids), size=tokens.shape)
            tokens = np.where(rng.random(tokens.shape) < rng.choice([0.0, 0.1]), some, tokens)
            length = rng.integers(tokens.shape[1] // 2, tokens.shape[1] + 1, len(tokens))
            pads = np.arange(tokens.shape[1]) >= length[:, None]
            tokens = np.where(pads & (rng.random(len(tokens)) < 0.5)[:, None], _PAD, tokens)
        n = min(max(2, _CELLS // tokens.size), _DRAWS)
        return SampleCase(tokens, drawn.eligible, policy, n, about="from anywhere")


def _usual(rng: np.random.Generator, number: int) -> MaskingPolicy:
    vocab = uniform_by_size(rng, 2**16 if number % 4 == 1 else 16, 250_002)
    special = (_PAD, *(int(i) for i in rng.choice(np.arange(1, 8), size=3, replace=False)))
    rate = Fraction(1, 200) if number % 4 == 2 else Fraction(int(rng.integers(1, 60)), 100)
    masked, random = int(rng.integers(5, 80)), int(rng.integers(5, 16))
    mask, replace, keep = (Fraction(n, 100) for n in (masked, random, 100 - masked - random))
    return MaskingPolicy(
        Bernoulli(rate if number else "3/20"),
        Corruption("4/5", "1/10", "1/10") if number % 2 == 0 else Corruption(mask, replace, keep),
        vocab,
        mask_id=special[1],
        pad_id=_PAD,
        special_ids=special,
    )


def may_be_declined(policy: MaskingPolicy) -> bool:
    """Whether few maskers can be asked for it, so that declining it is no lack of a requirement."""
    usual = policy.mask_id in policy.special_ids and policy.pool == "regular"
    return not usual or policy.pad_id is None or policy.vocab_size > _LARGEST


@dataclass(frozen=True, slots=True)
class FairDraw:
    """What a `SampleCase` is made from whose positions are selected, or masked, with 1/2 each.

    Attributes
    ----------
    number : 0: the usual shape; others: which of the run's sizes.
    rate, kinds : of the policy.
    """

    number: int
    rate: str
    kinds: str

    def build(self, run_seed: int) -> SampleCase:
        """The case; equal recipes and run seeds give equal cases."""
        shape, rng = SHAPE, np.random.default_rng([run_seed, self.number])
        if self.number:
            shape = AnywhereMask(2 * self.number, "bernoulli").build(run_seed).tokens.shape
        rows, columns = shape
        n = max(-(-enough(columns) // rows), -(-enough(rows) // columns))
        tokens = rng.choice(np.array(POOL), size=shape)
        policy = plain_policy(Bernoulli(self.rate), self.kinds)
        about = f"rate {self.rate}, {self.kinds}, sizes from anywhere"
        return SampleCase(tokens, np.ones(shape, np.bool_), policy, n, about=about)


def anywhere_series(number: int) -> Sequence[AnywhereDraw]:
    """One case for each of the first sizes; two are always in."""
    return [AnywhereDraw(number + 2)] if number < _MOST_SIZES else []


def fair_series(rate: str, kinds: str) -> Callable[[int], Sequence[FairDraw]]:
    """One case for each of the first sizes; two are always in."""
    return lambda number: [FairDraw(number + 2, rate, kinds)] if number < _MOST_SIZES else []


@dataclass(frozen=True, slots=True)
class AnywhereCount:
    """What a `SampleCase` from anywhere with a fixed count is made from.

    Attributes
    ----------
    number : which of the run's sizes; of three in turn one has rows of a hundred candidates and
        more, at a rate with which counts beyond 20 are usual.
    """

    number: int

    def build(self, run_seed: int) -> SampleCase:
        """The case; equal recipes and run seeds give equal cases."""
        rate = None if self.number % 3 else "7/18"
        drawn = AnywhereMask(2 * self.number, "count", rate=rate, kinds="1 0 0").build(run_seed)
        policy = replace(drawn.policy, pool="all")
        tokens, able = drawn.tokens.astype(np.int64), drawn.eligible
        if not self.number % 3:
            tokens = generator(run_seed, _CONTENTS + self.number).choice(
                np.array(POOL), size=(3, _TIES + 36 * self.number)
            )
            able, plain = np.ones(tokens.shape, np.bool_), plain_policy(policy.selection, "1 0 0")
            policy = replace(plain, selection=FixedCount(rate or "7/18"))
        return SampleCase(tokens, able, policy, 4, about="a count from anywhere")


def count_series(number: int) -> Sequence[AnywhereCount]:
    """One case for each size."""
    return [AnywhereCount(number)]


@dataclass(frozen=True, slots=True)
class WideDraw:
    """What a `SampleCase` is made from whose rows are so long that any two can be told apart."""

    rate: str
    kinds: str

    def build(self, run_seed: int) -> SampleCase:
        """The case; equal recipes and run seeds give equal cases."""
        tokens = _wide_tokens(run_seed, 8)
        policy = plain_policy(Bernoulli(self.rate), self.kinds)
        about = f"rate {self.rate}, {self.kinds}, long rows"
        return SampleCase(tokens, np.ones(tokens.shape, np.bool_), policy, 16, about=about)


@dataclass(frozen=True, slots=True)
class WideParallelDraw:
    """What a `SampleParallelCase` is made from, likewise: three epochs, workers and ranks.

    Attributes
    ----------
    rate, kinds : of the policy.
    makers : epochs, workers and ranks.
    rows : of one batch; one will do for many makers.
    """

    rate: str
    kinds: str
    makers: tuple[int, int, int] = (3, 3, 3)
    rows: int = 4

    def build(self, run_seed: int) -> SampleParallelCase:
        """The case; equal recipes and run seeds give equal cases."""
        tokens = _wide_tokens(run_seed, self.rows)
        policy = plain_policy(Bernoulli(self.rate), self.kinds)
        about, able = f"rate {self.rate}, {self.kinds}, long rows", np.ones(tokens.shape, np.bool_)
        return SampleParallelCase(tokens, able, policy, *self.makers, about=about)


def _wide_tokens(run_seed: int, rows: int) -> NDArray[Any]:
    return generator(run_seed, 80).choice(np.array(POOL), size=(rows, _WIDE)).astype(np.int64)


@dataclass(frozen=True, slots=True)
class EvenDraw:
    """What a `SampleCase` is made from in which all positions are alike.

    Attributes
    ----------
    number : 0: the usual shape; others: which of the run's sizes.
    rate, kinds : of the policy.
    """

    number: int
    rate: str
    kinds: str

    def build(self, run_seed: int) -> SampleCase:
        """The case; equal recipes and run seeds give equal cases."""
        shape, rng = SHAPE, generator(run_seed, _CONTENTS + 2**20 + self.number)
        if self.number:
            shape = AnywhereMask(2 * self.number, "bernoulli").build(run_seed).tokens.shape
        tokens = rng.choice(np.array(POOL), size=shape)
        policy = plain_policy(Bernoulli(self.rate), self.kinds)
        n = min(max(16, _CELLS // tokens.size), _DRAWS // 4)
        about = f"rate {self.rate}, {self.kinds}, all alike"
        return SampleCase(tokens, np.ones(shape, np.bool_), policy, n, about=about)


def even_series(*laws: tuple[str, str]) -> Callable[[int], Sequence[EvenDraw]]:
    """For each of the first sizes a case of one of the laws, (rate, kinds), in turn."""

    def series(number: int) -> Sequence[EvenDraw]:
        law = laws[number % len(laws)]
        return [EvenDraw(number + 1, *law)] if number < _MOST_SIZES else []

    return series


@dataclass(frozen=True, slots=True)
class AnywhereWords:
    """What a `SampleWordsCase` from anywhere is made from: words of any names, in any rows.

    The pieces of a word are neighbours, since not all maskers can be told of others; some of them
    are not eligible.

    Attributes
    ----------
    number : which of the run's sizes.
    rate : of words; None: any.
    """

    number: int
    rate: str | None = None

    def build(self, run_seed: int) -> SampleWordsCase:
        """The case; equal recipes and run seeds give equal cases."""
        shape = AnywhereMask(2 * self.number, "word").build(run_seed).tokens.shape
        rng = generator(run_seed, _CONTENTS + 2**21 + self.number)
        order = np.cumsum(rng.random(shape) < 0.4, axis=1)
        names = (self.number + self.number // 4) % 4  # the next time in rows of another size
        words = _names(rng, order, names)[order].astype(np.int32)
        rate = Fraction(int(rng.integers(5, 60)), 100) if self.rate is None else self.rate
        policy = plain_policy(WholeWord(rate), "1 0 0")
        tokens = rng.choice(np.array(POOL), size=shape)
        able = rng.random(shape) < rng.choice([0.8, 1.0])
        n = min(max(COSTLY_DRAWS, _CELLS // 4 // tokens.size), _DRAWS)
        about = f"word rate {rate}, words of any names"
        return SampleWordsCase(tokens, able, words, policy, n, about=about)


def _names(rng: np.random.Generator, order: NDArray[Any], kind: int) -> NDArray[Any]:
    """A name of its own for each word of a row.

    ``kind``: 0, alike in 16 bits; 1, neighbours on both sides of 0; 2, any; 3, the largest.
    """
    ids = np.arange(int(order.max()) + 1)
    if kind == 2:
        found = np.unique(rng.integers(-(2**31), 2**31, size=2 * ids.size))
        return rng.permutation(found)[: ids.size]
    least = (int(rng.integers(2**16)), -(ids.size // 2), 0, 2**31 - ids.size)[kind]
    return least + (ids << 16 if kind == 0 else ids)


def words_series(number: int) -> Sequence[AnywhereWords]:
    """One case for each of the first sizes; four are always in."""
    return [AnywhereWords(number + 4)] if number < _MOST_SIZES else []
