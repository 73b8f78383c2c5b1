"""Chapter DST: maskers some of whose rows come back: later, elsewhere, in part, or by chance.

The answers of a parallel masker have the axes (epochs, ranks, workers, rows, columns).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mlm_conformance.mutants.registry import Port, mutant_around
from mlm_conformance.mutants.sampling import is_bernoulli

__all__ = [
    "a_row_is_that_of_the_sample_before",
    "half_a_row_comes_back_two_rows_later",
    "half_of_a_row_is_that_of_another_rank",
    "half_the_rows_come_back_two_samples_later",
    "kinds_are_alike_for_all_workers",
    "kinds_of_half_a_row_come_back_two_rows_later",
    "random_ids_are_alike_for_all_workers",
    "random_ids_of_half_a_row_come_back_two_rows_later",
    "rank_two_is_the_parity_of_the_others",
    "rows_come_back_an_epoch_later",
    "rows_come_back_at_the_next_worker",
    "workers_are_numbered_modulo_two",
]

Call = dict[str, Any]
_ROWS = "no_two_rows_of_masks_are_alike"
_MAKERS = "no_{}_of_workers_decide_one_another"


def _copies(answer: Any) -> tuple[Any, Any]:
    inputs, labels = answer
    return np.array(inputs), np.array(labels)


def _selecting(call: Call, selected: Any) -> tuple[Any, Any]:
    """These candidates selected, and all of them masked: inputs, labels."""
    able = call["eligible"] & ~np.isin(call["tokens"], call["policy"].special_ids)
    selected = selected & able
    tokens = np.broadcast_to(call["tokens"], selected.shape)
    return np.where(selected, call["policy"].mask_id, tokens), np.where(selected, tokens, -100)


def _is_plain(call: Call) -> bool:
    return is_bernoulli(call) and call["policy"].corruption.mask == 1


@mutant_around("MLM-DST-6", "sample", check=_ROWS)
def half_a_row_comes_back_two_rows_later(correct: Port, call: Call) -> Any:
    """Counters of rows that are two apart overlap in half of the columns."""
    answer = correct(**call)
    if not _is_plain(call):
        return answer
    selected = answer[1] != -100
    half = selected.shape[2] // 2
    for row in range(0, selected.shape[1] - 3, 4):
        selected[:, row + 2 : row + 4, :half] = selected[:, row : row + 2, :half]
    return _selecting(call, selected)


@mutant_around("MLM-DST-6", "sample", check=_ROWS)
def half_the_rows_come_back_two_samples_later(correct: Port, call: Call) -> Any:
    """Streams of samples that are two apart overlap in half of the rows."""
    inputs, labels = _copies(correct(**call))
    half = labels.shape[1] // 2
    for sample in range(0, len(labels) - 3, 4):
        for array in (inputs, labels):
            array[sample + 2 : sample + 4, :half] = array[sample : sample + 2, :half]
    return inputs, labels


@mutant_around("MLM-DST-6", "sample", check=_ROWS)
def a_row_is_that_of_the_sample_before(correct: Port, call: Call) -> Any:
    """The seed of a row is the number of the sample less that of the row."""
    answer = correct(**call)
    if not _is_plain(call):
        return answer
    selected = answer[1] != -100
    selected[1::2, 1:] = selected[0 : len(selected) - 1 : 2, :-1]
    return _selecting(call, selected)


@mutant_around("MLM-DST-12", "sample", check="no_two_rows_of_kinds_are_alike")
def kinds_of_half_a_row_come_back_two_rows_later(correct: Port, call: Call) -> Any:
    """Counters of kinds overlap in half of the columns of rows that are two apart."""
    inputs, labels = _copies(correct(**call))
    policy = call["policy"]
    if policy.corruption.random or not policy.corruption.keep:
        return inputs, labels
    tokens, masked = np.broadcast_to(call["tokens"], inputs.shape), inputs == policy.mask_id
    half = inputs.shape[2] // 2
    for row in range(0, inputs.shape[1] - 3, 4):
        masked[:, row + 2 : row + 4, :half] = masked[:, row : row + 2, :half]
    selected = labels != -100
    return np.where(selected, np.where(masked, policy.mask_id, tokens), inputs), labels


@mutant_around("MLM-DST-20", "sample", check="no_two_rows_of_ids_are_alike")
def random_ids_of_half_a_row_come_back_two_rows_later(correct: Port, call: Call) -> Any:
    """Counters of random ids overlap in half of the columns of rows that are two apart."""
    inputs, labels = _copies(correct(**call))
    policy = call["policy"]
    if policy.corruption.random != 1 or not is_bernoulli(call) or policy.selection.rate != 1:
        return inputs, labels
    half = inputs.shape[2] // 2
    for row in range(0, inputs.shape[1] - 3, 4):
        inputs[:, row + 2 : row + 4, :half] = inputs[:, row : row + 2, :half]
    return inputs, labels


@mutant_around("MLM-DST-18", "sample_parallel", check="no_row_of_workers_is_like_another")
def rows_come_back_at_the_next_worker(correct: Port, call: Call) -> Any:
    """The seed of a row is the number of the worker and that of the row, added."""
    inputs, labels = _copies(correct(**call))
    for worker in range(1, labels.shape[2]):
        for array in (inputs, labels):
            array[:, :, worker, :-1] = array[:, :, worker - 1, 1:]
    return _selecting(call, labels != -100)


@mutant_around("MLM-DST-17", "sample_parallel", check="no_row_of_epochs_is_like_another")
def rows_come_back_an_epoch_later(correct: Port, call: Call) -> Any:
    """The seed of a row is the number of the epoch and that of the row, added."""
    _, labels = _copies(correct(**call))
    for epoch in range(1, len(labels)):
        labels[epoch, :, :, :-1] = labels[epoch - 1, :, :, 1:]
    return _selecting(call, labels != -100)


@mutant_around("MLM-DST-19", "sample_parallel", check="no_row_of_ranks_is_like_another")
def half_of_a_row_is_that_of_another_rank(correct: Port, call: Call) -> Any:
    """In half of the columns each rank has the rows of the one before, one row on."""
    _, labels = _copies(correct(**call))
    half = labels.shape[-1] // 2
    for rank in range(1, labels.shape[1]):
        labels[:, rank, :, :-1, :half] = labels[:, rank - 1, :, 1:, :half]
    return _selecting(call, labels != -100)


@mutant_around("MLM-DST-6", "sample_parallel", check=_MAKERS.format("masks"))
def rank_two_is_the_parity_of_the_others(correct: Port, call: Call) -> Any:
    """Seeds of a linear generator are combined by xor."""
    _, labels = correct(**call)
    selected = labels != -100
    if selected.shape[1] > 2:
        selected[:, 2] = selected[:, 0] ^ selected[:, 1]
    return _selecting(call, selected)


@mutant_around("MLM-DST-18", "sample_parallel")
def workers_are_numbered_modulo_two(correct: Port, call: Call) -> Any:
    """The third worker of a rank has the masks of the first."""
    inputs, labels = _copies(correct(**call))
    for array in (inputs, labels):
        array[:, :, 2:] = array[:, :, : max(array.shape[2] - 2, 0)]
    return inputs, labels


@mutant_around("MLM-DST-12", "sample_parallel", check=_MAKERS.format("kinds"))
def kinds_are_alike_for_all_workers(correct: Port, call: Call) -> Any:
    """Where a position is selected, it shows the same kind whoever masks it."""
    inputs, labels = _copies(correct(**call))
    selected = labels != -100
    shown = np.broadcast_to(inputs[:1, :1, :1], inputs.shape)
    return np.where(selected & selected[:1, :1, :1], shown, inputs), labels


@mutant_around("MLM-DST-20", "sample_parallel", check=_MAKERS.format("ids"))
def random_ids_are_alike_for_all_workers(correct: Port, call: Call) -> Any:
    """Where two workers show a random id, it is the same one."""
    inputs, labels = _copies(correct(**call))
    tokens = np.broadcast_to(call["tokens"], inputs.shape)
    random = (labels != -100) & (inputs != tokens) & (inputs != call["policy"].mask_id)
    shown = np.broadcast_to(inputs[:1, :1, :1], inputs.shape)
    return np.where(random & random[:1, :1, :1], shown, inputs), labels
