"""Chapter OBJ on the caller's arrays: backends that overwrite what they were given."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlm_conformance.mutants.correct import MEAN, SUM
from mlm_conformance.mutants.in_place import taken
from mlm_conformance.mutants.registry import Port, mutant_around

__all__ = [
    "a_layer_of_unselected_states_is_cleared",
    "excluded_ids_get_the_least_bias",
    "gradients_replace_the_logits",
    "head_loss_relabels_in_place",
    "labels_are_replaced_in_place",
    "labels_become_minus_100_in_place",
    "logits_are_shifted_in_place",
    "only_the_last_row_of_hidden_states_is_overwritten",
    "selected_is_used_up",
]

Call = dict[str, Any]


@mutant_around("MLM-OBJ-13", "score")
def logits_are_shifted_in_place(correct: Port, call: Call) -> Any:
    """The largest logit of each position is subtracted in the caller's array."""
    result, logits = correct(**call), taken(call["logits"])
    top = logits.max(axis=-1, keepdims=True)
    np.subtract(logits, np.where(np.isfinite(top), top, 0), out=logits)
    return result


@mutant_around("MLM-OBJ-13", "score")
def gradients_replace_the_logits(correct: Port, call: Call) -> Any:
    """The gradient is written over the logits of bfloat16, to need no second array."""
    result = correct(**call)
    if call["logits"].dtype.name == "bfloat16":
        taken(call["logits"])[...] = result.grad_logits
    return result


@mutant_around("MLM-OBJ-13", "score", "score_step", "head_step")
def selected_is_used_up(correct: Port, call: Call) -> Any:
    """Positions that have been counted are struck from the caller's selection."""
    result = correct(**call)
    taken(call["selected"])[...] = False
    return result


@mutant_around("MLM-OBJ-13", "head")
def a_layer_of_unselected_states_is_cleared(correct: Port, call: Call) -> Any:
    """Hidden states of unselected positions become 0 in the caller's array."""
    hidden = taken(call["hidden"])
    hidden[~call["selected"]] = 0
    return correct(**{**call, "hidden": hidden})


@mutant_around("MLM-OBJ-13", "head")
def only_the_last_row_of_hidden_states_is_overwritten(correct: Port, call: Call) -> Any:
    """The last sequence's hidden states serve as the buffer of its gradient."""
    result = correct(**call)
    taken(call["hidden"])[-1:] = result.grad_hidden[-1:]
    return result


@mutant_around("MLM-OBJ-13", "loss", reduction=SUM)
def labels_are_replaced_in_place(correct: Port, call: Call) -> Any:
    """Labels that are to be ignored become 0 in the caller's array."""
    result, labels = correct(**call), taken(call["labels"])
    labels[labels == call["ignore_index"]] = 0
    return result


@mutant_around("MLM-OBJ-13", "head_loss", reduction=MEAN)
def head_loss_relabels_in_place(correct: Port, call: Call) -> Any:
    """Labels that are to be ignored become 0 in the caller's array."""
    result, labels = correct(**call), taken(call["labels"])
    labels[labels == call["ignore_index"]] = 0
    return result


@mutant_around("MLM-OBJ-13", "loss", reduction=SUM, profile="ci")
def labels_become_minus_100_in_place(correct: Port, call: Call) -> Any:
    """Labels that are to be ignored become what a library ignores, in the caller's array."""
    result, labels = correct(**call), taken(call["labels"])
    labels[labels == call["ignore_index"]] = -100
    return result


@mutant_around("MLM-OBJ-13", "head", profile="ci")
def excluded_ids_get_the_least_bias(correct: Port, call: Call) -> Any:
    """A bias of −∞ becomes the least finite number in the caller's array."""
    result, bias = correct(**call), call["bias"]
    if bias is not None:
        low = np.isneginf(bias.astype(np.float64))
        taken(bias)[low] = -6e4
    return result
