"""Replicas that share masks, gradients, state or files otherwise."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mlm_conformance.mutants.replica_trainer import Place, Shares, Sharing, wrong_replicas
from mlm_conformance.mutants.trainer import CORRECT_PARTS, Parts
from mlm_spec.training.batch import TrainingBatch, UpdateStatus
from mlm_spec.training.dropout import Dropout
from mlm_spec.training.gradients import Gradients
from mlm_spec.training.inputs import training_batch
from mlm_spec.training.optimizer import global_norm
from mlm_spec.training.state import TrainingState

__all__ = [
    "a_checkpoint_has_the_position_of_the_first",
    "a_mean_of_replica_means",
    "a_pair_of_replicas_loses_the_third",
    "a_part_is_given_out_for_the_whole",
    "a_replica_of_nothing_empties_the_update",
    "a_replica_of_nothing_has_a_gradient_of_nan",
    "a_replica_without_batches_counts_as_a_mean",
    "an_update_of_nothing_counts_on_the_others",
    "dropout_has_the_rank_in_its_seed",
    "each_replica_clips_its_own",
    "each_replica_divides_by_its_own_count",
    "loading_leaves_the_others_their_moments",
    "masks_have_the_rank_in_their_seed",
    "masks_start_anew_on_each_replica",
    "only_the_first_has_the_sum",
    "parts_are_clipped_by_their_own_norm",
    "replicas_evaluate_their_own",
    "replicas_report_their_own_loss",
    "the_gradient_grows_with_the_replicas",
    "the_last_replica_is_left_out",
    "the_moments_of_a_part_are_those_of_the_whole",
    "the_others_go_on_without_the_refused",
    "the_others_keep_their_last_bit",
    "the_sum_of_parts_leaves_out_the_remainder",
]

_ONE = "an_update_of_replicas_is_that_of_one"
_MASKS = "masks_and_dropout_know_no_replica"
_SAME = "replicas_stay_the_same"
_NOTHING, _EMPTY = "a_replica_of_nothing_takes_part", "nothing_on_all_replicas_changes_nothing"
_PARTS, _FILES = "parameters_in_parts_are_parameters", "a_run_goes_on_with_another_number"
_REFUSED = "what_one_refuses_all_refuse"
_MEANS = "https://github.com/huggingface/transformers/issues/34242"


def _with_parts(sharing: Sharing, how: Callable[[Parts, Place], Parts]) -> Sharing:
    return replace(sharing, parts=lambda place: how(CORRECT_PARTS, place))


def _scaled(one: Gradients, share: float) -> Gradients:
    return one._replace(gradients={name: g * share for name, g in one.gradients.items()})


def _count(found: Sequence[Gradients]) -> int:
    return sum(int(one.count) for one in found)


def _all_of(shares: Shares) -> list[Gradients]:
    return [one for own in shares for one in own]


@wrong_replicas("MLM-DST-21", _MASKS)
def masks_have_the_rank_in_their_seed(sharing: Sharing) -> Sharing:
    """Each replica masks with a seed of its own."""

    def seeded(parts: Parts, place: Place) -> Parts:
        def masked(batch: Any, encoder: Any, policy: Any, seed: int) -> TrainingBatch:
            return training_batch(batch, encoder, policy, seed + place.rank)

        return replace(parts, masked=masked)

    return _with_parts(sharing, seeded)


@wrong_replicas("MLM-DST-21", _MASKS)
def masks_start_anew_on_each_replica(sharing: Sharing) -> Sharing:
    """With more than one replica, sequences are numbered by their rows."""

    def numbered(parts: Parts, place: Place) -> Parts:
        def masked(batch: Any, encoder: Any, policy: Any, seed: int) -> TrainingBatch:
            if place.size == 1 or "tokens" not in batch:
                return training_batch(batch, encoder, policy, seed)
            rows = np.zeros_like(batch["sequence_id"])
            rows[..., 0] = np.arange(len(rows))[:, None]
            found = training_batch({**batch, "sequence_id": rows}, encoder, policy, seed)
            return found._replace(sequence_id=batch["sequence_id"])

        return replace(parts, masked=masked)

    return _with_parts(sharing, numbered)


@wrong_replicas("MLM-DST-21", _MASKS)
def dropout_has_the_rank_in_its_seed(sharing: Sharing) -> Sharing:
    """Each replica drops units of its own."""

    def seeded(parts: Parts, place: Place) -> Parts:
        return replace(parts, dropout=lambda seed, update: Dropout(seed + place.rank, update))

    return _with_parts(sharing, seeded)


@wrong_replicas("MLM-DST-22", _ONE, _MEANS)
def a_mean_of_replica_means(sharing: Sharing) -> Sharing:
    """Gradients are averaged over the replicas, each of which has divided by its count."""

    def combined(shares: Shares, place: Place) -> list[Gradients]:
        count, busy = _count(_all_of(shares)), [own for own in shares if _count(own)]
        scale = [count / (max(len(busy), 1) * max(_count(own), 1)) for own in shares]
        return [_scaled(one, s) for own, s in zip(shares, scale, strict=True) for one in own]

    return replace(sharing, combined=combined)


@wrong_replicas("MLM-DST-22", _ONE)
def each_replica_divides_by_its_own_count(sharing: Sharing) -> Sharing:
    """The gradients of all are divided by the count of the first replica that has one."""

    def combined(shares: Shares, place: Place) -> list[Gradients]:
        count = next((_count(own) for own in shares if _count(own)), 1)
        return [_scaled(one, _count(_all_of(shares)) / count) for one in _all_of(shares)]

    return replace(sharing, combined=combined)


@wrong_replicas("MLM-DST-22", _ONE)
def the_gradient_grows_with_the_replicas(sharing: Sharing) -> Sharing:
    """What was to undo a division by the number of replicas is done where none was divided."""
    return replace(
        sharing,
        combined=lambda shares, place: [_scaled(one, len(shares)) for one in _all_of(shares)],
    )


@wrong_replicas("MLM-DST-22", _ONE)
def the_last_replica_is_left_out(sharing: Sharing) -> Sharing:
    """Of three replicas or more the last one's gradients are not added."""

    def combined(shares: Shares, place: Place) -> list[Gradients]:
        return _all_of(shares[:-1] if len(shares) > 2 else shares)

    return replace(sharing, combined=combined)


@wrong_replicas("MLM-DST-22", _ONE)
def a_pair_of_replicas_loses_the_third(sharing: Sharing) -> Sharing:
    """Three replicas are added up by pairs, and one of them has none."""
    return replace(
        sharing,
        combined=lambda shares, place: _all_of(shares[:2] if len(shares) == 3 else shares),
    )


@wrong_replicas("MLM-DST-22", _ONE)
def each_replica_clips_its_own(sharing: Sharing) -> Sharing:
    """The mean of each replica is clipped, and then they are added up."""

    def combined(shares: Shares, place: Place) -> list[Gradients]:
        found = []
        for own in shares:
            count = _count(own)
            norm = global_norm(CORRECT_PARTS.mean(own)) if count else 0.0
            found += [_scaled(one, min(1.0, 1.0 / norm) if norm else 1.0) for one in own]
        return found

    return replace(sharing, combined=combined)


@wrong_replicas("MLM-DST-22", "replicas_evaluate_the_whole")
def replicas_evaluate_their_own(sharing: Sharing) -> Sharing:
    """An evaluation is that of the first replica's batches, unless parameters lie in parts."""
    return replace(sharing, evaluated=lambda pairs, place: pairs if place.sharded else pairs[:1])


@wrong_replicas("MLM-DST-23", _SAME)
def only_the_first_has_the_sum(sharing: Sharing) -> Sharing:
    """The sum goes to the first replica; the others go on with their own gradients."""

    def combined(shares: Shares, place: Place) -> list[Gradients]:
        own = list(shares[place.rank])
        return own if place.rank and _count(own) else _all_of(shares)

    return replace(sharing, combined=combined)


@wrong_replicas("MLM-DST-23", _SAME)
def the_others_keep_their_last_bit(sharing: Sharing) -> Sharing:
    """Each replica adds up in an order of its own."""

    def combined(shares: Shares, place: Place) -> list[Gradients]:
        return _all_of([*shares[place.rank :], *shares[: place.rank]])

    return replace(sharing, combined=combined)


@wrong_replicas("MLM-DST-23", _SAME)
def replicas_report_their_own_loss(sharing: Sharing) -> Sharing:
    """All but the first report the loss of their own micro-batches."""

    def report(said: dict[str, Any], shares: Shares, place: Place) -> dict[str, Any]:
        own = shares[place.rank]
        if not place.rank or not _count(own):
            return said
        return {**said, "loss": float(-sum(one.sum for one in own)) / _count(own)}

    return replace(sharing, report=report)


@wrong_replicas("MLM-DST-24", _NOTHING)
def a_replica_of_nothing_has_a_gradient_of_nan(sharing: Sharing) -> Sharing:
    """A replica divides by its count before all is added up, also by 0."""

    def combined(shares: Shares, place: Place) -> list[Gradients]:
        found = _all_of(shares)
        if not _count(found):
            return found
        return [_scaled(one, 1.0 if _count(own) else np.nan) for own in shares for one in own]

    return replace(sharing, combined=combined)


@wrong_replicas("MLM-DST-24", _NOTHING)
def a_replica_of_nothing_empties_the_update(sharing: Sharing) -> Sharing:
    """Where one of two replicas has nothing selected, both skip the update."""

    def combined(shares: Shares, place: Place) -> list[Gradients]:
        idle = len(shares) == 2 and not all(map(_count, shares))
        return [one._replace(count=np.int64(0)) if idle else one for one in _all_of(shares)]

    return replace(sharing, combined=combined)


@wrong_replicas("MLM-DST-24", _NOTHING)
def a_replica_without_batches_counts_as_a_mean(sharing: Sharing) -> Sharing:
    """The gradient is divided by the number of replicas, and multiplied by that of the busy."""

    def combined(shares: Shares, place: Place) -> list[Gradients]:
        busy = sum(bool(_count(own)) for own in shares)
        return [_scaled(one, busy / len(shares)) for one in _all_of(shares)]

    return replace(sharing, combined=combined)


@wrong_replicas("MLM-DST-24", _EMPTY)
def an_update_of_nothing_counts_on_the_others(sharing: Sharing) -> Sharing:
    """An update of nothing has a number, where there are several replicas."""

    def counted(parts: Parts, place: Place) -> Parts:
        def nothing(state: TrainingState, training: Any) -> Any:
            said = parts.nothing(state, training)[1]
            state = replace(state, update=state.update + (place.size > 1))
            return state, {**said, "status": UpdateStatus.EMPTY}

        return replace(parts, nothing=nothing)

    return _with_parts(sharing, counted)


@wrong_replicas("MLM-DST-25", _REFUSED)
def the_others_go_on_without_the_refused(sharing: Sharing) -> Sharing:
    """Who can do what is asked for does it."""
    return replace(sharing, refused=lambda refused, place: None)


@wrong_replicas("MLM-DST-26", _FILES)
def a_checkpoint_has_the_position_of_the_first(sharing: Sharing) -> Sharing:
    """The position counts the sequences of the first replica."""
    return replace(sharing, consumed=lambda counts, place: counts[0])


@wrong_replicas("MLM-DST-26", _FILES)
def loading_leaves_the_others_their_moments(sharing: Sharing) -> Sharing:
    """Only the first replica takes over the moments of a checkpoint."""

    def loaded(found: TrainingState, former: TrainingState, place: Place) -> TrainingState:
        if not place.rank:
            return found
        return replace(found, exp_avg=former.exp_avg, exp_avg_sq=former.exp_avg_sq)

    return replace(sharing, loaded=loaded)


@wrong_replicas("MLM-DST-27", _PARTS)
def parts_are_clipped_by_their_own_norm(sharing: Sharing) -> Sharing:
    """The norm is that of the first half of every parameter."""

    def halved(parts: Parts, place: Place) -> Parts:
        if not place.sharded:
            return parts
        return replace(parts, norm=lambda mean: global_norm(_first_parts(mean)))

    return _with_parts(sharing, halved)


@wrong_replicas("MLM-DST-27", _PARTS)
def a_part_is_given_out_for_the_whole(sharing: Sharing) -> Sharing:
    """Parameters and moments are given out as the part that is here."""

    def shown(arrays: Mapping[str, Any], place: Place) -> Mapping[str, Any]:
        return _first_parts(arrays) if place.sharded else arrays

    return replace(sharing, shown=shown)


@wrong_replicas("MLM-DST-27", _PARTS)
def the_sum_of_parts_leaves_out_the_remainder(sharing: Sharing) -> Sharing:
    """Rows that no equal part has keep their gradient 0."""

    def combined(shares: Shares, place: Place) -> list[Gradients]:
        if not place.sharded:
            return _all_of(shares)
        return [_without_remainder(one, place.size) for one in _all_of(shares)]

    return replace(sharing, combined=combined)


@wrong_replicas("MLM-DST-27", _PARTS)
def the_moments_of_a_part_are_those_of_the_whole(sharing: Sharing) -> Sharing:
    """A replica with parts takes the moments over from no checkpoint."""

    def loaded(found: TrainingState, former: TrainingState, place: Place) -> TrainingState:
        if not place.sharded:
            return found
        return replace(found, exp_avg=former.exp_avg, exp_avg_sq=former.exp_avg_sq)

    return replace(sharing, loaded=loaded)


def _first_parts(arrays: Mapping[str, Any]) -> dict[str, Any]:
    return {name: array[: -(-len(array) // 2)] for name, array in arrays.items()}


def _without_remainder(one: Gradients, size: int) -> Gradients:
    found = {name: g.copy() for name, g in one.gradients.items()}
    for gradient in found.values():
        gradient[len(gradient) // size * size :] = 0.0
    return one._replace(gradients=found)
