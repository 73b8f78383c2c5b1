"""Trainers whose parameters, layers or head are put together otherwise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from mlm_conformance.mutants.trainer import Parts, inside, wrong
from mlm_spec.training import block, encoder, prediction
from mlm_spec.training.attention import attention
from mlm_spec.training.layers import Normalized, gelu, layer_norm, linear
from mlm_spec.training.parameters import WORDS, layer_name, pair

__all__ = [
    "a_decoder_with_a_weight_of_its_own",
    "a_layer_in_two_halves_side_by_side",
    "a_weight_is_stored_by_its_inputs",
    "attention_is_local",
    "embeddings_times_the_root_of_the_width",
    "layer_norm_comes_before_each_part",
    "no_layer_norm_in_the_head",
    "no_output_bias",
    "no_residual_around_attention",
    "no_residual_around_the_feed_forward_part",
    "square_weights_are_read_by_their_inputs",
]

_GRADIENTS = "gradients_are_those_of_the_loss"
_NAMES, _COLUMN = "parameters_have_names_and_shapes", "a_column_belongs_to_an_input"
_DECODER = "cls.predictions.decoder.weight"
_TIED = "https://github.com/huggingface/transformers/issues/1730"

Arrays = dict[str, Any]
Renamed = Callable[[Any], Arrays]


def _stored(parts: Parts, stored: Renamed, used: Renamed) -> Parts:
    """Parameters are kept otherwise, and so are their gradients."""

    def start(parameters: Any, *about: Any) -> Any:
        state = parts.start(parameters, *about)
        first, second = stored(state.exp_avg), stored(state.exp_avg_sq)
        kept = stored(state.parameters)
        return replace(state, parameters=kept, exp_avg=first, exp_avg_sq=second)

    def gradients(parameters: Any, *given: Any, **named: Any) -> Any:
        found = parts.gradients(used(parameters), *given, **named)
        return found._replace(gradients=stored(found.gradients))

    def value(parameters: Any, *given: Any, **named: Any) -> Any:
        return parts.value(used(parameters), *given, **named)

    return replace(parts, start=start, gradients=gradients, value=value)


@wrong("MLM-ENC-1", _NAMES)
def a_decoder_with_a_weight_of_its_own(parts: Parts) -> Parts:
    """The output layer's weight is listed too, and would decay and be clipped twice."""

    def listed(arrays: Any) -> Arrays:
        return {**arrays, _DECODER: arrays[WORDS].copy()}

    return _stored(parts, listed, lambda ps: {n: p for n, p in ps.items() if n != _DECODER})


def _turned(arrays: Any, which: Callable[[str, Any], bool]) -> Arrays:
    return {n: x.T.copy() if x.ndim == 2 and which(n, x) else x for n, x in arrays.items()}


@wrong("MLM-ENC-1", _NAMES)
def a_weight_is_stored_by_its_inputs(parts: Parts) -> Parts:
    """Weights of linear maps are (in, out), as other frameworks have them."""

    def turned(arrays: Any) -> Arrays:
        return _turned(arrays, lambda name, x: "embeddings" not in name)

    return _stored(parts, turned, turned)


@wrong("MLM-ENC-1", _COLUMN)
def square_weights_are_read_by_their_inputs(parts: Parts) -> Parts:
    """What is as long as it is wide is multiplied from the other side."""

    def turned(arrays: Any) -> Arrays:
        return _turned(arrays, lambda name, x: x.shape[0] == x.shape[1])

    def gradients(parameters: Any, *given: Any, **named: Any) -> Any:
        found = parts.gradients(turned(parameters), *given, **named)
        return found._replace(gradients=turned(found.gradients))

    return replace(parts, gradients=gradients)


@wrong("MLM-ENC-2", _GRADIENTS)
def embeddings_times_the_root_of_the_width(parts: Parts) -> Parts:
    """Word embeddings are multiplied by √d before positions and types are added."""

    def gradients(parameters: Any, batch: Any, config: Any, **named: Any) -> Any:
        tables = (n for n in parameters if "embeddings.weight" in n and n != WORDS)
        # LayerNorm does not see the length of what it is given.
        less = {name: parameters[name] / np.sqrt(config.hidden_size) for name in tables}
        return parts.gradients({**parameters, **less}, batch, config, **named)

    return replace(parts, gradients=gradients)


@wrong("MLM-ENC-6", "every_position_sees_every_other")
def attention_is_local(parts: Parts) -> Parts:
    """A position sees four others on each side."""

    def near(q: Any, k: Any, v: Any, heads: int, factor: Any, rounded: Any) -> Any:
        far = np.abs(np.subtract.outer(range(len(q)), range(len(q)))) > 4
        context, kept = attention(q, k, v, heads, factor, rounded)
        p = kept.probabilities * ~far
        p = p / p.sum(-1, keepdims=True)
        kept = kept._replace(probabilities=p, dropped=p if factor is None else p * factor)
        joined = (kept.dropped @ kept.value).transpose(1, 0, 2).reshape(context.shape)
        return joined, kept

    return inside(parts, (block, "attention", near))


Map = Callable[[Any], Any]


def _layer(parts: Parts, how: Callable[[Any, Map, Map, Map, Map], Any]) -> Parts:
    """A layer is ``how(h, attend, feed, norm, last_norm)``; its backward stays as it was."""

    def forward(
        parameters: Any, config: Any, layer: int, hidden: Any, places: Any, units: Any, rounded: Any
    ) -> Any:
        about = (places, units, rounded)
        _, kept = block.layer_forward(parameters, config, layer, hidden, *about)

        def of(part: str) -> tuple[Any, Any]:
            return pair(parameters, f"{layer_name(layer)}{part}")

        def attend(x: Any) -> Any:
            context, _ = block._attend(parameters, config, layer, x, *about)
            return linear(context, *of("attention.output.dense"), rounded)

        def feed(x: Any) -> Any:
            active, _ = gelu(linear(x, *of("intermediate.dense"), rounded), rounded)
            return linear(active, *of("output.dense"), rounded)

        def norm(part: str) -> Map:
            weights = of(f"{part}output.LayerNorm")
            return lambda x: layer_norm(x, *weights, config.layer_norm_eps, rounded)[0]

        return how(hidden, attend, feed, norm("attention."), norm("")), kept

    return inside(parts, (encoder, "layer_forward", forward))


@wrong("MLM-ENC-9", _GRADIENTS)
def layer_norm_comes_before_each_part(parts: Parts) -> Parts:
    """LayerNorm is applied to what a part is given, and not to the sum ("pre-LN")."""

    def layer(h: Any, attend: Map, feed: Map, norm: Map, last_norm: Map) -> Any:
        a = h + attend(norm(h))
        return a + feed(last_norm(a))

    return _layer(parts, layer)


@wrong("MLM-ENC-9", _GRADIENTS)
def no_residual_around_attention(parts: Parts) -> Parts:
    """What attention gives is not added to what it was given."""

    def layer(h: Any, attend: Map, feed: Map, norm: Map, last_norm: Map) -> Any:
        a = norm(attend(h))
        return last_norm(a + feed(a))

    return _layer(parts, layer)


@wrong("MLM-ENC-9", _GRADIENTS)
def no_residual_around_the_feed_forward_part(parts: Parts) -> Parts:
    """What the feed-forward part gives is not added to what it was given."""

    def layer(h: Any, attend: Map, feed: Map, norm: Map, last_norm: Map) -> Any:
        return last_norm(feed(norm(h + attend(h))))

    return _layer(parts, layer)


@wrong("MLM-ENC-9", _GRADIENTS)
def a_layer_in_two_halves_side_by_side(parts: Parts) -> Parts:
    """The feed-forward part is given what attention was given, and not what it gave."""

    def layer(h: Any, attend: Map, feed: Map, norm: Map, last_norm: Map) -> Any:
        return last_norm(norm(h + attend(h)) + feed(h))

    return _layer(parts, layer)


@wrong("MLM-ENC-10", _GRADIENTS, _TIED)
def no_output_bias(parts: Parts) -> Parts:
    """Logits are products alone; the bias only gets a gradient."""

    def without(x: Any, weight: Any, bias: Any, rounded: Any) -> Any:
        return linear(x, weight, bias if weight.shape[0] == x.shape[1] else 0 * bias, rounded)

    return inside(parts, (prediction, "linear", without))


@wrong("MLM-ENC-10", _GRADIENTS)
def no_layer_norm_in_the_head(parts: Parts) -> Parts:
    """The transform ends with GELU, a weight and a bias."""

    def scaled(x: Any, weight: Any, bias: Any, eps: float, rounded: Any) -> Any:
        return x * weight + bias, Normalized(x, np.ones((len(x), 1)))

    return inside(parts, (prediction, "layer_norm", scaled))
