"""What a run is told, with sizes of models that have a name, as configurations of a session."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from types import MappingProxyType
from typing import Any

from mlm_conformance.outcomes import BadCallError
from mlm_conformance.train.vocabulary import special_ids
from mlm_spec.policy import MaskingPolicy
from mlm_spec.presets import PRESETS
from mlm_spec.training.config import EncoderConfig, TrainingConfig

__all__ = [
    "SIZES", "Rhythm", "Settings", "recorded_rhythm", "recorded_settings", "settings_from",
    "usual_rhythm",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Settings:
    """What makes a run what it is: with the same settings and text, the same run.

    Attributes
    ----------
    preset : the size of the encoder, by name (`SIZES`).
    vocabulary : at most so many tokens.
    length : T, tokens of a sequence with ``[CLS]`` and ``[SEP]``.
    batch : sequences of an update.
    micro_batch : sequences that are computed at once.
    updates, warmup, learning_rate : M, W and η of the linear schedule.
    dropout : of hidden states, an exact fraction.
    precision, seed : as in `TrainingConfig`.
    masking : the name of a masking policy, in `mlm_spec.presets`.
    held_out : at most so many sequences are evaluated on.
    text : the files; empty: the prose of the Python installation.
    """

    preset: str = "tiny"
    vocabulary: int = 2048
    length: int = 64
    batch: int = 32
    micro_batch: int = 32
    updates: int = 600
    warmup: int = 60
    learning_rate: float = 2e-3
    dropout: str = "0"
    precision: str = "float32"
    seed: int = 0
    masking: str = "bert"
    held_out: int = 256
    text: tuple[str, ...] = ()

    def encoder(self, vocab_size: int) -> EncoderConfig:
        """The encoder.  Attention probabilities are not dropped: fused attention cannot."""
        return EncoderConfig(
            vocab_size=vocab_size,
            max_position_embeddings=self.length,
            hidden_dropout=self.dropout,
            attention_dropout=0,
            **_SHAPES[self.preset],
        )

    def training(self) -> TrainingConfig:
        """How it is updated; what is not named here is as `TrainingConfig` has it."""
        return TrainingConfig(
            learning_rate=self.learning_rate,
            warmup_updates=self.warmup,
            total_updates=self.updates,
            seed=self.seed,
            precision=self.precision,  # type: ignore[arg-type]  # TrainingConfig checks it
        )

    def policy(self, vocab_size: int) -> MaskingPolicy:
        """How tokens are masked."""
        return PRESETS[self.masking](vocab_size, **special_ids())

    def to_mapping(self) -> dict[str, Any]:
        """Plain data (JSON)."""
        return asdict(self) | {"text": list(self.text)}


@dataclass(frozen=True, slots=True)
class Rhythm:
    """After how many updates each time a run is evaluated, and a checkpoint is written."""

    evaluate: int
    checkpoint: int = 100

    def changed(self, evaluate: int | None, checkpoint: int | None) -> Rhythm:
        """With what was given in place of its own."""
        return Rhythm(evaluate or self.evaluate, checkpoint or self.checkpoint)

    def to_mapping(self) -> dict[str, int]:
        """Plain data (JSON)."""
        return asdict(self)


def usual_rhythm(settings: Settings) -> Rhythm:
    """An evaluation after each tenth of the updates."""
    return Rhythm(max(1, settings.updates // 10))


_SHAPES: Mapping[str, dict[str, Any]] = MappingProxyType(
    {
        "tiny": {
            "hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2,
            "intermediate_size": 512,
        },
        "small": {
            "hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4,
            "intermediate_size": 1024,
        },
        "base": {
            "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
            "intermediate_size": 3072,
        },
    }
)  # fmt: skip

SIZES: Mapping[str, Settings] = MappingProxyType(
    {
        "tiny": Settings(),
        "small": Settings(
            preset="small", vocabulary=8192, length=128, batch=64, updates=10_000, warmup=1000,
            learning_rate=5e-4, dropout="1/10",
        ),
        "base": Settings(
            preset="base", vocabulary=30_522, length=128, batch=256, updates=100_000,
            warmup=10_000, learning_rate=1e-4, dropout="1/10",
        ),
    }
)  # fmt: skip
"""The settings that a preset stands for, each of which an option can replace."""


def settings_from(given: Mapping[str, Any]) -> Settings:
    """The settings of a preset with what was given in place of its own.

    What only follows from others follows from what was given: a warm-up is at most a tenth of the
    updates, and a micro-batch at most the batch.

    Raises
    ------
    BadCallError : settings that do not go together.
    """
    size = SIZES[given.get("preset", "tiny")]
    made = replace(size, **given)
    if "warmup" not in given:
        made = replace(made, warmup=min(size.warmup, made.updates // 10))
    if "micro_batch" not in given:
        made = replace(made, micro_batch=min(size.micro_batch, made.batch))
    for name, least, most in (("length", 3, None), ("warmup", 0, made.updates),
                              ("micro_batch", 1, made.batch)):  # fmt: skip
        value = getattr(made, name)
        if value < least or (most is not None and value > most):
            room = f"{least} or more" if most is None else f"{least}..{most}"
            raise BadCallError(f"--{name.replace('_', '-')} is {value}; expected {room}")
    return made


def recorded_settings(mapping: Mapping[str, Any]) -> Settings:
    """The way back from `Settings.to_mapping`.

    Raises
    ------
    BadCallError : other fields than those of settings.
    """
    names = {field.name for field in fields(Settings)}
    if set(mapping) != names:
        raise BadCallError(
            f"the recorded settings are {', '.join(sorted(mapping))}; "
            f"expected {', '.join(sorted(names))}"
        )
    return Settings(**{**mapping, "text": tuple(mapping["text"])})


def recorded_rhythm(mapping: Any) -> Rhythm:
    """The way back from `Rhythm.to_mapping`.

    Raises
    ------
    BadCallError : something else.
    """
    names = [field.name for field in fields(Rhythm)]
    known = isinstance(mapping, dict) and sorted(mapping) == sorted(names)
    if known and all(type(value) is int and value > 0 for value in mapping.values()):
        return Rhythm(**mapping)
    raise BadCallError(
        f"the recorded numbers of updates are {str(mapping)[:200]}; "
        f"expected {' and '.join(names)}, each an integer from 1 on"
    )
