"""The reference's random words: every shape, every block, and 64-bit ids in two words."""

from __future__ import annotations

import numpy as np
import pytest
from mlm_conformance.transcription import threefry4x32_20
from mlm_conformance.transcription.random_words import threefry_counter, threefry_key

from mlm_spec.errors import SeedError
from mlm_spec.random_words import Stream, random_words, split_words, threefry4x32

TOP = 2**32 - 1
MANY = 2 * 32768 + 5  # two passes and a rest


def some(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).integers(0, 2**32, shape, dtype=np.uint32)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (2, 0), (2, 1, 3)])
def test_words_have_the_shape_of_the_positions(shape: tuple[int, ...]) -> None:
    position, sequence = some(*shape), some(*shape, 2)
    found = random_words(2**40 + 1, 2**33 + 5, sequence, position, Stream.RANK)
    assert [(w.shape, w.dtype) for w in found] == [(shape, np.uint32)] * 4
    key = threefry_key(2**40 + 1, 2**33 + 5)
    for at in np.ndindex(shape):
        low, high = sequence[at].tolist()
        counter = threefry_counter(2, (low, high), int(position[at]))
        assert tuple(int(w[at]) for w in found) == threefry4x32_20(key, counter)


@pytest.mark.parametrize(
    ("keys", "counters"),
    [((4,), (4,)), ((4,), (2, 3, 4)), ((2, 3, 4), (2, 3, 4)), ((2, 3, 4), (4,)), ((3, 4), (3, 4))],
)
def test_keys_and_counters_are_paired(keys: tuple[int, ...], counters: tuple[int, ...]) -> None:
    key, counter = some(*keys), some(*counters) ^ np.uint32(9)
    shape = np.broadcast_shapes(keys, counters)
    found = threefry4x32(key, counter)
    assert (found.shape, found.dtype) == (shape, np.uint32)
    key, counter = np.broadcast_to(key, shape), np.broadcast_to(counter, shape)
    for at in np.ndindex(shape[:-1]):
        expected = threefry4x32_20(tuple(key[at].tolist()), tuple(counter[at].tolist()))
        assert tuple(found[at].tolist()) == expected


def test_many_words_are_those_of_their_parts() -> None:
    position, sequence = some(MANY), some(MANY, 2)
    found = random_words(1, 2, sequence, position, Stream.TOKEN)
    parts = [
        random_words(1, 2, sequence[part], position[part], Stream.TOKEN)
        for part in np.array_split(np.arange(MANY), 5)
    ]
    for whole, pieces in zip(found, zip(*parts, strict=True), strict=True):
        np.testing.assert_array_equal(whole, np.concatenate(pieces))


def test_many_keys_are_those_of_their_parts() -> None:
    key, counter = some(MANY, 4), some(MANY, 4) ^ np.uint32(9)
    parts = [threefry4x32(key[part], counter[part]) for part in np.array_split(np.arange(MANY), 5)]
    np.testing.assert_array_equal(threefry4x32(key, counter), np.concatenate(parts))


def test_arguments_are_left_alone() -> None:
    position, sequence, key, counter = some(3), some(3, 2), some(3, 4), some(3, 4)
    before = [a.copy() for a in (position, sequence, key, counter)]
    random_words(1, 2, sequence, position, Stream.SPAN)
    threefry4x32(key, counter)
    for now, then in zip((position, sequence, key, counter), before, strict=True):
        np.testing.assert_array_equal(now, then)


@pytest.mark.parametrize(
    "ids",
    [
        [[1, 2**32 + 5], [2**64 - 1, 0]],
        np.array([[1, 2**32 + 5], [2**64 - 1, 0]], np.uint64),
        [[np.uint64(1), np.int64(2**32 + 5)], [2**64 - 1, np.uint8(0)]],
    ],
)
def test_ids_of_64_bits_are_two_words_the_low_one_first(ids: object) -> None:
    found = split_words(ids)
    assert found.dtype == np.uint32
    assert found.tolist() == [[[1, 0], [5, 1]], [[TOP, TOP], [0, 0]]]


def test_signed_and_small_ids_and_none_at_all_are_split() -> None:
    assert split_words(np.array([7, 0], np.int8)).tolist() == [[7, 0], [0, 0]]
    assert split_words([]).shape == (0, 2)
    assert split_words(np.zeros((3, 0), np.int64)).shape == (3, 0, 2)
    assert split_words(2**33).tolist() == [0, 2]


@pytest.mark.parametrize("name", ["seed", "epoch"])
def test_a_seed_that_is_none_is_named(name: str) -> None:
    how = {"seed": 1, "epoch": 2, name: -1}
    with pytest.raises(SeedError, match=f"^{name} is -1; "):
        random_words(**how, sequence_id=some(3, 2), position=some(3), stream=Stream.TOKEN)
