"""Chapters OBJ, RNG and COR: backends that remember, where a call should stand for itself."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlm_conformance.mutants.correct import MEAN, SUM
from mlm_conformance.mutants.registry import Port, mutant_around, mutant_with_state

__all__ = [
    "a_global_generator_is_seeded",
    "gradients_share_one_buffer",
    "gradients_share_one_buffer_of_the_layer",
    "layers_share_one_buffer",
    "losses_share_one_buffer",
    "masks_are_kept_by_their_first_row",
    "masks_are_kept_whatever_the_positions",
    "masks_share_one_buffer",
    "samples_share_one_buffer",
    "targets_are_the_callers_tokens",
]

Call = dict[str, Any]


def _in_place(buffers: dict[Any, Any], name: str, array: Any) -> Any:
    """The array, in the place that the last one of its shape had."""
    array = np.asarray(array)
    kept = buffers.setdefault((name, array.shape, array.dtype.name), np.empty_like(array))
    np.copyto(kept, array)
    return kept


@mutant_with_state("MLM-OBJ-14", "score", "score_step")
def gradients_share_one_buffer(correct: Port) -> Port:
    """The gradient is written where that of the last call was."""
    buffers: dict[Any, Any] = {}

    def port(**call: Any) -> Any:
        result = correct(**call)
        return result._replace(grad_logits=_in_place(buffers, "g", result.grad_logits))

    return port


@mutant_with_state("MLM-OBJ-14", "head", "head_step")
def layers_share_one_buffer(correct: Port) -> Port:
    """The gradient of the weight is written where that of the last call was."""
    buffers: dict[Any, Any] = {}

    def port(**call: Any) -> Any:
        result = correct(**call)
        return result._replace(grad_weight=_in_place(buffers, "g", result.grad_weight))

    return port


_LOSSES: dict[Any, Any] = {}


@mutant_around("MLM-OBJ-14", "loss", reduction=MEAN)
def losses_share_one_buffer(correct: Port, call: Call) -> Any:
    """All losses are one array, as those of a recorded graph are."""
    value, gradient = correct(**call)
    return _in_place(_LOSSES, "loss", value), gradient


@mutant_around("MLM-OBJ-14", "head_loss", reduction=SUM)
def gradients_share_one_buffer_of_the_layer(correct: Port, call: Call) -> Any:
    """The gradient of the hidden states is written where that of the last call was."""
    result = correct(**call)
    return {**result, "grad_hidden": _in_place(_LOSSES, "hidden", result["grad_hidden"])}


@mutant_around("MLM-COR-10", "mask")
def targets_are_the_callers_tokens(correct: Port, call: Call) -> Any:
    """The targets are not copied: the caller's next batch, in the same array, changes them."""
    return correct(**call)._replace(targets=call["tokens"])


@mutant_with_state("MLM-COR-10", "sample", "sample_words", "sample_parallel")
def samples_share_one_buffer(correct: Port) -> Port:
    """The labels are written where those of the last call were."""
    buffers: dict[Any, Any] = {}

    def port(**call: Any) -> Any:
        inputs, labels = correct(**call)
        return inputs, _in_place(buffers, "labels", labels)

    return port


@mutant_with_state("MLM-COR-10", "mask", "mask_step")
def masks_share_one_buffer(correct: Port) -> Port:
    """The inputs are written where those of the last batch were."""
    buffers: dict[Any, Any] = {}

    def port(**call: Any) -> Any:
        batch = correct(**call)
        return batch._replace(inputs=_in_place(buffers, "inputs", batch.inputs))

    return port


@mutant_around("MLM-RNG-4", "mask", check="the_same_call_gives_the_same_answer")
def a_global_generator_is_seeded(correct: Port, call: Call) -> Any:
    """NumPy's global generator is seeded, as somebody else's training loop finds out."""
    np.random.seed(0)  # that is the mistake
    return correct(**call)


@mutant_with_state("MLM-RNG-4", "mask", check="one_altered_argument_is_noticed")
def masks_are_kept_by_their_first_row(correct: Port) -> Port:
    """A cache that looks at the first row of each argument and at the seeds."""
    known: dict[Any, Any] = {}

    def port(**call: Any) -> Any:
        key = tuple(v[:1].tobytes() if isinstance(v, np.ndarray) else v for v in call.values())
        shape = call["tokens"].shape, call["tokens"].dtype.name
        return known.setdefault((key, shape), correct(**call))

    return port


@mutant_with_state("MLM-RNG-4", "mask", check="one_altered_argument_is_noticed")
def masks_are_kept_whatever_the_positions(correct: Port) -> Port:
    """A cache of masks that does not look at the positions."""
    known: dict[Any, Any] = {}

    def port(**call: Any) -> Any:
        key = tuple(
            v.tobytes() if isinstance(v, np.ndarray) else v
            for name, v in call.items()
            if name != "position"
        )
        shape = call["tokens"].shape, call["tokens"].dtype.name
        return known.setdefault((key, shape), correct(**call))

    return port
