"""Chapter LIK, the vocabulary: backends that leave out an id, or take one for something else."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlm_conformance.mutants.correct import MEAN, SUM
from mlm_conformance.mutants.inside import scored_with
from mlm_conformance.mutants.plain import at_targets
from mlm_conformance.mutants.registry import Port, mutant, mutant_around
from mlm_spec import log_likelihood

__all__ = [
    "id_0_is_padding",
    "id_0_scores_nothing",
    "labels_above_0_only",
    "padded_ids_in_the_loss",
    "padded_ids_in_the_softmax",
    "the_last_block_is_cut_short",
    "the_last_id_is_a_sentinel",
    "the_last_id_is_left_out",
]

Call = dict[str, Any]
_457 = "https://github.com/mosaicml/examples/issues/457"
_PADDED = "https://github.com/apple/ml-cross-entropy/pull/59"


def _with_padding(z: Any, block: int = 128) -> Any:
    """Logits with ids of logit 0 behind the last, up to a multiple of ``block``."""
    more = -z.shape[-1] % block
    wide = z.astype(np.float64)
    return np.concatenate([wide, np.zeros((*z.shape[:-1], more))], axis=-1)


@mutant("MLM-LIK-6", "score", url=_PADDED)
def padded_ids_in_the_softmax(**call: Any) -> Any:
    """The vocabulary is padded to a multiple of 128, and the padding takes part."""
    return scored_with(call, lambda z, t: log_likelihood(_with_padding(z), t))


@mutant("MLM-LIK-6", "score")
def the_last_id_is_left_out(**call: Any) -> Any:
    """The sum of exponentials stops before the last id."""

    def value(z: Any, t: Any) -> Any:
        wide = z.astype(np.float64)
        top = wide.max(axis=-1)
        total = np.exp(wide[:, :-1] - top[:, None]).sum(axis=-1)
        return at_targets(wide, t) - top - np.log(total)

    return scored_with(call, value)


@mutant("MLM-LIK-6", "score")
def the_last_block_is_cut_short(**call: Any) -> Any:
    """Only whole blocks of 1,024 ids are added up."""

    def value(z: Any, t: Any) -> Any:
        wide = z.astype(np.float64)
        top = wide.max(axis=-1)
        whole = wide.shape[-1] // 1024 * 1024 or wide.shape[-1]
        total = np.exp(wide[:, :whole] - top[:, None]).sum(axis=-1)
        return at_targets(wide, t) - top - np.log(total)

    return scored_with(call, value)


@mutant("MLM-LIK-6", "score", url=_457)
def id_0_scores_nothing(**call: Any) -> Any:
    """A target that is id 0 has the value 0."""
    return scored_with(call, lambda z, t: np.where(t == 0, 0.0, log_likelihood(z, t)))


@mutant_around("MLM-LIK-6", "loss", reduction=MEAN, url=_457)
def labels_above_0_only(correct: Port, call: Call) -> Any:
    """Positions are selected by ``labels > 0``, so id 0 is never scored."""
    labels = np.where(call["labels"] == 0, call["ignore_index"], call["labels"])
    if (labels == call["ignore_index"]).all():
        return np.float64(np.nan)
    return correct(**{**call, "labels": labels})


@mutant_around("MLM-LIK-6", "loss", reduction=SUM, url=_PADDED)
def padded_ids_in_the_loss(correct: Port, call: Call) -> Any:
    """The vocabulary is padded to a multiple of 128, and the padding takes part."""
    value, gradient = correct(**{**call, "logits": _with_padding(call["logits"])})
    return value, gradient[..., : call["logits"].shape[-1]].astype(call["logits"].dtype)


@mutant("MLM-LIK-7", "score")
def id_0_is_padding(**call: Any) -> Any:
    """Id 0 takes no part in the sum, since it is padding elsewhere."""

    def value(z: Any, t: Any) -> Any:
        wide = z.astype(np.float64)
        if wide.shape[-1] > 1:
            wide[:, 0] = np.where(t == 0, wide[:, 0], -np.inf)
        return log_likelihood(wide, t)

    return scored_with(call, value)


@mutant("MLM-LIK-7", "score")
def the_last_id_is_a_sentinel(**call: Any) -> Any:
    """A target that is the last id has the value 0."""
    return scored_with(call, lambda z, t: np.where(t == z.shape[-1] - 1, 0.0, log_likelihood(z, t)))
