"""Which units an update drops: functions of (seed, update, layer, site, sequence, position).

No generator has a state here, and nothing is a function of the batch: the same units are dropped
at any split into micro-batches, in any order of the rows, and packed or not (stream 3 of chapter
RNG).
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mlm_jax.random_words import DROPOUT, TAG, Block, threefry4x32
from mlm_jax.thresholds import Threshold, below

__all__ = [
    "ATTENTION",
    "EMBEDDINGS",
    "FEED_FORWARD",
    "MIXED",
    "Drop",
    "Places",
    "dropout_key",
    "dropper",
    "keep_all",
    "kept_probabilities",
    "kept_units",
    "site_keys",
]

# The sites: embeddings, probabilities of attention, output of attention, of the feed-forward.
EMBEDDINGS, ATTENTION, MIXED, FEED_FORWARD = 0, 1, 2, 3
_HEAD_BLOCKS = 22  # a head has 2²⁴ channels, in blocks of the four words of one call
_RANGE = 2**32

Drop = Callable[[int, jax.Array | int, jax.Array], jax.Array]


class Places(NamedTuple):
    """Where the positions of a batch lie in their sources.

    Attributes
    ----------
    sequence_id : uint32 (B, T, 2), the low word first.
    position : uint32 (B, T).
    """

    sequence_id: jax.Array
    position: jax.Array


def dropout_key(key: jax.Array, site: Any, layer: Any) -> jax.Array:
    """The keys of sites: uint32 (..., 4), the words of one more call of Threefry.

    Parameters
    ----------
    key : uint32 (4,): seed and number of the update, two words each, the low word first.
    site : EMBEDDINGS, ATTENTION, MIXED or FEED_FORWARD.
    layer : counted from 0; 0 for the embeddings.
    """
    counter = [jnp.asarray(word, jnp.uint32) for word in (site, TAG ^ DROPOUT, layer, 0)]
    words = threefry4x32((key[0], key[1], key[2], key[3]), tuple(counter))
    return jnp.stack(jnp.broadcast_arrays(*words), axis=-1)


@partial(jax.jit, static_argnames="layers")
def site_keys(seed: jax.Array, update: jax.Array, *, layers: int) -> jax.Array:
    """The keys of all sites of an update: uint32 (4, L, 4), by site and layer.

    A program of its own: inside the step, XLA would compute a key again for every unit.

    Parameters
    ----------
    seed : uint32 (2,), the low word first.
    update : int32 (), the number of the last update; the keys are those of the next.
    layers : static; L, at least 1.
    """
    number = (update + 1).astype(jnp.uint32)
    key = jnp.stack([seed[0], seed[1], number, jnp.zeros_like(number)])
    sites = jnp.arange(4, dtype=jnp.uint32)[:, None]
    return dropout_key(key, sites, jnp.arange(layers, dtype=jnp.uint32))


def kept_units(key: jax.Array, places: Places, width: int, rate: Fraction) -> jax.Array:
    """Which units of hidden states stay: bool (B, T, width)."""
    channel = jnp.arange(width, dtype=jnp.uint32)
    low, high = (places.sequence_id[..., None, word] for word in (0, 1))
    block = channel >> jnp.uint32(2)
    return _stays(key, (places.position[..., None], block, low, high), channel, rate)


def kept_probabilities(key: jax.Array, places: Places, heads: int, rate: Fraction) -> jax.Array:
    """Which probabilities of attention stay: bool (B, H, T, T), queries before keys.

    The key's position is the channel, so packed rows drop what the same rows would alone.
    """
    query, other = places.position[:, None, :, None], places.position[:, None, None, :]
    head = jnp.arange(heads, dtype=jnp.uint32)[:, None, None]
    block = (head << jnp.uint32(_HEAD_BLOCKS)) + (other >> jnp.uint32(2))
    low, high = (places.sequence_id[:, None, :, None, word] for word in (0, 1))
    return _stays(key, (query, block, low, high), other, rate)


def _stays(key: jax.Array, counter: Block, channel: jax.Array, rate: Fraction) -> jax.Array:
    """w[c mod 4] < T(1 − p).

    Four neighbouring channels compute the same four words, and each takes its own: one loop without
    memory.  Laid out as words, XLA would compute all of them again for each place of each word.
    """
    words = threefry4x32((key[0], key[1], key[2], key[3]), counter)
    chosen, which = words[0], channel & jnp.uint32(3)
    for number in (1, 2, 3):
        chosen = jnp.where(which == number, words[number], chosen)
    stays = 1 - rate
    last = -(-stays.numerator * _RANGE // stays.denominator) - 1
    return below(chosen, Threshold(np.uint32(last), np.bool_(True)))  # rate < 1, so T ≥ 1


def keep_all(site: int, layer: jax.Array | int, values: jax.Array) -> jax.Array:
    """What evaluation drops: nothing."""
    return values


def dropper(keys: jax.Array, places: Places, hidden: Fraction, attention: Fraction) -> Drop:
    """(site, layer, values) → values with units dropped, and what stays scaled by 1/(1 − p).

    Parameters
    ----------
    keys : uint32 (4, L, 4), of `site_keys`.
    places : of the batch.
    hidden, attention : the probabilities, 0 to drop nothing.
    """

    def drop(site: int, layer: jax.Array | int, values: jax.Array) -> jax.Array:
        rate = attention if site == ATTENTION else hidden
        if rate == 0:  # nothing is dropped, nothing scaled
            return values
        own = keys[site, layer]
        if site == ATTENTION:
            kept = kept_probabilities(own, places, values.shape[1], rate)
        else:
            kept = kept_units(own, places, values.shape[-1], rate)
        return jnp.where(kept, values * values.dtype.type(float(1 / (1 - rate))), 0)

    return drop
