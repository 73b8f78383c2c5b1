"""The correct backends that mutants depart from: the reference, with every port and reduction.

The reference itself has none of the ``sample`` ports, no ``head_loss``, and one reduction.
``with_sum``, ``with_mean`` and ``with_num_items`` are targets: a check that fails on one of them is
wrong itself.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from itertools import chain
from types import MappingProxyType, SimpleNamespace
from typing import Any

import numpy as np

import mlm_spec
from mlm_conformance.oracle import remembering
from mlm_spec import (
    EmptySelectionError,
    MaskingPolicy,
    corruption,
    masking,
    port,
    selection,
    split_words,
    thresholds,
)

__all__ = [
    "CORRECT",
    "MEAN",
    "NUM_ITEMS",
    "SUM",
    "denominator",
    "sample",
    "sample_parallel",
    "sample_with",
    "sample_words",
]

SUM, MEAN, NUM_ITEMS = "sum", "mean", "sum/num_items"
_CELLS = 2**16  # positions that are masked in one call


def sample(tokens: Any, eligible: Any, policy: MaskingPolicy, n: int) -> tuple[Any, Any]:
    """``n`` independent masks of the same tokens: inputs and labels, int64 (n, B, T).

    Equal calls give equal masks, so that a failure can be seen again; other tokens, or another n,
    give others.
    """
    return sample_with(zlib.crc32(tokens.tobytes(), n), tokens, eligible, policy, n)


def sample_with(
    seed: int, tokens: Any, eligible: Any, policy: MaskingPolicy, n: int
) -> tuple[Any, Any]:
    """`sample`, by a seed that is given."""
    words = np.broadcast_to(np.arange(tokens.shape[1], dtype=np.int32), tokens.shape)
    return _masks(seed, tokens, eligible, words, policy, n)


def sample_words(
    tokens: Any, eligible: Any, word_id: Any, policy: MaskingPolicy, n: int
) -> tuple[Any, Any]:
    """`sample`, with words: int32 (B, T), one id for the pieces of a word."""
    return _masks(zlib.crc32(tokens.tobytes(), n), tokens, eligible, word_id, policy, n)


def sample_parallel(
    tokens: Any, eligible: Any, policy: MaskingPolicy, epochs: int, workers: int, ranks: int
) -> tuple[Any, Any]:
    """A mask for each worker of each rank in each epoch: (epochs, ranks, workers, B, T)."""
    inputs, labels = sample(tokens, eligible, policy, epochs * ranks * workers)
    shape = (epochs, ranks, workers, *tokens.shape)
    return inputs.reshape(shape), labels.reshape(shape)


def _masks(
    seed: int, tokens: Any, eligible: Any, words: Any, policy: MaskingPolicy, n: int
) -> tuple[Any, Any]:
    call = {"tokens": tokens, "eligible": eligible, "words": words, "policy": policy}
    inputs, labels = _remembered(seed=seed, n=n, **call, inside=_inside())
    return inputs.astype(np.int64), labels.astype(np.int64)


def _inside() -> tuple[Any, ...]:
    """What masks are made by: some mutants replace a part of it for a while."""
    names = (vars(module).values() for module in (masking, selection, corruption, thresholds))
    return tuple(found for found in chain(*names) if callable(found))


def _drawn(
    seed: int,
    n: int,
    tokens: Any,
    eligible: Any,
    words: Any,
    policy: MaskingPolicy,
    inside: tuple[Any, ...],
) -> tuple[Any, Any]:
    """n masks: each row of each is a sequence, its columns are the positions."""
    rows, columns = tokens.shape
    place = np.arange(columns, dtype=np.uint32)
    several = max(1, _CELLS // max(1, tokens.size))
    drawn = []
    for start in range(0, n, several):
        many = min(several, n - start)
        shape = (many, rows, columns)
        rows_of = {
            name: np.broadcast_to(array, shape).reshape(many * rows, columns)
            for name, array in (
                ("tokens", tokens),
                ("position", place),
                ("word_id", words),
                ("eligible", eligible),
            )
        }
        number = np.arange(many * rows)[:, None] + start * rows
        sequence = split_words(np.broadcast_to(number, (many * rows, columns)))
        masks = mlm_spec.mask(**rows_of, sequence_id=sequence, policy=policy, seed=seed, epoch=0)
        labels = np.where(masks.selected, masks.targets, -100)
        drawn.append([array.reshape(shape) for array in (masks.inputs, labels)])
    small = np.int16 if policy.vocab_size < 2**15 else np.int64
    if not drawn:
        return (np.zeros((0, rows, columns), small),) * 2
    inputs, labels = (np.concatenate(parts).astype(small) for parts in zip(*drawn, strict=True))
    return inputs, labels


#: A mutant asks again and again for what others have asked for: the checks of chapter DST make some
#: 300 calls, of a megabyte or two.
_remembered = remembering(_drawn, 400)


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
            "grad_hidden": -result.grad_hidden,
            "grad_weight": -result.grad_weight,
            "grad_bias": None if bias is None else -result.grad_bias,
        }

    return head_loss


def _device_session(**call: Any) -> Any:
    """Of the trainer in parts: the reference itself has one device."""
    from mlm_conformance.mutants.device_trainer import correct_devices  # which imports this module

    return correct_devices.device_session(**call)


def _backend(reduction: str) -> SimpleNamespace:
    names = ("mask", "score", "head", "random_words", "policy", "order")
    steps = ("mask_step", "score_step", "head_step", "raise_for_status")
    ports = {name: getattr(port, name) for name in (*names, *steps)}
    losses = {"loss": _loss(reduction), "head_loss": _head_loss(reduction)}
    about = {"loss_reduction": reduction, "accumulation": port.accumulation}
    samples = {
        "sample": sample,
        "sample_words": sample_words,
        "sample_parallel": sample_parallel,
    }
    runs = {
        "session": port.session,
        "replica_session": port.replica_session,
        "device_session": _device_session,
    }
    return SimpleNamespace(**samples, **about, **ports, **losses, **runs)


with_sum, with_mean, with_num_items = (_backend(r) for r in (SUM, MEAN, NUM_ITEMS))

CORRECT: Mapping[str, SimpleNamespace] = MappingProxyType(
    {SUM: with_sum, MEAN: with_mean, NUM_ITEMS: with_num_items}
)
"""Each correct backend by its reduction; their other ports are the same."""
