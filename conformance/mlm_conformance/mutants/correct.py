"""The correct backends that mutants depart from: the reference, with every port and reduction.

The reference itself has neither ``sample`` nor ``head_loss``, and one reduction.  ``with_sum``,
``with_mean`` and ``with_num_items`` are targets: a check that fails on one of them is wrong itself.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from types import MappingProxyType, SimpleNamespace
from typing import Any

import numpy as np

import mlm_spec
from mlm_spec import EmptySelectionError, MaskingPolicy, port, split_words

__all__ = [
    "CORRECT",
    "MEAN",
    "NUM_ITEMS",
    "SUM",
    "denominator",
    "sample",
    "sample_with",
    "sample_words",
]

SUM, MEAN, NUM_ITEMS = "sum", "mean", "sum/num_items"


def sample(tokens: Any, eligible: Any, policy: MaskingPolicy, n: int) -> tuple[Any, Any]:
    """``n`` independent masks of the same tokens: inputs and labels, int64 (n, B, T).

    Equal calls give equal masks, so that a failure can be seen again; other tokens, or another n,
    give others.
    """
    return sample_with(zlib.crc32(tokens.tobytes(), n), tokens, eligible, policy, n)


def sample_words(
    tokens: Any, eligible: Any, word_id: Any, policy: MaskingPolicy, n: int
) -> tuple[Any, Any]:
    """`sample` of tokens in words: ``word_id`` is equal for the pieces of a word."""
    seed = zlib.crc32(word_id.tobytes(), zlib.crc32(tokens.tobytes(), n))
    return sample_with(seed, tokens, eligible, policy, n, word_id)


def sample_with(
    seed: int, tokens: Any, eligible: Any, policy: MaskingPolicy, n: int, word_id: Any = None
) -> tuple[Any, Any]:
    """`sample`, by a seed that is given.  ``word_id`` None: each position is a word."""
    rows, columns = tokens.shape
    sequence = split_words(np.broadcast_to(np.arange(rows)[:, None], tokens.shape))
    place = np.broadcast_to(np.arange(columns, dtype=np.uint32), tokens.shape)
    words = place.astype(np.int32) if word_id is None else word_id
    batches = [
        mlm_spec.mask(tokens, sequence, place, words, eligible, policy, seed, epoch)
        for epoch in range(n)
    ]
    inputs = np.stack([batch.inputs for batch in batches])
    return inputs, np.stack([np.where(b.selected, b.targets, -100) for b in batches])


def denominator(reduction: str, count: int, num_items: int | None) -> int:
    """What a loss of this reduction divides by.

    Raises
    ------
    EmptySelectionError : there is nothing to divide by.
    """
    by = {SUM: 1, MEAN: count, NUM_ITEMS: num_items or 0}[reduction]
    if by == 0:
        raise EmptySelectionError("the denominator", 0, "1 or more, to divide by")
    return by


def _loss(reduction: str) -> Callable[..., Any]:
    def loss(logits: Any, labels: Any, ignore_index: int, num_items: int | None) -> Any:
        return mlm_spec.loss(logits, labels, ignore_index, num_items, reduction)  # type: ignore[arg-type]

    return loss


def _head_loss(reduction: str) -> Callable[..., Any]:
    def head_loss(
        hidden: Any, weight: Any, bias: Any, labels: Any, ignore_index: int, num_items: int | None
    ) -> Any:
        selected = labels != ignore_index
        by = denominator(reduction, int(selected.sum()), num_items)
        shares = np.full(selected.shape, 1.0 / by)
        result = mlm_spec.head(hidden, weight, bias, labels, selected, shares)
        return {
            "loss": np.float64(0.0 - result.sum),
            "grad_hidden": 0.0 - result.grad_hidden,
            "grad_weight": 0.0 - result.grad_weight,
            "grad_bias": None if bias is None else 0.0 - result.grad_bias,
        }

    return head_loss


def _backend(reduction: str) -> SimpleNamespace:
    names = ("mask", "score", "head", "random_words", "policy", "raise_for_status")
    steps = ("mask_step", "score_step", "head_step")
    ports = {name: getattr(port, name) for name in (*names, *steps)}
    losses = {"loss": _loss(reduction), "head_loss": _head_loss(reduction)}
    about = {"loss_reduction": reduction, "accumulation": port.accumulation}
    return SimpleNamespace(sample=sample, sample_words=sample_words, **about, **ports, **losses)


with_sum, with_mean, with_num_items = (_backend(r) for r in (SUM, MEAN, NUM_ITEMS))

CORRECT: Mapping[str, SimpleNamespace] = MappingProxyType(
    {SUM: with_sum, MEAN: with_mean, NUM_ITEMS: with_num_items}
)
"""Each correct backend by its reduction; their other ports are the same."""
