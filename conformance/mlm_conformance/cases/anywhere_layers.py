"""Output layers of sizes from anywhere in wide ranges; as `anywhere`, for hidden states."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.cases.anywhere import (
    ANY_WEIGHT,
    NARROW,
    SIZES,
    WIDE,
    contents,
    int_dtype,
    some_selected,
    some_weights,
    uniform_by_size,
)
from mlm_conformance.cases.model import HeadCase
from mlm_conformance.cases.numbers import dtype_of, generator

__all__ = ["AnywhereHead", "biased_head_series", "head_series"]

# Ids, hidden units, rows and columns of a layer.
_LAYERS = (
    ((65, 300), (97, 200), (2, 5), (3, 12)),
    ((999, 6000), (1, 9), (1, 3), (1, 3)),
    ((2, 64), (1, 96), (1, 9), (30, 80)),
    ((2, 64), (257, 1100), (1, 9), (1, 9)),
)
_LONG_LAYER = ((2**15 + 1, 34_000), (4, 4), (1, 1), (1, 1))  # its entries take more than 16 bits
_LONG_ONE, _EQUAL = 1, 6  # of eight layers
_EQUAL_LAYER = ((2, 8), (1, 8), (1025, 1400), (1, 1))
_MOST_PRODUCTS = 2**20  # of hidden units and weights, in a layer


def _halves(low: int, high: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """The upper and the lower half of a range, by the logarithm."""
    middle = int(np.sqrt(low * high))
    return (middle, high), (low, middle)


@dataclass(frozen=True, slots=True)
class AnywhereHead:
    """What a `HeadCase` of sizes from anywhere is made from.

    Attributes
    ----------
    number : which of the run's sizes of layers.
    biased : whether there is a bias.
    """

    number: int
    biased: bool

    def build(self, run_seed: int) -> HeadCase:
        """The case; equal recipes and run seeds give equal cases."""
        rng = contents(run_seed, self.number, "layer")
        vocab, width, *shape = self._sizes(generator(run_seed, SIZES - 1 - self.number))
        kind = dtype_of((*WIDE, *NARROW)[self.number % 4])
        bias = rng.normal(size=vocab) * 2.0
        case = HeadCase(
            (rng.normal(size=(*shape, width)) * rng.choice([0.1, 1.0, 5.0])).astype(kind),
            (rng.normal(size=(vocab, width)) / np.sqrt(width)).astype(kind),
            bias.astype(kind) if self.biased else None,
            self._targets(rng, vocab, shape).astype(int_dtype(rng)),
            some_selected(rng, (shape[0], shape[1]), vocab),
            some_weights(rng, (shape[0], shape[1]), (2, 3) if self.number % 2 else ANY_WEIGHT),
            salt=self.number,
            about="sizes from anywhere",
        )
        return _with_equal_terms(case) if self._is(_EQUAL) else case

    def _is(self, special: int) -> bool:
        return self.number % (2 * len(_LAYERS)) == special

    def _sizes(self, rng: np.random.Generator) -> tuple[int, int, int, int]:
        """Ids, hidden units, rows and columns."""
        special = {_LONG_ONE: _LONG_LAYER, _EQUAL: _EQUAL_LAYER}
        ids, *others = _LAYERS[self.number % len(_LAYERS)]
        part = _halves(*ids)[self.number // len(_LAYERS) % 2]
        room = special.get(self.number % (2 * len(_LAYERS)), (part, *others))
        vocab, width, rows, columns = (uniform_by_size(rng, *ends) for ends in room)
        if not self._is(_EQUAL):
            rows = 1 + (self.number + 2) % 8  # each number of rows comes in eight layers
        columns = max(1, min(columns, _MOST_PRODUCTS // (vocab * width * rows)))
        return vocab, width, rows, columns

    def _targets(self, rng: np.random.Generator, vocab: int, shape: Sequence[int]) -> NDArray[Any]:
        return rng.integers(vocab // 2 if self._is(_LONG_ONE) else 0, vocab, size=shape)


def _with_equal_terms(case: HeadCase) -> HeadCase:
    """The case with one state and one target at all positions, and all ids about as likely.

    So each entry of a gradient is a sum of equal terms: a narrow sum of them stops to grow.
    """
    small = 2.0**-10
    state = 0.5 + np.abs(np.tanh(case.hidden[:1, :1].astype(np.float64))) / 2.0
    bias = None if case.bias is None else case.bias.astype(np.float64) * small
    return replace(
        case,
        weight=(case.weight.astype(np.float64) * small).astype(case.weight.dtype),
        bias=None if bias is None else bias.astype(case.weight.dtype),
        hidden=np.broadcast_to(state, case.hidden.shape).astype(case.hidden.dtype),
        targets=np.zeros_like(case.targets),
        selected=np.ones_like(case.selected),
        weights=None,
        about="sizes from anywhere, equal terms",
    )


def head_series(number: int) -> list[AnywhereHead]:
    """For every second size, since a layer costs more than a score: with a bias and without.

    The first of all has one: it is the only one that ``quick`` has the time for.
    """
    kinds = (True,) if number == 0 else (True, False)
    return [AnywhereHead(number // 2, bias) for bias in kinds] if number % 2 == 0 else []


def biased_head_series(number: int) -> list[AnywhereHead]:
    """Those of them with a bias."""
    return head_series(number)[:1]
