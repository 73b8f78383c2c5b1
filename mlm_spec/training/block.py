"""One layer of the encoder, forward and backward (MLM-ENC-9).

    a  = LN(h + D₂(attention(h) · Woᵀ + bo))
    h' = LN(a + D₃(gelu(a · W₁ᵀ + b₁) · W₂ᵀ + b₂))

LayerNorm comes after each residual sum ("post-LN"), as in Vaswani et al. 2017 and Devlin et al.
2018.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from mlm_spec.training.attention import Attended, attention, attention_backward
from mlm_spec.training.config import EncoderConfig
from mlm_spec.training.dropout import Site, scaled
from mlm_spec.training.layers import (
    Floats,
    Normalized,
    Rounded,
    Terms,
    gelu,
    gelu_backward,
    layer_norm,
    layer_norm_backward,
    linear,
    linear_backward,
)
from mlm_spec.training.parameters import layer_name, pair
from mlm_spec.training.places import Places
from mlm_spec.training.units import Units

__all__ = ["Kept", "layer_backward", "layer_forward"]

Parameters = Mapping[str, Floats]

_PARTS = ("query", "key", "value")


class Mixing(NamedTuple):
    """What the attention part keeps for its backward.

    Attributes
    ----------
    hidden : (N, d), what the layer was given.
    attended : one for each sequence.
    context : (N, d).
    factor : (N, d), of dropout, or None.
    normalized : of its LayerNorm.
    """

    hidden: Floats
    attended: list[Attended]
    context: Floats
    factor: Floats | None
    normalized: Normalized


class Feeding(NamedTuple):
    """What the feed-forward part keeps for its backward.

    Attributes
    ----------
    middle : (N, d), a.
    inner, below, active : (N, F): a · W₁ᵀ + b₁, its Φ, and its GELU.
    factor : (N, d), of dropout, or None.
    normalized : of its LayerNorm.
    """

    middle: Floats
    inner: Floats
    below: Floats
    active: Floats
    factor: Floats | None
    normalized: Normalized


class Kept(NamedTuple):
    """What the two parts of a layer keep."""

    mixing: Mixing
    feeding: Feeding


def layer_forward(
    parameters: Parameters,
    config: EncoderConfig,
    layer: int,
    hidden: Floats,
    places: Places,
    units: Units,
    rounded: Rounded,
) -> tuple[Floats, Kept]:
    """h' (N, d) of h (N, d)."""
    context, attended = _attend(parameters, config, layer, hidden, places, units, rounded)
    eps, name = config.layer_norm_eps, f"{layer_name(layer)}attention.output"
    factor = units.hidden(Site.ATTENTION_OUTPUT, layer)
    out = linear(context, *pair(parameters, f"{name}.dense"), rounded)
    out = rounded(hidden + scaled(out, factor, rounded))
    middle, normalized = layer_norm(out, *pair(parameters, f"{name}.LayerNorm"), eps, rounded)
    mixing = Mixing(hidden, attended, context, factor, normalized)
    after, feeding = _feed_forward(parameters, config, layer, middle, units, rounded)
    return after, Kept(mixing, feeding)


def _attend(
    parameters: Parameters,
    config: EncoderConfig,
    layer: int,
    hidden: Floats,
    places: Places,
    units: Units,
    rounded: Rounded,
) -> tuple[Floats, list[Attended]]:
    """The context (N, d), sequence by sequence."""
    name = f"{layer_name(layer)}attention.self"
    mixed = [linear(hidden, *pair(parameters, f"{name}.{part}"), rounded) for part in _PARTS]
    context, attended = np.zeros_like(hidden), []
    for members, factor in zip(places.sequences, units.attention(layer), strict=True):
        query, key, value = (x[members] for x in mixed)
        one, kept = attention(query, key, value, config.num_attention_heads, factor, rounded)
        context[members] = one
        attended.append(kept)
    return context, attended


def _feed_forward(
    parameters: Parameters,
    config: EncoderConfig,
    layer: int,
    middle: Floats,
    units: Units,
    rounded: Rounded,
) -> tuple[Floats, Feeding]:
    name, eps = layer_name(layer), config.layer_norm_eps
    inner = linear(middle, *pair(parameters, f"{name}intermediate.dense"), rounded)
    active, below = gelu(inner, rounded)
    factor = units.hidden(Site.OUTPUT, layer)
    out = linear(active, *pair(parameters, f"{name}output.dense"), rounded)
    out = rounded(middle + scaled(out, factor, rounded))
    norm = pair(parameters, f"{name}output.LayerNorm")
    after, normalized = layer_norm(out, *norm, eps, rounded)
    return after, Feeding(middle, inner, below, active, factor, normalized)


def layer_backward(
    parameters: Parameters,
    layer: int,
    kept: Kept,
    d_after: Floats,
    places: Places,
    rounded: Rounded,
) -> tuple[Floats, dict[str, Terms]]:
    """The gradient of h (N, d), and the terms of this layer's parameters."""
    weights = _weights(parameters, layer)
    d_middle, found = _feed_forward_backward(weights, layer, kept.feeding, d_after, rounded)
    d_sum, d_context, more = _output_backward(weights, layer, kept.mixing, d_middle, rounded)
    d_mixed = _attend_backward(kept.mixing, d_context, places, rounded)
    found |= more
    d_hidden = d_sum
    for part, d_part in zip(_PARTS, d_mixed, strict=True):
        name = f"{layer_name(layer)}attention.self.{part}"
        d_input, *of_part = linear_backward(d_part, kept.mixing.hidden, weights[name], rounded)
        d_hidden = rounded(d_hidden + d_input)
        found |= _named(name, of_part)
    return d_hidden, found


def _feed_forward_backward(
    weights: Parameters, layer: int, kept: Feeding, d_after: Floats, rounded: Rounded
) -> tuple[Floats, dict[str, Terms]]:
    name = layer_name(layer)
    norm, inner = f"{name}output.LayerNorm", f"{name}intermediate.dense"
    outer = f"{name}output.dense"
    d_sum, *of_norm = layer_norm_backward(d_after, kept.normalized, weights[norm], rounded)
    d_out = scaled(d_sum, kept.factor, rounded)
    d_active, *of_outer = linear_backward(d_out, kept.active, weights[outer], rounded)
    d_inner = gelu_backward(d_active, kept.inner, kept.below, rounded)
    d_middle, *of_inner = linear_backward(d_inner, kept.middle, weights[inner], rounded)
    found = _named(norm, of_norm) | _named(outer, of_outer) | _named(inner, of_inner)
    return rounded(d_sum + d_middle), found


def _output_backward(
    weights: Parameters, layer: int, kept: Mixing, d_middle: Floats, rounded: Rounded
) -> tuple[Floats, Floats, dict[str, Terms]]:
    """From a back to the residual sum and to the context."""
    name = f"{layer_name(layer)}attention.output"
    norm, dense = f"{name}.LayerNorm", f"{name}.dense"
    d_sum, *of_norm = layer_norm_backward(d_middle, kept.normalized, weights[norm], rounded)
    d_out = scaled(d_sum, kept.factor, rounded)
    d_context, *of_dense = linear_backward(d_out, kept.context, weights[dense], rounded)
    return d_sum, d_context, _named(norm, of_norm) | _named(dense, of_dense)


def _attend_backward(
    kept: Mixing, d_context: Floats, places: Places, rounded: Rounded
) -> list[Floats]:
    """The gradients (N, d) of queries, keys and values."""
    found = [np.zeros_like(d_context) for _ in _PARTS]
    for members, one in zip(places.sequences, kept.attended, strict=True):
        gradients = attention_backward(d_context[members], one, rounded)
        for whole, of_sequence in zip(found, gradients, strict=True):
            whole[members] = of_sequence
    return found


def _weights(parameters: Parameters, layer: int) -> dict[str, Floats]:
    """The weights of a layer by the names that they share with their biases."""
    start, end = layer_name(layer), ".weight"
    names = [n for n in parameters if n.startswith(start) and n.endswith(end)]
    return {n.removesuffix(end): parameters[n] for n in names}


def _named(name: str, terms: list[Terms]) -> dict[str, Terms]:
    weight, bias = terms
    return {f"{name}.weight": weight, f"{name}.bias": bias}
