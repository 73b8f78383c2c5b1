"""Chapter DST on spans: maskers whose spans mind places that are no candidates."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.mutants.registry import Port, mutant_around
from mlm_conformance.mutants.spanning import all_masked, drawn, span_law, united

__all__ = [
    "a_special_token_ends_a_span",
    "spans_are_drawn_on_candidates_alone",
    "spans_start_at_candidates_only",
    "the_token_behind_a_special_one_is_spared",
]

Call = dict[str, Any]
Array = NDArray[Any]
_BESIDE = "candidates_beside_others_are_covered_at_the_rate"
_OVER = "runs_go_on_behind_places_that_are_no_candidates"


def _able(call: Call) -> NDArray[np.bool_]:
    able: NDArray[np.bool_] = call["eligible"] & ~np.isin(
        call["tokens"], call["policy"].special_ids
    )
    return able


def _masked(call: Call, chosen: Array) -> Any:
    """These candidates selected, and all of them masked: inputs, labels."""
    return all_masked(call, chosen & _able(call))


@mutant_around("MLM-DST-13", "sample", check=_BESIDE)
def spans_start_at_candidates_only(correct: Port, call: Call) -> Any:
    """A special token starts no span that would cover what is behind it."""
    law = span_law(call)
    if law is None:
        return correct(**call)
    starts, lengths = drawn(call, law)
    return _masked(call, united(starts & _able(call), lengths))


@mutant_around("MLM-DST-13", "sample", check=_BESIDE)
def a_special_token_ends_a_span(correct: Port, call: Call) -> Any:
    """What a span would cover behind a special token is not selected."""
    law = span_law(call)
    if law is None:
        return correct(**call)
    starts, lengths = drawn(call, law)
    columns = np.arange(starts.shape[2])
    barred = np.where(_able(call), starts.shape[2], columns)
    following = np.minimum.accumulate(barred[:, ::-1], axis=1)[:, ::-1]
    return _masked(call, united(starts, np.minimum(lengths, following - columns)))


@mutant_around("MLM-DST-14", "sample", check=_OVER)
def spans_are_drawn_on_candidates_alone(correct: Port, call: Call) -> Any:
    """Special tokens are taken out of a row before spans are drawn, and put back behind."""
    law = span_law(call)
    if law is None:
        return correct(**call)
    close = united(*drawn(call, law))
    order = np.argsort(~_able(call), axis=1, kind="stable")
    chosen = np.zeros_like(close)
    np.put_along_axis(chosen, np.broadcast_to(order, close.shape), close, axis=2)
    return _masked(call, chosen)


@mutant_around("MLM-DST-15", "sample")
def the_token_behind_a_special_one_is_spared(correct: Port, call: Call) -> Any:
    """The first token behind a special one is never selected."""
    inputs, labels = correct(**call)
    if span_law(call) is None:
        return inputs, labels
    behind = np.zeros_like(call["eligible"])
    behind[:, 1:] = ~_able(call)[:, :-1]
    tokens = np.broadcast_to(call["tokens"], inputs.shape)
    return np.where(behind, tokens, inputs), np.where(behind, -100, labels)
