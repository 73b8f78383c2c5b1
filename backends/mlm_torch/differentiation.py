"""Value and gradients of a step, eager or traced."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from mlm_torch.gathering import leaf_of

__all__ = ["with_gradients"]


def with_gradients(
    objective: Callable[..., Any], values: Sequence[Tensor]
) -> tuple[Any, tuple[Tensor, ...]]:
    """What ``objective(*values)`` returns, and the gradients of its field ``sum``.

    Traced it is a transform, since `torch.compile` does not follow `torch.autograd.grad`.
    Eagerly it is not, since the first use of `torch.func` imports the compiler: a second.
    """
    if torch.compiler.is_compiling():
        return _transformed(objective, values)
    with torch.inference_mode(False), torch.enable_grad():
        leaves = [leaf_of(x) for x in values]
        result = objective(*leaves)
        gradients = torch.autograd.grad(result.sum, leaves)
    return result._replace(sum=result.sum.detach()), gradients


def _transformed(
    objective: Callable[..., Any], values: Sequence[Tensor]
) -> tuple[Any, tuple[Tensor, ...]]:
    def summed(*leaves: Tensor) -> tuple[Tensor, Any]:
        result = objective(*leaves)
        return result.sum, result

    every = tuple(range(len(values)))
    gradients, (_, result) = torch.func.grad_and_value(summed, every, has_aux=True)(*values)
    return result, gradients
