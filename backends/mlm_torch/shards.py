"""Parameters that lie in parts on several replicas, put together where they are used (FSDP2).

The optimiser sees plain tensors, the parts that are here; what it needs of all, the norm of the
gradients, is added up beside it.
"""

from __future__ import annotations

from typing import Any

import torch.distributed as dist
from torch import Tensor, nn

__all__ = ["part_of", "shard", "split", "whole"]


def shard(model: nn.Module, group: Any) -> nn.Module:
    """Leave on each replica its part of every parameter; gradients are sums over the replicas.

    Each layer is put together by itself while it computes, the rest for the whole call.  The
    parameters of the first replica are those of all.
    """
    # Imported here, for it takes as long as the rest of PyTorch.
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.fsdp import fully_shard

    for parameter in model.parameters():
        dist.broadcast(parameter.detach(), group=group, group_src=0)
    mesh = DeviceMesh.from_group(group, next(model.parameters()).device.type)
    for module in (*model.bert["encoder"]["layer"], model):
        # Also what is used last: otherwise an evaluation would leave it whole, and stale.
        fully_shard(module, mesh=mesh, reshard_after_forward=True)
    for module in (*model.bert["encoder"]["layer"], model):
        # What is built in divides by the number of replicas.
        module.set_gradient_divide_factor(1.0)
        module.set_force_sum_reduction_for_comms(True)
    return model


def part_of(values: Tensor) -> Tensor:
    """The part that is here, sharing its memory; of a plain tensor all of it."""
    return values.to_local() if hasattr(values, "to_local") else values


def whole(part: Tensor, like: Tensor) -> Tensor:
    """All parts of what is laid out like a parameter; all replicas call it together."""
    if not hasattr(like, "to_local"):
        return part
    from torch.distributed.tensor import DTensor

    found = DTensor.from_local(
        part, like.device_mesh, like.placements, shape=like.shape, stride=like.stride()
    )
    return found.full_tensor()


def split(values: Tensor, like: Tensor) -> Tensor:
    """The part that is here of values that every replica has, laid out like a parameter."""
    if not hasattr(like, "to_local"):
        return values
    from torch.distributed.tensor import distribute_tensor

    there = values.to(like.device)
    return distribute_tensor(
        there, like.device_mesh, like.placements, src_data_rank=None
    ).to_local()
