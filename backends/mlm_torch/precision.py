"""Matrix products at full precision (MLM-HED-1).

PyTorch may compute float32 products in TF32 or bfloat16, and sum bfloat16 and float16 products
in low precision, where its global flags say so.  The checked head sets the flags while it runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["full_precision", "project"]

_HALVES = (torch.bfloat16, torch.float16)


@contextmanager
def full_precision() -> Iterator[None]:
    """float32 products in float32, and all sums of products in float32, for a while.

    The flags belong to the process: other threads see them too.
    """
    cuda, cpu = torch.backends.cuda.matmul, torch.backends.mkldnn.matmul
    changes = (
        (cuda, "fp32_precision", "ieee"),
        (cpu, "fp32_precision", "ieee"),
        (cuda, "allow_bf16_reduced_precision_reduction", False),
        (cuda, "allow_fp16_reduced_precision_reduction", False),
    )
    before = [getattr(place, name) for place, name, _ in changes]
    try:
        for place, name, value in changes:
            setattr(place, name, value)
        yield
    finally:
        for (place, name, _), value in zip(changes, before, strict=True):
            setattr(place, name, value)


def project(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """rows · weightᵀ + bias, (N, V).

    On a CPU, bfloat16 and float16 are converted to float32 first, which is exact: whether its
    own kernels sum in float32 depends on the processor.  On a device the logits are in the dtype
    of the inputs, summed in float32 and rounded once.
    """
    if rows.dtype in _HALVES and rows.device.type == "cpu":
        rows, weight = rows.float(), weight.float()
        bias = None if bias is None else bias.float()
    return functional.linear(rows, weight, bias)
