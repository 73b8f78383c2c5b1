"""Cases for sessions: a small encoder, how it is trained, and the micro-batches of some updates.

A *recipe* is a size, a layout of the rows, a way to split an update into micro-batches, and where
dropout applies; the contents follow from the run's seed.  Parameters are not small: with weights of
0.02 attention is nearly uniform, and half of what an encoder can have wrong would not show.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from mlm_conformance.cases.numbers import generator
from mlm_conformance.training.names import shapes
from mlm_spec.training.config import EncoderConfig, TrainingConfig

__all__ = [
    "DROPOUTS",
    "LAYOUTS",
    "SIZES",
    "SPLITS",
    "TrainingCase",
    "TrainingRecipe",
    "training_recipes",
]

Array = NDArray[Any]
Batch = dict[str, Array]

LAYOUTS = ("padded", "packed", "full")
SPLITS = ("one", "even", "uneven", "one of none")
DROPOUTS = {"none": ("0", "0"), "hidden": ("1/10", "0"), "everywhere": ("1/8", "1/5")}
#: L, d, H, V, F.
SIZES = ((0, 8, 1, 20, 8), (1, 8, 2, 31, 16), (2, 16, 4, 40, 24), (2, 32, 4, 100, 64))
SPREAD = 0.2  # of matrices, times 1/√d
TABLES = {
    "bert.embeddings.word_embeddings.weight": 0.2,
    "bert.embeddings.position_embeddings.weight": 0.4,
    "bert.embeddings.token_type_embeddings.weight": 0.4,
}
#: The first is BERT's; the others show where ε stands.
EPSILONS = dict(zip(SIZES, (1e-12, 1e-2, 1e-5, 1e-12), strict=True))
#: Few encoders, so that a compiling backend compiles few programs: the dropouts of each size.
KINDS = {
    SIZES[0]: ("none", "hidden"),
    SIZES[1]: ("none", "hidden", "everywhere"),
    SIZES[2]: ("none", "hidden"),
    SIZES[3]: ("none", "everywhere"),
}
_POSITIONS = 24
_TYPES = 2


@dataclass(frozen=True, slots=True)
class TrainingCase:
    """A run from its start.

    Attributes
    ----------
    encoder, training : configurations as plain data.
    parameters : by name, float64.
    updates : for each update its micro-batches, each the arrays of a `TrainingBatch` by name.
    salt : seeds what a theorem chooses.
    """

    encoder: dict[str, Any]
    training: dict[str, Any]
    parameters: dict[str, Array]
    updates: list[list[Batch]]
    salt: int = 0
    about: str = ""

    @property
    def config(self) -> EncoderConfig:
        """The encoder's configuration."""
        return EncoderConfig.from_mapping(self.encoder)

    @property
    def plan(self) -> TrainingConfig:
        """The configuration of the training."""
        return TrainingConfig.from_mapping(self.training)

    def __str__(self) -> str:
        e = self.config
        size = f"L={e.num_hidden_layers} d={e.hidden_size} H={e.num_attention_heads}"
        splits = ", ".join(f"{len(update)} micro-batches" for update in self.updates[:1])
        return f"{size} V={e.vocab_size} {splits} {self.about}".strip()


@dataclass(frozen=True, slots=True)
class TrainingRecipe:
    """What a `TrainingCase` is made from."""

    size: tuple[int, int, int, int, int]
    layout: str
    split: str
    dropout: str
    seed: int
    updates: int = 1
    max_grad_norm: float | None = 1.0
    schedule: str = "linear"
    rows: int = 4
    columns: int = 12

    def build(self, run_seed: int) -> TrainingCase:
        """The case; equal recipes and run seeds give equal cases."""
        rng = generator(run_seed, self.seed)
        encoder, training = self._encoder(), self._training(rng)
        maker = _Rows(rng, self.size[3], self.columns, self.layout)
        updates = [self._update(maker) for _ in range(self.updates)]
        about = f"{self.layout}, split: {self.split}, dropout: {self.dropout}"
        plain = encoder.to_mapping(), training.to_mapping()
        return TrainingCase(*plain, _parameters(rng, encoder), updates, self.seed, about)

    def _encoder(self) -> EncoderConfig:
        layers, width, heads, vocab, inner = self.size
        hidden, attention = DROPOUTS[self.dropout]
        return EncoderConfig(
            vocab, width, layers, heads, inner, _POSITIONS, _TYPES,
            layer_norm_eps=EPSILONS[self.size],
            hidden_dropout=hidden, attention_dropout=attention,
        )  # fmt: skip

    def _training(self, rng: np.random.Generator) -> TrainingConfig:
        return TrainingConfig(
            learning_rate=1e-2,
            warmup_updates=3,
            total_updates=40,
            schedule="constant" if self.schedule == "constant" else "linear",
            weight_decay=0.1,
            max_grad_norm=self.max_grad_norm,
            seed=int(rng.integers(2**64, dtype=np.uint64)),
            precision="float64",
        )

    def _update(self, maker: _Rows) -> list[Batch]:
        cuts = {"one": [4], "even": [2, 2], "uneven": [1, 3], "one of none": [2, 2]}[self.split]
        counts = [self.rows * part // 4 for part in cuts]
        # Unequal numbers of selected positions, or a mean of means would be right.
        rates = np.linspace(0.5, 0.2, len(counts))
        batches = [maker.batch(n, rate) for n, rate in zip(counts, rates, strict=True)]
        if self.split == "one of none":
            batches[0]["selected"][:] = False
        return batches


@dataclass(slots=True)
class _Rows:
    """Makes micro-batches; no sequence has the id of another."""

    rng: np.random.Generator
    vocab: int
    columns: int
    layout: str
    made: int = 0

    def batch(self, rows: int, rate: float) -> Batch:
        """With at least one position selected."""
        rng, shape = self.rng, (rows, self.columns)
        sequence, position = self._places(rows)
        real = sequence >= 0
        tokens = rng.integers(self.vocab, size=shape).astype(np.int32)
        selected = real & (rng.random(shape) < rate)
        selected[tuple(np.argwhere(real)[rng.integers(real.sum())])] = True
        corrupted = selected & (rng.random(shape) < 0.9)
        # What is predicted and shown as it was: never left to luck, as long as others are not.
        if selected.sum() > 2:
            corrupted[tuple(np.argwhere(selected)[-1])] = False
        shown = np.where(corrupted, rng.integers(self.vocab, size=shape), tokens)
        return {
            "inputs": shown.astype(np.int32),
            "targets": tokens,
            "selected": selected,
            "attention_mask": real,
            "token_type_ids": rng.integers(_TYPES, size=shape).astype(np.int32),
            "position_ids": np.where(real, position, rng.integers(_POSITIONS, size=shape)).astype(
                np.int32
            ),
            "sequence_id": self._ids(sequence),
            "position": np.where(real, position + 5 * (sequence % 3), 0).astype(np.uint32),
        }

    def _places(self, rows: int) -> tuple[Array, Array]:
        """The number of the sequence at each position, -1 at padding, and the place in it."""
        sequence = np.full((rows, self.columns), -1)
        position = np.zeros((rows, self.columns), np.int64)
        for row in range(rows):
            start = 0
            for length in self._lengths():
                sequence[row, start : start + length] = self.made
                position[row, start : start + length] = np.arange(length)
                start += length
                self.made += 1
        return sequence, position

    def _lengths(self) -> list[int]:
        """Of the sequences in a row."""
        if self.layout == "full":
            return [self.columns]
        length = int(self.rng.integers(2, self.columns))
        if self.layout == "padded":
            return [length]
        rest = self.columns - length
        return [length, int(self.rng.integers(1, rest + 1))]

    def _ids(self, sequence: Array) -> Array:
        """Two words each, the high one in use; garbage at padding."""
        ids = np.stack([sequence * 7 + 3, (sequence % 5) * 2**27], axis=-1)
        garbage = self.rng.integers(100, size=ids.shape)
        return np.where((sequence >= 0)[..., None], ids, garbage).astype(np.uint32)


def _parameters(rng: np.random.Generator, encoder: EncoderConfig) -> dict[str, Array]:
    """Weights of a spread that keeps activations near 1; LayerNorm near its start."""
    found = {}
    for name, shape in shapes(encoder).items():
        drawn = rng.normal(size=shape)
        if name.endswith("LayerNorm.weight"):
            found[name] = 1.0 + 0.1 * drawn
        elif len(shape) == 1:
            found[name] = 0.2 * drawn
        else:
            found[name] = drawn * (TABLES.get(name, SPREAD / np.sqrt(shape[1])))
    return found


def training_recipes(
    layouts: tuple[str, ...] = LAYOUTS,
    splits: tuple[str, ...] = SPLITS,
    dropouts: tuple[str, ...] = tuple(DROPOUTS),
    sizes: tuple[tuple[int, int, int, int, int], ...] = SIZES,
    **about: Any,
) -> tuple[st.SearchStrategy[TrainingRecipe], tuple[TrainingRecipe, ...]]:
    """A strategy, and the recipes that are always in: each size, layout, split and dropout."""
    pairs = [(s, d) for s in sizes for d in dropouts if d in KINDS[s]]
    strategy = st.builds(
        lambda pair, layout, split, seed: TrainingRecipe(
            pair[0], layout, split, pair[1], seed, **about
        ),
        st.sampled_from(pairs),
        st.sampled_from(layouts),
        st.sampled_from(splits),
        st.integers(0, 2**32 - 1),
    )
    count = max(map(len, (layouts, splits, pairs)))
    dealt = [
        (pairs[-1 - i % len(pairs)], layouts[i % len(layouts)], splits[i % len(splits)], i)
        for i in range(count)
    ]
    return strategy, tuple(
        TrainingRecipe(pair[0], layout, split, pair[1], i, **about)
        for pair, layout, split, i in dealt
    )
