"""Where the largest errors are looked for: a few continuous parameters of rows of logits.

Hypothesis climbs over them towards the largest error, measured by its bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from mlm_conformance.cases.model import ScoreCase
from mlm_conformance.cases.numbers import dtype_of, generator

__all__ = ["Range", "SearchRecipe", "search_recipes"]

_LARGEST = {"float16": 6e4}
#: The least and the largest value of a parameter.
Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class SearchRecipe:
    """What a `ScoreCase` with every position selected is made from.

    Attributes
    ----------
    shape : (B, T, V).
    dtype : of the logits.
    spread : standard deviation of the logits.
    gap : of the target above the largest other logit, in nats; None leaves the target among them.
    offset : added to all logits.
    order : of the vocabulary: ``drawn``, ``falling`` or ``rising`` (in which a running sum meets
        its largest term first, or last).
    seed : of the rows.
    """

    shape: tuple[int, int, int]
    dtype: str
    spread: float
    gap: float | None
    offset: float
    order: str
    seed: int

    def build(self, run_seed: int) -> ScoreCase:
        """The case; equal recipes and run seeds give equal cases."""
        rng = generator(run_seed, self.seed)
        rows, columns, vocab = self.shape
        z = rng.normal(size=(rows * columns, vocab)) * self.spread
        ids = rng.integers(vocab, size=rows * columns)
        if self.gap is not None:
            np.put_along_axis(z, ids[:, None], -np.inf, axis=-1)
            top = z.max(axis=-1, keepdims=True) if vocab > 1 else np.zeros((len(z), 1))
            np.put_along_axis(z, ids[:, None], top + self.gap, axis=-1)
        z, ids = self._ordered(z, ids)
        limit = _LARGEST.get(self.dtype, np.inf)
        logits = np.clip(z + self.offset, -limit, limit).astype(dtype_of(self.dtype))
        selected = np.ones((rows, columns), np.bool_)
        return ScoreCase(
            logits.reshape(self.shape),
            ids.reshape(rows, columns).astype(np.int64),
            selected,
            None,
            salt=self.seed,
            about="found by search",
        )

    def _ordered(
        self, z: NDArray[np.float64], ids: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        if self.order == "drawn":
            return z, ids
        order = np.argsort(z if self.order == "rising" else -z, axis=-1, kind="stable")
        return np.take_along_axis(z, order, axis=-1), (order == ids[:, None]).argmax(axis=-1)


def search_recipes(
    shapes: Sequence[tuple[int, int, int]],
    dtypes: Sequence[str],
    *,
    spread: Range = (0.0, 10.0),
    gap: Range | None = None,
    offset: Range = (0.0, 0.0),
) -> st.SearchStrategy[SearchRecipe]:
    """A strategy over those ranges."""
    return st.builds(
        SearchRecipe,
        st.sampled_from(list(shapes)),
        st.sampled_from(list(dtypes)),
        st.floats(*spread),
        st.none() if gap is None else st.floats(*gap),
        st.floats(*offset),
        st.sampled_from(["drawn", "falling", "rising"]),
        st.integers(0, 2**32 - 1),
    )
