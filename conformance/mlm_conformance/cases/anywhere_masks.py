"""Cases for the maskers from anywhere: sizes, policies, ids, words, sequences and keys.

What `mask_recipes` leaves as it is usual (four special ids, one sequence a row, neighbouring
positions, words in order) is drawn here, each from all that the specification allows.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.cases.anywhere import uniform_by_size
from mlm_conformance.cases.masks import law_units
from mlm_conformance.cases.model import MaskCase
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

__all__ = ["AnywhereMask", "every_law", "mask_series"]

# Rows from .. to and columns from .. to.
_ROOMS = (
    ((1, 2), (513, 1024)),
    ((65, 130), (2, 7)),
    ((2, 12), (17, 60)),
    ((1, 40), (1, 9)),
)
#: What comes in place of the longest columns, and of the most rows, every second time.
_LONG, _MANY = (1025, 2100), ((257, 700), (1, 2))
_FEW = 64  # rows
# Ids of a vocabulary from .. to: few, as many as models have, and more than 24 bits count.
_VOCABS = ((2, 60), (100, 250_002), (2**24 + 2, 2**31 - 1))
_SPECIALS = 200  # ids that are no candidates, at most; tokenizers have some hundred sentinels
_STARTS = 6000  # starts of spans that are looked at in all, at most; some cases eight times it
_LONGEST = 64  # positions of a span
_SIZES, _CONTENTS = 2**42, 2**43

Ids = NDArray[np.int64]
Rng = np.random.Generator


@dataclass(frozen=True, slots=True)
class AnywhereMask:
    """What a `MaskCase` from anywhere is made from.

    Attributes
    ----------
    number : which of the run's sizes; two numbers share them.
    law : ``bernoulli``, ``count``, ``word`` or ``span``.
    unit : what shares a kind.
    rate : the selection's, or None: any.
    kinds : three weights, or None: any.
    """

    number: int
    law: str
    unit: str = "token"
    rate: str | None = None
    kinds: str | None = None

    def build(self, run_seed: int) -> MaskCase:
        """The case; equal recipes and run seeds give equal cases."""
        room = generator(run_seed, _SIZES + self.number // 2)
        rows, columns = _ROOMS[self.number // 2 % len(_ROOMS)]
        if self.number // 2 // len(_ROOMS) % 2:
            columns = _LONG if columns[1] == _LONG[0] - 1 else columns
            rows, columns = _MANY if rows[0] > _FEW else (rows, columns)
        shape = uniform_by_size(room, *rows), uniform_by_size(room, *columns)
        mark = zlib.crc32(repr(self).encode())
        rng = generator(run_seed, _CONTENTS + mark)
        policy = self._policy(rng, shape[0] * shape[1])
        sequence, position = _places(rng, shape)
        # Of four numbers in a row each has names of words of its own kind, which comes in another
        # room the next time; the run's seed says which is first.
        names = int(generator(run_seed, _CONTENTS - 1).integers(4)) + self.number + self.number // 4
        return MaskCase(
            _tokens(rng, shape, policy).astype(rng.choice(["int32", "int64"])),
            split_words(sequence),
            position.astype(np.uint32),
            _words(rng, shape, names % 4).astype(np.int32),
            rng.random(shape) < rng.choice([0.5, 0.9, 1.0]),
            policy,
            seed=_any_key(rng),
            epoch=_any_key(rng),
            salt=self.number,
            about=f"from anywhere, by {self.unit}",
        )

    def _policy(self, rng: Rng, cells: int) -> MaskingPolicy:
        vocab = uniform_by_size(rng, *_VOCABS[int(rng.integers(len(_VOCABS)))])
        special = _specials(rng, vocab, many=self.number % 3 == 1)
        pad = None if rng.random() < 0.3 else _some_id(rng, vocab)
        left = vocab - len(special | {pad} - {None})
        pool: Any = ["regular" if left > 0 else "all", "all", _ids(rng, vocab)][rng.integers(3)]
        return MaskingPolicy(
            self._selection(rng, cells),
            _corruption(rng, self.kinds, self.unit),
            vocab,
            _some_id(rng, vocab),
            pad,
            tuple(special),
            pool,
        )

    def _selection(self, rng: Rng, cells: int) -> Selection:
        rate = _any_rate(rng) if self.rate is None else Fraction(self.rate)
        if self.law == "bernoulli":
            return Bernoulli(rate)
        if self.law == "word":
            return WholeWord(rate)
        if self.law == "count":
            floor = uniform_by_size(rng, 1, 60) if rng.random() < 0.4 else 0
            most = floor + int(rng.choice([0, uniform_by_size(rng, 1, 60)]))
            cap = most if rng.random() < 0.4 else None
            rounding = str(rng.choice(["half_up", "half_even", "ceiling"]))
            base = str(rng.choice(["eligible", "all"]))
            return FixedCount(rate, floor, cap, base, rounding)  # type: ignore[arg-type]
        longest = max(1, min(_LONGEST, _STARTS // cells))
        if self._is_long and cells * _LONGEST <= 8 * _STARTS:
            longest = _LONGEST
        shares = rng.integers(0, 1000, size=int(rng.integers(longest // 2 + 1, longest + 1)))
        shares[-1] += 1
        total = int(shares.sum())
        lengths = tuple(Fraction(int(share), total) for share in shares)
        if self.rate is None:  # long ones start seldom, or they would cover all
            rate /= longest if self._is_long else int(rng.integers(1, 20))
        return Span(rate, lengths)

    @property
    def _is_long(self) -> bool:
        """Whether spans have all the lengths there can be: of two numbers in a row the one."""
        return (self.number + self.number // 4) % 2 == 1


def _any_rate(rng: Rng) -> Fraction:
    """A share with few or many digits, or next to 0 or 1."""
    kind = int(rng.integers(5))
    if kind == 0:
        return Fraction(int(rng.integers(1, 100)), 100)
    if kind == 1:
        return Fraction(1, uniform_by_size(rng, 2, 9))
    if kind == 2:
        return 1 - Fraction(1, uniform_by_size(rng, 2, 2**32))
    low = uniform_by_size(rng, 2, 2**40)
    return Fraction(int(rng.integers(1, low)), low)


def _corruption(rng: Rng, kinds: str | None, unit: str) -> Corruption:
    if kinds is not None:
        mask, random, keep = map(Fraction, kinds.split())
    else:
        mask, both = sorted((_any_rate(rng), _any_rate(rng)))
        random, keep = both - mask, 1 - both
    return Corruption(mask, random, keep, unit)  # type: ignore[arg-type]  # checked there


def _some_id(rng: Rng, vocab: int) -> int:
    """The first, the last, or any."""
    return (0, vocab - 1, int(rng.integers(vocab)))[min(int(rng.integers(4)), 2)]


def _ids(rng: Rng, vocab: int) -> tuple[int, ...]:
    """Some ids, ascending: up to eight runs of neighbours."""
    starts = {_some_id(rng, vocab) for _ in range(uniform_by_size(rng, 1, 8))}
    length = uniform_by_size(rng, 1, 50)
    return tuple(sorted({i for first in starts for i in range(first, min(first + length, vocab))}))


def _specials(rng: Rng, vocab: int, many: bool) -> set[int]:
    """A few ids anywhere; or many, scattered or in runs.  Of few ids they are fewer."""
    if many and vocab > 2 * _SPECIALS:
        count = uniform_by_size(rng, 7, _SPECIALS)
        if rng.random() < 0.5:
            return {int(rng.integers(vocab)) for _ in range(count)}
        first = (0, vocab - count)[int(rng.integers(2))]
        return set(range(first, first + count))
    return {_some_id(rng, vocab) for _ in range(int(rng.integers(0, min(6, vocab))))}


def _any_key(rng: Rng) -> int:
    """A seed, an epoch or the id of a sequence: of any number of bits up to 64."""
    bits = int(rng.integers(0, 65))
    return int.from_bytes(rng.bytes(8), "little") >> (64 - bits) if bits else 0


def _tokens(rng: Rng, shape: tuple[int, int], policy: MaskingPolicy) -> Ids:
    """Any ids; among them special ones, padding, the mask id, and those of the pool."""
    tokens = rng.integers(policy.vocab_size, size=shape)
    named = [*policy.special_ids, policy.mask_id, 0, policy.vocab_size - 1]
    if not isinstance(policy.pool, str):
        named += policy.pool[:3]
    return np.where(rng.random(shape) < 0.2, rng.choice(named, size=shape), tokens)


def _words(rng: Rng, shape: tuple[int, int], names: int) -> Ids:
    """Some four positions a word, in order or scattered; the ids are any of 32 bits.

    ``names``: 0, neighbours on both sides of 0; 1, any; 2, neighbours, anywhere or the largest;
    3, alike in their low bits.
    """
    order: Ids = np.cumsum(rng.random(shape) < 0.4, axis=1)
    if rng.random() < 0.4:
        order = rng.integers(max(shape[1] // 3, 1), size=shape)
    most = int(order.max())
    if names == 0:
        return order - most // 2
    if names == 2:
        last = 2**31 - 1 - most
        return order + (int(rng.integers(-(2**31), last)), last)[int(rng.integers(2))]
    named = rng.integers(-(2**31), 2**31, size=most + 1)
    if names == 3:
        bits = int(rng.integers(8, 32))
        named = (named >> bits << bits) + int(rng.integers(2**8))
    return np.asarray(named[order], np.int64)


def _places(rng: Rng, shape: tuple[int, int]) -> tuple[NDArray[np.uint64], Ids]:
    """Up to five sequences a row, in pieces, one behind another or mixed; gaps in their positions.

    Each position of a sequence is there once.
    """
    sequence, position = np.zeros(shape, np.uint64), np.zeros(shape, np.int64)
    for row in range(shape[0]):
        number = int(rng.integers(1, 6))
        member = rng.integers(number, size=shape[1])
        if rng.random() < 0.5:
            member = np.sort(member)
        names = [_any_key(rng) for _ in range(number)]
        if rng.random() < 0.3:  # alike in all but a few bits
            names = [names[0] ^ (i << int(rng.integers(62))) for i in range(number)]
        for own, name in enumerate(dict.fromkeys(names)):
            here = np.flatnonzero(np.isin(member, [i for i, n in enumerate(names) if n == name]))
            steps = np.cumsum(rng.choice([1, 1, 1, 2, 5], size=here.size)) if here.size else here
            room = 2**32 - 1 - int(steps.max(initial=0))
            start = int(rng.choice([0, room, uniform_by_size(rng, 1, room)]))
            placed = start + steps
            sequence[row, here] = name
            position[row, here] = rng.permutation(placed) if (row + own) % 4 == 3 else placed
    return sequence, position


def mask_series(
    *recipes: tuple[Any, ...], at_once: int | None = None
) -> Callable[[int], Sequence[AnywhereMask]]:
    """For each size one case of each kind: (law, unit, rate, kinds), or the first of them.

    ``at_once``: of so many kinds only, in turn; None: of all.
    """

    def series(number: int) -> list[AnywhereMask]:
        many = len(recipes) if at_once is None else at_once
        turns = ((number * many + i) % len(recipes) for i in range(many))
        return [AnywhereMask(number, *recipes[turn]) for turn in turns]

    return series


#: For each size one case, of each law with each of its units in turn.
every_law = mask_series(*law_units(), at_once=1)
