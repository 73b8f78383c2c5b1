"""What the selected positions show: x̄ (MLM-COR-1 .. MLM-COR-8)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from mlm_jax.random_words import TOKEN, Block, words_at
from mlm_jax.sequences import Source
from mlm_jax.thresholds import ANY, UNITS, MaskingPlan, below, step_value

__all__ = ["corrupt", "deciding_word", "pool_id"]


def corrupt(
    source: Source, selected: jax.Array, kind: jax.Array, words: Block, plan: MaskingPlan
) -> jax.Array:
    """x̄: the tokens where not selected, else the mask id, a random id or the original.

    Parameters
    ----------
    source : the batch.
    selected : bool (B, T).
    kind : uint32 (B, T), the word that decides the kind, see `deciding_word`.
    words : the four words of the token stream; the last two draw the random id.
    plan : the policy.

    Returns
    -------
    int32 (B, T).
    """
    drawn = pool_id(words[2], words[3], plan).astype(jnp.int32)
    shown = jnp.where(below(kind, plan.replaced), drawn, source.tokens)
    shown = jnp.where(below(kind, plan.masked), plan.mask_id, shown)
    return jnp.where(selected, shown, source.tokens)


def pool_id(w2: jax.Array, w3: jax.Array, plan: MaskingPlan) -> jax.Array:
    """A random id of the pool, uint32 (...) (MLM-RNG-6).

    w2 counts where it falls into a whole number of copies of the pool, w3 elsewhere: no loop,
    and a bias of at most (K / 2³²)².
    """
    entry = jnp.where(w2 <= plan.pool_last, w2, w3) % plan.pool_size
    return entry + step_value(plan.pool_first, plan.pool_shift, entry)


def deciding_word(
    source: Source,
    leader: jax.Array,
    start: jax.Array,
    own: jax.Array,
    plan: MaskingPlan,
    key: jax.Array,
) -> jax.Array:
    """w1 of the token stream at the deciding position: uint32 (B, T) (MLM-COR-3, 7, 8).

    Parameters
    ----------
    source, plan, key : the batch, the policy, the key.
    leader : uint32 (B, T), the first candidate position of the word.
    start : uint32 (B, T), the covering start of the span law.
    own : uint32 (B, T), w1 at the position itself.
    """

    def drawn(position: jax.Array) -> jax.Array:
        return words_at(key, source.sequence_id, position, TOKEN)[1]

    if plan.unit == ANY:
        by_word = plan.unit_index == UNITS.index("word")
        by_token = plan.unit_index == UNITS.index("token")
        return lax.cond(by_token, lambda _: own, drawn, jnp.where(by_word, leader, start))
    if plan.unit == "token":
        return own
    return drawn(leader if plan.unit == "word" else start)
