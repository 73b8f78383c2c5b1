"""What several checks share: expected values of a case, with their bounds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.bounds import arithmetic, gradient_bound, sum_bound, value_bound
from mlm_conformance.cases.distributions import POOL
from mlm_conformance.cases.masks import MaskRecipe
from mlm_conformance.cases.model import (
    MaskCase,
    SampleCase,
    SampleParallelCase,
    SampleWordsCase,
    ScoreCase,
)
from mlm_conformance.cases.numbers import generator
from mlm_conformance.check import Context, NotClaimed, Recipe, Recipes, Violation
from mlm_spec import MaskedBatch, ScoreResult

__all__ = [
    "HeadlessWords",
    "ScoreTruth",
    "besides",
    "equal_masks",
    "expected_mask",
    "field_of",
    "masked",
    "numbered_words",
    "permuted",
    "renamed",
    "require_like",
    "require_wide",
    "sampled",
    "sampled_in_parallel",
    "score_truth",
    "spoiled",
]

Floats = NDArray[np.float64]


class ScoreTruth:
    """The true answer for a `ScoreCase`, and how far off a conforming one may be.

    Each part is computed when it is asked for.
    """

    def __init__(self, context: Context, case: ScoreCase) -> None:
        self._case = case
        self._oracle = context.oracle
        self._logits = case.logits[case.selected].astype(np.float64)
        self._targets = case.targets[case.selected]

    @cached_property
    def _found(self) -> ScoreResult:
        return self._oracle.values(**self._case.arguments())

    @property
    def values(self) -> Floats:
        """The selected positions' log-likelihoods, float64 (N,)."""
        found: Floats = np.asarray(self._found.log_likelihood)[self._case.selected]
        return found

    @cached_property
    def value_bounds(self) -> Floats:
        """Of the values, float64 (N,)."""
        how = arithmetic(self._case.logits.dtype.name)
        return value_bound(self._logits, self._targets, how)

    @property
    def sum(self) -> float:
        """The weighted sum of the values."""
        return float(self._found.sum)

    @property
    def sum_bound(self) -> float:
        """Of the sum, with the bounds of its terms."""
        how = arithmetic(self._case.logits.dtype.name)
        return sum_bound(self.values, self.value_bounds, self._case.upstream, how)

    @cached_property
    def gradient(self) -> Floats:
        """float64 (N, V), weights included."""
        found = self._oracle.score(**self._case.arguments())
        entries: Floats = np.asarray(found.grad_logits)[self._case.selected]
        return entries

    @property
    def gradient_bounds(self) -> Floats:
        """float64 (N, V), with the rounding to the dtype of the logits."""
        name = self._case.logits.dtype.name
        how = arithmetic(name, name)
        return gradient_bound(self._logits, self.gradient, self._case.upstream, how)


def score_truth(context: Context, case: ScoreCase) -> ScoreTruth:
    """The truth for a case; counts its selected positions as seen."""
    context.saw("selected", case.selected.sum())
    context.saw(case.logits.dtype.name, case.selected.sum())
    return ScoreTruth(context, case)


#: What numbers at unselected positions may be.
_SPOILS = (np.nan, np.inf, -np.inf)


def spoiled(array: NDArray[Any], at: NDArray[np.bool_], salt: int) -> NDArray[Any]:
    """The array, with NaN and both infinities at these positions: each of them in turn.

    Of arrays with further axes a position has the same all over, or these and numbers by turns.
    """
    other, rng = array.copy(), generator(salt, 2)
    places = np.roll(np.resize(_SPOILS, int(at.sum())), salt % len(_SPOILS))
    if array.ndim == at.ndim:
        other[at] = places.astype(array.dtype)
        return other
    noise = rng.normal(size=(len(places), *array.shape[at.ndim :])) * 50.0
    kinds = rng.choice([*_SPOILS, 0.0], size=noise.shape)
    mixed = np.where(rng.random(noise.shape) < 0.6, noise, kinds)
    whole = rng.random(len(places)) < 0.5
    noise[whole], noise[~whole] = places[whole, None], mixed[~whole]
    other[at] = noise.astype(array.dtype)
    return other


def field_of(result: Mapping[str, NDArray[Any]], name: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """A field of a result, of the right shape; a wrong shape is a `Violation`."""
    if name not in result:
        raise Violation(f"the result has no {name}")
    found = result[name]
    if found.shape != shape:
        raise Violation(f"{name} has shape {found.shape}, should be {shape}")
    return found


def require_like(result: Mapping[str, NDArray[Any]], name: str, like: NDArray[Any]) -> None:
    """A field has the shape and the dtype of what it is a gradient of; else a `Violation`."""
    dtype = field_of(result, name, like.shape).dtype
    if dtype != like.dtype:
        raise Violation(f"{name} has dtype {dtype}, should be {like.dtype}")


def require_wide(part: str, dtype: np.dtype[Any], given: str) -> None:
    """What ``given`` inputs add up to has no narrower a dtype than MLM-OBJ-12 says."""
    least = "float64" if given == "float64" else "float32"
    if dtype.name not in ("float64", least):
        raise Violation(f"{part} has dtype {dtype} for {given} inputs, should be {least}")


def sampled(
    context: Context, case: SampleCase | SampleWordsCase | SampleParallelCase, n: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    """``n`` masks of the target's own: inputs and labels, (n, B, T) each.

    Of masks that are made in parallel ``n`` by each maker: (epochs · ranks · workers · n, B, T).

    Raises
    ------
    NotClaimed : the target says that it has no such policy, by `NotImplementedError`.
    """
    if isinstance(case, SampleParallelCase):
        inputs, labels = sampled_in_parallel(context, case, n)
        return inputs.reshape(-1, *case.tokens.shape), labels.reshape(-1, *case.tokens.shape)
    port = "sample" if isinstance(case, SampleCase) else "sample_words"
    return _labelled(context, port, {**case.arguments(), "n": n}, (n, *case.tokens.shape))


Drawn = TypeVar("Drawn", SampleCase, SampleWordsCase)


def renamed(case: Drawn) -> Drawn:
    """The same case with other ordinary tokens: each is the one before it."""
    ids = np.arange(case.policy.vocab_size)
    ids[list(POOL)] = np.roll(POOL, 1)
    return replace(case, tokens=ids[case.tokens])


def sampled_in_parallel(
    context: Context, case: SampleParallelCase, n: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    """What each worker of each rank makes of ``n`` copies of the rows in each epoch.

    Returns
    -------
    inputs, labels : (epochs, ranks, workers, n · B, T) each.

    Raises
    ------
    NotClaimed : the target says that it has no such policy, by `NotImplementedError`.
    """
    arguments = replace(case, n=n).arguments()
    shape = (case.epochs, case.ranks, case.workers, *arguments["tokens"].shape)
    return _labelled(context, "sample_parallel", arguments, shape)


def _labelled(
    context: Context, port: str, arguments: dict[str, Any], shape: tuple[int, ...]
) -> tuple[NDArray[Any], NDArray[Any]]:
    answer = context.answer(port, arguments)
    if answer.raised is not None and answer.not_implemented:
        raise NotClaimed(answer.raised.message)
    result = context.result_of(port, answer)
    return field_of(result, "inputs", shape), field_of(result, "labels", shape)


def masked(context: Context, case: MaskCase) -> MaskedBatch:
    """The target's masks, of the right shape."""
    result = context.call("mask", case.arguments())
    shape = case.tokens.shape
    return MaskedBatch(*(field_of(result, n, shape) for n in ("inputs", "targets", "selected")))


def expected_mask(context: Context, case: MaskCase) -> MaskedBatch:
    """The specified masks."""
    return context.oracle.mask(**case.arguments())


def besides(recipes: Recipes, more: Iterable[Recipe]) -> Recipes:
    """The same recipes, and more of them that run whatever is drawn."""
    strategy, always = recipes
    return strategy, (*always, *more)


@dataclass(frozen=True, slots=True)
class HeadlessWords:
    """A mask recipe in which about half of the words lose their first piece: it is ineligible."""

    recipe: MaskRecipe

    def build(self, run_seed: int) -> MaskCase:
        """The case; equal recipes and run seeds give equal cases."""
        case = self.recipe.build(run_seed)
        assert case.word_id is not None
        before = np.roll(case.word_id, 1, axis=1)
        before[:, 0] = -2
        first = case.word_id != before
        lost = first & (generator(run_seed, self.recipe.seed + 1).random(first.shape) < 0.5)
        return replace(case, eligible=case.eligible & ~lost)


def numbered_words(case: MaskCase) -> NDArray[np.intp]:
    """A number for the word of each position, (B, T): one id in two sequences names two words."""
    assert case.word_id is not None
    names = np.dstack([case.sequence_id, case.word_id])
    _, numbers = np.unique(names.reshape(-1, 3), axis=0, return_inverse=True)
    return numbers.reshape(case.word_id.shape)


def equal_masks(context: Context, what: str, seen: MaskedBatch, want: MaskedBatch) -> None:
    """Two masked batches are the same, bit for bit."""
    context.equal(f"selected {what}", seen.selected, want.selected)
    context.equal(f"inputs {what}", seen.inputs, want.inputs)


def permuted(case: ScoreCase, order: NDArray[np.intp]) -> ScoreCase:
    """The same positions in another order; ``order`` indexes the flat (B · T)."""

    def take(array: NDArray[Any]) -> NDArray[Any]:
        flat = array.reshape(order.size, *array.shape[2:])
        return flat[order].reshape(array.shape)

    return replace(
        case,
        logits=take(case.logits),
        targets=take(case.targets),
        selected=take(case.selected),
        weights=None if case.weights is None else take(case.weights),
    )
