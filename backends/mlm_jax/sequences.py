"""Sequences inside the rows of a batch.

A sequence is the set of positions of one row with one sequence id, in whatever columns: rows may
be packed, cut or shuffled.  So what concerns a whole sequence sorts the row first; the two
predicates tell where a faster way gives the same answer.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

__all__ = [
    "Source",
    "at_column",
    "columns",
    "group_ends",
    "has_one_sequence_a_row",
    "is_contiguous",
    "sorted_rows",
    "unsorted",
]


class Source(NamedTuple):
    """A batch of source sequences.

    Attributes
    ----------
    tokens : int32 (B, T).
    sequence_id : uint32 (B, T, 2), the low word first.
    position : uint32 (B, T), in the source sequence.
    word_id : int32 (B, T).
    eligible : bool (B, T).
    """

    tokens: jax.Array
    sequence_id: jax.Array
    position: jax.Array
    word_id: jax.Array
    eligible: jax.Array


def is_contiguous(source: Source) -> jax.Array:
    """Each column is at position 0, or at the position after that of the column before: bool ()."""
    same = jnp.all(source.sequence_id[:, 1:] == source.sequence_id[:, :-1], axis=-1)
    follows = same & (source.position[:, 1:] == source.position[:, :-1] + jnp.uint32(1))
    origin = source.position == 0
    return jnp.all(origin[:, :1]) & jnp.all(origin[:, 1:] | follows)


def has_one_sequence_a_row(source: Source, matters: jax.Array) -> jax.Array:
    """In each row, all columns that matter have the same sequence id: bool ().

    Parameters
    ----------
    source : the batch.
    matters : bool (B, T).
    """
    ids, last = source.sequence_id, jnp.uint32(2**32 - 1)
    highest = jnp.max(jnp.where(matters[..., None], ids, 0), axis=1)
    lowest = jnp.min(jnp.where(matters[..., None], ids, last), axis=1)
    return jnp.all(highest <= lowest)  # equal, or nothing matters in that row


def sorted_rows(keys: tuple[jax.Array, ...], *carried: jax.Array) -> list[jax.Array]:
    """Rows sorted by the keys, with the column each member came from, and what is carried along.

    Ties keep the order of columns.  Returns the keys, the columns (int32) and the carried
    arrays, all (B, T).
    """
    operands = (*keys, columns(keys[0]), *carried)
    return list(lax.sort(operands, dimension=1, is_stable=True, num_keys=len(keys)))


def group_ends(*keys: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The first and the last column of each member's group, in rows sorted by the keys.

    Returns
    -------
    int32 (B, T), twice.
    """
    new = jnp.zeros(keys[0][:, 1:].shape, jnp.bool_)
    for key in keys:
        new |= key[:, 1:] != key[:, :-1]
    column = columns(keys[0])
    opens = jnp.pad(new, ((0, 0), (1, 0)), constant_values=True)
    closes = jnp.pad(new, ((0, 0), (0, 1)), constant_values=True)
    first = lax.cummax(jnp.where(opens, column, 0), axis=1)
    last = lax.cummin(jnp.where(closes, column, column.shape[1]), axis=1, reverse=True)
    return first, last


def at_column(values: jax.Array, column: jax.Array) -> jax.Array:
    """values[b, column[b, t]], (B, T)."""
    return jnp.take_along_axis(values, column, axis=1)


def unsorted(values: jax.Array, column: jax.Array) -> jax.Array:
    """Sorted values back in the columns they came from, (B, T)."""
    rows = lax.broadcasted_iota(jnp.int32, values.shape, 0)
    return jnp.zeros_like(values).at[rows, column].set(values, unique_indices=True)


def columns(like: jax.Array) -> jax.Array:
    """The number of each column: int32 (B, T)."""
    return lax.broadcasted_iota(jnp.int32, like.shape, 1)
