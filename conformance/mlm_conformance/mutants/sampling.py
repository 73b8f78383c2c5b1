"""What wrong maskers with random numbers of their own are made of."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from mlm_spec import Bernoulli

__all__ = ["is_bernoulli", "unselected", "with_policy"]

Call = dict[str, Any]


def with_policy(call: Call, **changes: Any) -> Call:
    """The call, for a policy that differs in some fields."""
    return {**call, "policy": replace(call["policy"], **changes)}


def is_bernoulli(call: Call) -> bool:
    """Whether each position is selected on its own."""
    return isinstance(call["policy"].selection, Bernoulli)


def unselected(call: Call, answer: Any, where: Any) -> Any:
    """The answer with some positions not selected after all."""
    inputs, labels = (array.copy() for array in answer)
    tokens = np.broadcast_to(call["tokens"], inputs.shape)
    inputs[where], labels[where] = tokens[where], -100
    return inputs, labels
