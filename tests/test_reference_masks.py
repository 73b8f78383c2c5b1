"""The reference's masks, at the places where one step decides: thresholds, pools, sequences."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from mlm_conformance import transcription

import mlm_spec
from mlm_spec import Bernoulli, Corruption, FixedCount, MaskingPolicy, Span, WholeWord
from mlm_spec.thresholds import below, pool_index, threshold

TOP = 2**32 - 1
MASKED = Corruption(1, 0, 0)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0, 4)])
@pytest.mark.parametrize("p", ["0", "1/3", "1/2", "4294967295/4294967296", "1"])
def test_a_word_is_below_a_threshold_or_it_is_not(p: str, shape: tuple[int, ...]) -> None:
    limit = threshold(Fraction(p))
    for word in {0, max(limit - 1, 0), min(limit, TOP), TOP}:
        found = below(np.full(shape, word, np.uint32), Fraction(p))
        assert (found.shape, found.dtype) == (shape, np.bool_)
        assert (found == (word < limit)).all()


@pytest.mark.parametrize("p", [Fraction(0), Fraction(1), 0, 1])
def test_the_ends_have_thresholds_too(p: Fraction | int) -> None:
    assert threshold(p) == p * 2**32  # type: ignore[arg-type]  # an integer is a rational


@pytest.mark.parametrize("size", [1, 3, 5, 7, 2**16, 2**31 - 1])
def test_the_second_word_is_asked_where_the_first_is_in_the_incomplete_round(size: int) -> None:
    whole = 2**32 // size * size
    first = np.array([0, size - 1, whole - 1, min(whole, TOP), TOP], np.uint32)
    second = np.arange(11, 16, dtype=np.uint32)
    chosen = [a if a < whole else b for a, b in zip(first.tolist(), second.tolist(), strict=True)]
    found = pool_index(first, second, size)
    assert found.dtype == np.uint32
    assert found.tolist() == [word % size for word in chosen]


def masked(law: mlm_spec.Selection, ids: list[tuple[int, int]], **how: object) -> np.ndarray:
    """What is selected in one row of several sequences, each with a run of positions."""
    size = len(ids)
    seen: dict[tuple[int, int], int] = {}
    position = [seen.update({i: seen.get(i, -1) + 1}) or seen[i] for i in ids]
    arguments = {
        "tokens": np.full((1, size), 9),
        "sequence_id": np.array([ids], np.uint32),
        "position": np.array([position], np.uint32),
        "word_id": np.zeros((1, size), np.int32),
        "eligible": np.ones((1, size), bool),
    }
    policy = MaskingPolicy(law, MASKED, vocab_size=32, mask_id=4)
    return mlm_spec.mask(**{**arguments, **how}, policy=policy, seed=1, epoch=0).selected[0]


@pytest.mark.parametrize("pair", [((7, 1), (8, 1)), ((7, 1), (7, 2)), ((1, 7), (7, 1))])
def test_sequences_that_share_a_word_of_their_id_are_two(
    pair: tuple[tuple[int, int], tuple[int, int]],
) -> None:
    ids = [pair[i % 2] for i in range(24)]
    selected = masked(FixedCount("1/4"), ids)
    assert [int(selected[i::2].sum()) for i in (0, 1)] == [3, 3]


@pytest.mark.parametrize("pair", [((7, 1), (8, 1)), ((7, 1), (7, 2))])
def test_words_of_two_sequences_are_two_though_their_word_ids_are_equal(
    pair: tuple[tuple[int, int], tuple[int, int]],
) -> None:
    decided = set()
    for other in range(60):
        ids = [(a + 100 * other, b) for a, b in (pair[i % 2] for i in range(6))]
        selected = masked(WholeWord("1/2"), ids)
        assert len({bool(s) for s in selected[::2]}) == len({bool(s) for s in selected[1::2]}) == 1
        decided.add((bool(selected[0]), bool(selected[1])))
    assert len(decided) == 4


def test_the_same_sequence_in_two_rows_is_two_in_count() -> None:
    shape = (3, 8)
    selected = mlm_spec.mask(
        np.full(shape, 9),
        np.zeros((*shape, 2), np.uint32),
        np.arange(24, dtype=np.uint32).reshape(shape),
        None,
        np.ones(shape, bool),
        MaskingPolicy(FixedCount("1/4"), MASKED, vocab_size=32, mask_id=4),
        seed=1,
        epoch=0,
    ).selected
    assert selected.sum(axis=1).tolist() == [2, 2, 2]


def test_where_nothing_is_eligible_nothing_is_selected() -> None:
    ids, none = [(7, 1)] * 6, np.zeros((1, 6), bool)
    for law in (Bernoulli(1), FixedCount(1, floor=3, base="all"), WholeWord(1), Span(1, (1,))):
        assert not masked(law, ids, eligible=none).any()
        assert masked(law, ids).all()


@pytest.mark.parametrize("special", [(), (9,), (8, 9), (7, 8)])
def test_special_ids_are_never_selected_be_they_one_or_more(special: tuple[int, ...]) -> None:
    policy = MaskingPolicy(Bernoulli(1), MASKED, vocab_size=32, mask_id=4, special_ids=special)
    tokens = np.array([[7, 8, 9, 10]], np.int32)
    arguments = {
        "tokens": tokens,
        "sequence_id": np.zeros((1, 4, 2), np.uint32),
        "position": np.arange(4, dtype=np.uint32)[None],
        "word_id": None,
        "eligible": np.array([[True, True, True, False]]),
        "seed": 0,
        "epoch": 0,
    }
    selected = mlm_spec.mask(**arguments, policy=policy).selected
    assert selected.tolist() == [[t not in (*special, 10) for t in (7, 8, 9, 10)]]


@pytest.mark.parametrize("token", [-1, 32])
def test_a_step_on_a_token_that_is_no_id_changes_nothing(token: int) -> None:
    tokens = np.array([[7, token, 9]])
    step = mlm_spec.mask_step(
        tokens,
        np.zeros((1, 3, 2), np.uint32),
        np.arange(3, dtype=np.uint32)[None],
        None,
        np.ones((1, 3), bool),
        MaskingPolicy(Bernoulli(1), MASKED, vocab_size=32, mask_id=4),
        seed=0,
        epoch=0,
    )
    assert step.status == mlm_spec.Status.ID_RANGE | mlm_spec.Status.EMPTY
    assert step.inputs.tolist() == step.targets.tolist() == tokens.tolist()
    assert (step.selected.dtype, step.selected.tolist()) == (np.bool_, [[False] * 3])
    assert not any(np.shares_memory(tokens, array) for array in (step.inputs, step.targets))


def test_ids_of_a_large_pool_take_the_second_word_where_the_first_is_refused() -> None:
    size = 2**32 // 3 + 1  # twice that is 2/3 of all words: a third of the first words is refused
    policy = MaskingPolicy(Bernoulli(1), Corruption(0, 1, 0), size, 4, pool="all")
    shape = (2, 32)
    arguments = (
        np.full(shape, 9),
        np.zeros((*shape, 2), np.uint32),
        np.arange(64, dtype=np.uint32).reshape(shape),
        None,
        np.ones(shape, bool),
        policy,
        1,
        0,
    )
    expected = transcription.mask(*arguments).inputs
    np.testing.assert_array_equal(mlm_spec.mask(*arguments).inputs, expected)
