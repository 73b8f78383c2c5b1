"""Random ids: second tries that are not made, and ends of pools that are not drawn."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlm_conformance.mutants.inside import shown_with
from mlm_conformance.mutants.registry import mutant
from mlm_spec import corruption, thresholds

__all__ = [
    "a_pool_with_gaps_has_no_last_id",
    "small_pools_have_one_try",
    "the_last_word_is_refused_too",
    "the_mask_id_is_drawn_from_no_pool",
]

_TURN, _ENDS = "the_first_try_ends_at_its_word", "every_pool_is_drawn_from_end_to_end"


@mutant("MLM-RNG-6", "mask", check=_TURN)
def small_pools_have_one_try(**call: Any) -> Any:
    """Below 65,536 ids each word is taken, since what it prefers is not worth a second try."""
    right = thresholds.pool_index

    def index(w2: Any, w3: Any, size: int) -> Any:
        return w2 % np.uint32(size) if size < 2**16 else right(w2, w3, size)

    return shown_with(call, pool_index=index)


@mutant("MLM-RNG-6", "mask", check=_TURN)
def the_last_word_is_refused_too(**call: Any) -> Any:
    """The first try takes what is less than its last word."""

    def index(w2: Any, w3: Any, size: int) -> Any:
        last = np.uint32(2**32 // size * size - 1)
        return np.where(w2 < last, w2, w3) % np.uint32(size)

    return shown_with(call, pool_index=index)


@mutant("MLM-RNG-6", "mask", check=_ENDS)
def a_pool_with_gaps_has_no_last_id(**call: Any) -> Any:
    """Where special ids are scattered, the last id of the pool is drawn as the one before it."""
    right, special = corruption.pool_ids, call["policy"].special_ids

    def ids(policy: Any, index: Any) -> Any:
        gaps = policy.pool == "regular" and special and special[-1] - special[0] >= len(special)
        last = np.uint32(policy.pool_size - 1)
        return right(policy, index - (index == last) if gaps and last > 100 else index)

    return shown_with(call, pool_ids=ids)


@mutant("MLM-RNG-6", "mask", check=_ENDS)
def the_mask_id_is_drawn_from_no_pool(**call: Any) -> Any:
    """In place of a mask id that is not special, the next id of a regular pool is drawn."""
    right = corruption.pool_ids

    def ids(policy: Any, index: Any) -> Any:
        drawn = right(policy, index)
        if policy.pool != "regular" or policy.vocab_size <= 100:
            return drawn
        return np.where(
            drawn == policy.mask_id, right(policy, (index + 1) % policy.pool_size), drawn
        )

    return shown_with(call, pool_ids=ids)
