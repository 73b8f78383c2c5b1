"""The output layer with the objective, forward and backward, as it is written in each framework.

All have the same hidden states, layer and selected positions, and give the three gradients of the
summed log-likelihood.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks.worker import NotHereError, Prepared, jax_device, torch_device

__all__ = ["VARIANTS"]

Settings = Mapping[str, Any]
_IGNORED = -100


def _case(settings: Settings) -> tuple[np.ndarray, ...]:
    """Hidden (1, T, d), weight (V, d), bias (V,), targets and selected (1, T)."""
    draw = np.random.default_rng(0)
    count, width, vocab = settings["positions"], settings["width"], settings["vocab"]
    hidden = draw.standard_normal((1, count, width), np.float32)
    weight = draw.standard_normal((vocab, width), np.float32) / np.float32(np.sqrt(width))
    bias = draw.standard_normal(vocab, np.float32) / np.float32(10)
    targets = draw.integers(0, vocab, (1, count))
    selected = np.zeros((1, count), bool)
    selected[0, draw.choice(count, settings["selected"], replace=False)] = True
    return hidden, weight, bias, targets, selected


# PyTorch ----------------------------------------------------------------------------------------


def _torch_case(settings: Settings) -> tuple[list[Any], Any, Any]:
    """The three leaves, targets and selected, on the device."""
    import torch

    device = torch_device(settings)
    dtype = getattr(torch, settings["dtype"])
    *values, targets, selected = (torch.from_numpy(array) for array in _case(settings))
    leaves = [x.to(device, dtype).requires_grad_() for x in values]
    return leaves, targets.to(device), selected.to(device)


def _torch_prepared(settings: Settings, run: Callable[..., Any]) -> Prepared:
    """``run(leaves, targets, selected)`` does the whole job and returns the sum."""
    import torch

    case = _torch_case(settings)
    on_gpu = settings["device"] == "cuda"

    def call() -> float:
        total = float(run(*case))
        if on_gpu:
            torch.cuda.synchronize()
        return total

    def peak_on_gpu() -> int:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return int(torch.cuda.max_memory_allocated() - before)

    return Prepared(call, {"sum": call()}, peak_on_gpu if on_gpu else None)


def _torch_objective(settings: Settings, objective: Callable[..., Any]) -> Prepared:
    """``objective(hidden, weight, bias, targets, selected)``, which autograd differentiates."""
    import torch

    def run(leaves: list[Any], targets: Any, selected: Any) -> Any:
        total = objective(*leaves, targets, selected)
        torch.autograd.grad(total, leaves)
        return total.detach()

    return _torch_prepared(settings, run)


def _mlm_torch(settings: Settings) -> Prepared:
    import mlm_torch

    return _torch_objective(settings, lambda *case: mlm_torch.head_log_likelihood_sum(*case)[0])


def _mlm_torch_checked(settings: Settings) -> Prepared:
    import mlm_torch

    return _torch_prepared(
        settings,
        lambda leaves, targets, selected: mlm_torch.head(*leaves, targets, selected).sum,
    )


def _torch_full(settings: Settings) -> Prepared:
    import torch
    import torch.nn.functional as F

    def objective(hidden: Any, weight: Any, bias: Any, targets: Any, selected: Any) -> Any:
        labels = torch.where(selected, targets, _IGNORED)
        logits = F.linear(hidden, weight, bias)
        return -F.cross_entropy(
            logits.flatten(0, 1), labels.flatten(), ignore_index=_IGNORED, reduction="sum"
        )

    return _torch_objective(settings, objective)


def _torch_gathered(settings: Settings) -> Prepared:
    import torch.nn.functional as F

    def objective(hidden: Any, weight: Any, bias: Any, targets: Any, selected: Any) -> Any:
        logits = F.linear(hidden[selected], weight, bias)
        return -F.cross_entropy(logits, targets[selected], reduction="sum")

    return _torch_objective(settings, objective)


def _torch_fused(settings: Settings) -> Prepared:
    import torch.nn.functional as F

    fused = getattr(F, "linear_cross_entropy", None)
    if fused is None:
        raise NotHereError("this PyTorch has no linear_cross_entropy")

    def objective(hidden: Any, weight: Any, bias: Any, targets: Any, selected: Any) -> Any:
        rows, ids = hidden[selected], targets[selected]
        return -fused(rows, weight, ids, linear_bias=bias, reduction="sum")

    return _torch_objective(settings, objective)


# JAX --------------------------------------------------------------------------------------------


def _jax_prepared(settings: Settings, objective: Callable[..., Any]) -> Prepared:
    """``objective(hidden, weight, bias, targets, selected)``, jitted with its gradients."""
    import jax

    on_gpu = settings["device"] == "cuda"
    device = jax_device(settings)
    *values, targets, selected = _case(settings)
    dtype = jax.numpy.dtype(settings["dtype"])
    leaves = [jax.device_put(x.astype(dtype), device) for x in values]
    rest = [jax.device_put(x, device) for x in (targets.astype(np.int32), selected)]
    step = jax.jit(jax.value_and_grad(objective, argnums=(0, 1, 2)))
    # An allocator's high-water mark cannot be set back: the compiler's own plan says the peak.
    plan = step.lower(*leaves, *rest).compile().memory_analysis()
    planned = None if plan is None else int(plan.temp_size_in_bytes + plan.output_size_in_bytes)

    def call() -> float:
        total, _ = jax.block_until_ready(step(*leaves, *rest))
        return float(total)

    return Prepared(call, {"sum": call()}, (lambda: planned) if on_gpu else None)


def _mlm_jax(settings: Settings) -> Prepared:
    import mlm_jax

    # A capacity is static, so training leaves room: here to the next multiple of 64.
    capacity = -(-settings["selected"] // 64) * 64

    def objective(hidden: Any, weight: Any, bias: Any, targets: Any, selected: Any) -> Any:
        return mlm_jax.head_log_likelihood_sum(
            hidden, weight, bias, targets, selected, capacity=capacity
        )[0]

    return _jax_prepared(settings, objective)


def _optax_full(settings: Settings) -> Prepared:
    import jax.numpy as jnp
    import optax

    def objective(hidden: Any, weight: Any, bias: Any, targets: Any, selected: Any) -> Any:
        logits = (hidden @ weight.T + bias).astype(jnp.float32)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
        return -jnp.where(selected, losses, 0).sum()

    return _jax_prepared(settings, objective)


VARIANTS = {
    "mlm_torch.head_log_likelihood_sum": _mlm_torch,
    "mlm_torch.head (checked)": _mlm_torch_checked,
    "torch, logits everywhere": _torch_full,
    "torch, gathered by hand": _torch_gathered,
    "torch, linear_cross_entropy gathered": _torch_fused,
    "mlm_jax.head_log_likelihood_sum": _mlm_jax,
    "optax, logits everywhere": _optax_full,
}
