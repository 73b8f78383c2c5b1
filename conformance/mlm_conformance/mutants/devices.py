"""Trainers that share an update out to several devices and make another one of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mlm_conformance.mutants.device_trainer import SHARING, Sharing, wrong
from mlm_conformance.mutants.trainer import CORRECT_PARTS
from mlm_spec.training import units
from mlm_spec.training.batch import TrainingBatch
from mlm_spec.training.dropout import dropout_keep
from mlm_spec.training.gradients import Gradients
from mlm_spec.training.optimizer import global_norm
from mlm_spec.training.parameters import BIAS, WORDS

__all__ = [
    "a_mean_of_the_means_of_devices",
    "an_idle_device_makes_the_update_no_number",
    "dropout_goes_by_the_row_of_a_device",
    "each_part_has_a_softmax_of_its_own",
    "evaluations_are_of_the_first_device",
    "hidden_states_learn_from_the_first_part",
    "masks_go_by_the_row_of_a_device",
    "normalisers_of_parts_are_added_up",
    "parts_are_shifted_by_the_first_maximum",
    "parts_are_shifted_by_their_own_maximum",
    "targets_are_found_by_their_place_in_a_part",
    "targets_are_found_in_the_first_part",
    "the_bias_is_a_part_behind",
    "the_count_is_that_of_one_device",
    "the_norm_is_that_of_the_first_part",
    "the_table_learns_from_the_first_device",
]

_PARTS, _NORM = "parts_are_those_of_a_whole", "an_update_has_the_norm_of_all_parts"
_ROWS, _EVALUATION = "rows_may_lie_on_any_device", "an_evaluation_is_of_all_rows"
_MASKS = "masks_do_not_know_their_device"
_TABLES = (WORDS, BIAS)


def _sums(logits: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """The maximum of each part, and Σ exp of what is left."""
    most = [z.max(axis=-1, keepdims=True) for z in logits]
    own = [np.exp(z - np.where(np.isinf(m), 0.0, m)).sum(axis=-1, keepdims=True)
           for z, m in zip(logits, most, strict=True)]  # fmt: skip
    return most, own


def _normalised(sharing: Sharing, normaliser: Any) -> Sharing:
    """All parts have one wrong normaliser, of their maxima and sums."""

    def normalisers(logits: Sequence[Any]) -> list[Any]:
        return [normaliser(*_sums(logits))] * len(logits)

    return replace(sharing, normalisers=normalisers)


@wrong("MLM-DST-28", _PARTS)
def normalisers_of_parts_are_added_up(sharing: Sharing) -> Sharing:
    """The log-normaliser is the sum of those of the parts."""

    def added(most: Any, own: Any) -> Any:
        return sum(m + np.log(s) for m, s in zip(most, own, strict=True))

    return _normalised(sharing, added)


@wrong("MLM-DST-28", _PARTS)
def parts_are_shifted_by_their_own_maximum(sharing: Sharing) -> Sharing:
    """Sums of exponentials, each relative to the maximum of its part, are added up as they are."""
    return _normalised(sharing, lambda most, own: np.max(most, axis=0) + np.log(sum(own)))


@wrong("MLM-DST-28", _PARTS)
def parts_are_shifted_by_the_first_maximum(sharing: Sharing) -> Sharing:
    """The sums of all parts are brought to the maximum of the first part, however small it is."""

    def shifted(most: Any, own: Any) -> Any:
        moved = [s * np.exp(m - most[0]) for m, s in zip(most, own, strict=True)]
        return most[0] + np.log(sum(moved))

    return _normalised(sharing, shifted)


@wrong("MLM-DST-28", _PARTS)
def each_part_has_a_softmax_of_its_own(sharing: Sharing) -> Sharing:
    """Probabilities are those among the ids of one part."""

    def normalisers(logits: Sequence[Any]) -> list[Any]:
        return [m + np.log(s) for m, s in zip(*_sums(logits), strict=True)]

    return replace(sharing, normalisers=normalisers)


@wrong("MLM-DST-28", _PARTS)
def targets_are_found_in_the_first_part(sharing: Sharing) -> Sharing:
    """A target that lies in another part is that of no position."""

    def hits(targets: Any, parts: Sequence[Any]) -> list[Any]:
        found = SHARING.hits(targets, parts)
        return [found[0], *(np.zeros_like(hit) for hit in found[1:])]

    return replace(sharing, hits=hits)


@wrong("MLM-DST-28", _PARTS)
def targets_are_found_by_their_place_in_a_part(sharing: Sharing) -> Sharing:
    """The number of a target within its part is looked up in every part."""

    def hits(targets: Any, parts: Sequence[Any]) -> list[Any]:
        size = len(parts[0].bias)
        return [targets[:, None] % size == np.arange(size) for _ in parts]

    return replace(sharing, hits=hits)


@wrong("MLM-DST-28", _PARTS)
def hidden_states_learn_from_the_first_part(sharing: Sharing) -> Sharing:
    """The gradient of the hidden states is that of the first part, and is not added up."""
    return replace(sharing, states=lambda parts: parts[0])


@wrong("MLM-DST-28", _PARTS)
def the_bias_is_a_part_behind(sharing: Sharing) -> Sharing:
    """Each part adds the bias of the part before it."""

    def logits(states: Any, parts: Sequence[Any]) -> list[Any]:
        behind = [parts[n - 1].bias for n in range(len(parts))]
        moved = [p._replace(bias=b) for p, b in zip(parts, behind, strict=True)]
        return SHARING.logits(states, moved)

    return replace(sharing, logits=logits)


@wrong("MLM-DST-28", _NORM)
def the_norm_is_that_of_the_first_part(sharing: Sharing) -> Sharing:
    """The norm of the tables is that of the half of them that the first devices have."""

    def norm(gradients: Any) -> float:
        own = {n: g[: len(g) // 2] if n in _TABLES else g for n, g in gradients.items()}
        return global_norm(own)

    return replace(sharing, parts_of_trainer=replace(CORRECT_PARTS, norm=norm))


def _with_total(sharing: Sharing, total: Any) -> Sharing:
    return replace(sharing, total=total, value=total)


@wrong("MLM-DST-30", _ROWS, "https://github.com/huggingface/transformers/issues/34242")
def a_mean_of_the_means_of_devices(sharing: Sharing) -> Sharing:
    """The mean is that of the devices that have something, each of which divides by its count."""

    def total(found: Sequence[Gradients]) -> Gradients:
        whole, busy = SHARING.total(found), [f for f in found if f.count]
        if not busy:
            return whole
        by = [whole.count / (len(busy) * f.count) for f in busy]
        weighed = [
            Gradients(f.sum * w, f.count, {n: g * w for n, g in f.gradients.items()})
            for f, w in zip(busy, by, strict=True)
        ]
        return SHARING.total(weighed)

    return _with_total(sharing, total)


@wrong("MLM-DST-30", _ROWS)
def an_idle_device_makes_the_update_no_number(sharing: Sharing) -> Sharing:
    """Each device divides by its own count, and where that is 0 the whole update is no number."""

    def total(found: Sequence[Gradients]) -> Gradients:
        whole = SHARING.total(found)
        if not whole.count or all(f.count for f in found):
            return whole
        lost = {name: g * np.nan for name, g in whole.gradients.items()}
        return Gradients(whole.sum * np.nan, whole.count, lost)

    return _with_total(sharing, total)


@wrong("MLM-DST-30", _ROWS)
def the_count_is_that_of_one_device(sharing: Sharing) -> Sharing:
    """Sums are those of all devices, and the count is that of the first, as often as they are."""

    def total(found: Sequence[Gradients]) -> Gradients:
        return SHARING.total(found)._replace(count=found[0].count * len(found))

    return _with_total(sharing, total)


@wrong("MLM-DST-30", _ROWS)
def the_table_learns_from_the_first_device(sharing: Sharing) -> Sharing:
    """The gradient of the table of words, which lies on all devices, is not added up."""

    def total(found: Sequence[Gradients]) -> Gradients:
        whole = SHARING.total(found)
        own = {**whole.gradients, WORDS: found[0].gradients[WORDS]}
        return whole._replace(gradients=own)

    return _with_total(sharing, total)


@wrong("MLM-DST-30", _EVALUATION)
def evaluations_are_of_the_first_device(sharing: Sharing) -> Sharing:
    """An evaluation gives what the first device has found."""
    return replace(sharing, value=lambda found: found[0])


@wrong("MLM-DST-30", _ROWS)
def dropout_goes_by_the_row_of_a_device(sharing: Sharing) -> Sharing:
    """Units are dropped by the number of a sequence on its device, so alike on each."""

    def keep(key: Any, ids: Any, position: Any, channel: Any, p: Any) -> Any:
        _, number = np.unique(ids, axis=0, return_inverse=True)
        number = number.reshape(-1)
        local = np.stack([number, 0 * number], -1).astype(np.uint32)
        return dropout_keep(key, local, position, channel, p)

    return replace(sharing, changes=((units, "dropout_keep", keep),))


@wrong("MLM-DST-30", _MASKS)
def masks_go_by_the_row_of_a_device(sharing: Sharing) -> Sharing:
    """Tokens are masked by the number of their row on its device, so alike on each."""

    def masked(make: Any, given: Any, devices: int) -> TrainingBatch:
        ids = given["sequence_id"].copy()
        if "tokens" in given:
            each = -(-len(ids) // devices)
            ids[..., 0] = (np.arange(len(ids)) % each)[:, None]
        batch: TrainingBatch = make({**given, "sequence_id": ids})
        return batch._replace(sequence_id=given["sequence_id"])

    return replace(sharing, masked=masked)
