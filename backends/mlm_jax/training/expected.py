"""How many positions a policy may be expected to select: room for them is made beforehand."""

from __future__ import annotations

import math
from functools import lru_cache

from mlm_jax.head import rounded_capacity
from mlm_spec.policy import FixedCount, MaskingPolicy, Span

__all__ = ["expected_capacity"]

_DEVIATIONS = 8  # of Bernoulli trials: more than this is not expected in any run
_SMALL = 1024  # below this, room for all costs less than another try


def expected_capacity(policy: MaskingPolicy, candidates: int, positions: int) -> int:
    """Room for what a policy selects of so many candidates; a function of the arguments alone.

    Where it is too little after all (long words), the update reports it, and is made again with
    room for every position.
    """
    if positions <= _SMALL:
        return positions
    mean = _rate(policy) * candidates
    return rounded_capacity(math.ceil(mean + _DEVIATIONS * math.sqrt(mean) + 1), positions)


@lru_cache(maxsize=64)
def _rate(policy: MaskingPolicy) -> float:
    """The rate far from the edges of a sequence; 1 where a law has none."""
    law = policy.selection
    if isinstance(law, Span):
        return float(law.rate_at(len(law.lengths)))
    if isinstance(law, FixedCount) and (law.base == "all" or law.floor > 1):
        return 1.0
    return float(law.rate)
