"""An encoder and one update in PyTorch's own words, for tests: autograd, no code of ours."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from mlm_conformance.cases.training import TrainingCase
from torch.nn import functional

Tensors = dict[str, torch.Tensor]


def gradients_by_autograd(
    case: TrainingCase, update: int = 0, dtype: torch.dtype = torch.float64
) -> tuple[float, dict[str, Any]]:
    """The sum of log-likelihoods and the gradients of −sum/count, without dropout."""
    parameters = {
        name: torch.tensor(value, dtype=dtype, requires_grad=True)
        for name, value in case.parameters.items()
    }
    batches = case.updates[update]
    count = sum(int(b["selected"].sum()) for b in batches)
    total = sum(log_likelihood(case, parameters, b) for b in batches)
    (-total / count).backward()
    return float(total.detach()), {n: _numpy(p) for n, p in parameters.items()}


def _numpy(parameter: torch.Tensor) -> Any:
    grad = parameter.grad
    return np.zeros(tuple(parameter.shape)) if grad is None else grad.double().numpy()


def log_likelihood(case: TrainingCase, p: Tensors, batch: Mapping[str, Any]) -> torch.Tensor:
    at = torch.tensor(batch["selected"])
    h = encode(case, p, batch)[at]
    t = functional.gelu(dense(p, "cls.predictions.transform.dense", h))
    t = norm(case, p, "cls.predictions.transform.LayerNorm", t)
    words = p["bert.embeddings.word_embeddings.weight"]
    logits = t @ words.T + p["cls.predictions.bias"]
    targets = torch.tensor(batch["targets"]).long()[at]
    return -functional.cross_entropy(logits, targets, reduction="sum")


def encode(case: TrainingCase, p: Tensors, batch: Mapping[str, Any]) -> torch.Tensor:
    tables = {"word": "inputs", "position": "position_ids", "token_type": "token_type_ids"}
    h = sum(
        functional.embedding(
            torch.tensor(batch[field]).long(), p[f"bert.embeddings.{name}_embeddings.weight"]
        )
        for name, field in tables.items()
    )
    h = norm(case, p, "bert.embeddings.LayerNorm", h)
    for i in range(case.config.num_hidden_layers):
        layer = f"bert.encoder.layer.{i}."
        a = attend(case, p, f"{layer}attention.self.", h, batch)
        a = h + dense(p, f"{layer}attention.output.dense", a)
        a = norm(case, p, f"{layer}attention.output.LayerNorm", a)
        f = functional.gelu(dense(p, f"{layer}intermediate.dense", a))
        h = norm(case, p, f"{layer}output.LayerNorm", a + dense(p, f"{layer}output.dense", f))
    return h


def attend(
    case: TrainingCase, p: Tensors, name: str, h: torch.Tensor, batch: Mapping[str, Any]
) -> torch.Tensor:
    heads = case.config.num_attention_heads
    q, k, v = (
        dense(p, f"{name}{part}", h).unflatten(-1, (heads, -1)).transpose(1, 2)
        for part in ("query", "key", "value")
    )
    ids = torch.tensor(batch["sequence_id"].astype(np.int64))
    real = torch.tensor(batch["attention_mask"])
    seen = (ids[:, :, None] == ids[:, None]).all(-1) & real[:, :, None] & real[:, None]
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    scores = scores.masked_fill(~seen[:, None], -math.inf)
    weights = torch.softmax(scores, -1).nan_to_num(0.0)
    return (weights @ v).transpose(1, 2).flatten(-2)


def dense(p: Tensors, name: str, x: torch.Tensor) -> torch.Tensor:
    return functional.linear(x, p[f"{name}.weight"], p[f"{name}.bias"])


def norm(case: TrainingCase, p: Tensors, name: str, x: torch.Tensor) -> torch.Tensor:
    weight, bias = p[f"{name}.weight"], p[f"{name}.bias"]
    return functional.layer_norm(x, x.shape[-1:], weight, bias, case.config.layer_norm_eps)


def updated_by_torch(
    case: TrainingCase, gradients: Mapping[str, Any]
) -> tuple[float, dict[str, Any]]:
    """The norm before clipping and the parameters after the first update, by torch.optim.AdamW."""
    plan = case.plan
    parameters = {n: torch.nn.Parameter(torch.tensor(v)) for n, v in case.parameters.items()}
    for name, parameter in parameters.items():
        parameter.grad = torch.tensor(gradients[name])
    norm = torch.sqrt(sum((torch.sum(p.grad**2) for p in parameters.values()), torch.zeros(())))
    if plan.max_grad_norm is not None and norm > plan.max_grad_norm:
        for parameter in parameters.values():
            parameter.grad *= plan.max_grad_norm / norm
    groups = [
        {
            "params": [p for p in parameters.values() if p.ndim == 2],
            "weight_decay": plan.weight_decay,
        },
        {"params": [p for p in parameters.values() if p.ndim != 2], "weight_decay": 0.0},
    ]
    rate = plan.learning_rate / plan.warmup_updates
    betas = (plan.beta1, plan.beta2)
    torch.optim.AdamW(groups, lr=rate, betas=betas, eps=plan.epsilon).step()
    return float(norm), {n: p.detach().numpy() for n, p in parameters.items()}
