"""One layer of the encoder, forward and backward (MLM-ENC-8).

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

_PARTS = ("query", "key", "value")


class Kept(NamedTuple):
    """What a layer keeps for its backward.

    Attributes
    ----------
    hidden : (N, d), what it was given.
    attended : one for each sequence.
    context : (N, d), of attention.
    attention_factor, output_factor : (N, d), of dropout, or None.
    first, second : of the two LayerNorms.
    middle : (N, d), a, between attention and the feed-forward layers.
    inner, below, active : (N, F): a · W₁ᵀ + b₁, its Φ, and its GELU.
    """

    hidden: Floats
    attended: list[Attended]
    context: Floats
    attention_factor: Floats | None
    first: Normalized
    middle: Floats
    inner: Floats
    below: Floats
    active: Floats
    output_factor: Floats | None
    second: Normalized


def layer_forward(
    parameters: Mapping[str, Floats],
    config: EncoderConfig,
    layer: int,
    hidden: Floats,
    places: Places,
    units: Units,
    rounded: Rounded,
) -> tuple[Floats, Kept]:
    """h' (N, d) of h (N, d)."""
    name, eps = layer_name(layer), config.layer_norm_eps
    mixed = [
        linear(hidden, *pair(parameters, f"{name}attention.self.{part}"), rounded)
        for part in _PARTS
    ]
    context, attended = np.zeros_like(hidden), []
    for number, members in enumerate(places.sequences):
        factor = units.attention(layer, number)
        query, key, value = (x[members] for x in mixed)
        one, kept = attention(query, key, value, config.num_attention_heads, factor, rounded)
        context[members] = one
        attended.append(kept)

    attention_factor = units.hidden(Site.ATTENTION_OUTPUT, layer)
    out = linear(context, *pair(parameters, f"{name}attention.output.dense"), rounded)
    out = rounded(hidden + scaled(out, attention_factor, rounded))
    norm = pair(parameters, f"{name}attention.output.LayerNorm")
    middle, first = layer_norm(out, *norm, eps, rounded)

    inner = linear(middle, *pair(parameters, f"{name}intermediate.dense"), rounded)
    active, below = gelu(inner, rounded)
    output_factor = units.hidden(Site.OUTPUT, layer)
    out = linear(active, *pair(parameters, f"{name}output.dense"), rounded)
    out = rounded(middle + scaled(out, output_factor, rounded))
    after, second = layer_norm(out, *pair(parameters, f"{name}output.LayerNorm"), eps, rounded)
    return after, Kept(
        hidden, attended, context, attention_factor, first,
        middle, inner, below, active, output_factor, second,
    )  # fmt: skip


def layer_backward(
    parameters: Mapping[str, Floats],
    layer: int,
    kept: Kept,
    d_after: Floats,
    places: Places,
    rounded: Rounded,
) -> tuple[Floats, dict[str, Terms]]:
    """The gradient of h (N, d), and the terms of this layer's parameters."""
    d_middle, found = _feed_forward_backward(parameters, layer, kept, d_after, rounded)
    d_hidden, more = _attention_backward(parameters, layer, kept, d_middle, places, rounded)
    return d_hidden, found | more


def _feed_forward_backward(
    parameters: Mapping[str, Floats], layer: int, kept: Kept, d_after: Floats, rounded: Rounded
) -> tuple[Floats, dict[str, Terms]]:
    name, weights = layer_name(layer), _weights(parameters, layer)
    norm = f"{name}output.LayerNorm"
    inner, outer = f"{name}intermediate.dense", f"{name}output.dense"
    d_sum, *of_norm = layer_norm_backward(d_after, kept.second, weights[norm], rounded)
    d_out = scaled(d_sum, kept.output_factor, rounded)
    d_active, *of_outer = linear_backward(d_out, kept.active, weights[outer], rounded)
    d_inner = gelu_backward(d_active, kept.inner, kept.below, rounded)
    d_middle, *of_inner = linear_backward(d_inner, kept.middle, weights[inner], rounded)
    found = _named(norm, of_norm) | _named(outer, of_outer) | _named(inner, of_inner)
    return rounded(d_sum + d_middle), found


def _attention_backward(
    parameters: Mapping[str, Floats],
    layer: int,
    kept: Kept,
    d_middle: Floats,
    places: Places,
    rounded: Rounded,
) -> tuple[Floats, dict[str, Terms]]:
    name, weights = layer_name(layer), _weights(parameters, layer)
    norm, dense = f"{name}attention.output.LayerNorm", f"{name}attention.output.dense"
    d_sum, *of_norm = layer_norm_backward(d_middle, kept.first, weights[norm], rounded)
    d_out = scaled(d_sum, kept.attention_factor, rounded)
    d_context, *of_dense = linear_backward(d_out, kept.context, weights[dense], rounded)
    found = _named(norm, of_norm) | _named(dense, of_dense)

    d_mixed = [np.zeros_like(d_middle) for _ in _PARTS]
    for members, one in zip(places.sequences, kept.attended, strict=True):
        gradients = attention_backward(d_context[members], one, rounded)
        for whole, of_sequence in zip(d_mixed, gradients, strict=True):
            whole[members] = of_sequence
    d_hidden = d_sum
    for part, d_part in zip(_PARTS, d_mixed, strict=True):
        linear_name = f"{name}attention.self.{part}"
        d_input, *of_part = linear_backward(d_part, kept.hidden, weights[linear_name], rounded)
        d_hidden = rounded(d_hidden + d_input)
        found |= _named(linear_name, of_part)
    return d_hidden, found


def _weights(parameters: Mapping[str, Floats], layer: int) -> dict[str, Floats]:
    """The weights of a layer by the names that they share with their biases."""
    start, end = layer_name(layer), ".weight"
    names = [n for n in parameters if n.startswith(start) and n.endswith(end)]
    return {n.removesuffix(end): parameters[n] for n in names}


def _named(name: str, terms: list[Terms]) -> dict[str, Terms]:
    weight, bias = terms
    return {f"{name}.weight": weight, f"{name}.bias": bias}
