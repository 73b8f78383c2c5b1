"""From (B, T) to the selected positions, and nothing else (MLM-OBJ-1, MLM-HED-5, MLM-HED-8).

Unselected rows are never read, so a NaN in them cannot spread; the derivative of a gather is a
scatter into zeros, so their gradient is exactly 0.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Slots", "find_selected", "find_slots", "gather", "gather_values", "leaf_of"]


class Slots(NamedTuple):
    """A fixed number of places for selected positions.

    Attributes
    ----------
    index : int64 (C,), flat places in (B, T), ascending; arbitrary where not ``used``.
    used : bool (C,), the slots that hold a selected position.
    count : int64 scalar, how many positions are selected, in slots or not.
    """

    index: Tensor
    used: Tensor
    count: Tensor


def find_selected(selected: Tensor) -> Tensor:
    """The flat places of all selected positions, int64 (N,).  Waits for the device."""
    return selected.reshape(-1).nonzero()[:, 0]


def find_slots(selected: Tensor, capacity: int) -> Slots:
    """The first ``capacity`` selected positions, with static shapes and no synchronisation.

    >>> find_slots(torch.tensor([[False, True], [True, False]]), 3).used.tolist()
    [True, True, False]
    """
    running = selected.reshape(-1).cumsum(dim=0)
    size = min(capacity, running.numel())
    wanted = torch.arange(1, size + 1, device=selected.device)
    # The k-th selected position is where the running count first reaches k.
    index = torch.searchsorted(running, wanted).clamp(max=max(running.numel() - 1, 0))
    count = selected.sum()
    return Slots(index, wanted <= count, count)


def gather(values: Tensor, index: Tensor) -> Tensor:
    """Rows (N, last) of values (B, T, last) at flat places; differentiable."""
    return values.reshape(-1, values.shape[-1]).index_select(0, index)


def gather_values(values: Tensor, index: Tensor) -> Tensor:
    """Elements (N,) of values (B, T) at flat places."""
    return values.reshape(-1).index_select(0, index)


def leaf_of(values: Tensor) -> Tensor:
    """The same numbers as the start of a graph of their own; for use outside inference mode."""
    return (values.clone() if values.is_inference() else values).detach().requires_grad_()
