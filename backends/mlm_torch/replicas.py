"""Several processes that make one update together (chapter TRN, on many devices).

Each replica has some of the update's micro-batches.  What is added up over them is added up over
the replicas too: the sum, the count, and the gradients of the *sum*.  Then everything is divided
once, by the count of all.  A mean of the means of replicas is another number wherever they have
selected different numbers of positions.

Masks and dropout need nothing here: they are functions of the sequence, not of who has it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mlm_spec.errors import MlmSpecError
from mlm_torch.device import find_device
from mlm_torch.shards import shard

__all__ = ["ALONE", "Replicas", "connect_replicas", "join_replicas", "unsynchronised"]


@dataclass(frozen=True, slots=True)
class Replicas:
    """The processes of a group, seen from one of them.

    Attributes
    ----------
    group : the process group; None: this process is alone.
    rank : which of them this one is.
    size : how many there are.
    sharded : whether each keeps a part of every parameter and of its moments (FSDP2) in place of
        the whole (DDP).
    """

    group: Any = None
    rank: int = 0
    size: int = 1
    sharded: bool = False

    def total(self, values: Tensor) -> Tensor:
        """The sum over all replicas, in the dtype of the values and equal on all of them."""
        if self.group is None:
            return values
        found = values.clone()
        dist.all_reduce(found, group=self.group)
        return found

    def peak(self, value: Tensor) -> Tensor:
        """The largest magnitude of gradients, from that of the part that is here; or infinity."""
        value = torch.where(torch.isfinite(value), value, torch.inf)  # a maximum may lose a NaN
        if self.sharded:
            value = value.clone()
            dist.all_reduce(value, dist.ReduceOp.MAX, self.group)
        return value

    def norm(self, value: Tensor) -> Tensor:
        """The norm of gradients, from that of the part that is here."""
        return self.total(value.square()).sqrt() if self.sharded else value

    def calls(self, own: int, device: torch.device) -> int:
        """How often the model is called here for ``own`` micro-batches.

        Gradients arrive when all replicas have called it; parameters in parts are put together by
        all of them, at every call.
        """
        if self.group is None or not self.sharded:
            return own if self.group is None else max(own, 1)
        most = torch.tensor(own, device=device)
        dist.all_reduce(most, dist.ReduceOp.MAX, self.group)
        return int(most)

    def first_error(self, error: MlmSpecError | None, device: torch.device) -> int | None:
        """Which replica has an error, the first of them; this one's own is raised here.

        To be asked before anything is computed together: one that raised alone would leave the
        others waiting for it.
        """
        if error is not None and self.group is None:
            raise error
        failed = torch.zeros(self.size, dtype=torch.int32, device=device)
        failed[self.rank] = int(error is not None)
        ranks = self.total(failed).nonzero()[:, 0].tolist()
        if error is not None:
            raise error
        return ranks[0] if ranks else None

    def leave(self) -> None:
        """Let go of the others; all do so, and none of them computes with these any more."""
        if self.group is not None:
            dist.destroy_process_group(self.group)

    def module(self, model: nn.Module) -> nn.Module:
        """The model with gradients of its sum added up over the replicas while they appear.

        The parameters of the first replica are those of all.
        """
        if self.group is None:
            return model
        if self.sharded:
            return shard(model, self.group)
        # The order of the sum follows the buckets, which are otherwise arranged anew after the
        # first update: a run that is resumed would round differently.
        fixed = torch.are_deterministic_algorithms_enabled()
        wrapped = nn.parallel.DistributedDataParallel(
            model,
            process_group=self.group,
            gradient_as_bucket_view=True,
            find_unused_parameters=fixed,
        )
        wrapped.register_comm_hook(self.group, _summed)
        return wrapped


ALONE = Replicas()


# Without annotations: the wrapper looks at them, and does not take postponed ones.
def _summed(group, bucket):
    """The sum of a bucket over the replicas.  What is built in divides by their number."""
    work = dist.all_reduce(bucket.buffer(), group=group, async_op=True)
    return work.get_future().then(lambda future: future.value()[0])


def unsynchronised(module: nn.Module, last: bool) -> Any:
    """Where gradients stay on their replica, which is all but the last micro-batch."""
    if last or not isinstance(module, nn.parallel.DistributedDataParallel):
        return nullcontext()
    return module.no_sync()


@contextmanager
def join_replicas(
    device: str = "cpu", *, sharded: bool = False, seconds: float = 600.0
) -> Iterator[tuple[Replicas, str]]:
    """Join the replicas that ``torchrun`` started, for a while.

    Parameters
    ----------
    device : "cpu" (gloo), or "cuda" (NCCL), of which each process takes the one of its local rank.
    sharded : whether parameters and moments lie in parts on the replicas.
    seconds : how long one waits for the others before that is an error.

    Yields
    ------
    The replicas, and the device of this one.  Started by itself, a process is alone.

    Raises
    ------
    DeviceError : there is no such device.

    Source: chapter TRN.  Bound: an update differs from that of one process by the order in which
    gradients of micro-batches are added up, and by nothing else.

    >>> with join_replicas() as (group, device):
    ...     group.size, device
    (1, 'cpu')
    """
    if "RANK" not in os.environ:
        yield ALONE, device
        return
    own = f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if device == "cuda" else device
    dist.init_process_group(_backend_of(own), timeout=timedelta(seconds=seconds))
    try:
        yield Replicas(dist.group.WORLD, dist.get_rank(), dist.get_world_size(), sharded), own
    finally:
        dist.destroy_process_group()


def connect_replicas(
    rank: int,
    size: int,
    address: str,
    device: str = "cpu",
    *,
    sharded: bool = False,
    seconds: float = 600.0,
) -> tuple[Replicas, str]:
    """Join replicas that no launcher started, until `Replicas.leave`.

    Parameters
    ----------
    rank, size : which of them this one is, and how many there are; all on this machine.
    address : ``host:port``, where replica 0 waits for the others.
    device, sharded, seconds : as in `join_replicas`.

    Returns
    -------
    The replicas, and the device of this one.

    Raises
    ------
    DeviceError : there are not as many devices.

    Source: chapter DST.  Bound: as in `join_replicas`.
    """
    if device == "cuda":
        find_device(f"cuda:{size - 1}")  # an error of all, or those that have one wait for the rest
    own = f"cuda:{rank}" if device == "cuda" else device
    about = {"init_method": f"tcp://{address}", "rank": rank, "world_size": size}
    dist.init_process_group(_backend_of(own), timeout=timedelta(seconds=seconds), **about)
    return Replicas(dist.group.WORLD, rank, size, sharded), own


def _backend_of(device: str) -> str:
    """What replicas talk through; the device becomes the one of this process."""
    place = find_device(device)
    if place.type != "cuda":
        return "gloo"
    torch.cuda.set_device(place)
    return "nccl"
