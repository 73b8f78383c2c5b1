"""What wrong maskers with random numbers of their own are made of."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from mlm_spec import Bernoulli, MaskingPolicy

__all__ = ["is_bernoulli", "pool_ids", "shown", "unselected", "with_policy"]

Call = dict[str, Any]


def with_policy(call: Call, **changes: Any) -> Call:
    """The call, for a policy that differs in some fields."""
    return {**call, "policy": replace(call["policy"], **changes)}


def is_bernoulli(call: Call) -> bool:
    """Whether each position is selected on its own."""
    return isinstance(call["policy"].selection, Bernoulli)


def pool_ids(policy: MaskingPolicy, ranks: Any) -> Any:
    """Ids of the regular pool by their numbers in it: no list of two billion ids is made."""
    ids = np.array(ranks, np.int64)
    for id in policy.special_ids:  # ascending
        ids += ids >= id
    return ids


def shown(call: Call, kind: Any, pick: Any) -> Any:
    """What each position would show, selected, by two numbers in 0 … 1: its kind, its random id."""
    policy: MaskingPolicy = call["policy"]
    mask, random = float(policy.corruption.mask), float(policy.corruption.random)
    tokens = np.broadcast_to(call["tokens"], kind.shape)
    ranks = (pick * (policy.vocab_size - len(policy.special_ids))).astype(np.int64)
    replaced = np.where(kind < mask + random, pool_ids(policy, ranks), tokens)
    return np.where(kind < mask, policy.mask_id, replaced)


def unselected(call: Call, answer: Any, where: Any) -> Any:
    """The answer with some positions not selected after all."""
    inputs, labels = (array.copy() for array in answer)
    tokens = np.broadcast_to(call["tokens"], inputs.shape)
    inputs[where], labels[where] = tokens[where], -100
    return inputs, labels
