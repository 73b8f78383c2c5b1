"""The encoder: from the corrupted tokens to hidden states, and the way back (chapter ENC).

    e  = Wtok[inputs] + Wpos[position_ids] + Wtype[token_type_ids]
    h⁰ = D₀(LN(e)),  then one layer after another

Source: Devlin, Chang, Lee and Toutanova, "BERT", 2018.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlm_spec.training.batch import TrainingBatch
from mlm_spec.training.block import Kept, layer_backward, layer_forward
from mlm_spec.training.config import EncoderConfig
from mlm_spec.training.dropout import Dropout, Site, scaled
from mlm_spec.training.layers import (
    Floats,
    Normalized,
    Rounded,
    Terms,
    identity,
    layer_norm,
    layer_norm_backward,
)
from mlm_spec.training.parameters import WORDS, checked, pair
from mlm_spec.training.places import Places, check_batch, real_places
from mlm_spec.training.units import Units

__all__ = ["Encoded", "backward", "encode", "forward", "hidden_states"]

_TABLES = {
    WORDS: "inputs",
    "bert.embeddings.position_embeddings.weight": "position_ids",
    "bert.embeddings.token_type_embeddings.weight": "token_type_ids",
}
_NORM = "bert.embeddings.LayerNorm"


class Encoded(NamedTuple):
    """The real positions of a micro-batch, encoded, and what the backward needs.

    Attributes
    ----------
    places : which positions these are.
    states : L + 1 arrays (N, d): h⁰ and what each layer gave.
    rows : for each table of embeddings, the rows (N,) that were read.
    normalized, factor : of the LayerNorm and the dropout of the embeddings.
    layers : what each layer kept.
    """

    places: Places
    states: list[Floats]
    rows: dict[str, NDArray[np.integer]]
    normalized: Normalized
    factor: Floats | None
    layers: list[Kept]


def encode(
    parameters: Mapping[str, Floats],
    batch: TrainingBatch,
    config: EncoderConfig,
    *,
    dropout: Dropout | None = None,
    rounded: Rounded = identity,
) -> Floats:
    """Hidden states of the last layer at all real positions.

    Parameters
    ----------
    parameters : {name: float array}, the names and shapes of `shapes`; any float dtype, converted
        exactly.  Those of the head are not needed.
    batch : a micro-batch of B rows and T positions.
    config : which encoder.
    dropout : the seed and the update whose units are dropped; None in an evaluation.
    rounded : applied to the result of every operation (`mlm_spec.training.layers`).

    Returns
    -------
    float64 (B, T, d).  Padding has no hidden states; 0.0 stands there.

    Raises
    ------
    ConfigError, InputError, ShapeError, DTypeError, IdRangeError, NotFiniteError, SeedError.

    Source: chapter ENC.  Bound: that of its section "Bounds" at u = 2⁻⁵³.

    >>> from mlm_spec.training.parameters import initial_parameters
    >>> config = EncoderConfig(vocab_size=9, hidden_size=4, num_hidden_layers=1,
    ...                        num_attention_heads=2, intermediate_size=8)
    >>> tokens, real = np.array([[1, 5, 2, 0]]), np.array([[True, True, True, False]])
    >>> none, place = np.zeros((1, 4), np.int64), np.arange(4)[None]
    >>> batch = TrainingBatch(tokens, tokens, ~real & real, real, none, place,
    ...                       np.zeros((1, 4, 2), np.uint32), place.astype(np.uint32))
    >>> hidden = encode(initial_parameters(config, seed=7), batch, config)
    >>> hidden.shape, hidden[0, 3].tolist()
    ((1, 4, 4), [0.0, 0.0, 0.0, 0.0])
    """
    return hidden_states(parameters, batch, config, dropout=dropout, rounded=rounded)[-1]


def hidden_states(
    parameters: Mapping[str, Floats],
    batch: TrainingBatch,
    config: EncoderConfig,
    *,
    dropout: Dropout | None = None,
    rounded: Rounded = identity,
) -> tuple[Floats, ...]:
    """What the embeddings and each layer give: L + 1 arrays (B, T, d).  Else as `encode`.

    Source: chapter ENC.  Bound: that of its section "Bounds" at u = 2⁻⁵³.
    """
    known = checked(parameters, config, head=False)
    encoded = forward(known, check_batch(batch, config), config, dropout, rounded)
    found = []
    for state in encoded.states:
        everywhere = np.zeros((*batch.inputs.shape, config.hidden_size))
        everywhere[encoded.places.at] = state
        found.append(everywhere)
    return tuple(found)


def forward(
    parameters: Mapping[str, Floats],
    batch: TrainingBatch,
    config: EncoderConfig,
    dropout: Dropout | None,
    rounded: Rounded,
) -> Encoded:
    """`encode` for arguments that are known to be good, real positions alone."""
    places = real_places(batch)
    units = Units(config, places, dropout)
    units.check()
    rows = {name: getattr(batch, field)[places.at] for name, field in _TABLES.items()}
    words, positions, types = (parameters[name][ids] for name, ids in rows.items())
    embedded = rounded(words + positions + types)
    eps = config.layer_norm_eps
    hidden, normalized = layer_norm(embedded, *pair(parameters, _NORM), eps, rounded)
    factor = units.hidden(Site.EMBEDDINGS)
    states, layers = [scaled(hidden, factor, rounded)], []
    for layer in range(config.num_hidden_layers):
        after, kept = layer_forward(parameters, config, layer, states[-1], places, units, rounded)
        states.append(after)
        layers.append(kept)
    return Encoded(places, states, rows, normalized, factor, layers)


def backward(
    parameters: Mapping[str, Floats], encoded: Encoded, d_hidden: Floats, rounded: Rounded
) -> dict[str, Terms]:
    """The terms of the gradients of all `bert.*` parameters, from that of h^L (N, d)."""
    found: dict[str, Terms] = {}
    for layer in reversed(range(len(encoded.layers))):
        kept = encoded.layers[layer]
        d_hidden, terms = layer_backward(parameters, layer, kept, d_hidden, encoded.places, rounded)
        found |= terms
    d_norm = scaled(d_hidden, encoded.factor, rounded)
    weight = parameters[f"{_NORM}.weight"]
    d_embedded, of_weight, of_bias = layer_norm_backward(
        d_norm, encoded.normalized, weight, rounded
    )
    found |= {f"{_NORM}.weight": of_weight, f"{_NORM}.bias": of_bias}
    return found | {name: Terms(d_embedded, rows=ids) for name, ids in encoded.rows.items()}
