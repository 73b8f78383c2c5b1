"""log Pr of one id per row of logits, and its derivative (chapters LIK and GRA).

The work that grows with N·V is in float32 (float64 for float64 logits); what grows with N alone
is in float64, where it costs nothing.  Logits in bfloat16 or float16 are converted first, which
is exact.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["accumulation_dtype", "log_likelihood", "weighted_sum"]


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """float64 for float64, else float32 (MLM-OBJ-12)."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def log_likelihood(rows: Tensor, targets: Tensor, peak: Tensor | None = None) -> Tensor:
    """log softmax(rows)[n, targets[n]], differentiable with respect to ``rows``.

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
    return _LogLikelihood.apply(rows, targets, peak)


def weighted_sum(nats: Tensor, weights: Tensor | None) -> Tensor:
    """Σ weights · nats in float64, a scalar; without weights the plain sum (MLM-OBJ-2)."""
    return nats.sum() if weights is None else (weights.double() * nats).sum()


class _LogLikelihood(torch.autograd.Function):
    """`log_likelihood`, with the derivative in the form above.

    Only the arguments are saved: a second pass over the exponentials costs less than keeping
    them in float32, and the derivative can be differentiated again.
    """

    @staticmethod
    def forward(rows: Tensor, targets: Tensor, peak: Tensor) -> Tensor:
        _, others, gap = _terms(rows, targets, peak)
        return gap - torch.log1p(others + torch.expm1(gap))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None]:
        rows, targets, peak = ctx.saved_tensors
        powers, others, gap = _terms(rows, targets, peak)
        share = upstream / (others + gap.exp())
        # w (1[j = t] − p_j): the target's entry is w (1 − p_t), formed without cancellation.
        factor = -share.to(powers.dtype)[:, None]
        # A second derivative needs the powers; else their memory, as large as the logits, is used.
        gradient = powers * factor if torch.is_grad_enabled() else powers.mul_(factor)
        gradient = gradient.to(rows.dtype)
        at_target = (share * others).to(rows.dtype)
        return gradient.scatter_(1, targets[:, None], at_target[:, None]), None, None


def _terms(rows: Tensor, targets: Tensor, peak: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """e^{z − m} with 0 at the target (N, V); its sum S, and d = z_t − m, in float64 (N,)."""
    kind, column = accumulation_dtype(rows.dtype), targets[:, None]
    powers = (rows.to(kind) - peak.to(kind)[:, None]).scatter_(1, column, -torch.inf).exp_()
    gap = rows.gather(1, column)[:, 0].double() - peak.double()
    return powers, powers.sum(dim=1).double(), gap
