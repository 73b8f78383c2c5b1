"""Dropout in JAX, against the specification's text in plain integers."""

from __future__ import annotations

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
from mlm_jax.training.dropout import (
    ATTENTION,
    Places,
    dropper,
    kept_probabilities,
    kept_units,
    site_keys,
)

from mlm_spec.random_words import threefry4x32

SEED, UPDATE, LAYERS = 2**40 + 9, 5, 3
RATE = Fraction(1, 3)
THRESHOLD = -(-2 * 2**32 // 3)
WORDS = np.array([SEED & 0xFFFFFFFF, SEED >> 32], np.uint32)


def words(key: list[int], counter: list[int]) -> list[int]:
    return [int(w) for w in threefry4x32(np.array(key, np.uint32), np.array(counter, np.uint32))]


def key_of(site: int, layer: int) -> list[int]:
    key = [int(WORDS[0]), int(WORDS[1]), UPDATE, 0]
    return words(key, [site, 0x4D4C4D00 ^ 3, layer, 0])


def places() -> Places:
    rng = np.random.default_rng(1)
    ids = rng.integers(2**32, size=(2, 3, 2), dtype=np.uint32)
    return Places(jnp.asarray(ids), jnp.asarray([[0, 7, 2**24 - 1], [5, 6, 2]], jnp.uint32))


def test_the_keys_of_sites_are_those_of_the_text() -> None:
    keys = site_keys(WORDS, jnp.int32(UPDATE - 1), layers=LAYERS)
    assert keys.shape == (4, LAYERS, 4)
    for site in range(4):
        for layer in range(LAYERS):
            assert keys[site, layer].tolist() == key_of(site, layer)


def test_units_are_those_of_the_text() -> None:
    held, key = places(), key_of(2, 1)
    seen = np.asarray(kept_units(jnp.asarray(key, jnp.uint32), held, 7, RATE))
    for row, column, channel in np.ndindex(seen.shape):
        low, high = (int(w) for w in held.sequence_id[row, column])
        block = words(key, [int(held.position[row, column]), channel // 4, low, high])
        assert seen[row, column, channel] == (block[channel % 4] < THRESHOLD)
    assert seen.any()
    assert not seen.all()


def test_probabilities_are_those_of_the_text() -> None:
    held, key = places(), key_of(ATTENTION, 0)
    seen = np.asarray(kept_probabilities(jnp.asarray(key, jnp.uint32), held, 3, RATE))
    for row, head, i, j in np.ndindex(seen.shape):
        low, high = (int(w) for w in held.sequence_id[row, i])
        channel = head * 2**24 + int(held.position[row, j])
        block = words(key, [int(held.position[row, i]), channel // 4, low, high])
        assert seen[row, head, i, j] == (block[channel % 4] < THRESHOLD)


def test_what_stays_is_scaled_and_a_rate_of_zero_is_nothing() -> None:
    values = jnp.ones((2, 3, 8))
    keys = site_keys(WORDS, jnp.int32(0), layers=1)
    drop = dropper(keys, places(), Fraction(1, 2), Fraction(0))
    assert set(np.unique(drop(0, 0, values)).tolist()) == {0.0, 2.0}
    scores = jnp.ones((2, 2, 3, 3))
    assert drop(ATTENTION, 0, scores) is scores


def test_words_do_not_depend_on_x64() -> None:
    with jax.enable_x64(True):
        keys = site_keys(WORDS, jnp.int32(UPDATE - 1), layers=1)
        assert keys[1, 0].tolist() == key_of(1, 0)
