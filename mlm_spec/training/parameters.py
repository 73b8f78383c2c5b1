"""The parameters of the encoder and its head: names, shapes, first values (chapter ENC).

The names and shapes are those of a checkpoint of BERT with its masked-language-model head, so that
weights move both ways.  The output layer has no weight of its own: it is that of the word
embeddings (tied), and `with_tied_copies` writes it a second time for those who expect it there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_spec.checking import FLOATS, check_array, check_finite, check_seed
from mlm_spec.errors import ConfigError, InputError
from mlm_spec.random_words import threefry4x32
from mlm_spec.training.config import EncoderConfig
from mlm_spec.training.layers import Floats

__all__ = [
    "BIAS",
    "WORDS",
    "checked",
    "initial_parameters",
    "layer_name",
    "pair",
    "shapes",
    "with_tied_copies",
    "without_tied_copies",
]

WORDS = "bert.embeddings.word_embeddings.weight"
"""The table of word embeddings, which is the output layer's weight too."""

BIAS = "cls.predictions.bias"
"""The bias of the output layer."""

_COPIES = {"cls.predictions.decoder.weight": WORDS, "cls.predictions.decoder.bias": BIAS}
# Of checkpoints with more than this model has: the pooler, the next-sentence head, a counter.
_OTHERS = ("bert.pooler.", "cls.seq_relationship.", "bert.embeddings.position_ids")

_TAG = 0x4D4C4D00  # as in `mlm_spec.random_words`
_STREAM = 5  # of initial values
_MASK = 0xFFFFFFFF


def layer_name(layer: int) -> str:
    """What the names of a layer's parameters begin with; layers count from 0."""
    return f"bert.encoder.layer.{layer}."


def pair(parameters: Mapping[str, Floats], name: str) -> tuple[Floats, Floats]:
    """A weight and its bias."""
    return parameters[f"{name}.weight"], parameters[f"{name}.bias"]


def shapes(config: EncoderConfig) -> dict[str, tuple[int, ...]]:
    """The names of all parameters and their shapes: embeddings, layers, head, in this order.

    Weights of linear maps are (out, in).

    Source: chapter ENC.  Bound: exact.

    >>> config = EncoderConfig(vocab_size=9, hidden_size=4, num_hidden_layers=1,
    ...                        num_attention_heads=2, intermediate_size=8)
    >>> found = shapes(config)
    >>> len(found), found[WORDS], found["bert.encoder.layer.0.intermediate.dense.weight"]
    (26, (9, 4), (8, 4))
    """
    vocab, hidden, inner = config.vocab_size, config.hidden_size, config.intermediate_size
    found: dict[str, tuple[int, ...]] = {
        WORDS: (vocab, hidden),
        "bert.embeddings.position_embeddings.weight": (config.max_position_embeddings, hidden),
        "bert.embeddings.token_type_embeddings.weight": (config.type_vocab_size, hidden),
        **_norm("bert.embeddings.LayerNorm", hidden),
    }
    for layer in range(config.num_hidden_layers):
        name = layer_name(layer)
        for part in ("query", "key", "value"):
            found |= _linear(f"{name}attention.self.{part}", hidden, hidden)
        found |= _linear(f"{name}attention.output.dense", hidden, hidden)
        found |= _norm(f"{name}attention.output.LayerNorm", hidden)
        found |= _linear(f"{name}intermediate.dense", inner, hidden)
        found |= _linear(f"{name}output.dense", hidden, inner)
        found |= _norm(f"{name}output.LayerNorm", hidden)
    found |= _linear("cls.predictions.transform.dense", hidden, hidden)
    found |= _norm("cls.predictions.transform.LayerNorm", hidden)
    return found | {BIAS: (vocab,)}


def _linear(name: str, rows: int, columns: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}


def _norm(name: str, size: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (size,), f"{name}.bias": (size,)}


def checked(
    parameters: object, config: object, *, head: bool = True
) -> dict[str, NDArray[np.float64]]:
    """The parameters in float64, after a look at every one of them.

    Parameters
    ----------
    parameters : {name: float array}, any float dtype, converted exactly.
    config : which encoder.
    head : whether those of the head have to be there; they may in any case.

    Raises
    ------
    ConfigError, InputError (missing or unknown names), ShapeError, DTypeError, NotFiniteError.
    """
    if not isinstance(config, EncoderConfig):
        raise ConfigError("config", f"a {type(config).__name__}", "an EncoderConfig")
    if not isinstance(parameters, Mapping):
        got = f"a {type(parameters).__name__}"
        raise InputError("parameters", got, "a mapping of names to arrays")
    wanted = shapes(config)
    needed = [name for name in wanted if head or name.startswith("bert.")]
    _check_names("parameters", parameters, needed, wanted)
    found = {name: parameters[name] for name in wanted if name in parameters}
    for name, value in found.items():
        check_finite(name, check_array(name, value, wanted[name], FLOATS))
    return {name: value.astype(np.float64, copy=False) for name, value in found.items()}


def _check_names(
    where: str, given: Mapping[str, Any], needed: list[str], known: Mapping[str, Any]
) -> None:
    missing = [name for name in needed if name not in given]
    if missing:
        raise InputError(where, f"without {_few(missing)}", "every parameter of the encoder")
    unknown = [str(name) for name in given if name not in known]
    if unknown:
        raise InputError(where, f"with {_few(unknown)}", "no parameter but the encoder's")


def _few(names: list[str]) -> str:
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return names[0] + more


def initial_parameters(config: EncoderConfig, seed: int) -> dict[str, NDArray[np.float64]]:
    """The values that training begins with.

    Matrices are normal with mean 0 and standard deviation ``initializer_range``; biases are 0, the
    weights of LayerNorm 1.  Each value is the nearest float32, so that a run in float32 begins
    where one in float64 does.

    Elements 2k and 2k + 1 of the m-th parameter of `shapes` come from the words of
    key (seed_lo, seed_hi, 0, 0) and counter (k mod 2³², 0x4D4C4D00 xor 5, m, ⌊k / 2³²⌋)
    by Box and Muller: with r = √(−2 log u) they are r · cos 2πv and r · sin 2πv, where
    u = (⌊w0 / 2⁵⌋ · 2²⁶ + ⌊w1 / 2⁶⌋ + 1) · 2⁻⁵³ is in (0, 1], and v the same of w2 and w3.

    Parameters
    ----------
    config : which encoder.
    seed : in 0 .. 2⁶⁴ − 1.

    Returns
    -------
    {name: float64 array}, in the order of `shapes`.

    Raises
    ------
    SeedError : a seed outside its range.

    Source: chapter ENC, and Box and Muller 1958.  Bound: one rounding to float32,
    given log, cos and sin within 1 ulp; words exact, bit for bit.

    >>> config = EncoderConfig(vocab_size=9, hidden_size=4, num_hidden_layers=1,
    ...                        num_attention_heads=2, intermediate_size=8)
    >>> [round(float(x), 6) for x in initial_parameters(config, seed=7)[WORDS][0]]
    [-0.015797, -0.009393, 0.031998, 0.009908]
    """
    seed = check_seed("seed", seed)
    found = {}
    for number, (name, shape) in enumerate(shapes(config).items()):
        if len(shape) == 2:
            values = config.initializer_range * _normal(seed, number, math.prod(shape))
            found[name] = values.astype(np.float32).astype(np.float64).reshape(shape)
        else:
            found[name] = np.full(shape, 1.0 if name.endswith("LayerNorm.weight") else 0.0)
    return found


def _normal(seed: int, number: int, size: int) -> Floats:
    """The first ``size`` standard normal values of a parameter."""
    k = np.arange((size + 1) // 2, dtype=np.uint64)
    counter = np.empty((k.size, 4), np.uint32)
    counter[:, 0], counter[:, 3] = k & np.uint64(_MASK), k >> np.uint64(32)
    counter[:, 1], counter[:, 2] = _TAG ^ _STREAM, number
    w0, w1, w2, w3 = threefry4x32([seed & _MASK, seed >> 32, 0, 0], counter).T
    radius = np.sqrt(-2.0 * np.log(_uniform(w0, w1)))
    angle = 2.0 * math.pi * _uniform(w2, w3)
    both = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)
    return both.reshape(-1)[:size]


def _uniform(high: NDArray[np.uint32], low: NDArray[np.uint32]) -> Floats:
    """A multiple of 2⁻⁵³ in (0, 1], from the upper 27 bits of one word and 26 of another."""
    return ((high >> 5) * 2.0**26 + (low >> 6) + 1.0) * 2.0**-53


def with_tied_copies(parameters: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The parameters as checkpoints of BERT hold them: the output layer written out as well.

    >>> config = EncoderConfig(vocab_size=9, hidden_size=4, num_hidden_layers=1,
    ...                        num_attention_heads=2, intermediate_size=8)
    >>> parameters = initial_parameters(config, seed=7)
    >>> written = with_tied_copies(parameters)
    >>> [name for name in written if name not in parameters]
    ['cls.predictions.decoder.weight', 'cls.predictions.decoder.bias']
    """
    return {**parameters, **{copy: parameters[name] for copy, name in _COPIES.items()}}


def without_tied_copies(
    state: Mapping[str, NDArray[Any]], config: EncoderConfig
) -> dict[str, NDArray[Any]]:
    """The parameters of a checkpoint: the way back from `with_tied_copies`.

    A pooler, a next-sentence head and a buffer of positions are left out, as are the tied copies,
    which must equal what they are copies of.

    Raises
    ------
    InputError : a parameter is missing, a name is unknown, or a copy differs, which is an output
        layer of its own, and this model has none.
    """
    kept = {name: v for name, v in state.items() if not name.startswith(_OTHERS)}
    for copy, name in _COPIES.items():
        if copy in kept and not np.array_equal(kept.pop(copy), state.get(name, np.empty(0))):
            raise InputError(copy, f"not equal to {name}", "a copy of it, since the two are tied")
    wanted = shapes(config)
    _check_names("state", kept, list(wanted), wanted)
    return {name: kept[name] for name in wanted}
