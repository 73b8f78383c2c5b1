"""From summed gradients to moved parameters, on the device (chapter OPT).

`torch.optim.AdamW` is exactly the rule: its epsilon stands beside the root of the corrected second
moment, and its decay multiplies the parameter before the step.  Clipping is not
`torch.nn.utils.clip_grad_norm_`, which adds 10⁻⁶ to the norm.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mlm_spec.training.config import TrainingConfig
from mlm_torch.replicas import ALONE, Replicas

__all__ = [
    "Mean",
    "clip",
    "learning_rate",
    "make_optimizer",
    "mean_gradients",
    "moments",
    "step_unless",
]

Optimizer = torch.optim.AdamW

# Gradients that are all smaller stay smaller: what divides them has to be a normal float32.
_SMALLEST_PEAK = 2.0**-100


class Mean(NamedTuple):
    """What is known of gradients after their division.

    Attributes
    ----------
    exponent : they were divided by 2^exponent too, so that no square overflows or vanishes.
    norm : the global norm without that, float64.
    finite : whether all of them are, and the sum of their squares, in their dtype (MLM-TRN-5).
    """

    exponent: Tensor
    norm: Tensor
    finite: Tensor


def make_optimizer(parameters: Iterable[nn.Parameter], config: TrainingConfig) -> Optimizer:
    """AdamW with its moments at 0; matrices decay, biases and LayerNorms do not.

    Source: Loshchilov and Hutter, "Decoupled weight decay regularization", 2019.
    """
    every = list(parameters)
    groups = [
        {"params": [x for x in every if x.dim() == 2], "weight_decay": config.weight_decay},
        {"params": [x for x in every if x.dim() != 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(
        groups, config.learning_rate, (config.beta1, config.beta2), config.epsilon, fused=True
    )
    for parameter in every:
        moments = (torch.zeros_like(parameter.detach()) for _ in range(2))
        step = torch.zeros((), dtype=torch.float32, device=parameter.device)
        names = ("step", "exp_avg", "exp_avg_sq")
        optimizer.state[parameter] = dict(zip(names, (step, *moments), strict=True))
    return optimizer


def moments(optimizer: Optimizer, parameter: nn.Parameter) -> tuple[Tensor, Tensor]:
    """The first and the second moment of a parameter."""
    state = optimizer.state[parameter]
    return state["exp_avg"], state["exp_avg_sq"]


def learning_rate(update: Tensor, config: TrainingConfig) -> Tensor:
    """η_n of update n, a float64 scalar where ``update`` is; nothing waits for the device.

        n ≤ W: η·n/W;  then "constant": η,  "linear": η·(M + 1 − n)/(M + 1 − W)

    >>> config = TrainingConfig(1.0, warmup_updates=2, total_updates=4)
    >>> [round(learning_rate(torch.tensor(n), config).item(), 6) for n in (1, 2, 3, 4)]
    [0.5, 1.0, 0.666667, 0.333333]
    """
    n, full = update.double(), config.learning_rate
    rising = full * n / max(config.warmup_updates, 1)
    after = torch.full_like(n, full)
    if config.schedule == "linear":
        end = config.total_updates + 1
        after = full * (end - n) / (end - config.warmup_updates)
    return torch.where(update <= config.warmup_updates, rising, after)


@torch.no_grad()
def mean_gradients(
    gradients: Sequence[Tensor], divisor: Tensor, replicas: Replicas = ALONE
) -> Mean:
    """Divide gradients of a sum by its count, in place, and take their norm.

    Parameters
    ----------
    gradients : all of one model, each tied one once.
    divisor : float64 scalar: −count, times the scale of the loss.
    replicas : where the rest of the gradients is, if these are parts.

    Notes
    -----
    A power of two in the divisor changes no digit.  With it the largest entry is between 1 and 2,
    and the norm may be taken in the dtype of the gradients.
    """
    here = [gradient for gradient in gradients if gradient.numel()]  # a part may be empty
    peak = torch.stack(torch._foreach_norm(here, torch.inf)).double().amax()
    peak = replicas.peak(peak)
    finite = torch.isfinite(peak)
    usable = torch.where(finite, peak, 1.0).clamp(min=_SMALLEST_PEAK)
    exponent = torch.frexp(usable / divisor)[1].long() - 1
    torch._foreach_div_(gradients, divisor * _power_of_two(exponent))
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(here)).double())
    norm = replicas.norm(norm)
    norm = norm * _power_of_two(exponent)
    # Second moments have to hold the squares, whatever the norm itself needs.
    held = torch.isfinite(norm.to(gradients[0].dtype).square())
    return Mean(exponent, norm, finite & held)


def _power_of_two(exponent: Tensor) -> Tensor:
    """2^exponent as float64, from its bits: exact, which `torch.ldexp` is up to 2^127 only."""
    return ((exponent + 1023) << 52).view(torch.float64)


@torch.no_grad()
def clip(gradients: Sequence[Tensor], mean: Mean, max_norm: float | None) -> None:
    """g·2^exponent, times max_norm/norm where the norm is larger; in place.

    Source: Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural
    networks", 2013, algorithm 1.
    """
    factor = torch.ones_like(mean.norm)
    if max_norm is not None:
        factor = torch.where(mean.norm > max_norm, max_norm / mean.norm, factor)
    torch._foreach_mul_(gradients, factor * _power_of_two(mean.exponent))


def step_unless(optimizer: Optimizer, skip: Tensor, rate: Tensor) -> None:
    """One step of the optimiser at this rate; none, state and all, where ``skip`` holds.

    Parameters
    ----------
    skip : bool scalar on the device.
    rate : float64 scalar.
    """
    # The fused kernels look at these two by themselves, so nothing waits for the device.  Those of
    # a GPU take a rate on the device as float32; in float64 that would be felt, so it is read.
    if rate.is_cuda:
        wide = any(x.dtype == torch.float64 for g in optimizer.param_groups for x in g["params"])
        rate = float(rate) if wide else rate.float()
    optimizer.found_inf = skip.float()
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
