"""The order of a run's sequences: a function of seed and epoch, to be continued anywhere."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from mlm_spec.errors import InputError, SeedError
from mlm_spec.random_words import threefry4x32
from mlm_spec.training.batch import count_sequences
from mlm_spec.training.order import epoch_order, sequences_at

SEED = 2**40 + 3


def transcribed(epoch: int, count: int, seed: int) -> list[int]:
    """The text, one sequence at a time."""

    def words(number: int) -> tuple[int, int, int]:
        key = [seed % 2**32, seed >> 32, epoch % 2**32, epoch >> 32]
        counter = [0, 0x4D4C4D00 ^ 4, number % 2**32, number >> 32]
        w = threefry4x32(key, counter).tolist()
        return w[0], w[1], number

    return sorted(range(count), key=words)


@pytest.mark.parametrize("epoch", [0, 1, 2**33 + 1])
@pytest.mark.parametrize("count", [1, 2, 57])
def test_the_order_is_that_of_the_text(epoch: int, count: int) -> None:
    found = epoch_order(epoch, count, SEED)
    assert found.dtype == np.int64
    assert found.tolist() == transcribed(epoch, count, SEED)


def test_seed_and_epoch_each_change_the_order() -> None:
    orders = {
        tuple(epoch_order(e, 40, s).tolist()) for e in (0, 1, 2**32) for s in (0, 1, 2**32, 2**63)
    }
    assert len(orders) == 12
    assert all(sorted(order) == list(range(40)) for order in orders)


@pytest.mark.parametrize("count", [1, 3, 10])
def test_any_steps_from_any_place_give_the_same_concatenation_of_epochs(count: int) -> None:
    whole = [(e, n) for e in range(9) for n in epoch_order(e, count, SEED).tolist()][: 6 * count]
    for step in (1, 2, 3, 7, 25):
        found: list[tuple[int, int]] = []
        while len(found) < len(whole):
            for epoch, part in sequences_at(len(found), step, count, SEED):
                assert part.size
                found += [(epoch, n) for n in part.tolist()]
        assert found[: len(whole)] == whole


def test_nothing_is_asked_for_and_given() -> None:
    assert sequences_at(5, 0, 3, 1) == []


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: epoch_order(0, 0, 1), InputError, "count is 0; expected 1 or more"),
        (lambda: epoch_order(0, 2.0, 1), InputError, "count is 2.0 (float); expected an integer"),
        (lambda: epoch_order(-1, 2, 1), SeedError, "epoch is -1"),
        (lambda: epoch_order(0, 2, 2**64), SeedError, "seed is 18446744073709551616"),
        (lambda: sequences_at(-1, 2, 3, 1), InputError, "position is -1; expected 0 or more"),
        (lambda: sequences_at(0, -2, 3, 1), InputError, "number is -2; expected 0 or more"),
        (lambda: sequences_at(0, 2, 0, 1), InputError, "count is 0; expected 1 or more"),
    ],
)
def test_bad_calls_say_what_is_wrong(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        call()


def test_sequences_of_a_batch_are_counted_a_row_and_an_id_without_padding() -> None:
    ids = np.zeros((3, 4, 2), np.uint32)
    ids[0, 2:] = (0, 1)  # differs in the high word only
    ids[1] = (2**32 - 1, 2**32 - 1)
    shown = np.array([[1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]], bool)
    assert count_sequences(shown, ids) == 3
    assert count_sequences(np.zeros((0, 4), bool), np.zeros((0, 4, 2), np.uint32)) == 0
