"""Who sees whom, and attention (chapter ENC).

A position sees the real positions of its own sequence, on both sides.  Nothing else reaches it: no
padding, and in a packed row no other sequence.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from mlm_torch.places import Places

__all__ = ["attend", "merge_heads", "split_heads", "visible_pairs"]


def visible_pairs(attention_mask: Tensor, places: Places) -> Tensor:
    """Which position (row) sees which (column), bool (B, 1, T, T).

    Padding sees itself: a softmax over nothing is 0 / 0, whose gradient is NaN.  What comes of it
    is thrown away by `attend`.
    """

    def equal(values: Tensor) -> Tensor:
        return values[:, :, None] == values[:, None, :]

    visible = equal(places.low) & equal(places.high)
    visible &= attention_mask[:, :, None] & attention_mask[:, None, :]
    visible |= torch.eye(visible.shape[1], dtype=torch.bool, device=visible.device)
    return visible[:, None]


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    visible: Tensor | None,
    drop: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """softmax(q·kᵀ/√d) over what is visible, times v.

    Parameters
    ----------
    query, key, value : float (B, heads, T, d).
    visible : from `visible_pairs`; None: all of a row sees all of it.
    drop : what drops probabilities.  Fused attention takes no mask of them from outside, so with
        it they are formed.

    Returns
    -------
    (B, heads, T, d), in the dtype of the arguments.

    Source: Vaswani et al., "Attention is all you need", 2017, section 3.2.1.
    """
    if drop is None:
        return functional.scaled_dot_product_attention(query, key, value, attn_mask=visible)
    scores = query @ key.transpose(-1, -2) * key.shape[-1] ** -0.5
    if visible is not None:
        scores = scores.masked_fill(~visible, -torch.inf)
    return drop(scores.softmax(dim=-1)) @ value


def split_heads(values: Tensor, heads: int) -> Tensor:
    """(B, T, d) as (B, heads, T, d / heads)."""
    return values.unflatten(-1, (heads, -1)).transpose(1, 2)


def merge_heads(values: Tensor) -> Tensor:
    """The way back."""
    return values.transpose(1, 2).flatten(-2)
