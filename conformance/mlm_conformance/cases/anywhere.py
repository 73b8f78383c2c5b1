"""Cases of sizes and values from anywhere in wide ranges, for the ports that take numbers.

The n-th sizes of a run follow from the run's seed and from n alone: every check meets the same
ones, so that a compiling backend compiles few programs, and another seed meets others.  What a
list of shapes cannot show, a backend that is wrong at five ids or beyond 64 rows, is found here.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.cases.logits import FAMILIES
from mlm_conformance.cases.model import LossCase, ScoreCase
from mlm_conformance.cases.numbers import dtype_of, generator, within_range

__all__ = [
    "NARROW",
    "SIZES",
    "WIDE",
    "AnywhereLoss",
    "AnywhereScore",
    "contents",
    "drawn_sizes",
    "edge_series",
    "int_dtype",
    "loss_series",
    "narrow_loss_series",
    "score_series",
    "some_selected",
    "some_weights",
    "uniform_by_size",
]

SIZES, _CONTENTS = 2**40, 2**41  # so that no seed that is drawn elsewhere gives the same
WIDE, NARROW = ("float32", "float64"), ("bfloat16", "float16")
#: Ids from .. to, rows from .. to, columns from .. to, each drawn uniformly by its logarithm.
_Room = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
_ROOMS: tuple[_Room, ...] = (
    ((65, 998), (9, 40), (9, 40)),
    ((1001, 30521), (1, 5), (1, 5)),
    ((3, 63), (65, 300), (1, 5)),
    ((3, 63), (1, 2), (513, 1200)),
    ((7, 14), (1, 12), (1, 12)),  # of the vocabulary, the power of two
    ((65, 998), (1, 9), (33, 200)),
    ((2**15 + 1, 250_002), (1, 2), (1, 2)),  # in turns of at most 2¹⁶ ids, and of more than 10⁵
    ((6, 14), (3, 600), (1, 1)),  # filled: thousands of positions
)
# In every second round, instead, ids at the edge of a block: a multiple of 2ⁿ, n from .. to, and so
# many more.
_EDGES: Mapping[int, tuple[tuple[int, int], tuple[int, ...]]] = {
    0: ((7, 9), (1,)),
    1: ((10, 12), (-1,)),
    5: ((5, 9), (-1, 0, 1)),
}
_POWERS, _LONGEST, _MANY = 4, 6, 7  # rooms: powers of two, ids beyond 2¹⁵, thousands of positions
_LONG = ((2**15 + 1, 2**16), (110_000, 250_002))
_FILLED = (0, 4, 7)  # rooms whose cases, after the first of all, have as many entries as fit
_MOST_ENTRIES, _MOST_SELECTED = 2**16, 2**15
_MANY_SELECTED = 2**8
#: Powers of ten of the largest weight.
LIGHT, ANY_WEIGHT = (-6, -3), (-6, 1)
_LOSS_SCALES = (3, 4.47)  # as large as leaves the gradient of a logit in the range of float16
_FEWEST = 3  # ids, with which more than 2¹⁴ positions fit
#: Of thousands of positions so many differ; which is where is drawn, so no period is one of theirs.
_DIFFERENT = 1021


class _Sizes(NamedTuple):
    vocab: int
    rows: int
    columns: int


def uniform_by_size(rng: np.random.Generator, low: int, high: int) -> int:
    """An integer from ``low`` to ``high``, uniform by its logarithm."""
    drawn = np.exp(rng.uniform(np.log(low), np.log(high + 1)))
    return int(np.clip(drawn, low, high))


def drawn_sizes(run_seed: int, number: int) -> _Sizes:
    """The sizes of the ``number``-th case of a run: from each room in turn.

    Some have as many entries as fit, and the one behind has at most half of them: what a large
    call leaves in a buffer lies behind the end of a smaller one.
    """
    rng, room = generator(run_seed, SIZES + number), number % len(_ROOMS)
    vocab, rows, columns = (uniform_by_size(rng, *ends) for ends in _ROOMS[room])
    if room == _POWERS:
        vocab = 2**vocab
    if room == _LONGEST:
        vocab = uniform_by_size(rng, *_LONG[number // len(_ROOMS) % 2])
    if room in _EDGES and number // len(_ROOMS) % 2:
        vocab = _at_an_edge(rng, room)
    if room == _MANY and number // len(_ROOMS) % 2:
        vocab = _FEWEST - vocab % 2
    most = _MOST_ENTRIES // (2 if _is_filled(number - 1) else 1)
    rows = max(1, min(rows, most // vocab))
    if _is_filled(number):
        columns = most // (vocab * rows)
        return _Sizes(vocab, most // (vocab * columns), columns)
    return _Sizes(vocab, rows, max(1, min(columns, most // vocab // rows)))


def _at_an_edge(rng: np.random.Generator, room: int) -> int:
    """A multiple of a block and a few more; before an edge, of more blocks than one."""
    (low, high), offsets = _EDGES[room]
    (least, most), block = _ROOMS[room][0], 1 << int(rng.integers(low, high + 1))
    offset = int(rng.choice(offsets))
    first = max((least + 1) // block + 1, 2 if offset < 0 else 1)
    return uniform_by_size(rng, first, (most - 1) // block) * block + offset


def _is_filled(number: int) -> bool:
    return number > 0 and number % len(_ROOMS) in _FILLED


def contents(run_seed: int, number: int, *about: object) -> np.random.Generator:
    return generator(run_seed, _CONTENTS + zlib.crc32(repr((number, *about)).encode()))


def _turn(number: int) -> int:
    """0 or 1: which of two dtypes; the next round through the rooms has the other."""
    return (number + number // len(_ROOMS)) % 2


def _is_weighted(number: int, narrow: bool) -> bool:
    """In turns, so that each room has both kinds in two rounds, and with either dtype in four."""
    turn = number // len(_ROOMS)
    return (turn + turn // 2 + narrow) % 2 == 1


def some_selected(
    rng: np.random.Generator, shape: tuple[int, int], vocab: int, ends: bool = False
) -> NDArray[np.bool_]:
    """About half of the positions or all of them, at least one, as many as there is room for.

    Of so many positions that only two or three ids fit, nearly all: more than 2¹⁴.

    ``ends``: the first and the last are among them.

    Of many an odd number: no type with fewer digits holds it.
    """
    positions = shape[0] * shape[1]
    if vocab <= _FEWEST and positions > 2**14:
        selected = rng.random(shape) < float(rng.choice([0.9, 1.0]))
    else:
        most = _MOST_SELECTED / (positions * vocab)
        selected = rng.random(shape) < min(float(rng.choice([0.5, 0.9, 1.0])), most)
    flat = selected.reshape(-1)
    flat[rng.integers(flat.size)] = True
    if ends:
        flat[[0, -1]] = True
    if flat.sum() > _MANY_SELECTED and flat.sum() % 2 == 0:
        flat[np.flatnonzero(flat)[1]] = False
    return selected


def _in_the_upper_half(logits: NDArray[Any], ids: NDArray[Any]) -> tuple[NDArray[Any], Any]:
    """The same, of each row whose target is in the lower half backwards."""
    low, last = ids < logits.shape[-1] // 2, logits.shape[-1] - 1
    return np.where(low[:, None], logits[:, ::-1], logits), np.where(low, last - ids, ids)


def some_weights(
    rng: np.random.Generator, shape: tuple[int, ...], largest: tuple[float, float] = ANY_WEIGHT
) -> NDArray[Any]:
    """Weights of either sign and dtype; zeros, and 1e-41.

    ``largest``: the largest lies between these powers of ten.
    """
    scale = 10 ** rng.uniform(*largest)
    weights = rng.choice([-1, 1], size=shape) * rng.uniform(0.1, 1.0, size=shape) * scale
    dtype = rng.choice(["float32", "float64"])
    odd = rng.random(shape)
    weights = np.where(odd < 0.05, 0.0, weights)
    weights = np.where((odd > 0.05) & (odd < 0.1), -0.0, weights)
    weights = np.where(odd > 0.98, 1e-41, weights)
    return weights.astype(dtype)


def int_dtype(rng: np.random.Generator) -> Any:
    return rng.choice(["int32", "int64"])


@dataclass(frozen=True, slots=True)
class AnywhereScore:
    """What a `ScoreCase` of sizes from anywhere is made from.

    Attributes
    ----------
    number : which of the run's sizes.
    families : of which one is drawn.
    narrow : whether the logits have two bytes.
    weighted : whether there are weights; None: in turns, or as it falls in a tiny case.
    tiny : a few positions and ``number`` + 2 ids in place of the run's sizes.
    """

    number: int
    families: tuple[str, ...]
    narrow: bool = False
    weighted: bool | None = None
    tiny: bool = False

    def build(self, run_seed: int) -> ScoreCase:
        """The case; equal recipes and run seeds give equal cases."""
        rng = contents(run_seed, self.number, self.families, self.narrow, self.tiny)
        vocab, rows, columns = drawn_sizes(run_seed, self.number)
        dtype = (NARROW if self.narrow else WIDE)[_turn(self.number)]
        if self.tiny:  # in eight cases each number of rows from 1 to 8, and of columns to 7
            vocab, rows, columns = self.number + 2, 1 + self.number % 8, 1 + self.number * 3 % 7
            dtype = "float32"
        family = str(rng.choice(self.families))
        weighted = self.weighted
        if weighted is None:
            weighted = rng.random() < 0.6 if self.tiny else _is_weighted(self.number, self.narrow)
        different = min(rows * columns, _DIFFERENT)
        logits, ids = FAMILIES[family](rng, different, vocab)
        if vocab >= _LONG[0][0]:
            logits, ids = _in_the_upper_half(logits, ids)
        logits = within_range(logits, dtype).astype(dtype_of(dtype))
        weights = some_weights(rng, (different,), self._largest) if weighted else None
        at = np.arange(different)
        if different < rows * columns:
            at = rng.integers(different, size=rows * columns)
        return ScoreCase(
            logits[at].reshape(rows, columns, vocab),
            ids[at].reshape(rows, columns).astype(int_dtype(rng)),
            some_selected(rng, (rows, columns), vocab, ends=not weighted),
            None if weights is None else weights[at].reshape(rows, columns),
            salt=self.number,
            about=f"{family}, sizes from anywhere",
        )

    @property
    def _largest(self) -> tuple[float, float]:
        """In turns, the other way in narrow logits: so that each size has light and heavy ones.

        Those that are not heavy are all below a thousandth in every second room.
        """
        if (self.number + self.narrow) % 2 == 0:
            return LIGHT if self.number // 2 % 2 == 0 else ANY_WEIGHT
        return _LOSS_SCALES if self.narrow else (2, 6)


def score_series(
    *families: str, wide: bool = True, narrow: bool = False, weighted: bool | None = None
) -> Callable[[int], Sequence[AnywhereScore]]:
    """For each size one case in wide logits, one in narrow ones, and a tiny one, as asked."""

    def series(number: int) -> list[AnywhereScore]:
        chosen = [False] * wide + [True] * narrow
        found = [AnywhereScore(number, families, kind, weighted) for kind in chosen]
        tiny = [AnywhereScore(number, families, False, weighted, tiny=True)] * wide
        return found + tiny if number % 2 else tiny + found  # one large case behind another, too

    return series


def edge_series(*families: str) -> Callable[[int], Sequence[AnywhereScore]]:
    """For each size of a second round, in which there are edges of blocks, one case."""
    return lambda n: [AnywhereScore(n, families)] if n // len(_ROOMS) % 2 else []


@dataclass(frozen=True, slots=True)
class AnywhereLoss:
    """What a `LossCase` of sizes from anywhere is made from; as `AnywhereScore`."""

    number: int
    families: tuple[str, ...]
    tiny: bool = False
    narrow: bool = False

    def build(self, run_seed: int) -> LossCase:
        """The case; equal recipes and run seeds give equal cases.

        In two bytes each position is selected.
        """
        score = AnywhereScore(self.number, self.families, self.narrow, False, self.tiny)
        case = score.build(run_seed)
        if self.narrow:
            case = replace(case, selected=np.ones_like(case.selected))
        rng, vocab = contents(run_seed, self.number, "ignored"), case.logits.shape[-1]
        ignored = int(rng.choice([-100, -1, -(2**31), 255, 10**9, vocab]))
        ignored = ignored if not 0 <= ignored < vocab else -100
        labels = np.where(case.selected, case.targets, ignored).astype(np.int64)
        return LossCase(case.logits, labels, ignored, salt=self.number, about=case.about)


def loss_series(*families: str) -> Callable[[int], Sequence[AnywhereLoss]]:
    """For each size one case, and a tiny one."""
    return lambda number: [AnywhereLoss(number, families, tiny) for tiny in (False, True)]


def narrow_loss_series(*families: str) -> Callable[[int], Sequence[AnywhereLoss]]:
    """For each size one case in two bytes."""
    return lambda number: [AnywhereLoss(number, families, narrow=True)]
