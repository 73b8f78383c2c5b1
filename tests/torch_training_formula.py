"""The objective and its gradients written the long way, in float64.

One sequence after the other, so that there is no mask; logits of every position; `log_softmax`;
autograd; dropout one word at a time.  Beside each gradient stands the sum of the magnitudes of its
terms, which is what rounding sees.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn import functional as F
from torch_training_cases import TRAINING, sequences_of

import mlm_spec

__all__ = ["Dense", "dense", "kept", "relative_bound"]

Arrays = Mapping[str, np.ndarray]

_U = 2.0**-53

# Dropout, one word at a time


def kept(
    update: int, site: int, layer: int, batch: Arrays, row: int, column: int, channels: Any, p: Any
) -> np.ndarray:
    """Which channels of a position are kept, from the reference's Threefry."""
    seed, tag = TRAINING["seed"], 0x4D4C4D00 ^ 3
    run = [seed % 2**32, seed >> 32, update, 0]
    key = mlm_spec.threefry4x32(run, [site, tag, layer, 0]).tolist()
    low, high = (int(word) for word in batch["sequence_id"][row, column])
    place = int(batch["position"][row, column])
    drawn = [mlm_spec.threefry4x32(key, [place, c // 4, low, high])[c % 4] for c in channels]
    limit = -(-((1 - Fraction(p)) * 2**32) // 1)
    return np.array([int(word) < limit for word in drawn])


# The plain formula


class Dense(NamedTuple):
    """Sum, count, gradients of the mean loss, and the magnitudes of their terms."""

    sum: float
    count: int
    gradients: dict[str, np.ndarray]
    magnitudes: dict[str, np.ndarray]


class _Tape:
    """Parameters as leaves, and what each gradient is a sum of."""

    def __init__(self, parameters: Arrays) -> None:
        self.leaves = {n: torch.tensor(x).double().requires_grad_() for n, x in parameters.items()}
        self.terms: list[tuple[str, torch.Tensor, torch.Tensor | None]] = []

    def _kept(self, value: torch.Tensor) -> torch.Tensor:
        value.retain_grad()
        return value

    def linear(self, name: str, x: torch.Tensor) -> torch.Tensor:
        y = self._kept(x @ self.leaves[f"{name}.weight"].T + self.leaves[f"{name}.bias"])
        self.terms += [(f"{name}.weight", y, x.detach()), (f"{name}.bias", y, None)]
        return y

    def norm(self, name: str, x: torch.Tensor, epsilon: float) -> torch.Tensor:
        centred = x - x.mean(-1, keepdim=True)
        unit = centred / (centred.square().mean(-1, keepdim=True) + epsilon).sqrt()
        weight, bias = self.leaves[f"{name}.weight"], self.leaves[f"{name}.bias"]
        y = self._kept(unit * weight + bias)
        self.terms += [(f"{name}.weight", y, unit.detach()), (f"{name}.bias", y, None)]
        return y

    def rows(self, name: str, ids: torch.Tensor) -> torch.Tensor:
        y = self._kept(self.leaves[name][ids])
        width = len(self.leaves[name])
        self.terms.append((name, y, F.one_hot(ids, width).double()))
        return y

    def magnitudes(self) -> dict[str, torch.Tensor]:
        found = {name: torch.zeros_like(x) for name, x in self.leaves.items()}
        for name, y, x in self.terms:
            size = y.grad.abs()
            if x is None:
                found[name] += size.sum(0)
            elif self.leaves[name].dim() == 1:
                found[name] += (size * x.abs()).sum(0)
            elif name.startswith("bert.embeddings"):
                found[name] += x.T @ size
            else:
                found[name] += size.T @ x.abs()
        return found


def dense(
    encoder: Mapping[str, Any], parameters: Arrays, batches: Sequence[Arrays], update: int | None
) -> Dense:
    """The objective of update ``update``, or without dropout."""
    tape, total = _Tape(parameters), torch.zeros((), dtype=torch.float64)
    words = "bert.embeddings.word_embeddings.weight"
    for batch in batches:
        for row, at in sequences_of(batch):
            hidden = _sequence(tape, encoder, batch, row, at, update)
            logits = hidden @ tape.leaves[words].T + tape.leaves["cls.predictions.bias"]
            logits.retain_grad()
            # The head's use of the embedding: Gᵀ·h, with the roles of the two exchanged.
            tape.terms.append(("cls.predictions.bias", logits, None))
            tape.terms.append((words + "#", logits, hidden.detach()))
            chosen = torch.from_numpy(batch["selected"][row, at])
            targets = torch.from_numpy(batch["targets"][row, at])
            nats = logits.log_softmax(-1).gather(1, targets[:, None])[:, 0]
            total = total + torch.where(chosen, nats, 0.0).sum()
    count = sum(int(batch["selected"].sum()) for batch in batches)
    (-total / count).backward()
    uses = [term for term in tape.terms if term[0] == words + "#"]
    tape.terms = [term for term in tape.terms if term[0] != words + "#"]
    sizes = tape.magnitudes()
    for _, logits, hidden in uses:
        sizes[words] += logits.grad.abs().T @ hidden.abs()
    gradients = {name: x.grad.numpy() for name, x in tape.leaves.items()}
    return Dense(total.item(), count, gradients, {n: x.numpy() for n, x in sizes.items()})


def _sequence(
    tape: _Tape, encoder: Mapping[str, Any], batch: Arrays, row: int, at: Any, update: int | None
) -> torch.Tensor:
    """t = LN(gelu(…)) of one sequence, (T, d)."""
    epsilon = 1e-12
    hidden_p, attention_p = encoder["hidden_dropout"], encoder["attention_dropout"]

    def drop(values: torch.Tensor, site: int, layer: int, channels: Any, p: Any) -> torch.Tensor:
        if update is None or not Fraction(p):
            return values
        mask = [kept(update, site, layer, batch, row, c, channels, p) for c in at]
        return values * torch.tensor(np.array(mask)) / float(1 - Fraction(p))

    def ids(name: str) -> torch.Tensor:
        return torch.from_numpy(batch[name][row, at]).long()

    tables = {"word": "inputs", "position": "position_ids", "token_type": "token_type_ids"}
    parts = [tape.rows(f"bert.embeddings.{t}_embeddings.weight", ids(n)) for t, n in tables.items()]
    width = range(encoder["hidden_size"])
    states = tape.norm("bert.embeddings.LayerNorm", sum(parts), epsilon)
    states = drop(states, 0, 0, width, hidden_p)
    for layer in range(encoder["num_hidden_layers"]):
        name = f"bert.encoder.layer.{layer}"
        parts = [
            tape.linear(f"{name}.attention.self.{part}", states)
            for part in ("query", "key", "value")
        ]

        def dropped(values: torch.Tensor, head: int, layer: int = layer) -> torch.Tensor:
            keys = [head * 2**24 + int(j) for j in batch["position"][row, at]]
            return drop(values, 1, layer, keys, attention_p)

        context = _attention(parts, encoder["num_attention_heads"], dropped)
        added = tape.linear(f"{name}.attention.output.dense", context)
        added = states + drop(added, 2, layer, width, hidden_p)
        states = tape.norm(f"{name}.attention.output.LayerNorm", added, epsilon)
        inner = F.gelu(tape.linear(f"{name}.intermediate.dense", states))
        added = states + drop(tape.linear(f"{name}.output.dense", inner), 3, layer, width, hidden_p)
        states = tape.norm(f"{name}.output.LayerNorm", added, epsilon)
    inner = F.gelu(tape.linear("cls.predictions.transform.dense", states))
    return tape.norm("cls.predictions.transform.LayerNorm", inner, epsilon)


def _attention(
    parts: Sequence[torch.Tensor],
    heads: int,
    dropped: Callable[[torch.Tensor, int], torch.Tensor],
) -> torch.Tensor:
    found = []
    for head, (q, k, v) in enumerate(zip(*(x.chunk(heads, -1) for x in parts), strict=True)):
        shares = (q @ k.T / q.shape[-1] ** 0.5).softmax(-1)
        found.append(dropped(shares, head) @ v)
    return torch.cat(found, dim=-1)


def relative_bound(encoder: Mapping[str, Any], positions: int) -> float:
    """γ_n for the longest way of roundings through model and gradient, at u of float64.

    A product of width w adds w roundings, a LayerNorm three sums of d, a softmax two sums of what
    is seen.  The way back passes each operation twice: for its derivative, and for its own use of
    what the way forward gave.
    """
    d, inner, seen = encoder["hidden_size"], encoder["intermediate_size"], positions
    layer = 4 * d + d + inner + 2 * (3 * d) + 2 * seen + 2 * d
    whole = 6 * d + encoder["num_hidden_layers"] * layer + 4 * d + 2 * encoder["vocab_size"]
    n = 3 * whole + positions
    return n * _U / (1 - n * _U)
