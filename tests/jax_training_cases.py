"""What the tests of training in JAX share: a small encoder, batches, and how they are compared."""

from __future__ import annotations

from typing import Any

import numpy as np
from jax_cases import PORT
from mlm_jax.training.parameters import shapes

from mlm_spec.policy import Bernoulli, Corruption, MaskingPolicy
from mlm_spec.training.config import EncoderConfig, TrainingConfig

__all__ = [
    "ENCODER",
    "POLICY",
    "STILL",
    "TRAINING",
    "V",
    "assert_same_state",
    "batch",
    "bound",
    "open_session",
    "parameters",
    "tokens",
]

V, T, PAD = 23, 10, 0
ENCODER = EncoderConfig(
    vocab_size=V,
    hidden_size=8,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=12,
    max_position_embeddings=16,
)
STILL = EncoderConfig.from_mapping(
    {**ENCODER.to_mapping(), "hidden_dropout": 0, "attention_dropout": 0}
)
TRAINING = TrainingConfig(
    learning_rate=1e-2, warmup_updates=2, total_updates=9, seed=2**35 + 3, precision="float64"
)
POLICY = MaskingPolicy(
    Bernoulli("2/5"),
    Corruption("1/3", "1/3", "1/3"),
    vocab_size=V,
    mask_id=4,
    pad_id=PAD,
    special_ids=(0, 1, 2, 3, 4),
)


def parameters(seed: int = 0, scale: float = 0.3) -> dict[str, np.ndarray]:
    """Random throughout: a bias of zeros would hide that nobody adds it."""
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=s, scale=scale) for name, s in shapes(ENCODER).items()}


def open_session(
    encoder: EncoderConfig = ENCODER, given: dict[str, np.ndarray] | None = None, **changes: Any
) -> Any:
    training = {**TRAINING.to_mapping(), **changes}
    held = parameters() if given is None else given
    return PORT.session(
        encoder=encoder.to_mapping(), training=training, parameters=held, policy=POLICY
    )


def batch(rows: int, seed: int, real: int | None = None) -> dict[str, Any]:
    """Rows of one sequence each; the last columns are padding."""
    rng, shape = np.random.default_rng(seed), (rows, T)
    held = rng.integers(3, T + 1, rows) if real is None else np.full(rows, real)
    attention_mask = np.arange(T) < held[:, None]
    words = rng.integers(2**32, size=(rows, 1, 2), dtype=np.uint32)
    return {
        "inputs": rng.integers(V, size=shape),
        "targets": rng.integers(V, size=shape),
        "selected": attention_mask & (rng.random(shape) < 0.5),
        "attention_mask": attention_mask,
        "token_type_ids": rng.integers(2, size=shape),
        "position_ids": np.broadcast_to(np.arange(T), shape).copy(),
        "sequence_id": np.broadcast_to(words, (*shape, 2)).copy(),
        "position": np.broadcast_to(np.arange(T, dtype=np.uint32), shape).copy(),
    }


def tokens(rows: int, seed: int) -> dict[str, Any]:
    """The same rows, to be masked inside the step."""
    held = batch(rows, seed)
    rest = {n: x for n, x in held.items() if n not in ("inputs", "targets", "selected")}
    ids = np.where(held["attention_mask"], 5 + held["inputs"] % (V - 5), PAD)
    return {"tokens": ids, "word_id": None, "eligible": held["attention_mask"], "epoch": 7, **rest}


def bound(gradients: dict[str, np.ndarray]) -> float:
    """How far one order of summation may be from another, for any entry of a gradient.

    A rounding moves an entry by at most u times what flows through the place where it happens, and
    no more flows there than all magnitudes together.  The longest path through the encoder, there
    and back, passes n sums.
    """
    d, inner = ENCODER.hidden_size, ENCODER.intermediate_size
    layer = 5 * d + 2 * inner + 2 * T + 4 * d
    n = 2 * (ENCODER.num_hidden_layers * layer + 6 * d + V) + 4 * T
    unit = float(np.finfo(np.float64).eps) / 2
    return n * unit / (1 - n * unit) * sum(float(np.abs(g).sum()) for g in gradients.values())


def assert_same_state(one: Any, other: Any) -> None:
    """Two sessions, or two moments of one, bit for bit."""
    (params, state), (params_, state_) = one, other
    assert state["update"] == state_["update"]
    assert state["loss_scale"] == state_["loss_scale"]
    pairs = ((params, params_), *((state[k], state_[k]) for k in ("exp_avg", "exp_avg_sq")))
    for held, wanted in pairs:
        assert held.keys() == wanted.keys()
        for name, array in held.items():
            np.testing.assert_array_equal(array, wanted[name], err_msg=name)
