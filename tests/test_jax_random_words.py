"""The JAX backend's random words are Threefry's; its thresholds and counts are exact."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import jax.numpy as jnp
import mlm_jax
import numpy as np
import pytest
from jax_cases import PORT, policy
from mlm_jax.random_words import TOKEN, words_at
from mlm_jax.thresholds import Threshold, below, step_value

import mlm_spec
from mlm_spec.policy import Bernoulli, FixedCount

# Random words


@pytest.mark.parametrize(
    ("key", "counter", "words"),
    [
        ("00000000 " * 4, "00000000 " * 4, "9c6ca96a e17eae66 fc10ecd4 5256a7d8"),
        ("ffffffff " * 4, "ffffffff " * 4, "2a881696 57012287 f6c7446e a16a6732"),
        (
            "a4093822 299f31d0 082efa98 ec4e6c89",
            "243f6a88 85a308d3 13198a2e 03707344",
            "59cd1dbb b8879579 86b5d00c ac8b6d84",
        ),
    ],
)
def test_threefry_gives_the_published_known_answers(key: str, counter: str, words: str) -> None:
    def block(text: str) -> np.ndarray:
        return np.array([[int(word, 16) for word in text.split()]], np.uint32)

    np.testing.assert_array_equal(
        PORT.random_words(block(key), block(counter))["words"], block(words)
    )


def test_random_words_are_those_of_a_scalar_transcription() -> None:
    rng = np.random.default_rng(5)
    key, counter = rng.integers(2**32, size=(2, 70, 4), dtype=np.uint32)
    want = [_threefry(k, c) for k, c in zip(key.tolist(), counter.tolist(), strict=True)]
    np.testing.assert_array_equal(PORT.random_words(key, counter)["words"], want)


def _threefry(key: list[int], counter: list[int]) -> list[int]:
    """Plain integers, one block."""
    turns = [(10, 26), (11, 21), (13, 27), (23, 5), (6, 20), (17, 11), (25, 10), (18, 20)]
    keys = [*key, key[0] ^ key[1] ^ key[2] ^ key[3] ^ 0x1BD11BDA]
    x = [(c + k) % 2**32 for c, k in zip(counter, keys, strict=False)]
    for r in range(20):
        for a, b, by in (
            (0, 1 + 2 * (r % 2), turns[r % 8][0]),
            (2, 3 - 2 * (r % 2), turns[r % 8][1]),
        ):
            x[a] = (x[a] + x[b]) % 2**32
            x[b] = ((x[b] << by | x[b] >> (32 - by)) % 2**32) ^ x[a]
        if r % 4 == 3:
            s = r // 4 + 1
            x = [(v + keys[(s + i) % 5] + s * (i == 3)) % 2**32 for i, v in enumerate(x)]
    return x


def test_the_key_takes_all_128_bits_of_seed_and_epoch() -> None:
    assert mlm_jax.key_words(2**64 - 2, 2**32).tolist() == [2**32 - 2, 2**32 - 1, 0, 1]


# Thresholds


@pytest.mark.parametrize("p", ["0", "1/4294967296", "3/20", "4294967295/4294967296", "1"])
def test_words_on_both_sides_of_a_threshold_are_told_apart(p: str) -> None:
    limit = -(-Fraction(p).numerator * 2**32 // Fraction(p).denominator)
    words = [w for w in (0, 1, limit - 1, limit, limit + 1, 2**32 - 1) if 0 <= w < 2**32]
    plan = mlm_jax.make_plan(policy(Bernoulli(p)), 4)
    seen = below(jnp.array(words, jnp.uint32), Threshold(*map(jnp.asarray, plan.rate)))
    assert seen.tolist() == [word < limit for word in words]


@pytest.mark.parametrize(
    ("sequence", "position", "selected"), [(2579409, 129, True), (1271431, 440, False)]
)
def test_the_words_next_to_the_threshold_of_15_percent_are_decided(
    sequence: int, position: int, selected: bool
) -> None:
    ids, place = np.array([[[sequence, 0]]], np.uint32), np.array([[position]], np.uint32)
    word = int(
        words_at(jnp.zeros(4, jnp.uint32), jnp.asarray(ids), jnp.asarray(place), TOKEN)[0][0, 0]
    )
    assert word == 644245095 - selected  # T(3/20) - 1, and T(3/20)
    tokens, eligible = np.array([[9]]), np.array([[True]])
    batch = PORT.mask(tokens, ids, place, None, eligible, policy(Bernoulli("3/20")), 0, 0)
    assert batch.selected.tolist() == [[selected]]


@pytest.mark.parametrize("size", [1, 8, 32, 33, 100])
def test_small_and_large_tables_are_read_alike(size: int) -> None:
    first = np.arange(size, dtype=np.uint32) * 7 + 3
    value = np.arange(size, dtype=np.uint32) + 11
    x = np.arange(7 * size + 10, dtype=np.uint32).reshape(1, -1)
    want = [0 if v < 3 else int(value[min((v - 3) // 7, size - 1)]) for v in x[0].tolist()]
    assert step_value(jnp.asarray(first), jnp.asarray(value), jnp.asarray(x))[0].tolist() == want


@pytest.mark.parametrize("rounding", ["half_up", "half_even", "ceiling"])
@pytest.mark.parametrize("rate", ["0", "1/2", "3/20", "5/6", "1"])
def test_the_table_of_counts_is_exact(rounding: Any, rate: str) -> None:
    law = FixedCount(rate, floor=1, cap=9, rounding=rounding)
    plan = mlm_jax.make_plan(policy(law), 40)
    want = [mlm_spec.selection.fixed_count(law, n, 40) for n in range(41)]
    assert plan.counts.tolist() == want
