"""Backends that are wrong in large vocabularies, in long batches, or in batches of three rows."""

from __future__ import annotations

from typing import Any

import numpy as np

import mlm_spec
from mlm_conformance.mutants.correct import MEAN
from mlm_conformance.mutants.inside import scored_with
from mlm_conformance.mutants.registry import Port, mutant, mutant_around
from mlm_spec import log_likelihood

__all__ = [
    "blocks_from_4096_on_have_the_first_key",
    "columns_from_1024_on_are_not_masked",
    "hidden_units_from_256_on_are_left_out",
    "ids_from_100000_on_are_left_out",
    "no_gradient_from_position_1024_on",
    "of_three_rows_the_last_has_no_loss",
    "of_three_rows_the_last_is_left_out",
    "of_three_rows_the_last_passes_nothing_back",
    "positions_from_16384_on_are_not_added",
    "targets_in_sixteen_bits",
    "the_gradient_of_a_loss_has_targets_in_sixteen_bits",
]

Call = dict[str, Any]


def _in_sixteen_bits(ids: Any, vocab: int) -> Any:
    """Ids as an array of signed 16-bit integers finds them, counted from the end if negative."""
    return ids.astype(np.int16).astype(np.int64) % vocab


@mutant("MLM-LIK-1", "score", check="ordinary_logits_give_their_log_likelihood", profile="ci")
def targets_in_sixteen_bits(**call: Any) -> Any:
    """Targets are kept in 16 bits with a sign."""
    return scored_with(
        call,
        lambda z, t: log_likelihood(z.astype(np.float64), _in_sixteen_bits(t, z.shape[-1])),
    )


@mutant("MLM-LIK-1", "score", check="ordinary_logits_give_their_log_likelihood", profile="ci")
def ids_from_100000_on_are_left_out(**call: Any) -> Any:
    """The softmax ends at id 100,000, or at the target's id where that is larger."""

    def value(z: Any, t: Any) -> Any:
        wide = z.astype(np.float64)
        beyond = np.arange(z.shape[-1]) >= np.maximum(100_000, t + 1)[:, None]
        return log_likelihood(np.where(beyond, -np.inf, wide), t)

    return scored_with(call, value)


@mutant_around("MLM-OBJ-8", "loss", reduction=MEAN, profile="ci")
def the_gradient_of_a_loss_has_targets_in_sixteen_bits(correct: Port, call: Call) -> Any:
    """The value is right; what the target's id adds to the gradient is at its id in 16 bits."""
    value, gradient = correct(**call)
    vocab, labels = call["logits"].shape[-1], call["labels"]
    chosen = labels != call["ignore_index"]
    rows, ids = np.arange(int(chosen.sum())), labels[chosen]
    part = np.array(gradient[chosen])
    share = part.dtype.type(-1.0 / max(len(rows), 1))
    part[rows, ids] -= share
    part[rows, _in_sixteen_bits(ids, vocab)] += share
    other = np.array(gradient)
    if vocab > 2**15:
        other[chosen] = part
    return value, other


@mutant_around(
    "MLM-OBJ-2", "score", check="sum_is_that_of_the_selected_log_likelihoods", profile="ci"
)
def of_three_rows_the_last_is_left_out(correct: Port, call: Call) -> Any:
    """A batch of three rows is taken for one of two."""
    result = correct(**call)
    if len(call["selected"]) != 3:
        return result
    two = call["selected"] & (np.arange(3)[:, None] < 2)
    return result._replace(sum=mlm_spec.score(**{**call, "selected": two}).sum)


@mutant_around("MLM-OBJ-8", "loss", reduction=MEAN, profile="ci")
def of_three_rows_the_last_has_no_loss(correct: Port, call: Call) -> Any:
    """A batch of three rows is taken for one of two."""
    labels = call["labels"]
    if len(labels) != 3 or (labels[:2] == call["ignore_index"]).all():
        return correct(**call)
    two = np.where(np.arange(3)[:, None] < 2, labels, call["ignore_index"])
    return correct(**{**call, "labels": two})


@mutant_around("MLM-HED-2", "head", profile="ci")
def of_three_rows_the_last_passes_nothing_back(correct: Port, call: Call) -> Any:
    """In a batch of three rows the last has no gradient."""
    result = correct(**call)
    gradient = np.array(result.grad_hidden)
    if len(gradient) == 3:
        gradient[2] = 0
    return result._replace(grad_hidden=gradient)


@mutant_around("MLM-GRA-1", "score", profile="ci")
def no_gradient_from_position_1024_on(correct: Port, call: Call) -> Any:
    """A grid of 1,024 blocks takes no more positions."""
    result = correct(**call)
    gradient = np.array(result.grad_logits)
    gradient.reshape(-1, gradient.shape[-1])[1024:] = 0
    return result._replace(grad_logits=gradient)


@mutant_around("MLM-HED-1", "head", profile="ci")
def hidden_units_from_256_on_are_left_out(correct: Port, call: Call) -> Any:
    """One tile of the product is added up."""
    weight = call["weight"]
    return correct(**{**call, "weight": np.where(np.arange(weight.shape[1]) < 256, weight, 0)})


@mutant_around("MLM-SEL-2", "mask", profile="ci")
def columns_from_1024_on_are_not_masked(correct: Port, call: Call) -> Any:
    """A row is cut at 1,024 columns: nothing behind is selected."""
    eligible = call["eligible"].copy()
    eligible[:, 1024:] = False
    return correct(**{**call, "eligible": eligible})


@mutant_around("MLM-RNG-1", "random_words", check="words_are_threefry", profile="ci")
def blocks_from_4096_on_have_the_first_key(correct: Port, call: Call) -> Any:
    """The keys of the second launch are read where those of the first begin."""
    key = call["key"].copy()
    key[4096:] = key[:1]
    return correct(**{**call, "key": key})


@mutant_around(
    "MLM-OBJ-2", "score", check="sum_is_that_of_the_selected_log_likelihoods", profile="ci"
)
def positions_from_16384_on_are_not_added(correct: Port, call: Call) -> Any:
    """The sum ends with the selected position number 16,384."""
    result, at = correct(**call), np.flatnonzero(call["selected"])[2**14 :]
    values = np.asarray(result.log_likelihood, np.float64).reshape(-1)[at]
    weights = 1.0 if call["weights"] is None else call["weights"].reshape(-1)[at]
    left = np.asarray(result.sum - (weights * values).sum(), np.asarray(result.sum).dtype)
    return result._replace(sum=left) if at.size else result
