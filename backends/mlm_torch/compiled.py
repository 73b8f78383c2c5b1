"""The masker as one compiled function, for speed (needs what `torch.compile` needs)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mlm_spec.policy import MaskingPolicy
from mlm_torch.masking import MaskStep, mask_step

__all__ = ["compile_mask"]

Masker = Callable[[Tensor, Tensor, Tensor, Tensor | None, Tensor, Tensor], MaskStep]


def compile_mask(policy: MaskingPolicy, backend: str | Callable[..., Any] = "inductor") -> Masker:
    """Compile `mask_step` for one policy.

    Parameters
    ----------
    policy : the masking policy; its numbers become constants of the program.
    backend : a backend of `torch.compile`, by name or as a function.

    Returns
    -------
    A function of (tokens, sequence_id, position, word_id, eligible, key) that returns a
    `MaskStep`, bit for bit that of `mask_step`.  The first call with a shape compiles, which
    takes seconds to a minute; a new key compiles nothing.

    Source: chapters SEL and COR.  Bound: exact, bit for bit.
    """

    def masker(
        tokens: Tensor,
        sequence_id: Tensor,
        position: Tensor,
        word_id: Tensor | None,
        eligible: Tensor,
        key: Tensor,
    ) -> MaskStep:
        return mask_step(tokens, sequence_id, position, word_id, eligible, policy, key)

    return torch.compile(masker, fullgraph=True, backend=backend)
