"""Which positions are selected: A(x) (MLM-SEL-1 .. MLM-SEL-12).

Pure functions of arrays (B, T), for use inside `jax.jit`.  A sequence is the set of positions of
one row with one sequence id, in whatever columns, so nothing here trusts the order of columns.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from mlm_jax.counting import fixed_count
from mlm_jax.random_words import RANK, SPAN, words_at
from mlm_jax.sequences import (
    Source,
    at_column,
    group_ends,
    is_contiguous,
    sorted_rows,
    unsorted,
)
from mlm_jax.thresholds import ANY, LAWS, MaskingPlan, Threshold, below, step_value

__all__ = ["candidates", "select_positions", "span_start", "word_leader"]


def candidates(source: Source, plan: MaskingPlan) -> jax.Array:
    """Eligible, and not a special id: bool (B, T) (MLM-SEL-1)."""
    ids = source.tokens.astype(jnp.uint32)
    return source.eligible & ~(ids < step_value(plan.special_first, plan.special_stop, ids))


def select_positions(
    source: Source, candidate: jax.Array, w0: jax.Array, plan: MaskingPlan, key: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """A(x), by the law of the plan.

    Parameters
    ----------
    source : the batch.
    candidate : bool (B, T).
    w0 : uint32 (B, T), the first word of the token stream.
    plan, key : the policy, and the four key words.

    Returns
    -------
    selected : bool (B, T).
    start : uint32 (B, T).  For the span law the latest start that covers a selected position;
        otherwise the position itself.
    """
    laws = (_bernoulli, _fixed_count, _whole_word, _span)
    if plan.law == ANY:
        return lax.switch(plan.law_index, laws, source, candidate, w0, plan, key)
    return laws[LAWS.index(plan.law)](source, candidate, w0, plan, key)


def _bernoulli(
    source: Source, candidate: jax.Array, w0: jax.Array, plan: MaskingPlan, key: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Each candidate by its own word (MLM-SEL-2)."""
    return candidate & below(w0, plan.rate), source.position


def _fixed_count(
    source: Source, candidate: jax.Array, w0: jax.Array, plan: MaskingPlan, key: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The k smallest of each sequence (MLM-SEL-4, 5)."""
    return fixed_count(source, candidate, plan, key), source.position


def _whole_word(
    source: Source, candidate: jax.Array, w0: jax.Array, plan: MaskingPlan, key: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """One decision for all candidates of a word (MLM-SEL-6, 7)."""
    leader = word_leader(source, candidate)
    word, _, _, _ = words_at(key, source.sequence_id, leader, RANK)
    return candidate & below(word, plan.rate), source.position


def _span(
    source: Source, candidate: jax.Array, w0: jax.Array, plan: MaskingPlan, key: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """All candidates that a span covers (MLM-SEL-8)."""
    covered, start = span_start(source, plan, key)
    return candidate & covered, start


def word_leader(source: Source, candidate: jax.Array) -> jax.Array:
    """The smallest candidate position of each position's word: uint32 (B, T).

    Meaningful at candidates; elsewhere a word may have none.
    """
    low, high = source.sequence_id[..., 0], source.sequence_id[..., 1]
    keys = (high, low, source.word_id, ~candidate, source.position)
    high, low, word, _, position, column = sorted_rows(keys)
    first, _ = group_ends(high, low, word)
    return unsorted(at_column(position, first), column)


def span_start(source: Source, plan: MaskingPlan, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Which positions a span covers, and the latest start that does.

    A span that starts at i covers i + m iff m = 0 or w1(i) ≥ T(lengths[0] + … + lengths[m−1]).
    Starts may lie outside the row (a window of a longer sequence), so in general their words are
    drawn for every distance m.  Where every column's predecessor is the column before it, the
    words of the row are drawn once and shifted: the same words, longest times faster.

    Returns
    -------
    covered : bool (B, T).
    start : uint32 (B, T); the position itself where not covered.
    """
    nearest = lax.cond(is_contiguous(source), _nearest_in_row, _nearest_anywhere, source, plan, key)
    covered = nearest >= 0
    return covered, source.position - jnp.maximum(nearest, 0).astype(jnp.uint32)


def _nearest_anywhere(source: Source, plan: MaskingPlan, key: jax.Array) -> jax.Array:
    """The distance to the nearest covering start, -1 for none: int32 (B, T)."""

    def look_back(m: jax.Array, nearest: jax.Array) -> jax.Array:
        start = source.position - m.astype(jnp.uint32)
        w0, w1, _, _ = words_at(key, source.sequence_id, start, SPAN)
        return _nearer(m, nearest, below(w0, plan.rate), w1, source, plan)

    none = jnp.full(source.position.shape, -1, jnp.int32)
    return lax.fori_loop(jnp.int32(0), plan.longest, look_back, none)


def _nearest_in_row(source: Source, plan: MaskingPlan, key: jax.Array) -> jax.Array:
    """`_nearest_anywhere`, for contiguous rows."""
    w0, w1, _, _ = words_at(key, source.sequence_id, source.position, SPAN)
    Carry = tuple[jax.Array, jax.Array, jax.Array]

    def look_back(m: jax.Array, carry: Carry) -> Carry:
        nearest, starts, lengths = carry
        nearest = _nearer(m, nearest, starts, lengths, source, plan)
        return nearest, _shifted(starts), _shifted(lengths)

    none = jnp.full(source.position.shape, -1, jnp.int32)
    begin = (none, below(w0, plan.rate), w1)
    return lax.fori_loop(jnp.int32(0), plan.longest, look_back, begin)[0]


def _nearer(
    m: jax.Array,
    nearest: jax.Array,
    starts: jax.Array,
    length_word: jax.Array,
    source: Source,
    plan: MaskingPlan,
) -> jax.Array:
    longer = ~below(length_word, Threshold(plan.lengths.last[m], plan.lengths.some[m]))
    covers = starts & longer & (source.position >= m.astype(jnp.uint32))
    return jnp.where(covers & (nearest < 0), m, nearest)


def _shifted(x: jax.Array) -> jax.Array:
    return jnp.pad(x[:, :-1], ((0, 0), (1, 0)))
