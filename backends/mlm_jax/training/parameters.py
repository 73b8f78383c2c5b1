"""The encoder's parameters: a flat mapping of names to arrays, which JAX takes as a pytree.

The names are those of BERT's checkpoints.  The output layer has no matrix of its own: it is the
embedding of the tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from mlm_jax.checking import FLOATS
from mlm_spec.errors import ConfigError, DTypeError, InputError, NotFiniteError, ShapeError
from mlm_spec.training.config import EncoderConfig

__all__ = [
    "LAYER",
    "OUTPUT_BIAS",
    "WORDS",
    "Parameters",
    "check_parameters",
    "layer_names",
    "shapes",
]

Parameters = dict[str, jax.Array]

WORDS = "bert.embeddings.word_embeddings.weight"
LAYER = "bert.encoder.layer."
OUTPUT_BIAS = "cls.predictions.bias"


def shapes(encoder: EncoderConfig) -> dict[str, tuple[int, ...]]:
    """The shape of each parameter, by name, in the order of the forward pass."""
    width, tables = encoder.hidden_size, "bert.embeddings."
    found: dict[str, tuple[int, ...]] = {
        WORDS: (encoder.vocab_size, width),
        f"{tables}position_embeddings.weight": (encoder.max_position_embeddings, width),
        f"{tables}token_type_embeddings.weight": (encoder.type_vocab_size, width),
        **_norm(f"{tables}LayerNorm", width),
    }
    for number in range(encoder.num_hidden_layers):
        found |= {f"{LAYER}{number}.{n}": s for n, s in layer_shapes(encoder).items()}
    transform = "cls.predictions.transform."
    found |= _linear(f"{transform}dense", width, width) | _norm(f"{transform}LayerNorm", width)
    return {**found, OUTPUT_BIAS: (encoder.vocab_size,)}


def layer_shapes(encoder: EncoderConfig) -> dict[str, tuple[int, ...]]:
    """The shapes of one layer, by the names within it."""
    width, inner = encoder.hidden_size, encoder.intermediate_size
    found: dict[str, tuple[int, ...]] = {}
    for name in ("query", "key", "value"):
        found |= _linear(f"attention.self.{name}", width, width)
    return {
        **found,
        **_linear("attention.output.dense", width, width),
        **_norm("attention.output.LayerNorm", width),
        **_linear("intermediate.dense", inner, width),
        **_linear("output.dense", width, inner),
        **_norm("output.LayerNorm", width),
    }


def layer_names(encoder: EncoderConfig) -> list[str]:
    """The names within a layer."""
    return list(layer_shapes(encoder))


def check_parameters(
    given: Mapping[str, Any], encoder: EncoderConfig, dtype: Any, name: str = "parameters"
) -> dict[str, np.ndarray]:
    """The parameters as arrays of ``dtype`` of their own, in the order of `shapes`.

    Raises
    ------
    ConfigError : a parameter that is missing, or that the encoder does not have.
    DTypeError, ShapeError, NotFiniteError : one of another kind or shape, or with an entry that is
        not finite in ``dtype``.
    InputError : no mapping.
    """
    if not isinstance(given, Mapping):
        raise InputError(name, f"a {type(given).__name__}", "a mapping of names to arrays")
    wanted = shapes(encoder)
    missing, unknown = wanted.keys() - given.keys(), given.keys() - wanted.keys()
    if missing or unknown:
        got = f"without {sorted(missing)[0]!r}" if missing else f"with {sorted(unknown)[0]!r}"
        raise ConfigError(name, got, f"the {len(wanted)} parameters of the encoder")
    return {key: _checked(f"{name}[{key!r}]", given[key], wanted[key], dtype) for key in wanted}


def _checked(where: str, value: Any, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    if not isinstance(value, np.ndarray | jax.Array):
        raise DTypeError(where, f"a {type(value).__name__}", "an array of " + " or ".join(FLOATS))
    if value.dtype.name not in FLOATS:
        raise DTypeError(where, f"of dtype {value.dtype.name}", " or ".join(FLOATS))
    if value.shape != shape:
        raise ShapeError(where, f"of shape {value.shape}", f"shape {shape}")
    with np.errstate(over="ignore"):  # looked at right below
        kept = np.array(value, dtype)
    if not np.isfinite(kept).all():
        raise NotFiniteError(where, "not finite throughout", f"finite numbers in {dtype}")
    return kept


def _linear(name: str, out: int, into: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (out, into), f"{name}.bias": (out,)}


def _norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}
