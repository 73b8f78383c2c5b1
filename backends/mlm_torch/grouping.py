"""Groups of positions inside each row: packed sequences, and words.

A group's members may lie in any columns, so groups are found by sorting, never by neighbourhood.
All shapes are static.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["number_groups", "smallest_in_group"]


def number_groups(*keys: Tensor) -> Tensor:
    """Number the groups of equal keys in each row.

    Parameters
    ----------
    keys : int64 (B, T) each; positions of one row with all keys equal form a group.

    Returns
    -------
    int64 (B, T), numbers 0 .. T − 1, equal within a group and ascending without gaps in a row.

    >>> number_groups(torch.tensor([[7, 3, 7, -1]])).tolist()
    [[2, 1, 2, 0]]
    """
    order = None
    for key in reversed(keys):
        if order is None:
            order = key.argsort(dim=1, stable=True)
        else:
            order = order.gather(1, key.gather(1, order).argsort(dim=1, stable=True))
    changed = torch.zeros_like(order)
    for key in keys:
        in_order = key.gather(1, order)
        changed[:, 1:] |= in_order[:, 1:] != in_order[:, :-1]
    return torch.zeros_like(order).scatter(1, order, changed.cumsum(dim=1))


def smallest_in_group(values: Tensor, where: Tensor, group: Tensor) -> Tensor:
    """The smallest value of each group among the members where ``where`` holds, per member.

    Parameters
    ----------
    values : int64 (B, T), in 0 .. 2³² − 1.
    where : bool (B, T).
    group : int64 (B, T), from `number_groups`.

    Returns
    -------
    int64 (B, T); 2³² for members of a group without any.
    """
    absent = torch.full_like(values, 2**32)
    smallest = absent.scatter_reduce(1, group, torch.where(where, values, absent), "amin")
    return smallest.gather(1, group)
