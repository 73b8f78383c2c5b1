"""PyTorch functions as ports: arrays in, arrays out, gradients by autograd."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import ml_dtypes
import numpy as np
import torch
from numpy.typing import NDArray

__all__ = [
    "HeadLossFunction",
    "LossFunction",
    "TorchHeadLoss",
    "TorchLoss",
    "array_of",
    "tensor_of",
]

#: (logits (B, T, V), labels (B, T), ignore_index, num_items) to a loss ().
LossFunction: TypeAlias = Callable[[torch.Tensor, torch.Tensor, int, int | None], torch.Tensor]

#: (hidden (B, T, d), weight (V, d), bias (V,) or None, labels (B, T), ignore_index, num_items).
HeadLossFunction: TypeAlias = Callable[
    [torch.Tensor, torch.Tensor, torch.Tensor | None, torch.Tensor, int, int | None], torch.Tensor
]

_Array: TypeAlias = NDArray[Any]


@dataclass(frozen=True, slots=True)
class TorchLoss:
    """A loss on logits, as the port ``loss``."""

    function: LossFunction
    loss_reduction: str
    versions: Mapping[str, str]

    def loss(
        self, logits: _Array, labels: _Array, ignore_index: int, num_items: int | None
    ) -> dict[str, _Array]:
        """The loss () and its gradient (B, T, V), both in the dtype that autograd gives."""
        leaf = tensor_of(logits).requires_grad_()
        value = self.function(leaf, torch.from_numpy(labels), ignore_index, num_items)
        (gradient,) = torch.autograd.grad(value, leaf)
        return {"loss": array_of(value), "grad_logits": array_of(gradient)}


@dataclass(frozen=True, slots=True)
class TorchHeadLoss:
    """A loss on hidden states and an output layer, as the port ``head_loss``."""

    function: HeadLossFunction
    loss_reduction: str
    versions: Mapping[str, str]

    def head_loss(
        self,
        hidden: _Array,
        weight: _Array,
        bias: _Array | None,
        labels: _Array,
        ignore_index: int,
        num_items: int | None,
    ) -> dict[str, _Array]:
        """The loss () and its gradients; none for the bias where there is no bias."""
        names = ["grad_hidden", "grad_weight"] + ["grad_bias"] * (bias is not None)
        leaves = [tensor_of(a).requires_grad_() for a in (hidden, weight, bias) if a is not None]
        layer = (leaves[0], leaves[1], leaves[2] if bias is not None else None)
        value = self.function(*layer, torch.from_numpy(labels), ignore_index, num_items)
        gradients = torch.autograd.grad(value, leaves)
        found = {name: array_of(each) for name, each in zip(names, gradients, strict=True)}
        return {"loss": array_of(value), **found}


def tensor_of(array: _Array) -> torch.Tensor:
    """The same numbers as a tensor, which owns its memory."""
    if array.dtype == ml_dtypes.bfloat16:  # from_numpy does not know it: carry the bits
        return torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(array.copy())


def array_of(tensor: torch.Tensor) -> _Array:
    """The same numbers as an array."""
    plain = tensor.detach().cpu().contiguous()
    if plain.dtype == torch.bfloat16:
        return plain.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return plain.numpy()
