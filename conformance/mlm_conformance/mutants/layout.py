"""Chapter SEL, the invariances: backends whose masks depend on what stands beside a position."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from mlm_conformance.mutants.inside import (
    counted,
    covered,
    is_there,
    keyed,
    masked_from,
    selected_with,
)
from mlm_conformance.mutants.registry import Port, mutant, mutant_around
from mlm_spec import Span, selection
from mlm_spec.selection import Source

__all__ = [
    "a_packed_row_is_one_sequence",
    "a_share_of_the_padded_length",
    "positions_count_from_the_window",
    "rows_share_a_budget",
    "spans_start_inside_the_window",
    "the_batch_size_is_in_the_seed",
    "the_column_is_the_position",
    "the_place_in_the_packed_row_is_the_position",
    "the_row_is_in_the_counter",
]

Call = dict[str, Any]


@mutant_around(
    "MLM-SEL-9",
    "mask",
    check="masks_do_not_depend_on_batch_order_or_size",
    url="https://github.com/mosaicml/streaming/issues/393",
)
def the_batch_size_is_in_the_seed(correct: Port, call: Call) -> Any:
    """The number of rows enters the key."""
    return keyed(correct, call, lambda seed, epoch: ((seed + len(call["tokens"])) % 2**64, epoch))


@mutant_around("MLM-SEL-9", "mask")
def the_row_is_in_the_counter(correct: Port, call: Call) -> Any:
    """The index of the row is added to the sequence id."""

    def moved(source: Source, *rest: Any) -> Any:
        sequence = source.sequence_id.copy()
        sequence[..., 0] += np.arange(len(sequence), dtype=np.uint32)[:, None]
        return replace(source, sequence_id=sequence), *rest

    return masked_from(correct, call, moved)


@mutant_around("MLM-SEL-9", "mask")
def rows_share_a_budget(correct: Port, call: Call) -> Any:
    """At most a third of the batch is selected; the last rows go without."""
    batch = correct(**call)
    limit = max(batch.selected.size // 3, 1)
    batch.selected.reshape(-1)[np.flatnonzero(batch.selected)[limit:]] = False
    return batch._replace(inputs=np.where(batch.selected, batch.inputs, batch.targets))


def _by_column(source: Source, *rest: Any) -> Any:
    """The source with columns for positions."""
    shape = source.position.shape
    columns = np.broadcast_to(np.arange(shape[1], dtype=np.uint32), shape)
    return replace(source, position=columns.copy()), *rest


@mutant_around("MLM-SEL-10", "mask")
def the_column_is_the_position(correct: Port, call: Call) -> Any:
    """The column of the batch is taken for the position, so padding at the left moves masks."""
    return masked_from(correct, call, _by_column)


@mutant("MLM-SEL-10", "mask")
def a_share_of_the_padded_length(**call: Any) -> Any:
    """A fixed count is a share of all columns with one sequence id, padding included."""
    return counted(call, base="all", pad_is_known=False)


@mutant_around("MLM-SEL-11", "mask")
def the_place_in_the_packed_row_is_the_position(correct: Port, call: Call) -> Any:
    """The column of the packed row is taken for the position in the source."""
    return masked_from(correct, call, _by_column)


@mutant("MLM-SEL-11", "mask")
def a_packed_row_is_one_sequence(**call: Any) -> Any:
    """Counts and words are those of the row, whatever sequences are in it."""
    right = selection._grouped

    def grouped(source: Source, keys: Any, keys_in_group: int = 0) -> Any:
        one = replace(source, sequence_id=np.zeros_like(source.sequence_id))
        return right(one, keys, keys_in_group)

    return selected_with(call, _grouped=grouped)


@mutant_around("MLM-SEL-12", "mask")
def positions_count_from_the_window(correct: Port, call: Call) -> Any:
    """The first column of a row is position 0, wherever the window begins."""
    return masked_from(
        correct, call, lambda s, *rest: (replace(s, position=s.position - s.position[:, :1]), *rest)
    )


@mutant("MLM-SEL-12", "mask")
def spans_start_inside_the_window(**call: Any) -> Any:
    """A span that starts at a place that was cut off covers nothing."""

    def anchor(source: Source, law: Span, *key: int) -> Any:
        everywhere = np.ones_like(source.eligible)
        return covered(
            source, law, *key, may_start=lambda start: is_there(source, everywhere, start)
        )

    return selected_with(call, span_anchor=anchor)
