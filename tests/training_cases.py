"""What the tests of training share: a tiny encoder, batches for it, and a corpus of sequences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from mlm_spec.policy import Bernoulli, Corruption, MaskingPolicy
from mlm_spec.random_words import split_words
from mlm_spec.training.batch import TrainingBatch
from mlm_spec.training.checkpoint import Checkpoint
from mlm_spec.training.config import EncoderConfig, TrainingConfig
from mlm_spec.training.order import sequences_at
from mlm_spec.training.parameters import initial_parameters
from mlm_spec.training.session import Session, session
from mlm_spec.training.state import TrainingState, initial_state
from mlm_spec.training.update import update

__all__ = [
    "ENCODER",
    "POLICY",
    "TRAINING",
    "batch_of",
    "content",
    "corpus_batches",
    "rows",
    "same",
    "started",
    "step",
    "tokens_of",
    "trained",
]

ENCODER = EncoderConfig(
    vocab_size=17, hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
    intermediate_size=12, max_position_embeddings=16, initializer_range=0.3,
)  # fmt: skip
TRAINING = TrainingConfig(
    learning_rate=1e-2, warmup_updates=4, total_updates=40, seed=5, precision="float64"
)
POLICY = MaskingPolicy(
    Bernoulli("2/5"), Corruption("4/5", "1/10", "1/10"), vocab_size=17, mask_id=4, pad_id=0,
    special_ids=(1, 2, 3, 4),
)  # fmt: skip


def batch_of(seed: int, rows: int = 5, columns: int = 9) -> TrainingBatch:
    """Rows of different lengths, a sequence each, with some positions selected."""
    rng = np.random.default_rng(seed)
    shape = (rows, columns)
    length = rng.integers(2, columns + 1, rows)
    real = np.arange(columns) < length[:, None]
    targets = rng.integers(5, ENCODER.vocab_size, shape) * real
    selected = (rng.random(shape) < 0.4) & real
    places = np.broadcast_to(np.arange(columns), shape)
    return TrainingBatch(
        inputs=np.where(selected, 4, targets),
        targets=targets,
        selected=selected,
        attention_mask=real,
        token_type_ids=rng.integers(0, 2, shape) * real,
        position_ids=places.astype(np.int64),
        sequence_id=split_words(np.broadcast_to((seed * 100 + np.arange(rows))[:, None], shape)),
        position=places.astype(np.uint32),
    )


def rows(batch: TrainingBatch, part: Any) -> TrainingBatch:
    """Some of a batch's rows."""
    return TrainingBatch(*(field[part] for field in batch))


def tokens_of(numbers: np.ndarray, epoch: int, columns: int = 9) -> dict[str, Any]:
    """The sequences with these numbers, unmasked: what each holds follows from its number."""
    parts = [np.random.default_rng(int(n)) for n in numbers]
    length = np.array([rng.integers(4, columns + 1) for rng in parts])
    drawn = np.array([rng.integers(5, ENCODER.vocab_size, columns) for rng in parts])
    real = np.arange(columns) < length[:, None]
    places = np.broadcast_to(np.arange(columns), real.shape)
    return {
        "tokens": np.where(real, drawn, 0),
        "word_id": None,
        "eligible": real,
        "epoch": epoch,
        "attention_mask": real,
        "token_type_ids": np.zeros(real.shape, np.int64),
        "position_ids": places.astype(np.int64),
        "sequence_id": split_words(np.broadcast_to(numbers[:, None], real.shape)),
        "position": places.astype(np.uint32),
    }


def corpus_batches(position: int, number: int = 4, count: int = 11) -> Iterator[dict[str, Any]]:
    """The micro-batches of the update that starts at ``position``: one an epoch."""
    for epoch, numbers in sequences_at(position, number, count, TRAINING.seed):
        yield tokens_of(numbers, epoch)


def trained(updates: int = 3, **changes: Any) -> Checkpoint:
    """A checkpoint of a run, with something in every part of it."""
    training = replace(TRAINING, **changes)
    state = initial_state(initial_parameters(ENCODER, 1), ENCODER, training)
    for _ in range(updates):
        state, _ = update(state, corpus_batches(state.position), ENCODER, training, POLICY)
    return Checkpoint(state, ENCODER, training, POLICY)


def same(a: TrainingState, b: TrainingState) -> bool:
    groups = ("parameters", "exp_avg", "exp_avg_sq")
    numbers = ("update", "loss_scale", "position")
    return all(getattr(a, n) == getattr(b, n) for n in numbers) and all(
        list(getattr(a, g)) == list(getattr(b, g))
        and all(
            x.dtype == y.dtype and x.tobytes() == y.tobytes()
            for x, y in zip(getattr(a, g).values(), getattr(b, g).values(), strict=True)
        )
        for g in groups
    )


def started(seed: int = 1, **changes: Any) -> Session:
    training = replace(TRAINING, **changes)
    return session(
        ENCODER.to_mapping(), training.to_mapping(), initial_parameters(ENCODER, seed), POLICY
    )


def step(run: Session) -> Mapping[str, Any]:
    return run.step(corpus_batches(run.state()["position"]))


def content(run: Session) -> list[Any]:
    state = run.state()
    arrays = [run.parameters(), state.pop("exp_avg"), state.pop("exp_avg_sq")]
    return [state, *({n: a.tobytes() for n, a in group.items()} for group in arrays)]
