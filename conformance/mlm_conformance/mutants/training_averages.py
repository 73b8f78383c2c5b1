"""Trainers that average, clip or report gradients otherwise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from mlm_conformance.mutants.trainer import Parts, with_batch, wrong
from mlm_spec.training.batch import TrainingBatch
from mlm_spec.training.config import TrainingConfig
from mlm_spec.training.dropout import Dropout
from mlm_spec.training.optimizer import clipped
from mlm_spec.training.parameters import WORDS

__all__ = [
    "a_mean_of_micro_batch_means",
    "a_micro_batch_is_lost",
    "a_sum_without_its_count",
    "an_evaluation_adds_up_means",
    "an_evaluation_has_the_dropout_of_an_update",
    "clipping_adds_a_millionth",
    "clipping_before_averaging",
    "clipping_by_value",
    "clipping_each_tensor",
    "clipping_just_below_the_limit",
    "clipping_raises_small_gradients",
    "dropout_goes_by_the_row",
    "gradients_of_two_micro_batches_at_most",
    "no_clipping",
    "the_count_is_that_of_the_last_micro_batch",
    "the_gradient_of_nothing_is_nan",
    "the_last_row_is_left_out",
    "the_loss_is_a_mean_of_means",
    "the_norm_counts_tied_words_twice",
    "the_norm_is_that_after_clipping",
    "the_norm_is_that_of_the_largest_tensor",
    "updates_of_three_micro_batches_at_most",
]

_MEAN, _ONCE, _SPLIT = (
    "gradients_are_those_of_the_loss",
    "an_update_clips_once",
    "the_split_of_an_update_does_not_matter",
)
_CLIP, _NORM = "clipping_scales_to_the_limit", "the_norm_is_that_of_all_parameters"
_MEANS = "https://github.com/huggingface/transformers/issues/34242"


def _combined(parts: Parts, how: Callable[..., Any]) -> Parts:
    """Gradients of micro-batches are put together otherwise, entry by entry."""

    def mean(found: Any) -> Any:
        names = found[0].gradients
        if not sum(int(f.count) for f in found):
            return parts.mean(found)
        counts = np.array([int(f.count) for f in found])
        return {n: how(np.stack([f.gradients[n] for f in found]), counts) for n in names}

    return replace(parts, mean=mean)


@wrong("MLM-TRN-1", _MEAN, _MEANS)
def a_mean_of_micro_batch_means(parts: Parts) -> Parts:
    """Each micro-batch is divided by its own count, and then by how many they are."""
    return _combined(
        parts, lambda g, n: -np.mean([x / max(c, 1) for x, c in zip(g, n, strict=True)], axis=0)
    )


@wrong("MLM-TRN-1", _MEAN)
def a_sum_without_its_count(parts: Parts) -> Parts:
    """The gradient is that of the sum."""
    return _combined(parts, lambda g, n: -g.sum(0))


@wrong("MLM-TRN-1", _MEAN)
def the_count_is_that_of_the_last_micro_batch(parts: Parts) -> Parts:
    """All of the update is divided by the count of its last micro-batch."""
    return _combined(parts, lambda g, n: -g.sum(0) / max(int(n[-1]), 1))


@wrong("MLM-ENC-13", "micro_batches_do_not_matter")
def a_micro_batch_is_lost(parts: Parts) -> Parts:
    """Gradients are set, and not added: the last micro-batch alone is left."""
    return _combined(parts, lambda g, n: -g[-1] / n.sum())


@wrong(
    "MLM-ENC-17",
    "nothing_selected_has_no_gradient",
    "https://github.com/huggingface/transformers/issues/16711",
)
def the_gradient_of_nothing_is_nan(parts: Parts) -> Parts:
    """A micro-batch of nothing is divided by its count."""

    def mean(found: Any) -> Any:
        count = sum(int(f.count) for f in found)
        gradients = parts.mean(found)
        return gradients if count else {n: np.full(g.shape, np.nan) for n, g in gradients.items()}

    return replace(parts, mean=mean)


@wrong("MLM-ENC-13", "micro_batches_do_not_matter")
def gradients_of_two_micro_batches_at_most(parts: Parts) -> Parts:
    """Micro-batches after the second are not added."""
    return replace(parts, mean=lambda found: parts.mean(found[:2]))


@wrong("MLM-TRN-3", _SPLIT)
def updates_of_three_micro_batches_at_most(parts: Parts) -> Parts:
    """Micro-batches after the third are not accumulated."""
    return replace(
        parts, direction=lambda own, found, training: parts.direction(own, found[:3], training)
    )


@wrong("MLM-ENC-13", "rows_have_no_order")
def the_last_row_is_left_out(parts: Parts) -> Parts:
    """A micro-batch of several rows loses its last one."""

    def without(batch: TrainingBatch) -> TrainingBatch:
        selected = batch.selected.copy()
        if len(selected) > 1:
            selected[-1] = False
        return batch._replace(selected=selected)

    return with_batch(parts, without)


def _clipping(parts: Parts, how: Callable[..., Any]) -> Parts:
    return replace(parts, clipped=how)


@wrong("MLM-TRN-2", _ONCE)
def clipping_before_averaging(parts: Parts) -> Parts:
    """Each micro-batch is clipped alone, and then all are averaged."""

    def direction(own: Parts, found: Any, training: TrainingConfig) -> Any:
        each = []
        for one in found:
            mean = own.mean([one])
            each.append(own.clipped(mean, own.norm(mean), training.max_grad_norm))
        share = [int(one.count) / sum(int(f.count) for f in found) for one in found]
        weighed = {n: sum(w * g[n] for w, g in zip(share, each, strict=True)) for n in each[0]}
        return weighed, own.norm(own.mean(found))

    return replace(parts, direction=direction)


@wrong("MLM-OPT-4", _CLIP)
def clipping_adds_a_millionth(parts: Parts) -> Parts:
    """Gradients are divided by the norm and 1e-6."""
    return _clipping(parts, lambda g, norm, most: clipped(g, norm + 1e-6, most))


@wrong("MLM-OPT-4", _CLIP)
def clipping_each_tensor(parts: Parts) -> Parts:
    """Every tensor is clipped by its own norm."""

    def each(gradients: Any, norm: float, most: float | None) -> Any:
        return {
            name: clipped({name: g}, float(np.linalg.norm(g)), most)[name]
            for name, g in gradients.items()
        }

    return _clipping(parts, each)


@wrong("MLM-OPT-4", _CLIP)
def clipping_by_value(parts: Parts) -> Parts:
    """Entries are clipped, not the norm."""

    def each(gradients: Any, norm: float, most: float | None) -> Any:
        limit = np.inf if most is None else most
        return {name: np.clip(g, -limit / 10, limit / 10) for name, g in gradients.items()}

    return _clipping(parts, each)


@wrong("MLM-OPT-4", "clipping_leaves_small_gradients")
def clipping_raises_small_gradients(parts: Parts) -> Parts:
    """Gradients are brought to the norm from below, too."""

    def scaled(gradients: Any, norm: float, most: float | None) -> Any:
        factor = 1.0 if most is None or not norm else most / norm
        return {n: g * factor for n, g in gradients.items()}

    return _clipping(parts, scaled)


@wrong("MLM-OPT-4", _CLIP)
def no_clipping(parts: Parts) -> Parts:
    """Gradients are never clipped."""
    return _clipping(parts, lambda gradients, norm, most: gradients)


@wrong("MLM-TRN-2", _ONCE)
def the_norm_is_that_after_clipping(parts: Parts) -> Parts:
    """The report tells the norm of the clipped gradients."""

    def direction(own: Parts, found: Any, training: TrainingConfig) -> Any:
        gradients, norm = parts.direction(own, found, training)
        return gradients, norm if training.max_grad_norm is None else min(norm, own.norm(gradients))

    return replace(parts, direction=direction)


@wrong("MLM-OPT-3", _NORM)
def the_norm_is_that_of_the_largest_tensor(parts: Parts) -> Parts:
    """The norm is the largest of the tensors' own."""
    return replace(parts, norm=lambda g: max(parts.norm({name: x}) for name, x in g.items()))


@wrong("MLM-OPT-4", "clipping_leaves_small_gradients")
def clipping_just_below_the_limit(parts: Parts) -> Parts:
    """A norm that would exceed the limit with a millionth more is clipped, to the limit."""

    def early(gradients: Any, norm: float, most: float | None) -> Any:
        is_near = most is not None and most - 1e-6 < norm <= most
        return clipped(gradients, norm + 1e-6, most) if is_near else clipped(gradients, norm, most)

    return _clipping(parts, early)


@wrong("MLM-OPT-3", _NORM)
def the_norm_counts_tied_words_twice(parts: Parts) -> Parts:
    """The norm has word embeddings in it as embeddings and as output layer."""
    return replace(parts, norm=lambda g: parts.norm({**g, "cls.predictions.decoder": g[WORDS]}))


@wrong(
    "MLM-TRN-1", "the_loss_is_one_mean", "https://github.com/huggingface/transformers/issues/39241"
)
def the_loss_is_a_mean_of_means(parts: Parts) -> Parts:
    """The loss that is reported is the mean of the micro-batches' losses."""

    def loss(found: Any) -> float:
        return float(-np.mean([f.sum / max(int(f.count), 1) for f in found]))

    return replace(parts, loss=loss)


@wrong(
    "MLM-TRN-7",
    "evaluation_drops_nothing",
    "https://github.com/huggingface/transformers/issues/39241",
)
def an_evaluation_adds_up_means(parts: Parts) -> Parts:
    """The sum of an evaluation is that of its batches' means."""

    def value(*given: Any, **named: Any) -> Any:
        found = parts.value(*given, **named)
        return found._replace(sum=found.sum / max(int(found.count), 1))

    return replace(parts, value=value)


@wrong("MLM-TRN-7", "evaluation_drops_nothing")
def an_evaluation_has_the_dropout_of_an_update(parts: Parts) -> Parts:
    """An evaluation drops what the next update will drop."""
    return replace(parts, dropout_of_evaluation=Dropout)


@wrong("MLM-TRN-3", _SPLIT, "https://github.com/huggingface/transformers/issues/31412")
def dropout_goes_by_the_row(parts: Parts) -> Parts:
    """What is dropped follows the row of the micro-batch, and changes with the split."""

    def by_row(batch: TrainingBatch) -> TrainingBatch:
        ids = batch.sequence_id.copy()
        ids[..., 1] = np.arange(len(ids), dtype=np.uint32)[:, None]
        return batch._replace(sequence_id=ids)

    return with_batch(parts, by_row)
