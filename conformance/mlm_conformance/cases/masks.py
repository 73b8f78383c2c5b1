"""Cases for the maskers, and how to lay the same sequences out differently."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import cycle
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from mlm_conformance.cases.model import MaskCase, SampleCase, SampleParallelCase, SampleWordsCase
from mlm_conformance.cases.numbers import generator
from mlm_spec import (
    Bernoulli,
    Corruption,
    FixedCount,
    MaskingPolicy,
    Selection,
    Span,
    WholeWord,
    split_words,
)

__all__ = [
    "CLS",
    "LAWS",
    "MASK",
    "PAD",
    "SEP",
    "UNITS",
    "MaskRecipe",
    "SampleRecipe",
    "SampleWordsRecipe",
    "law_units",
    "mask_recipes",
    "rearrange",
    "sample_parallel_recipes",
    "sample_recipes",
    "sample_words_recipes",
]

PAD, CLS, SEP, MASK = 0, 1, 2, 3
SPECIAL = (PAD, CLS, SEP, MASK)
ROWS = (4, 16)
PACKED = (2, 32)

LAWS = ("bernoulli", "count", "word", "span")
UNITS = ("token", "word", "span")
RATES = ("1/2", "3/20", "3/10", "1/7", "2/3")
KINDS = ("4/5 1/10 1/10", "1/3 1/3 1/3", "0 1 0", "1 0 0", "0 0 1", "1/2 1/2 0")
LENGTHS = (("1",), ("1/2", "1/4", "1/4"), ("1/5", "1/5", "1/5", "1/5", "1/5"))
COUNTS: tuple[dict[str, Any], ...] = (
    {},
    {"rounding": "half_even", "floor": 1, "cap": 20, "base": "all"},
    {"rounding": "ceiling"},
    {"floor": 2},
    {"cap": 3, "base": "all"},
    {"rounding": "half_even"},
    {"rounding": "ceiling", "floor": 9},
    {"cap": 0},
)
VOCABS = (32, 1000, 250_006)


@dataclass(frozen=True, slots=True)
class MaskRecipe:
    """What a `MaskCase` is made from: a policy in words, and a seed for the rest."""

    law: str  # "bernoulli", "count", "word" or "span"
    rate: str
    kinds: str  # three weights: mask, random, keep
    unit: str
    vocab: int
    variant: int  # which of the law's further parameters
    shape: tuple[int, int]
    seed: int

    def policy(self) -> MaskingPolicy:
        """The policy these words name."""
        pools = ("regular", "regular", "all", (5,), (4, 7, 11, 19))
        return MaskingPolicy(
            self._selection(),
            self._corruption(),
            vocab_size=self.vocab,
            mask_id=MASK,
            pad_id=PAD,
            special_ids=(PAD, CLS, SEP) if self.variant % 3 == 2 else SPECIAL,
            pool=pools[self.variant % len(pools)],  # type: ignore[arg-type]
        )

    def _corruption(self) -> Corruption:
        mask, random, keep = self.kinds.split()
        return Corruption(mask, random, keep, self.unit)  # type: ignore[arg-type]  # checked there

    def _selection(self) -> Selection:
        rate = Fraction(self.rate)
        if self.law == "bernoulli":
            return Bernoulli(rate)
        if self.law == "count":
            return FixedCount(rate, **COUNTS[self.variant % len(COUNTS)])
        if self.law == "word":
            return WholeWord(rate)
        lengths = LENGTHS[self.variant % len(LENGTHS)]
        return Span(rate, lengths)

    def build(self, run_seed: int) -> MaskCase:
        """The case; equal recipes and run seeds give equal cases."""
        rng = generator(run_seed, self.seed)
        rows, columns = self.shape
        cells = [_row(rng, columns, self.vocab) for _ in range(rows)]
        tokens, sequence, position, words, eligible = (
            np.stack(part) for part in zip(*cells, strict=True)
        )
        policy = self.policy()
        if MASK not in policy.special_ids:  # then it is a token like any other
            real = eligible & ~np.isin(tokens, SPECIAL)
            tokens[real & (rng.random(tokens.shape) < 0.1)] = MASK
        if self.seed % 3 == 2:  # rows whose sequences share the low word, and only that
            high = rng.permutation(2**10)[:rows].astype(np.uint64)[:, None]
            sequence = (high << np.uint64(32)) | (sequence[:1, :1] & np.uint64(2**32 - 1))
            sequence = np.broadcast_to(sequence, tokens.shape)
        return MaskCase(
            tokens.astype(rng.choice(["int32", "int64"])),
            split_words(sequence),
            position.astype(np.uint32),
            words.astype(np.int32),
            eligible,
            policy,
            seed=_key(rng),
            epoch=_key(rng),
            salt=self.seed,
            about=f"rate {self.rate}, {self.kinds} by {self.unit}",
        )


def _key(rng: np.random.Generator) -> int:
    """A seed or an epoch: small, around 2³², or any of 64 bits."""
    keys = (0, 1, 2**32 - 1, 2**32, 2**64 - 1, int(rng.integers(2**63)))
    return keys[rng.integers(len(keys))]


Cells = tuple[NDArray[Any], ...]


def _row(rng: np.random.Generator, columns: int, vocab: int) -> Cells:
    """One sequence, [CLS] … [SEP] and padding; now and then not at the start of its source."""
    length = columns if columns == 1 else int(rng.integers(max(columns // 2, 1), columns + 1))
    tokens = np.full(columns, PAD, np.int64)
    tokens[:length] = rng.integers(len(SPECIAL), vocab, size=length)
    words = np.full(columns, -1, np.int64)
    words[:length] = np.cumsum(rng.random(length) < 0.6)
    if rng.random() < 0.4:  # words that come back, ids below 0, ids beyond 16 bits
        words[:length] = words[:length] % 4 + rng.choice([-4, 0, 65534])
    if rng.random() < 0.2:
        words[:length] += 2**16 * (np.arange(length) % 2)
    if length > 2:
        tokens[0], tokens[length - 1] = CLS, SEP
        words[[0, length - 1]] = -1
    start = int(rng.choice([0, 0, 0, 500, 2**32 - columns]))
    sequence = np.full(columns, rng.integers(2**63), np.uint64)
    if rng.random() < 0.3:
        sequence %= np.uint64(1000)
    eligible = (np.arange(columns) < length) & (rng.random(columns) < 0.95)
    return tokens, sequence, start + np.arange(columns), words, eligible


def law_units(
    laws: Sequence[str] = LAWS, units: Sequence[str] = UNITS
) -> tuple[tuple[str, str], ...]:
    """Each law with each unit that it may have: spans share a kind under their own law alone."""
    return tuple((law, unit) for unit in units for law in laws if unit != "span" or law == "span")


def mask_recipes(
    laws: Sequence[str] = LAWS,
    rates: Sequence[str] = RATES,
    kinds: Sequence[str] = KINDS,
    units: Sequence[str] = ("token",),
    vocabs: Sequence[int] = VOCABS,
    shapes: Sequence[tuple[int, int]] = (ROWS,),
) -> tuple[st.SearchStrategy[MaskRecipe], tuple[MaskRecipe, ...]]:
    """A strategy, and the recipes that are always in.

    These are each law with each of the units that it may have, and each kind of weights, in turn.
    """
    pairs = law_units(laws, units)
    strategy = st.builds(
        lambda pair, rate, kind, *rest: MaskRecipe(pair[0], rate, kind, pair[1], *rest),
        st.sampled_from(pairs),
        st.sampled_from(list(rates)),
        st.sampled_from(list(kinds)),
        st.sampled_from(list(vocabs)),
        st.integers(0, 29),
        st.sampled_from(list(shapes)),
        st.integers(0, 2**32 - 1),
    )
    turns = zip(range(max(len(pairs), len(kinds))), cycle(pairs), cycle(kinds), strict=False)
    always = [
        MaskRecipe(law, rates[0], kind, unit, vocabs[0], i, shapes[0], i)
        for i, (law, unit), kind in turns
    ]
    return strategy, tuple(always)


@dataclass(frozen=True, slots=True)
class SampleRecipe:
    """What a `SampleCase` is made from: Bernoulli 15% by BERT's weights unless said otherwise."""

    rate: str
    kinds: str
    seed: int
    law: str = "bernoulli"

    def build(self, run_seed: int) -> SampleCase:
        """The case; equal recipes and run seeds give equal cases."""
        recipe = MaskRecipe(self.law, self.rate, self.kinds, "token", 32, 0, ROWS, self.seed)
        case = recipe.build(run_seed)
        real = case.eligible & ~np.isin(case.tokens, SPECIAL)
        tokens = case.tokens.astype(np.int64)
        about = f"rate {self.rate}, {self.kinds}"
        return SampleCase(tokens, real, case.policy, 64, self.seed, about)


def sample_recipes(
    rates: Sequence[str] = ("3/20", "1/2"), kinds: Sequence[str] = ("4/5 1/10 1/10",)
) -> tuple[st.SearchStrategy[SampleRecipe], tuple[SampleRecipe, ...]]:
    """A strategy, and the recipes that are always in."""
    strategy = st.builds(
        SampleRecipe,
        st.sampled_from(list(rates)),
        st.sampled_from(list(kinds)),
        st.integers(0, 2**32 - 1),
    )
    always = tuple(SampleRecipe(rate, kind, i) for i, rate in enumerate(rates) for kind in kinds)
    return strategy, always


@dataclass(frozen=True, slots=True)
class SampleWordsRecipe:
    """What a `SampleWordsCase` is made from: words of a few pieces, some ineligible."""

    rate: str
    kinds: str
    seed: int

    def build(self, run_seed: int) -> SampleWordsCase:
        """The case; equal recipes and run seeds give equal cases."""
        recipe = MaskRecipe("word", self.rate, self.kinds, "token", 32, 0, ROWS, self.seed)
        case = recipe.build(run_seed)
        assert case.word_id is not None
        real = case.eligible & ~np.isin(case.tokens, SPECIAL)
        tokens, about = case.tokens.astype(np.int64), f"word rate {self.rate}, {self.kinds}"
        return SampleWordsCase(tokens, real, case.word_id, case.policy, 64, self.seed, about)


@dataclass(frozen=True, slots=True)
class SampleParallelRecipe:
    """What a `SampleParallelCase` is made from: as a `SampleRecipe`, with several makers."""

    rate: str
    kinds: str
    seed: int

    def build(self, run_seed: int) -> SampleParallelCase:
        """The case; equal recipes and run seeds give equal cases."""
        case = SampleRecipe(self.rate, self.kinds, self.seed).build(run_seed)
        rows, makers = (case.tokens, case.eligible, case.policy), (3, 2, 2)
        return SampleParallelCase(*rows, *makers, n=8, salt=case.salt, about=case.about)


def sample_parallel_recipes(
    rates: Sequence[str] = ("3/20", "1/2"), kinds: Sequence[str] = ("4/5 1/10 1/10",)
) -> tuple[st.SearchStrategy[SampleParallelRecipe], tuple[SampleParallelRecipe, ...]]:
    """A strategy, and the recipes that are always in."""
    strategy = st.builds(
        SampleParallelRecipe,
        st.sampled_from(list(rates)),
        st.sampled_from(list(kinds)),
        st.integers(0, 2**32 - 1),
    )
    pairs = [(rate, kind) for rate in rates for kind in kinds]
    return strategy, tuple(SampleParallelRecipe(*pair, i) for i, pair in enumerate(pairs))


def sample_words_recipes(
    rates: Sequence[str] = ("3/20", "1/2"), kinds: Sequence[str] = ("1 0 0",)
) -> tuple[st.SearchStrategy[SampleWordsRecipe], tuple[SampleWordsRecipe, ...]]:
    """A strategy, and recipes that are always in: not all maskers of words have other kinds."""
    strategy = st.builds(
        SampleWordsRecipe,
        st.sampled_from(list(rates)),
        st.sampled_from(list(kinds)),
        st.integers(0, 2**32 - 1),
    )
    always = tuple(
        SampleWordsRecipe(rate, kind, i) for i, rate in enumerate(rates) for kind in kinds
    )
    return strategy, always


def rearrange(
    case: MaskCase, places: NDArray[np.int64], shape: tuple[int, int], seed: int
) -> MaskCase:
    """The same cells somewhere else; what is left over is padding of other sequences.

    Parameters
    ----------
    case : (B, T).
    places : int64 (B, T): the flat index in ``shape`` that each cell moves to; -1 leaves it out.
    shape : (B', T').
    seed : for the sequence ids of the padding.
    """
    moved = places.reshape(-1) >= 0
    to = places.reshape(-1)[moved]

    def carry(cells: NDArray[Any], filler: Any) -> NDArray[Any]:
        flat = cells.reshape(moved.size, *cells.shape[2:])
        out = np.empty((shape[0] * shape[1], *cells.shape[2:]), cells.dtype)
        out[:] = filler
        out[to] = flat[moved]
        return out.reshape(*shape, *cells.shape[2:])

    rng = generator(seed, 1)
    spare = split_words(rng.integers(2**63, 2**64 - 1, size=shape[0] * shape[1], dtype=np.uint64))
    assert case.word_id is not None
    return replace(
        case,
        tokens=carry(case.tokens, PAD),
        sequence_id=carry(case.sequence_id, spare),
        position=carry(case.position, 0),
        word_id=carry(case.word_id, -1),
        eligible=carry(case.eligible, False),
    )
