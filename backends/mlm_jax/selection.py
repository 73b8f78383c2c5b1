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

_Pair = tuple[jax.Array, jax.Array]


def candidates(source: Source, plan: MaskingPlan) -> jax.Array:
    """Eligible, and not a special id: bool (B, T) (MLM-SEL-1)."""
    ids = source.tokens.astype(jnp.uint32)
    return source.eligible & ~(ids < step_value(plan.special_first, plan.special_stop, ids))


def word_leader(source: Source, candidate: jax.Array, plan: MaskingPlan) -> jax.Array:
    """The smallest candidate position of each position's word: uint32 (B, T).

    Meaningful at candidates: elsewhere a word may have none.  The position itself where the
    policy looks at no words.
    """
    if plan.law == ANY:
        return lax.cond(
            plan.needs_words, _leader, lambda source, _: source.position, source, candidate
        )
    return _leader(source, candidate) if "word" in (plan.law, plan.unit) else source.position


def _leader(source: Source, candidate: jax.Array) -> jax.Array:
    low, high = source.sequence_id[..., 0], source.sequence_id[..., 1]
    keys = (high, low, source.word_id, ~candidate, source.position)
    high, low, word, _, position, column = sorted_rows(keys)
    first, _ = group_ends(high, low, word)
    return unsorted(at_column(position, first), column)


def select_positions(
    source: Source,
    candidate: jax.Array,
    leader: jax.Array,
    w0: jax.Array,
    plan: MaskingPlan,
    key: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """A(x), by the law of the plan.

    Parameters
    ----------
    source : the batch.
    candidate : bool (B, T).
    leader : uint32 (B, T), of `word_leader`.
    w0 : uint32 (B, T), the first word of the token stream.
    plan, key : the policy, and the four key words.

    Returns
    -------
    selected : bool (B, T).
    start : uint32 (B, T).  For the span law the latest start that covers a selected position;
        otherwise the position itself.
    """
    laws = {"bernoulli": _by_word, "count": _by_count, "word": _by_word, "span": _by_span}
    word = _ranking_word(source, leader, w0, plan, key)
    if plan.law == ANY:
        branches = [laws[name] for name in LAWS]
        return lax.switch(plan.law_index, branches, source, candidate, word, plan, key)
    return laws[plan.law](source, candidate, word, plan, key)


def _ranking_word(
    source: Source, leader: jax.Array, w0: jax.Array, plan: MaskingPlan, key: jax.Array
) -> jax.Array:
    """w0 of the ranking stream, at the place where the law reads it; else w0 as it is."""

    def drawn(position: jax.Array) -> jax.Array:
        return words_at(key, source.sequence_id, position, RANK)[0]

    if plan.law == ANY:
        by_word = plan.law_index == LAWS.index("word")
        ranked = by_word | (plan.law_index == LAWS.index("count"))
        position = jnp.where(by_word, leader, source.position)
        return lax.cond(ranked, drawn, lambda _: w0, position)
    if plan.law in ("count", "word"):
        return drawn(leader if plan.law == "word" else source.position)
    return w0


def _by_word(
    source: Source, candidate: jax.Array, word: jax.Array, plan: MaskingPlan, key: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """By one word: the candidate's own, or that of its word's leader (MLM-SEL-2, 6, 7)."""
    return candidate & below(word, plan.rate), source.position


def _by_count(
    source: Source, candidate: jax.Array, word: jax.Array, plan: MaskingPlan, key: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The k smallest of each sequence (MLM-SEL-4, 5)."""
    return fixed_count(source, candidate, word, plan), source.position


def _by_span(
    source: Source, candidate: jax.Array, word: jax.Array, plan: MaskingPlan, key: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """All candidates that a span covers (MLM-SEL-8)."""
    covered, start = span_start(source, plan, key)
    return candidate & covered, start


def span_start(source: Source, plan: MaskingPlan, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Which positions a span covers, and the latest start that does.

    A span that starts at i covers i + m iff m = 0 or w1(i) ≥ T(lengths[0] + … + lengths[m−1]).
    Starts may lie outside the row (a window of a longer sequence), so in general their words are
    drawn for every distance m.  Where every column's predecessor is the column before it, the
    words of the row are drawn once and shifted: the same words, and less work.

    Returns
    -------
    covered : bool (B, T).
    start : uint32 (B, T); the position itself where not covered.
    """
    position = source.position
    in_row = is_contiguous(source)

    def drawn(m: jax.Array, before: _Pair) -> _Pair:
        start = position - m.astype(jnp.uint32)
        return words_at(key, source.sequence_id, start, SPAN)[:2]

    def shifted(m: jax.Array, before: _Pair) -> _Pair:
        w0, w1 = (jnp.pad(word[:, :-1], ((0, 0), (1, 0))) for word in before)
        return w0, w1

    def look_back(m: jax.Array, carry: tuple[jax.Array, _Pair]) -> tuple[jax.Array, _Pair]:
        nearest, before = carry
        w0, w1 = lax.cond(in_row & (m > 0), shifted, drawn, m, before)
        longer = ~below(w1, Threshold(plan.lengths.last[m], plan.lengths.some[m]))
        # In a row the words of the sequence's own columns only: position ≥ m.
        covers = below(w0, plan.rate) & longer & (position >= m.astype(jnp.uint32))
        return jnp.where(covers & (nearest < 0), m, nearest), (w0, w1)

    none = jnp.full(position.shape, -1, jnp.int32)
    begin = (none, (jnp.zeros_like(position),) * 2)
    nearest, _ = lax.fori_loop(jnp.int32(0), plan.longest, look_back, begin)
    return nearest >= 0, position - jnp.maximum(nearest, 0).astype(jnp.uint32)
