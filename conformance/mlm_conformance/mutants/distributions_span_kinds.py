"""Chapter DST on spans: maskers whose spans show other things, or come again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.mutants.correct import sample_with
from mlm_conformance.mutants.registry import Port, mutant_around
from mlm_spec import Corruption, Span

__all__ = [
    "a_span_draws_one_random_id",
    "a_special_token_parts_the_kind_of_a_span",
    "half_of_the_other_spans_are_masked_too",
    "rows_have_the_spans_of_the_row_before",
    "samples_of_spans_come_twice",
    "spans_come_again_in_every_call",
    "tokens_of_a_span_share_a_kind",
    "unmasked_spans_mix_kept_and_random",
]

Call = dict[str, Any]
Array = NDArray[Any]
_SHARES = "spans_show_the_three_kinds"
_FRESH = "no_spans_repeat_others"
_APART = "positions_of_a_span_show_kinds_of_their_own"
_WHOLE = "a_span_shows_one_kind"
_MIXED = "a_span_is_kept_or_random_as_a_whole"
_IDS = "positions_of_a_span_draw_ids_of_their_own"


def _is_span(call: Call) -> bool:
    return isinstance(call["policy"].selection, Span)


def _has_unit(call: Call) -> bool:
    return str(call["policy"].corruption.unit) == "span"


def _with_kinds(correct: Port, call: Call, kinds: Corruption) -> Any:
    return correct(**{**call, "policy": replace(call["policy"], corruption=kinds)})


def _random(call: Call) -> Array:
    """Uniform numbers of its own, (n, B, T)."""
    rng = np.random.default_rng(int(call["tokens"].sum()) + call["n"])
    return rng.random((call["n"], *call["tokens"].shape))


@mutant_around("MLM-DST-3", "sample", check=_SHARES)
def half_of_the_other_spans_are_masked_too(correct: Port, call: Call) -> Any:
    """A span that should be random or kept is masked half of the time."""
    if not _has_unit(call):
        return correct(**call)
    old = call["policy"].corruption
    kinds = Corruption((1 + old.mask) / 2, old.random / 2, old.keep / 2, "span")
    return _with_kinds(correct, call, kinds)


@mutant_around("MLM-DST-6", "sample", check=_FRESH)
def spans_come_again_in_every_call(correct: Port, call: Call) -> Any:
    """The generator of spans is seeded with a constant, in each call."""
    return sample_with(0, **call) if _is_span(call) else correct(**call)


@mutant_around("MLM-DST-6", "sample", check=_FRESH)
def samples_of_spans_come_twice(correct: Port, call: Call) -> Any:
    """Every second mask of spans is the one before it."""
    answer = correct(**call)
    if not _is_span(call):
        return answer
    return tuple(np.repeat(array[0::2], 2, axis=0)[: len(array)] for array in answer)


@mutant_around("MLM-DST-6", "sample", check=_FRESH)
def rows_have_the_spans_of_the_row_before(correct: Port, call: Call) -> Any:
    """Spans are drawn for every second row, and used for two."""
    inputs, labels = correct(**call)
    if not _is_span(call):
        return inputs, labels
    rows = np.arange(labels.shape[1]) // 2 * 2
    chosen = (labels[:, rows] != -100) & call["eligible"]
    tokens = np.broadcast_to(call["tokens"], inputs.shape)
    shown = np.where(chosen, call["policy"].mask_id, tokens)
    return shown, np.where(chosen, tokens, -100)


@mutant_around("MLM-DST-12", "sample", check=_APART)
def tokens_of_a_span_share_a_kind(correct: Port, call: Call) -> Any:
    """The unit "token" is read as "span"."""
    if not _is_span(call):
        return correct(**call)
    old = call["policy"].corruption
    return _with_kinds(correct, call, Corruption(old.mask, old.random, old.keep, "span"))


@mutant_around("MLM-DST-16", "sample", check=_WHOLE)
def a_special_token_parts_the_kind_of_a_span(correct: Port, call: Call) -> Any:
    """Behind a place that is no candidate the kind of a span is drawn anew."""
    inputs, labels = correct(**call)
    if not _has_unit(call):
        return inputs, labels
    able = call["eligible"] & ~np.isin(call["tokens"], call["policy"].special_ids)
    behind = (labels != -100) & ~np.pad(able, ((0, 0), (1, 0)), constant_values=True)[:, :-1]
    masked = _random(call) < float(call["policy"].corruption.mask)
    fresh = np.where(masked, call["policy"].mask_id, call["tokens"])
    return np.where(behind, fresh, inputs), labels


@mutant_around("MLM-DST-16", "sample", check=_MIXED)
def unmasked_spans_mix_kept_and_random(correct: Port, call: Call) -> Any:
    """Of a span that is not masked each position draws for itself whether it is kept."""
    inputs, labels = correct(**call)
    kinds = call["policy"].corruption
    if not (_has_unit(call) and kinds.random and kinds.keep):
        return inputs, labels
    each = Corruption(0, kinds.random / (1 - kinds.mask), kinds.keep / (1 - kinds.mask))
    mixed, _ = _with_kinds(correct, call, each)
    return np.where(inputs == call["policy"].mask_id, inputs, mixed), labels


@mutant_around("MLM-DST-20", "sample", check=_IDS)
def a_span_draws_one_random_id(correct: Port, call: Call) -> Any:
    """A random position shows what the random one before it shows."""
    inputs, labels = correct(**call)
    if not (_has_unit(call) and call["policy"].corruption.random == 1):
        return inputs, labels
    chosen, shown = labels != -100, inputs.copy()
    for column in range(1, shown.shape[2]):
        joined = chosen[..., column] & chosen[..., column - 1]
        shown[..., column] = np.where(joined, shown[..., column - 1], shown[..., column])
    return shown, labels
