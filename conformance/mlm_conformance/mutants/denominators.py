"""Chapter OBJ: losses that take ``num_items`` for what it is not."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlm_conformance.mutants.correct import CORRECT, MEAN, NUM_ITEMS, SUM
from mlm_conformance.mutants.registry import Port, mutant_around

__all__ = [
    "a_mean_is_over_num_items_where_there_are_any",
    "a_sum_is_divided_by_num_items_where_there_are_any",
    "num_items_in_single_precision",
    "num_items_in_thirty_two_bits",
    "num_items_is_at_least_the_count",
]

Call = dict[str, Any]


def _count(call: Call) -> int:
    return int((call["labels"] != call["ignore_index"]).sum())


def _over_num_items(call: Call, **changes: Any) -> Any:
    """The right loss per item, of a call with other arguments."""
    backend = CORRECT[NUM_ITEMS]
    port = backend.loss if "logits" in call else backend.head_loss
    return port(**{**call, **changes})


@mutant_around("MLM-OBJ-8", "loss", "head_loss", reduction=MEAN)
def a_mean_is_over_num_items_where_there_are_any(correct: Port, call: Call) -> Any:
    """The count of the call is what num_items defaults to."""
    return _over_num_items(call) if call["num_items"] and _count(call) else correct(**call)


@mutant_around("MLM-OBJ-9", "loss", "head_loss", reduction=SUM)
def a_sum_is_divided_by_num_items_where_there_are_any(correct: Port, call: Call) -> Any:
    """That num_items is given is taken for the wish to divide by it."""
    return _over_num_items(call) if call["num_items"] else correct(**call)


@mutant_around("MLM-OBJ-9", "loss", "head_loss", reduction=NUM_ITEMS)
def num_items_is_at_least_the_count(correct: Port, call: Call) -> Any:
    """Where the call has more positions than num_items, it is divided by their number."""
    return _over_num_items(call, num_items=max(call["num_items"], _count(call)))


@mutant_around("MLM-OBJ-9", "loss", "head_loss", reduction=NUM_ITEMS)
def num_items_in_thirty_two_bits(correct: Port, call: Call) -> Any:
    """A num_items beyond the largest int32 is that number."""
    return _over_num_items(call, num_items=min(call["num_items"], 2**31 - 1))


@mutant_around("MLM-OBJ-9", "loss", reduction=NUM_ITEMS)
def num_items_in_single_precision(correct: Port, call: Call) -> Any:
    """The sum is divided by the float32 next to num_items."""
    return _over_num_items(call, num_items=int(np.float32(call["num_items"])))
