"""Selection by a fixed count: the k smallest of each sequence (MLM-SEL-4, MLM-SEL-5)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from mlm_jax.sequences import (
    Source,
    at_column,
    columns,
    group_ends,
    has_one_sequence_a_row,
    sorted_rows,
    unsorted,
)
from mlm_jax.thresholds import MaskingPlan

__all__ = ["fixed_count"]


def fixed_count(
    source: Source, candidate: jax.Array, word: jax.Array, plan: MaskingPlan
) -> jax.Array:
    """The k candidates of each sequence with the smallest (word, position): bool (B, T).

    Sorting is slow where a row is long.  In a row of one sequence the k-th smallest key is found
    by bisection instead, which only counts.

    Parameters
    ----------
    source : the batch.
    candidate : bool (B, T).
    word : uint32 (B, T), w0 of the ranking stream.
    plan : the policy.
    """
    counted = jnp.where(plan.count_all, source.tokens != plan.pad_id, candidate)
    alone = has_one_sequence_a_row(source, candidate | counted)
    ways = (_by_bisection, _by_sorting)
    return lax.cond(alone, *ways, source, candidate, counted, word, plan)


def _by_sorting(
    source: Source, candidate: jax.Array, counted: jax.Array, word: jax.Array, plan: MaskingPlan
) -> jax.Array:
    low, high = source.sequence_id[..., 0], source.sequence_id[..., 1]
    keys = (high, low, ~candidate, word, source.position)
    high, low, not_candidate, _, _, column, counted = sorted_rows(keys, counted)
    first, last = group_ends(high, low)
    running = jnp.cumsum(counted, axis=1, dtype=jnp.int32)
    # What the group counts: all up to its last member, less all before its first.
    before = at_column(running, first) - at_column(counted, first).astype(jnp.int32)
    k = plan.counts[at_column(running, last) - before]
    return unsorted(~not_candidate & (columns(high) - first < k), column)


def _by_bisection(
    source: Source, candidate: jax.Array, counted: jax.Array, word: jax.Array, plan: MaskingPlan
) -> jax.Array:
    k = jnp.minimum(plan.counts[_number(counted)], _number(candidate))
    cut = _kth_smallest(word, candidate, k)
    chosen = candidate & (word < cut)
    tied = candidate & (word == cut)
    # Equal words are ordered by position, equal positions (there should be none) by column.
    cut = _kth_smallest(source.position, tied, k - _number(chosen))
    chosen |= tied & (source.position < cut)
    tied &= source.position == cut
    return chosen | (tied & (jnp.cumsum(tied, axis=1) <= k - _number(chosen)))


def _number(mask: jax.Array) -> jax.Array:
    """How many of each row: int32 (B, 1)."""
    return jnp.sum(mask, axis=1, keepdims=True, dtype=jnp.int32)


def _kth_smallest(values: jax.Array, among: jax.Array, k: jax.Array) -> jax.Array:
    """The k-th smallest value of each row among some columns; 0 for k = 0.

    It is the largest x with fewer than k values below x, found bit by bit.

    Parameters
    ----------
    values : uint32 (B, T).
    among : bool (B, T).
    k : int32 (B, 1), at most the number of these columns.

    Returns
    -------
    uint32 (B, 1).
    """

    def set_bit(i: jax.Array, found: jax.Array) -> jax.Array:
        trial = found | (jnp.uint32(1) << (jnp.uint32(31) - i.astype(jnp.uint32)))
        return jnp.where(_number(among & (values < trial)) < k, trial, found)

    return lax.fori_loop(jnp.int32(0), jnp.int32(32), set_bit, jnp.zeros(k.shape, jnp.uint32))
