"""What a training run is told: frozen, validated data (chapters ENC, OPT and TRN).

An `EncoderConfig` says which encoder, a `TrainingConfig` how it is updated.  Nothing here computes
anything of a run but its learning rates.

>>> encoder = EncoderConfig(vocab_size=30522, hidden_size=64, num_hidden_layers=2,
...                         num_attention_heads=4, intermediate_size=256)
>>> EncoderConfig.from_mapping(encoder.to_mapping()) == encoder
True
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from fractions import Fraction
from typing import Any, Literal, SupportsIndex

from mlm_spec.errors import ConfigError

__all__ = ["EncoderConfig", "Precision", "Schedule", "TrainingConfig"]

Exact = Fraction | int | str
Precision = Literal["float64", "float32", "bfloat16", "float16"]
Schedule = Literal["linear", "constant"]

_PRECISIONS = ("float64", "float32", "bfloat16", "float16")
_SCHEDULES = ("linear", "constant")
_MOST = 2**31 - 1
_LARGEST_SEED = 2**64 - 1


@dataclass(frozen=True, slots=True)
class EncoderConfig:
    """Which encoder: BERT (Devlin et al. 2018) with the masked-language-model head.

    The names are those that checkpoints of BERT use.

    Parameters
    ----------
    vocab_size : V.
    hidden_size : d, a multiple of the number of heads.
    num_hidden_layers, num_attention_heads, intermediate_size : of the layers.
    max_position_embeddings, type_vocab_size : rows of the position and the token-type table.
    layer_norm_eps : added to the variance, inside the square root.
    hidden_dropout, attention_dropout : exact probabilities below 1.
    initializer_range : the standard deviation of initial weights.

    Raises
    ------
    ConfigError : a field that has no meaning.
    """

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    layer_norm_eps: float = 1e-12
    hidden_dropout: Fraction | str | int = "1/10"
    attention_dropout: Fraction | str | int = "1/10"
    initializer_range: float = 0.02

    def __post_init__(self) -> None:
        for name in ("vocab_size", "hidden_size", "num_attention_heads", "intermediate_size",
                     "max_position_embeddings", "type_vocab_size"):  # fmt: skip
            _set(self, name, _integer(f"encoder.{name}", getattr(self, name), 1, _MOST))
        layers = _integer("encoder.num_hidden_layers", self.num_hidden_layers, 0, _MOST)
        _set(self, "num_hidden_layers", layers)
        for name in ("layer_norm_eps", "initializer_range"):
            _set(self, name, _positive(f"encoder.{name}", getattr(self, name)))
        for name in ("hidden_dropout", "attention_dropout"):
            _set(self, name, _dropout(f"encoder.{name}", getattr(self, name)))
        if self.hidden_size % self.num_attention_heads:
            raise ConfigError(
                "encoder.hidden_size",
                self.hidden_size,
                f"a multiple of num_attention_heads, {self.num_attention_heads}",
            )

    @property
    def head_size(self) -> int:
        """Hidden units of one attention head."""
        return self.hidden_size // self.num_attention_heads

    def to_mapping(self) -> dict[str, Any]:
        """The fields as plain data (JSON), fractions as text.  `from_mapping` reads it back."""
        return _plain(self)

    @classmethod
    def from_mapping(cls, given: Mapping[str, Any]) -> EncoderConfig:
        """From plain data; unknown and missing fields are a `ConfigError`."""
        return cls(**_known("encoder", cls, given))


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """How an encoder is updated: AdamW with decoupled decay, clipping, warm-up and decay.

    Parameters
    ----------
    learning_rate : η, that of the last update of the warm-up.
    warmup_updates : W, 0 or more.
    total_updates : M, at least W and 1.
    schedule : what follows the warm-up: ``"linear"``, down to η / (M + 1 − W) at update M, or
        ``"constant"``.
    beta1, beta2 : of the moments, in [0, 1).
    epsilon : added to the root of the second moment, above 0.
    weight_decay : λ, of matrices, 0 or more.
    max_grad_norm : the global norm that gradients are clipped to, or None.
    seed : of masks and dropout, in 0 .. 2⁶⁴ − 1.
    precision : in which the encoder computes; below float32 its parameters are kept in float32.

    Raises
    ------
    ConfigError : a field that has no meaning.
    """

    learning_rate: float
    warmup_updates: int
    total_updates: int
    schedule: Schedule = "linear"
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-6
    weight_decay: float = 0.01
    max_grad_norm: float | None = 1.0
    seed: int = 0
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        for name in ("learning_rate", "epsilon"):
            _set(self, name, _positive(f"training.{name}", getattr(self, name)))
        if self.max_grad_norm is not None:
            _set(self, "max_grad_norm", _positive("training.max_grad_norm", self.max_grad_norm))
        for name in ("beta1", "beta2"):
            _set(self, name, _number(f"training.{name}", getattr(self, name), below=1.0))
        _set(self, "weight_decay", _number("training.weight_decay", self.weight_decay))
        total = _integer("training.total_updates", self.total_updates, 1, _MOST)
        _set(self, "total_updates", total)
        warmup = _integer("training.warmup_updates", self.warmup_updates, 0, total)
        _set(self, "warmup_updates", warmup)
        _set(self, "seed", _integer("training.seed", self.seed, 0, _LARGEST_SEED))
        _choice("training.schedule", self.schedule, _SCHEDULES)
        _choice("training.precision", self.precision, _PRECISIONS)

    def to_mapping(self) -> dict[str, Any]:
        """The fields as plain data (JSON).  `from_mapping` reads it back."""
        return _plain(self)

    @classmethod
    def from_mapping(cls, given: Mapping[str, Any]) -> TrainingConfig:
        """From plain data; unknown and missing fields are a `ConfigError`."""
        return cls(**_known("training", cls, given))


def _set(config: object, name: str, value: object) -> None:
    object.__setattr__(config, name, value)


def _integer(where: str, value: object, low: int, high: int) -> int:
    """An integer, NumPy's included, as Python's; never a truth value."""
    if isinstance(value, int | SupportsIndex) and type(value).__name__ != "bool":
        number = operator.index(value)
        if low <= number <= high:
            return number
    raise ConfigError(where, repr(value), f"an integer in {low}..{high}")


def _number(where: str, value: object, below: float = math.inf) -> float:
    """A finite number, 0 or more."""
    number = _float(where, value)
    if not 0.0 <= number < below:
        raise ConfigError(where, repr(value), f"a number, 0 or more and below {below}")
    return number


def _positive(where: str, value: object) -> float:
    number = _float(where, value)
    if not 0.0 < number < math.inf:
        raise ConfigError(where, repr(value), "a finite number above 0")
    return number


def _float(where: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(where, f"{value!r} ({type(value).__name__})", "a number")
    return float(value)


def _dropout(where: str, value: object) -> Fraction:
    """An exact probability below 1.  Floats are refused: 0.1 is not 1/10."""
    if isinstance(value, Fraction | int | str) and not isinstance(value, bool):
        try:
            exact = Fraction(value)
        except (ValueError, ZeroDivisionError):
            exact = Fraction(-1)
        if 0 <= exact < 1:
            return exact
    raise ConfigError(where, repr(value), "an exact fraction in [0, 1), such as '1/10'")


def _choice(where: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(where, repr(value), "one of " + ", ".join(allowed))


def _plain(config: Any) -> dict[str, Any]:
    found = {field.name: getattr(config, field.name) for field in fields(config)}
    return {n: str(v) if isinstance(v, Fraction) else v for n, v in found.items()}


def _known(where: str, kind: Any, given: object) -> dict[str, Any]:
    """The fields of a mapping, if they are the fields of ``kind``."""
    if not isinstance(given, Mapping):
        raise ConfigError(where, repr(given), "a mapping of fields")
    names = [field.name for field in fields(kind)]
    missing = [f.name for f in fields(kind) if f.default is MISSING and f.name not in given]
    unknown = [str(name) for name in given if name not in names]
    if missing:
        raise ConfigError(where, "without " + ", ".join(missing), "all fields without a default")
    if unknown:
        raise ConfigError(where, "with " + ", ".join(unknown), "only " + ", ".join(names))
    return dict(given)
