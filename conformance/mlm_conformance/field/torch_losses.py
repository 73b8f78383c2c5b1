"""PyTorch's cross-entropies, called as its documentation calls them."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from mlm_conformance.field.torch_port import (
    HeadLossFunction,
    LossFunction,
    TorchHeadLoss,
    TorchLoss,
)

__all__ = [
    "cross_entropy_mean",
    "cross_entropy_sum",
    "linear_cross_entropy",
    "linear_cross_entropy_chunked",
]

_VERSIONS = {"torch": torch.__version__}

#: Rows of one chunk: few, so that even a small case is cut into several.
_CHUNK = 4


def cross_entropy_mean() -> TorchLoss:
    """``F.cross_entropy`` as it is by default: the mean over the labels that count."""
    return TorchLoss(_cross_entropy("mean"), "mean", _VERSIONS)


def cross_entropy_sum() -> TorchLoss:
    """``F.cross_entropy(reduction="sum")``."""
    return TorchLoss(_cross_entropy("sum"), "sum", _VERSIONS)


def linear_cross_entropy() -> TorchHeadLoss:
    """``F.linear_cross_entropy(reduction="sum")``, the path that keeps all logits."""
    return TorchHeadLoss(_linear_cross_entropy(None), "sum", _VERSIONS)


def linear_cross_entropy_chunked() -> TorchHeadLoss:
    """The same in chunks of four rows, which computes its gradients in the forward pass."""
    options = torch.nn.LinearCrossEntropyOptions(batch_chunk_size=_CHUNK)
    return TorchHeadLoss(_linear_cross_entropy(options), "sum", _VERSIONS)


def _cross_entropy(reduction: str) -> LossFunction:
    def function(
        logits: torch.Tensor, labels: torch.Tensor, ignore_index: int, num_items: int | None
    ) -> torch.Tensor:
        return F.cross_entropy(
            logits.flatten(0, 1), labels.flatten(), ignore_index=ignore_index, reduction=reduction
        )

    return function


def _linear_cross_entropy(options: torch.nn.LinearCrossEntropyOptions | None) -> HeadLossFunction:
    def function(
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        labels: torch.Tensor,
        ignore_index: int,
        num_items: int | None,
    ) -> torch.Tensor:
        return F.linear_cross_entropy(
            hidden.flatten(0, 1),
            weight,
            labels.flatten(),
            linear_bias=bias,
            reduction="sum",
            ignore_index=ignore_index,
            options=options,
        )

    return function
