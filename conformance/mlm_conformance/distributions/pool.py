"""The ids of a policy's pool, counted without a list of them: a vocabulary may have 2^31."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_spec import MaskingPolicy

__all__ = ["Pool"]


class Pool:
    """What random ids are drawn from."""

    def __init__(self, policy: MaskingPolicy) -> None:
        self._vocab = policy.vocab_size
        self._listed = None if isinstance(policy.pool, str) else np.array(policy.pool)
        self._barred = np.array(policy.special_ids if policy.pool == "regular" else (), np.int64)
        #: How many there are.
        self.size = policy.pool_size

    @property
    def ids(self) -> list[int]:
        """All of them, of a small vocabulary."""
        every = np.arange(self._vocab)
        return [int(i) for i in every[self.has(every)]]

    @property
    def share(self) -> Fraction:
        """How often each is drawn."""
        return Fraction(1, self.size)

    def has(self, ids: NDArray[Any]) -> NDArray[np.bool_]:
        """Which of these it has."""
        inside = (ids >= 0) & (ids < self._vocab)
        if self._listed is not None:
            return inside & np.isin(ids, self._listed)
        return inside & ~np.isin(ids, self._barred)

    def count(self, low: int, high: int, step: int = 1) -> int:
        """How many of ``range(low, high, step)`` it has."""
        ids = range(low, min(high, self._vocab), step)
        some = self._barred if self._listed is None else self._listed
        among = sum(int(i) in ids for i in some)
        return len(ids) - among if self._listed is None else among
