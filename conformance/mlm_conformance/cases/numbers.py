"""Cases for the ports that take numbers: score, head, loss.

Hypothesis draws a *recipe*: a shape from a few buckets, a dtype, a family, a seed.  ``build``
makes the case from it and the run's seed.  Few shapes, so that a compiling backend compiles few
programs; hard inputs by name, so that they are always in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import ml_dtypes
import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from mlm_conformance.cases.logits import FAMILIES
from mlm_conformance.cases.model import HeadCase, LossCase, ScoreCase

__all__ = [
    "DTYPES",
    "ODD",
    "HeadRecipe",
    "LossRecipe",
    "ScoreRecipe",
    "dtype_of",
    "generator",
    "head_recipes",
    "loss_recipes",
    "score_recipes",
    "within_range",
]

DTYPES = ("float32", "float64", "bfloat16", "float16")
PATTERNS = ("some", "all", "one", "none")

SMALL = ((1, 1, 1), (1, 1, 2), (2, 8, 64))
MEDIUM = (2, 4, 999)  # odd: a vocabulary that no vector length divides
LARGE = (1, 2, 30522)
WIDEST = (1, 2, 98304)  # a sum of so many ones is infinite in float16, or half as large again
# Shapes that are no power of two, many rows, and many columns: float32 alone, to save programs.
ODD = ((9, 3, 64), (2, 250, 64))
_Shape = TypeVar("_Shape", bound=tuple[int, ...])
HEAD_SHAPES = ((2, 8, 16, 64), (2, 4, 17, 999))  # B, T, d, V


def dtype_of(name: str) -> np.dtype[Any]:
    """A NumPy dtype by name, bfloat16 included."""
    return np.dtype(ml_dtypes.bfloat16) if name == "bfloat16" else np.dtype(name)


def generator(run_seed: int, seed: int) -> np.random.Generator:
    """The source of a case's contents: a function of the run's seed and the drawn one."""
    return np.random.Generator(np.random.Philox(key=[run_seed % 2**64, seed]))


def pattern(rng: np.random.Generator, name: str, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Which positions are selected: bool (B, T)."""
    if name == "all":
        return np.ones(shape, np.bool_)
    selected = np.zeros(shape, np.bool_)
    if name == "some":
        selected = rng.random(shape) < 0.5
    if name in ("some", "one"):
        selected.reshape(-1)[rng.integers(selected.size)] = True
    return selected


def upstream(rng: np.random.Generator, shape: tuple[int, int], dtype: str) -> NDArray[Any]:
    """Non-uniform weights, of either sign, a few of them 0; in float64 beside any logits."""
    weights = np.round(rng.uniform(-2.0, 2.0, size=shape), 3)
    weights[rng.random(shape) < 0.1] = 0.0
    beside = ("float64", "float32") if dtype == "float64" else ("float32", "float64")
    return weights.astype(beside[rng.random() < 0.3])


def within_range(logits: NDArray[np.float64], dtype: str) -> NDArray[np.float64]:
    """Finite logits moved into the range of float16, where that is the dtype; -inf stays."""
    if dtype != "float16":
        return logits
    return np.where(np.isfinite(logits), np.clip(logits, -6e4, 6e4), logits)


@dataclass(frozen=True, slots=True)
class ScoreRecipe:
    """What a `ScoreCase` is made from."""

    shape: tuple[int, int, int]
    dtype: str
    family: str
    pattern: str
    weighted: bool
    seed: int

    def build(self, run_seed: int) -> ScoreCase:
        """The case; equal recipes and run seeds give equal cases."""
        rng = generator(run_seed, self.seed)
        rows, columns, vocab = self.shape
        logits, ids = FAMILIES[self.family](rng, rows * columns, vocab)
        logits = within_range(logits, self.dtype)
        selected = pattern(rng, self.pattern, (rows, columns))
        weights = upstream(rng, (rows, columns), self.dtype) if self.weighted else None
        return ScoreCase(
            logits.astype(dtype_of(self.dtype)).reshape(self.shape),
            ids.reshape(rows, columns).astype(rng.choice(["int32", "int64"])),
            selected,
            weights,
            salt=self.seed,
            about=f"{self.family}, {self.pattern} selected",
        )


def score_recipes(
    families: Sequence[str],
    shapes: Sequence[tuple[int, int, int]] = (*SMALL, MEDIUM),
    dtypes: Sequence[str] = DTYPES,
    patterns: Sequence[str] = ("some", "all", "one"),
    weighted: Sequence[bool] = (False, True),
) -> tuple[st.SearchStrategy[ScoreRecipe], tuple[ScoreRecipe, ...]]:
    """A strategy, and the recipes that are always in: each family, each dtype."""
    large = [shape for shape in shapes if shape[0] * shape[1] > 1] or list(shapes)
    strategy = st.builds(
        lambda pair, *rest: ScoreRecipe(*pair, *rest),
        st.sampled_from(_pairs(shapes, dtypes)),
        st.sampled_from(list(families)),
        st.sampled_from(list(patterns)),
        st.sampled_from(list(weighted)),
        st.integers(0, 2**32 - 1),
    )
    always = [
        ScoreRecipe(large[(i + j) % len(large)], dtype, family, patterns[0], weighted[-1], i)
        for j, family in enumerate(families)
        for i, dtype in enumerate(dtypes)
    ]
    return strategy, tuple(always)


def _pairs(shapes: Sequence[_Shape], dtypes: Sequence[str]) -> list[tuple[_Shape, str]]:
    """Shapes with dtypes, without pairs that would cost a compiled program and show nothing new.

    One position: wide dtypes only, in a layer float32.  A layer on 1,000 ids: one wide and one
    narrow dtype.
    """
    every = [(shape, dtype) for shape in shapes for dtype in dtypes]

    def shows_more(shape: _Shape, dtype: str) -> bool:
        if shape[0] * shape[1] == 1:
            return dtype == "float32" or (dtype == "float64" and len(shape) == 3)
        return shape != HEAD_SHAPES[-1] or dtype in ("float32", "bfloat16")

    return [pair for pair in every if shows_more(*pair)] or every


@dataclass(frozen=True, slots=True)
class HeadRecipe:
    """What a `HeadCase` is made from."""

    shape: tuple[int, int, int, int]
    dtype: str
    spread: float
    pattern: str
    weighted: bool
    biased: bool
    seed: int

    def build(self, run_seed: int) -> HeadCase:
        """The case; equal recipes and run seeds give equal cases."""
        rng = generator(run_seed, self.seed)
        rows, columns, width, vocab = self.shape
        dtype = dtype_of(self.dtype)
        hidden = rng.normal(size=(rows, columns, width)) * self.spread
        weight = rng.normal(size=(vocab, width)) / np.sqrt(width)
        bias = rng.normal(size=vocab) * 2.0
        selected = pattern(rng, self.pattern, (rows, columns))
        return HeadCase(
            hidden.astype(dtype),
            weight.astype(dtype),
            bias.astype(dtype) if self.biased else None,
            rng.integers(vocab, size=(rows, columns)).astype(rng.choice(["int32", "int64"])),
            selected,
            upstream(rng, (rows, columns), self.dtype) if self.weighted else None,
            salt=self.seed,
            about=f"spread {self.spread}, {self.pattern} selected",
        )


def head_recipes(
    shapes: Sequence[tuple[int, int, int, int]] = HEAD_SHAPES,
    dtypes: Sequence[str] = DTYPES,
    patterns: Sequence[str] = ("some", "all", "one"),
    biased: Sequence[bool] = (True, True, False),
) -> tuple[st.SearchStrategy[HeadRecipe], tuple[HeadRecipe, ...]]:
    """A strategy, and the recipes that are always in: each dtype, with bias and weights."""
    strategy = st.builds(
        lambda pair, *rest: HeadRecipe(*pair, *rest),
        st.sampled_from(_pairs(shapes, dtypes)),
        st.sampled_from([0.1, 1.0, 5.0]),
        st.sampled_from(list(patterns)),
        st.booleans(),
        st.sampled_from(list(biased)),
        st.integers(0, 2**32 - 1),
    )
    always = tuple(
        HeadRecipe(shapes[-1 - i % min(2, len(shapes))], dtype, 1.0, patterns[0], True, True, i)
        for i, dtype in enumerate(dtypes)
    )
    return strategy, always


@dataclass(frozen=True, slots=True)
class LossRecipe:
    """What a `LossCase` is made from."""

    shape: tuple[int, int, int]
    dtype: str
    family: str
    pattern: str
    seed: int
    ignore_index: int = -100

    def build(self, run_seed: int) -> LossCase:
        """The case; equal recipes and run seeds give equal cases."""
        score = ScoreRecipe(self.shape, self.dtype, self.family, self.pattern, False, self.seed)
        case = score.build(run_seed)
        targets = _other_than(self.ignore_index, case.logits, case.targets)
        labels = np.where(case.selected, targets, self.ignore_index).astype(np.int64)
        about = case.about
        if self.ignore_index != -100:
            about = f"{about}, {self.ignore_index} ignored"
        return LossCase(case.logits, labels, self.ignore_index, salt=self.seed, about=about)


def _other_than(ignored: int, logits: NDArray[Any], targets: NDArray[Any]) -> NDArray[Any]:
    """Targets, the likeliest other id in place of one that would be ignored."""
    ids = np.arange(logits.shape[-1])
    others = np.where(ids == ignored, -np.inf, logits.astype(np.float64)).argmax(axis=-1)
    return np.where(targets == ignored, others, targets)


def loss_recipes(
    families: Sequence[str],
    shapes: Sequence[tuple[int, int, int]] = ((4, 8, 64),),
    dtypes: Sequence[str] = ("float32",),
    patterns: Sequence[str] = ("some", "all", "one"),
    ignored: Sequence[int] = (-100,),
) -> tuple[st.SearchStrategy[LossRecipe], tuple[LossRecipe, ...]]:
    """A strategy, and the recipes that are always in: each family, the rest in turn."""
    strategy = st.builds(
        LossRecipe,
        st.sampled_from(list(shapes)),
        st.sampled_from(list(dtypes)),
        st.sampled_from(list(families)),
        st.sampled_from(list(patterns)),
        st.integers(0, 2**32 - 1),
        st.sampled_from(list(ignored)),
    )
    always = tuple(
        LossRecipe(
            shapes[0],
            dtypes[i % len(dtypes)],
            family,
            patterns[0],
            i,
            ignored[i % len(ignored)],
        )
        for i, family in enumerate(families)
    )
    return strategy, always
