"""Chapter DST where masks are made in parallel: seeds that leave out who makes a mask, and when.

An answer has the axes (epochs, ranks, workers, rows, columns).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mlm_conformance.mutants.registry import Port, mutant_around

__all__ = [
    "a_row_in_four_is_masked_as_in_the_epoch_before",
    "a_worker_repeats_the_epoch_of_its_neighbour",
    "all_epochs_mask_alike",
    "all_ranks_mask_alike",
    "all_workers_mask_alike",
    "epochs_come_again_after_eight",
    "half_of_the_rows_are_masked_alike_by_neighbours",
    "half_of_the_rows_are_masked_alike_on_two_ranks",
    "rank_two_masks_as_rank_zero",
    "ranks_are_four_workers_apart",
    "ranks_mask_alike_in_the_second_epoch",
    "the_third_epoch_is_the_first_again",
    "workers_come_again_after_four",
]

Call = dict[str, Any]
_SEED = "https://github.com/huggingface/transformers/pull/36497"
_RANKS = "https://github.com/AnswerDotAI/ModernBERT/blob/8c57a0f/src/sequence_packer.py"
_ALL = slice(None)


def _copied(answer: Any, to: tuple[Any, ...], source: tuple[Any, ...]) -> Any:
    """The answer with one part of it in the place of another."""
    arrays = [np.array(array) for array in answer]
    for array in arrays:
        if array[to].size:
            array[to] = array[source].copy()
    return tuple(arrays)


@mutant_around("MLM-DST-17", "sample_parallel", check="no_epoch_repeats_another", url=_SEED)
def all_epochs_mask_alike(correct: Port, call: Call) -> Any:
    """Workers are forked anew for each epoch, with the same seed."""
    return _copied(correct(**call), (_ALL,), (slice(0, 1),))


@mutant_around("MLM-DST-17", "sample_parallel", check="no_epoch_repeats_another")
def the_third_epoch_is_the_first_again(correct: Port, call: Call) -> Any:
    """The seed is the parity of the epoch."""
    return _copied(correct(**call), (slice(2, 3),), (slice(0, 1),))


@mutant_around("MLM-DST-17", "sample_parallel", check="no_epoch_repeats_another")
def a_row_in_four_is_masked_as_in_the_epoch_before(correct: Port, call: Call) -> Any:
    """A cache that is not keyed by the epoch still holds a part of the rows."""
    part = (_ALL, _ALL, slice(0, None, 4))
    return _copied(correct(**call), (slice(1, 2), *part), (slice(0, 1), *part))


@mutant_around("MLM-DST-18", "sample_parallel", check="no_worker_repeats_another")
def all_workers_mask_alike(correct: Port, call: Call) -> Any:
    """Workers are forked with one random state."""
    return _copied(correct(**call), (_ALL, _ALL, _ALL), (_ALL, _ALL, slice(0, 1)))


@mutant_around("MLM-DST-18", "sample_parallel", check="no_worker_repeats_another")
def a_worker_repeats_the_epoch_of_its_neighbour(correct: Port, call: Call) -> Any:
    """The seed is the sum of the epoch and the worker's number."""
    if call["workers"] < 2:
        return correct(**call)
    return _copied(
        correct(**call), (slice(1, None), _ALL, slice(0, 1)), (slice(0, -1), _ALL, slice(1, 2))
    )


@mutant_around("MLM-DST-18", "sample_parallel", check="no_worker_repeats_another")
def half_of_the_rows_are_masked_alike_by_neighbours(correct: Port, call: Call) -> Any:
    """Two workers share what they draw for every second row."""
    half = slice(0, None, 2)
    return _copied(
        correct(**call), (_ALL, _ALL, slice(1, 2), half), (_ALL, _ALL, slice(0, 1), half)
    )


@mutant_around("MLM-DST-19", "sample_parallel", check="no_rank_repeats_another", url=_RANKS)
def all_ranks_mask_alike(correct: Port, call: Call) -> Any:
    """The seed knows nothing of the rank."""
    return _copied(correct(**call), (_ALL, _ALL), (_ALL, slice(0, 1)))


@mutant_around("MLM-DST-19", "sample_parallel", check="no_rank_repeats_another")
def ranks_mask_alike_in_the_second_epoch(correct: Port, call: Call) -> Any:
    """The rank enters the first seed, and the epochs that follow are seeded without it."""
    return _copied(correct(**call), (slice(1, 2), _ALL), (slice(1, 2), slice(0, 1)))


@mutant_around("MLM-DST-19", "sample_parallel", check="no_rank_repeats_another")
def rank_two_masks_as_rank_zero(correct: Port, call: Call) -> Any:
    """The rank within a machine of two devices stands for the rank."""
    return _copied(correct(**call), (_ALL, slice(2, 3)), (_ALL, slice(0, 1)))


@mutant_around("MLM-DST-19", "sample_parallel", check="no_rank_repeats_another")
def half_of_the_rows_are_masked_alike_on_two_ranks(correct: Port, call: Call) -> Any:
    """Two ranks share what they draw for every second row."""
    half = slice(0, None, 2)
    return _copied(
        correct(**call), (_ALL, slice(1, 2), _ALL, half), (_ALL, slice(0, 1), _ALL, half)
    )


@mutant_around("MLM-DST-17", "sample_parallel", check="no_row_of_epochs_is_like_another")
def epochs_come_again_after_eight(correct: Port, call: Call) -> Any:
    """The number of an epoch has three bits in the seed."""
    return tuple(array[np.arange(len(array)) % 8] for array in correct(**call))


@mutant_around("MLM-DST-18", "sample_parallel", check="no_row_of_workers_is_like_another")
def workers_come_again_after_four(correct: Port, call: Call) -> Any:
    """The number of a worker has two bits in the seed."""
    numbers = np.arange(call["workers"]) % 4
    return tuple(array[:, :, numbers] for array in correct(**call))


@mutant_around("MLM-DST-19", "sample_parallel", check="no_row_of_ranks_is_like_another")
def ranks_are_four_workers_apart(correct: Port, call: Call) -> Any:
    """The seed is four times the rank plus the number of the worker."""
    workers, ranks = call["workers"], call["ranks"]
    answer = correct(**{**call, "workers": 4 * ranks + workers, "ranks": 1})
    numbers = 4 * np.arange(ranks)[:, None] + np.arange(workers)
    return tuple(array[:, 0, numbers] for array in answer)
