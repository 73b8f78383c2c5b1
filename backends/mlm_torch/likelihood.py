"""log Pr of one id per row of logits, and its derivative (chapters LIK and GRA).

The work that grows with N·V is in float32 (float64 for float64 logits); what grows with N alone
is in float64, where it costs nothing.  Logits in bfloat16 or float16 are converted first, which
is exact.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["accumulation_dtype", "log_likelihood", "weighted_sum"]


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """float64 for float64, else float32 (MLM-OBJ-12)."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def log_likelihood(rows: Tensor, targets: Tensor, peak: Tensor | None = None) -> Tensor:
    """log softmax(rows)[n, targets[n]], differentiable once with respect to ``rows``.

    Parameters
    ----------
    rows : float (N, V), V ≥ 1; −inf is probability 0.  Each row needs a finite logit, at its
        target too, and neither NaN nor +inf: this is not checked here.
    targets : int64 (N,), in 0 .. V − 1.
    peak : (N,), the largest logit of each row, if it is known already.

    Returns
    -------
    float64 (N,), nats, ≤ 0.

    Notes
    -----
    With m = max z and d = z_t − m, and the target's term left out of S = Σ_{j≠t} e^{z_j − m},

        log p_t = d − log1p(S + expm1(d))          1 − p_t = S / (S + e^d).

    Where the target has the largest logit, d = 0 and both forms keep their relative accuracy as
    p_t → 1; the common z_t − log Σ e^z does not.

    >>> rows = torch.tensor([[0.0, 40.0]], dtype=torch.float64)
    >>> log_likelihood(rows, torch.tensor([1])).item()
    -4.248354255291589e-18
    """
    if peak is None:
        peak = rows.detach().amax(dim=1)
    return _LogLikelihood.apply(rows, targets, peak)[0]


def weighted_sum(nats: Tensor, weights: Tensor | None) -> Tensor:
    """Σ weights · nats in float64, a scalar; without weights the plain sum (MLM-OBJ-2)."""
    return nats.sum() if weights is None else (weights.double() * nats).sum()


class _LogLikelihood(torch.autograd.Function):
    """`log_likelihood` and its derivative; the tensors behind the first output are saved."""

    @staticmethod
    def forward(rows: Tensor, targets: Tensor, peak: Tensor) -> tuple[Tensor, ...]:
        kind = accumulation_dtype(rows.dtype)
        column = targets[:, None]
        powers = (rows.to(kind) - peak.to(kind)[:, None]).exp_()
        powers.scatter_(1, column, 0.0)
        others = powers.sum(dim=1).double()
        gap = rows.gather(1, column)[:, 0].double() - peak.double()
        nats = gap - torch.log1p(others + torch.expm1(gap))
        return nats, powers, others, gap

    @staticmethod
    def setup_context(
        ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: tuple[Tensor, ...]
    ) -> None:
        rows, targets, _ = inputs
        _, powers, others, gap = output
        ctx.mark_non_differentiable(powers, others, gap)
        ctx.save_for_backward(powers, others, gap, targets)
        ctx.kind = rows.dtype

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor, *_: Any) -> tuple[Tensor, None, None]:
        powers, others, gap, targets = ctx.saved_tensors
        share = upstream / (others + gap.exp())
        # w (1[j = t] − p_j): the target's entry is w (1 − p_t), formed without cancellation.
        gradient = (powers * -share.to(powers.dtype)[:, None]).to(ctx.kind)
        at_target = (share * others).to(ctx.kind)
        return gradient.scatter_(1, targets[:, None], at_target[:, None]), None, None
