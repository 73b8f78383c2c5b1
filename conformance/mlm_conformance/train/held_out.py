"""Evaluation: text that is never trained on, with masks that never change.

The masks are those of epoch 2⁶⁴ − 1, which no training reaches, so every evaluation of a run, and
of any other run on the same text with the same seed, predicts the same tokens.  Beside the model
stands what a model would score that knows only how often each token occurs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import mlm_spec
from mlm_conformance.outcomes import BadCallError
from mlm_conformance.train.windows import Windows
from mlm_spec.policy import MaskingPolicy
from mlm_spec.training.order import epoch_order

__all__ = ["EPOCH", "Evaluation", "HeldOut", "evaluate", "held_out"]

#: Whose masks evaluation uses; a run counts its epochs from 0.
EPOCH = 2**64 - 1


@dataclass(frozen=True, slots=True, eq=False)
class HeldOut:
    """What is evaluated on.

    Attributes
    ----------
    batches : of tokens.
    count : selected positions of all of them.
    unigram : nats per selected token of the add-one smoothed frequencies of the training tokens.
    """

    batches: Sequence[Mapping[str, Any]]
    count: int
    unigram: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Nats per selected token, and of how many; perplexity is e to the former."""

    nats: float
    count: int

    @property
    def perplexity(self) -> float:
        try:
            return math.exp(self.nats)
        except OverflowError:
            return math.inf


def held_out(
    windows: Windows, policy: MaskingPolicy, seed: int, most: int, micro_batch: int
) -> HeldOut:
    """At most ``most`` of the sequences held out, in an order of their own, with their score.

    Raises
    ------
    BadCallError : none of their tokens is selected.
    """
    number = len(windows.begin) - windows.trained
    chosen = windows.trained + epoch_order(EPOCH, number, seed)[:most]
    batches = [
        windows.batch(chosen[at : at + micro_batch], EPOCH)
        for at in range(0, len(chosen), micro_batch)
    ]
    targets = np.concatenate([_selected(batch, policy, seed) for batch in batches])
    if not len(targets):
        raise BadCallError(
            f"no token of the {len(chosen)} sequences held out is selected; "
            "expected some: give more text, or a larger --held-out"
        )
    unigram = _cross_entropy(targets, windows.counts(policy.vocab_size))
    return HeldOut(batches, len(targets), unigram)


def _selected(batch: Mapping[str, Any], policy: MaskingPolicy, seed: int) -> NDArray[np.int64]:
    """The original tokens of the selected positions."""
    masked = mlm_spec.mask(
        batch["tokens"], batch["sequence_id"], batch["position"], None, batch["eligible"],
        policy, seed, batch["epoch"],
    )  # fmt: skip
    found: NDArray[np.int64] = masked.targets[masked.selected].astype(np.int64)
    return found


def _cross_entropy(targets: NDArray[np.int64], counts: NDArray[np.int64]) -> float:
    """−mean log((c_t + 1) / (Σc + V))."""
    probability = (counts[targets] + 1) / (counts.sum() + len(counts))
    return -math.fsum(np.log(probability)) / len(targets)


def evaluate(session: Any, text: HeldOut) -> Evaluation:
    """The session's objective on the held-out text.

    Raises
    ------
    BadCallError : it counts other positions than the reference selects.
    """
    found = session.evaluate(text.batches)
    if int(found["count"]) != text.count:
        raise BadCallError(
            f"the backend counts {int(found['count'])} selected positions of the held-out text; "
            f"expected {text.count}: check it with mlm-spec check"
        )
    return Evaluation(-float(found["sum"]) / text.count, text.count)
