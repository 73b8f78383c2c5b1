"""Trainers that drop other units, and trainers that mask otherwise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np

from mlm_conformance.mutants.trainer import Parts, inside, wrong
from mlm_spec.training import units
from mlm_spec.training.dropout import Dropout, Site, dropout_keep, dropout_keys

__all__ = [
    "a_probability_of_0_is_none_given",
    "attention_drops_as_much_as_hidden_units",
    "dropout_by_the_column",
    "dropout_by_the_row",
    "dropout_counts_updates_from_0",
    "dropout_in_evaluation",
    "dropout_is_not_scaled",
    "dropout_is_that_of_the_first_layer",
    "dropout_is_the_same_in_each_update",
    "dropout_keeps_what_it_should_drop",
    "dropout_of_whole_positions",
    "dropout_skips_attention",
    "dropout_skips_the_embeddings",
    "dropout_without_its_seed",
    "masks_ignore_the_epoch",
    "masks_ignore_the_seed",
    "one_word_for_four_channels",
]

_DROPOUT = "dropout_follows_its_stream"
_SEQUENCE = "units_go_with_their_sequence"
_RANKS = "https://github.com/huggingface/transformers/issues/31412"
_EPOCH = "https://github.com/huggingface/transformers/pull/36497"


def _keyed(parts: Parts, ids: Callable[..., Any]) -> Parts:
    """The stream is asked for other sequences and positions."""

    def keep(key: Any, sequence_id: Any, position: Any, channel: Any, p: Any) -> Any:
        other, place = ids(sequence_id, position)
        return dropout_keep(key, other, place, channel, p)

    return inside(parts, (units, "dropout_keep", keep))


@wrong("MLM-ENC-16", _SEQUENCE, _RANKS)
def dropout_by_the_row(parts: Parts) -> Parts:
    """Dropout goes by where a sequence lies in the batch, so that each replica drops the same."""

    def ids(sequence_id: Any, position: Any) -> Any:
        _, number = np.unique(sequence_id, axis=0, return_inverse=True)
        return np.stack([number, 0 * number], -1).astype(np.uint32), position

    return _keyed(parts, ids)


@wrong("MLM-ENC-16", _SEQUENCE)
def dropout_by_the_column(parts: Parts) -> Parts:
    """Dropout goes by the place in the micro-batch, and not in the sequence."""

    def ids(sequence_id: Any, position: Any) -> Any:
        return sequence_id, np.arange(len(position), dtype=np.uint32)

    return _keyed(parts, ids)


@wrong("MLM-ENC-15", _DROPOUT)
def dropout_is_not_scaled(parts: Parts) -> Parts:
    """Units that are kept are not divided by 1 − p."""
    return inside(parts, (units, "dropout_factor", lambda keep, p: keep.astype(np.float64)))


@wrong("MLM-ENC-15", _DROPOUT)
def dropout_keeps_what_it_should_drop(parts: Parts) -> Parts:
    """A word below T(1 − p) drops its unit."""

    def keep(*given: Any) -> Any:
        return ~dropout_keep(*given)

    return inside(parts, (units, "dropout_keep", keep))


@wrong("MLM-ENC-16", _DROPOUT)
def one_word_for_four_channels(parts: Parts) -> Parts:
    """Four neighbouring channels are dropped together."""

    def keep(key: Any, ids: Any, position: Any, channel: Any, p: Any) -> Any:
        return dropout_keep(key, ids, position, (channel // 4 * 4).astype(np.uint32), p)

    return inside(parts, (units, "dropout_keep", keep))


@wrong("MLM-ENC-16", _DROPOUT)
def dropout_is_that_of_the_first_layer(parts: Parts) -> Parts:
    """Every layer drops what the first one drops."""

    def keys(dropout: Dropout, layers: int) -> Any:
        found = dropout_keys(dropout, layers)
        return np.broadcast_to(found[:1], found.shape)

    return inside(parts, (units, "dropout_keys", keys))


@wrong("MLM-ENC-15", _DROPOUT)
def dropout_skips_the_embeddings(parts: Parts) -> Parts:
    """Nothing is dropped after the embeddings."""
    whole = units.Units.hidden

    def hidden(self: Any, site: Site, layer: int = 0) -> Any:
        return None if site is Site.EMBEDDINGS else whole(self, site, layer)

    return inside(parts, (units.Units, "hidden", hidden))


@wrong("MLM-ENC-15", _DROPOUT)
def dropout_skips_attention(parts: Parts) -> Parts:
    """No attention probability is dropped."""

    def attention(self: Any, layer: int) -> Any:
        return [None] * len(self.places.sequences)

    return inside(parts, (units.Units, "attention", attention))


@wrong("MLM-ENC-15", _DROPOUT)
def dropout_of_whole_positions(parts: Parts) -> Parts:
    """A position loses all of its units, or none."""

    def keep(key: Any, ids: Any, position: Any, channel: Any, p: Any) -> Any:
        return dropout_keep(key, ids, position, 0 * channel, p)

    return inside(parts, (units, "dropout_keep", keep))


@wrong("MLM-ENC-15", _DROPOUT)
def attention_drops_as_much_as_hidden_units(parts: Parts) -> Parts:
    """One probability for all sites."""

    def gradients(parameters: Any, batch: Any, config: Any, **named: Any) -> Any:
        one = replace(config, attention_dropout=config.hidden_dropout)
        return parts.gradients(parameters, batch, one, **named)

    return replace(parts, gradients=gradients)


@wrong("MLM-ENC-14", "nothing_is_dropped_at_probability_0")
def a_probability_of_0_is_none_given(parts: Parts) -> Parts:
    """Where the probability is 0, the usual one is taken, as by ``p or 0.1``."""

    def gradients(parameters: Any, batch: Any, config: Any, **named: Any) -> Any:
        usual = (
            config if Fraction(config.hidden_dropout) else replace(config, hidden_dropout="1/10")
        )
        return parts.gradients(parameters, batch, usual, **named)

    return replace(parts, gradients=gradients)


@wrong("MLM-ENC-16", _DROPOUT)
def dropout_without_its_seed(parts: Parts) -> Parts:
    """Dropout is the same for every seed."""
    return replace(parts, dropout=lambda seed, update: Dropout(0, update))


@wrong("MLM-TRN-6", "one_number_counts_the_updates")
def dropout_counts_updates_from_0(parts: Parts) -> Parts:
    """Update 1 drops what an update 0 would."""
    return replace(parts, dropout=lambda seed, update: Dropout(seed, update - 1))


@wrong("MLM-TRN-6", "twenty_updates_follow_one_by_one")
def dropout_is_the_same_in_each_update(parts: Parts) -> Parts:
    """Every update drops what the first one drops."""
    return replace(parts, dropout=lambda seed, update: Dropout(seed, 1))


@wrong("MLM-ENC-14", "evaluation_drops_nothing")
def dropout_in_evaluation(parts: Parts) -> Parts:
    """An evaluation drops units, as a model does that was left in its training mode."""
    return replace(parts, dropout_of_evaluation=Dropout)


def _with_masks(parts: Parts, change: Callable[..., Any]) -> Parts:
    """Tokens are masked by another epoch and seed."""

    def masked(batch: Any, encoder: Any, policy: Any, seed: int) -> Any:
        return parts.masked(*change(batch, encoder, policy, seed))

    return replace(parts, masked=masked)


@wrong("MLM-TRN-12", "tokens_are_masked_inside", _EPOCH)
def masks_ignore_the_epoch(parts: Parts) -> Parts:
    """Every epoch has the masks of the first."""

    def first(batch: Any, encoder: Any, policy: Any, seed: int) -> Any:
        changed = {**batch, "epoch": 0} if _has_epoch(batch) else batch
        return changed, encoder, policy, seed

    return _with_masks(parts, first)


def _has_epoch(batch: Any) -> bool:
    return isinstance(batch, Mapping) and "epoch" in batch


@wrong("MLM-TRN-12", "tokens_are_masked_inside")
def masks_ignore_the_seed(parts: Parts) -> Parts:
    """Every run has the masks of seed 0."""
    return _with_masks(parts, lambda batch, encoder, policy, seed: (batch, encoder, policy, 0))
