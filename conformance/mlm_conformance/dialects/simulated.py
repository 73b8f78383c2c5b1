"""A target that behaves like each dialect, written from its description.

The target of the dialect ``google-bert`` is `google_bert`, and so on.  They show that ``identify``
tells the dialects apart.  Each follows its own law whatever it is asked
for, and takes the row as it comes: special ids are those of `mlm_conformance.dialects.probes`.
Equal calls give equal masks.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.dialects.probes import CLS, MASK, PAD, SEP, SPECIAL, UNK
from mlm_spec import MaskingPolicy

__all__ = [
    "Masker",
    "deberta",
    "electra",
    "expected",
    "fairseq",
    "fairseq_words",
    "google_bert",
    "google_bert_words",
    "hf_collator",
    "hf_collator_words",
    "hf_tf_collator",
    "keras_hub_python",
    "keras_hub_tf",
    "lddl",
    "lucidrains_mlm",
    "megatron",
    "modernbert_packer",
    "modernbert_packer_2",
    "nemo",
    "spanbert",
    "tf_text",
    "tf_text_early",
]

_Array: TypeAlias = NDArray[Any]
_Random: TypeAlias = np.random.Generator
#: Which tokens are selected: of tokens, words (R, T), those that may be, and a generator.
_Select: TypeAlias = Callable[[_Array, _Array, _Array, _Random], _Array]
#: Which tokens share what they show: of words and selected tokens, a number for each token.
_Unit: TypeAlias = Callable[[_Array, _Array], _Array]

P = 0.15
VOCAB = MASK + 1
EVERY = np.arange(VOCAB)


def bernoulli(tokens: _Array, words: _Array, able: _Array, random: _Random) -> _Array:
    """Each token on its own."""
    return able & (random.random(tokens.shape) < P)


def bernoulli_words(tokens: _Array, words: _Array, able: _Array, random: _Random) -> _Array:
    """Each word on its own."""
    chosen = random.random(tokens.shape) < P
    return able & np.take_along_axis(chosen, words, axis=1)


def fixed(count: Callable[[int, int, _Random], int]) -> _Select:
    """So many tokens of each row, by the length and the number that may be selected."""

    def select(tokens: _Array, words: _Array, able: _Array, random: _Random) -> _Array:
        wanted = [count(tokens.shape[1], int(row.sum()), random) for row in able]
        keys = np.where(able, random.random(tokens.shape), 2.0)
        ranks = keys.argsort(axis=1).argsort(axis=1)
        return able & (ranks < np.array(wanted)[:, None])

    return select


def row_by_row(pick: Callable[[_Array, _Array, _Random], Sequence[int]]) -> _Select:
    """A rule for one row: its words and what may be selected to the selected positions."""

    def select(tokens: _Array, words: _Array, able: _Array, random: _Random) -> _Array:
        chosen = np.zeros(tokens.shape, np.bool_)
        for row in range(len(tokens)):
            chosen[row, list(pick(words[row], able[row], random))] = True
        return chosen

    return select


def rounded(length: int, words: int, random: _Random) -> int:
    return max(1, round(length * P))


def ceiling_of_words(length: int, words: int, random: _Random) -> int:
    return ceil(words * P)


def ceiling_of_all(length: int, words: int, random: _Random) -> int:
    return ceil(length * P)


def by_chance(length: int, words: int, random: _Random) -> int:
    return int(P * length + random.random())


def _groups(words: _Array, able: _Array) -> list[_Array]:
    """The positions of each word that may be selected."""
    places = np.flatnonzero(able)
    cuts = np.flatnonzero(np.diff(words[places])) + 1
    return [group for group in np.split(places, cuts) if group.size]


def words_within_count(words: _Array, able: _Array, random: _Random) -> Sequence[int]:
    """Whole words in random order; one that would exceed the count is left out."""
    groups, chosen = _groups(words, able), list[int]()
    wanted = rounded(len(words), 0, random)
    for at in random.permutation(len(groups)):
        if len(chosen) + groups[at].size <= wanted:
            chosen += groups[at].tolist()
    return chosen


def words_by_chance(words: _Array, able: _Array, random: _Random) -> Sequence[int]:
    """int(p · words + U) whole words, and special tokens are words."""
    groups = _groups(words, able)
    picked = random.permutation(len(groups))[: by_chance(len(groups), 0, random)]
    return [place for at in picked for place in groups[at].tolist()]


def n_grams(words: _Array, able: _Array, random: _Random) -> Sequence[int]:
    """Up to three words in a row, shorter where the count would be exceeded."""
    groups, chosen = _groups(words, able), set[int]()
    wanted = rounded(len(words), 0, random)
    share = np.array([6, 3, 2]) / 11
    for at in random.permutation(len(groups)):
        if len(chosen) >= wanted:
            break
        for n in range(int(random.choice(3, p=share)) + 1, 0, -1):
            gram = {int(place) for group in groups[at : at + n] for place in group}
            if len(chosen) + len(gram) <= wanted:
                if not gram & chosen:
                    chosen |= gram
                break
    return sorted(chosen)


_SPANS = 0.2 * 0.8 ** np.arange(10)


def spans(words: _Array, able: _Array, random: _Random) -> Sequence[int]:
    """Geometric spans of words; the last word is cut where the count is reached."""
    wanted, chosen = ceil(len(words) * P), set[int]()
    while len(chosen) < wanted:
        length = 1 + int(random.choice(10, p=_SPANS / _SPANS.sum()))
        start = int(random.integers(len(words)))
        if start in chosen:
            continue
        first = int(words[start])
        for place in np.flatnonzero((words >= first) & (words < first + length)).tolist():
            if len(chosen) < wanted:
                chosen.add(place)
    return sorted(chosen)


def replaced(words: _Array, able: _Array, random: _Random) -> Sequence[int]:
    """Drawings with replacement: a position may come twice."""
    return [int(i) for i in random.choice(np.flatnonzero(able), rounded(len(words), 0, random))]


def windows(words: _Array, able: _Array, random: _Random) -> Sequence[int]:
    """One token of each six, until the count is reached."""
    places = np.flatnonzero(able)
    parts = [places[i : i + 6] for i in range(0, len(places), 6)]
    return [int(random.choice(part)) for part in parts][: rounded(len(words), 0, random)]


def inverted(tokens: _Array, words: _Array, able: _Array, random: _Random) -> _Array:
    """Words by a rate, where the first piece of a word is joined to the token before it."""
    if (np.diff(words, axis=1) == 1).all():
        return bernoulli(tokens, words, able, random)  # no marks: each token is a word
    begins = np.diff(words, axis=1, prepend=-1) == 1
    alone = ~begins | np.isin(tokens, (CLS, SEP))
    group = np.cumsum(alone, axis=1) - 1
    special = np.zeros(tokens.shape, np.bool_)
    rows, places = np.nonzero(alone & ~able)
    special[rows, group[rows, places]] = True
    chosen = (random.random(tokens.shape) < P) & ~special
    return np.take_along_axis(chosen, group, axis=1)


def by_piece(words: _Array, chosen: _Array) -> _Array:
    return np.broadcast_to(np.arange(words.shape[1]), words.shape)


def by_word(words: _Array, chosen: _Array) -> _Array:
    return words


def by_run(words: _Array, chosen: _Array) -> _Array:
    places = np.arange(words.shape[1])
    begins = np.where(np.diff(chosen, axis=1, prepend=False), places, 0)
    found: _Array = np.maximum.accumulate(begins, axis=1)
    return found


@dataclass(frozen=True, slots=True)
class Masker:
    """One simulated masker.

    Attributes
    ----------
    select : its law of selection.
    never : ids that it never selects.
    weights : of mask id, random ids and kept tokens.
    pool : what random ids are drawn from.
    unit : what shares one decision of what it shows.
    spoils : whether it corrupts other cells: none, padding, or any.
    """

    select: _Select
    never: tuple[int, ...] = (PAD, CLS, SEP)
    weights: tuple[float, float, float] = (0.8, 0.1, 0.1)
    pool: tuple[int, ...] = tuple(range(VOCAB))
    unit: _Unit = by_piece
    spoils: str = ""

    def sample(
        self, tokens: _Array, eligible: _Array, policy: MaskingPolicy, n: int
    ) -> tuple[_Array, _Array]:
        """``n`` masks of rows in which every token is a word."""
        places = np.broadcast_to(np.arange(tokens.shape[1]), tokens.shape)
        return self.sample_words(tokens, eligible, places, policy, n)

    def sample_words(
        self, tokens: _Array, eligible: _Array, word_id: _Array, policy: MaskingPolicy, n: int
    ) -> tuple[_Array, _Array]:
        """``n`` masks: inputs and labels, int64 (n, B, T)."""
        seed = zlib.crc32(np.ascontiguousarray(word_id).tobytes(), zlib.crc32(tokens.tobytes(), n))
        random = np.random.default_rng(seed)
        rows, words = (np.tile(array, (n, 1)) for array in (tokens, word_id))
        chosen = self.select(rows, words, ~np.isin(rows, self.never), random)
        shown = self._shown(rows, words, chosen, random)
        labels = np.where(chosen, rows, -100)
        shape = (n, *tokens.shape)
        return shown.reshape(shape), labels.reshape(shape)

    def _shown(self, rows: _Array, words: _Array, chosen: _Array, random: _Random) -> _Array:
        mask, other, _ = self.weights
        kind = np.take_along_axis(random.random(rows.shape), self.unit(words, chosen), axis=1)
        drawn = random.choice(np.array(self.pool), rows.shape)
        spoilt = self._spoilt(rows, kind, random)
        shown = np.where(chosen & (kind < mask), MASK, rows)
        shown = np.where(chosen & (kind >= mask) & (kind < mask + other), drawn, shown)
        return np.where(spoilt & ~chosen, drawn, shown)

    def _spoilt(self, rows: _Array, kind: _Array, random: _Random) -> _Array:
        somewhere = random.random(rows.shape) < P * 0.9
        where = {"": np.zeros(rows.shape, np.bool_), "padding": rows == PAD, "any": rows >= 0}
        found: _Array = somewhere & where[self.spoils]
        return found


_NOT_FIRST = tuple(range(4, VOCAB))
#: What a caller lists as special: the mask id is not among them.
LISTED = (PAD, UNK, CLS, SEP)
_NOT_BRACKETS = tuple(i for i in range(VOCAB) if i not in (CLS, SEP))

google_bert = Masker(fixed(rounded), (CLS, SEP))
google_bert_words = Masker(row_by_row(words_within_count), (CLS, SEP))
hf_collator = Masker(bernoulli, SPECIAL)
hf_collator_words = Masker(bernoulli_words, SPECIAL, (1.0, 0.0, 0.0))
hf_tf_collator = Masker(bernoulli, SPECIAL, (0.8, 0.02, 0.18))
lddl = Masker(bernoulli)
fairseq = Masker(fixed(by_chance), (), pool=_NOT_FIRST)
fairseq_words = Masker(row_by_row(words_by_chance), (), pool=_NOT_FIRST, unit=by_word)
modernbert_packer = Masker(bernoulli, (PAD,), spoils="padding")
modernbert_packer_2 = Masker(bernoulli, (PAD,))
megatron = Masker(row_by_row(n_grams), (CLS, SEP))
keras_hub_python = Masker(bernoulli, LISTED)
keras_hub_tf = Masker(fixed(ceiling_of_words), LISTED)
tf_text = Masker(fixed(ceiling_of_words))
tf_text_early = Masker(fixed(ceiling_of_words), SPECIAL, (0.8, 0.0, 0.2))
spanbert = Masker(row_by_row(spans), (), unit=by_run)
electra = Masker(row_by_row(replaced), (PAD, CLS, SEP, MASK), (0.85, 0.0, 0.15))
nemo = Masker(inverted, (CLS, SEP), pool=_NOT_BRACKETS, unit=by_word)
deberta = Masker(row_by_row(windows), SPECIAL)
lucidrains_mlm = Masker(fixed(ceiling_of_all), (PAD, UNK, CLS, SEP), spoils="any")

_CEILING = ("keras-hub-tf", "tf-text")
#: Simulations that two dialects fit, because no feature that is known of both parts them.
_SHARED = {
    "keras-hub-tf": _CEILING,
}


def expected(name: str) -> tuple[str, ...]:
    """The dialects that the simulation of this one should be found to fit."""
    return _SHARED.get(name, (name,))
