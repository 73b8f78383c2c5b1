"""The encoder, BERT with layers normalised last, and the head on it (chapter ENC).

Pure functions of parameters and a batch.  The layers are one `lax.scan` over stacked parameters, so
the size of a program does not grow with their number.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from mlm_jax.objective import log_likelihood
from mlm_jax.training.dropout import ATTENTION, EMBEDDINGS, FEED_FORWARD, MIXED, Drop
from mlm_jax.training.layers import context, gelu, layer_norm, linear, product, softmax
from mlm_jax.training.parameters import LAYER, OUTPUT_BIAS, WORDS, Parameters, layer_names
from mlm_spec.training.batch import TrainingBatch
from mlm_spec.training.config import EncoderConfig

__all__ = ["encode", "selected_sum", "visible_pairs"]


def visible_pairs(batch: TrainingBatch) -> jax.Array:
    """Which positions see which: bool (B, T, T), both ways.

    Real positions of one sequence of one row.  Padding sees nothing and is seen by nothing.
    """
    real, sequence = batch.attention_mask, batch.sequence_id
    same = jnp.all(sequence[:, :, None, :] == sequence[:, None, :, :], axis=-1)
    return same & real[:, :, None] & real[:, None, :]


def encode(
    parameters: Parameters, batch: TrainingBatch, encoder: EncoderConfig, compute: Any, drop: Drop
) -> jax.Array:
    """Hidden states of the last layer: (B, T, d), in the dtype of the parameters.

    Parameters
    ----------
    parameters : by name, all of one dtype.
    batch : of JAX arrays.
    encoder : the configuration.
    compute : the dtype of the factors of products.
    drop : of `mlm_jax.training.dropout.dropper`.
    """
    hidden = drop(EMBEDDINGS, 0, _embeddings(parameters, batch, encoder))
    if encoder.num_hidden_layers == 0:
        return hidden
    visible = visible_pairs(batch)[:, None]

    def layer(hidden: jax.Array, numbered: tuple[Parameters, jax.Array]) -> tuple[jax.Array, None]:
        own, number = numbered
        mixed = _attention(own, hidden, visible, number, encoder, compute, drop)
        return _feed_forward(own, mixed, number, encoder, compute, drop), None

    numbers = jnp.arange(encoder.num_hidden_layers, dtype=jnp.uint32)
    return lax.scan(layer, hidden, (_stacked(parameters, encoder), numbers))[0]


def selected_sum(
    parameters: Parameters,
    hidden: jax.Array,
    batch: TrainingBatch,
    encoder: EncoderConfig,
    compute: Any,
    capacity: int,
    by_row: Callable[[jax.Array], jax.Array],
) -> jax.Array:
    """Σ_{i∈A} log Pr(x_i | x̄), in nats, of the first ``capacity`` selected positions.

    Selected positions are gathered before the transform, so neither it nor the logits exist
    elsewhere.  ``by_row`` shares them out to devices: gathered from all rows, they lie on each.

    Source: chapters ENC and HED.
    """
    chosen = batch.selected.reshape(-1)
    (place,) = jnp.nonzero(chosen, size=capacity, fill_value=chosen.size)
    states = by_row(hidden.reshape(-1, hidden.shape[-1]).at[place].get(mode="fill", fill_value=0))
    targets = batch.targets.reshape(-1).at[place].get(mode="fill", fill_value=0)
    dense, norm = ("cls.predictions.transform." + part for part in ("dense", "LayerNorm"))
    transformed = gelu(linear(compute, states, *_pair(parameters, dense)))
    transformed = layer_norm(transformed, *_pair(parameters, norm), encoder.layer_norm_eps)
    logits = product("ni,vi->nv", compute, transformed, parameters[WORDS])
    logits += parameters[OUTPUT_BIAS]
    if logits.shape[-1] > encoder.vocab_size:  # ids that fill the table up for a mesh
        known = jnp.arange(logits.shape[-1]) < encoder.vocab_size
        logits = jnp.where(known, logits, -jnp.inf)
    return jnp.sum(log_likelihood(logits, targets, place < chosen.size))


def _embeddings(parameters: Parameters, batch: TrainingBatch, encoder: EncoderConfig) -> jax.Array:
    tables = "bert.embeddings."
    rows = {
        WORDS: batch.inputs,
        f"{tables}position_embeddings.weight": batch.position_ids,
        f"{tables}token_type_embeddings.weight": batch.token_type_ids,
    }
    words, positions, types = (
        jnp.take(parameters[name], ids, axis=0, mode="clip") for name, ids in rows.items()
    )
    summed = words + positions + types
    return layer_norm(summed, *_pair(parameters, f"{tables}LayerNorm"), encoder.layer_norm_eps)


def _attention(
    own: Parameters,
    hidden: jax.Array,
    visible: jax.Array,
    number: jax.Array,
    encoder: EncoderConfig,
    compute: Any,
    drop: Drop,
) -> jax.Array:
    """LN(h + D(Σ_j D(P)_ij v_j · Woᵀ + bo)), a position that sees nothing having context 0."""
    heads = (*hidden.shape[:2], encoder.num_attention_heads, encoder.head_size)
    query, key, value = (
        linear(compute, hidden, *_pair(own, f"attention.self.{name}")).reshape(heads)
        for name in ("query", "key", "value")
    )
    scores = product("bihs,bjhs->bhij", compute, query, key) / encoder.head_size**0.5
    kept = drop(ATTENTION, number, softmax(scores, visible))
    seen = context(compute, kept, value).reshape(hidden.shape)
    out = drop(MIXED, number, linear(compute, seen, *_pair(own, "attention.output.dense")))
    norm = _pair(own, "attention.output.LayerNorm")
    return layer_norm(hidden + out, *norm, encoder.layer_norm_eps)


def _feed_forward(
    own: Parameters,
    mixed: jax.Array,
    number: jax.Array,
    encoder: EncoderConfig,
    compute: Any,
    drop: Drop,
) -> jax.Array:
    """LN(a + D(gelu(a·W₁ᵀ + b₁)·W₂ᵀ + b₂))."""
    inner = gelu(linear(compute, mixed, *_pair(own, "intermediate.dense")))
    out = drop(FEED_FORWARD, number, linear(compute, inner, *_pair(own, "output.dense")))
    return layer_norm(mixed + out, *_pair(own, "output.LayerNorm"), encoder.layer_norm_eps)


def _pair(parameters: Parameters, name: str) -> tuple[jax.Array, jax.Array]:
    return parameters[f"{name}.weight"], parameters[f"{name}.bias"]


def _stacked(parameters: Parameters, encoder: EncoderConfig) -> Parameters:
    """The parameters of all layers by the names within one: (L, ...) each."""
    layers = range(encoder.num_hidden_layers)
    return {
        name: jnp.stack([parameters[f"{LAYER}{number}.{name}"] for number in layers])
        for name in layer_names(encoder)
    }
