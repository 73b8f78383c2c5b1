"""Trainers whose encoder is another one."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from mlm_conformance.mutants.trainer import Parts, inside, with_batch, wrong
from mlm_spec.training import block, encoder, gradients, prediction
from mlm_spec.training.attention import attention, attention_backward
from mlm_spec.training.batch import TrainingBatch
from mlm_spec.training.layers import Normalized, Terms
from mlm_spec.training.parameters import BIAS, WORDS

__all__ = [
    "a_tied_gradient_without_the_embeddings",
    "a_tied_gradient_without_the_output_layer",
    "all_real_positions_are_predicted",
    "attention_looks_back_only",
    "attention_sees_packed_neighbours",
    "attention_sees_padding",
    "epsilon_is_1e_5",
    "epsilon_stands_outside_the_root",
    "gelu_by_a_sigmoid",
    "gelu_by_tanh",
    "no_gradient_for_the_output_bias",
    "no_token_types",
    "only_changed_tokens_are_predicted",
    "padding_trains_its_embedding",
    "positions_are_columns",
    "scores_by_the_whole_width",
    "shown_tokens_are_the_targets",
    "the_backward_of_layer_norm_has_no_mean",
    "the_head_has_no_gelu",
    "the_variance_is_unbiased",
    "the_word_gradient_is_that_of_the_last_use",
]

_GRADIENTS = "gradients_are_those_of_the_loss"
_USES = "words_have_the_gradients_of_both_uses"
_NORMS = (block, encoder, prediction)
_EPSILON = "https://github.com/keras-team/keras-hub/issues/642"
_PADDING = "https://github.com/huggingface/transformers/issues/12998"


def _other_norm(parts: Parts, inverse: Any) -> Parts:
    """LayerNorm with another 1/σ of the centred rows and ε."""

    def layer_norm(x: Any, weight: Any, bias: Any, eps: float, rounded: Any) -> Any:
        centred = x - x.mean(axis=-1, keepdims=True)
        by = inverse(centred, eps)
        return centred * by * weight + bias, Normalized(centred * by, by)

    return inside(parts, *((module, "layer_norm", layer_norm) for module in _NORMS))


@wrong("MLM-ENC-3", _GRADIENTS, _EPSILON)
def epsilon_is_1e_5(parts: Parts) -> Parts:
    """LayerNorm adds 1e-5, whatever the configuration says."""
    return _other_norm(parts, lambda c, eps: 1 / np.sqrt((c**2).mean(-1, keepdims=True) + 1e-5))


@wrong("MLM-ENC-3", _GRADIENTS)
def epsilon_stands_outside_the_root(parts: Parts) -> Parts:
    """LayerNorm divides by σ + ε."""
    return _other_norm(parts, lambda c, eps: 1 / (np.sqrt((c**2).mean(-1, keepdims=True)) + eps))


@wrong("MLM-ENC-3", _GRADIENTS)
def the_variance_is_unbiased(parts: Parts) -> Parts:
    """LayerNorm's variance is divided by d − 1."""
    return _other_norm(parts, lambda c, eps: 1 / np.sqrt(c.var(-1, ddof=1, keepdims=True) + eps))


@wrong("MLM-ENC-12", _GRADIENTS)
def the_backward_of_layer_norm_has_no_mean(parts: Parts) -> Parts:
    """The gradient does not know that a mean was subtracted."""

    def layer_norm_backward(dy: Any, kept: Any, weight: Any, rounded: Any) -> Any:
        g = dy * weight
        along = (g * kept.values).mean(axis=-1, keepdims=True)
        dx = (g - kept.values * along) * kept.inverse
        return dx, Terms(dy * kept.values), Terms(dy)

    return inside(parts, *((m, "layer_norm_backward", layer_norm_backward) for m in _NORMS))


def _other_gelu(parts: Parts, gate: Any, slope: Any) -> Parts:
    """x·gate(x), with the gate's derivative."""

    def gelu(x: Any, rounded: Any) -> Any:
        return x * gate(x), gate(x)

    def gelu_backward(dy: Any, x: Any, below: Any, rounded: Any) -> Any:
        return dy * (below + x * slope(x))

    changes = [(m, "gelu", gelu) for m in (block, prediction)]
    return inside(
        parts, *changes, *((m, "gelu_backward", gelu_backward) for m in (block, prediction))
    )


@wrong("MLM-ENC-4", _GRADIENTS)
def gelu_by_tanh(parts: Parts) -> Parts:
    """GELU in the form with tanh."""
    root = math.sqrt(2 / math.pi)

    def gate(x: Any) -> Any:
        return (1 + np.tanh(root * (x + 0.044715 * x**3))) / 2

    def slope(x: Any) -> Any:
        tanh = 2 * gate(x) - 1
        return (1 - tanh**2) / 2 * root * (1 + 3 * 0.044715 * x**2)

    return _other_gelu(parts, gate, slope)


@wrong("MLM-ENC-4", _GRADIENTS)
def gelu_by_a_sigmoid(parts: Parts) -> Parts:
    """GELU as x·σ(1.702 x)."""

    def gate(x: Any) -> Any:
        return 1 / (1 + np.exp(-1.702 * x))

    return _other_gelu(parts, gate, lambda x: 1.702 * gate(x) * (1 - gate(x)))


@wrong("MLM-ENC-10", _GRADIENTS)
def the_head_has_no_gelu(parts: Parts) -> Parts:
    """The transform before the output layer is linear."""
    plain = (prediction, "gelu", lambda x, rounded: (x, np.ones_like(x)))
    return inside(parts, plain, (prediction, "gelu_backward", lambda dy, x, below, rounded: dy))


@wrong("MLM-ENC-5", _GRADIENTS)
def scores_by_the_whole_width(parts: Parts) -> Parts:
    """Attention divides by √d of the model and not of a head."""

    def scaled(q: Any, k: Any, v: Any, heads: int, *rest: Any) -> Any:
        return attention(q / math.sqrt(heads), k, v, heads, *rest)

    def backward(dc: Any, kept: Any, rounded: Any) -> Any:
        dq, dk, dv = attention_backward(dc, kept, rounded)
        return dq / math.sqrt(kept.query.shape[0]), dk, dv

    return inside(parts, (block, "attention", scaled), (block, "attention_backward", backward))


@wrong("MLM-ENC-6", "every_position_sees_every_other")
def attention_looks_back_only(parts: Parts) -> Parts:
    """A position does not see those after it."""

    def backwards(q: Any, k: Any, v: Any, heads: int, factor: Any, rounded: Any) -> Any:
        earlier = np.tril(np.ones((len(q), len(q))))
        context, kept = attention(q, k, v, heads, factor, rounded)
        p = kept.probabilities * earlier
        p = p / p.sum(-1, keepdims=True)
        kept = kept._replace(probabilities=p, dropped=p if factor is None else p * factor)
        joined = (kept.dropped @ kept.value).transpose(1, 0, 2).reshape(context.shape)
        return joined, kept

    return inside(parts, (block, "attention", backwards))


@wrong("MLM-ENC-7", "padding_is_not_seen", _PADDING)
def attention_sees_padding(parts: Parts) -> Parts:
    """The mask of padding does not reach attention: the last sequence of a row goes on to its
    end."""

    def seen(batch: TrainingBatch) -> TrainingBatch:
        real, ids = batch.attention_mask, batch.sequence_id.copy()
        for row in range(len(real)):
            last = np.flatnonzero(real[row])[-1]
            ids[row, last + 1 :] = ids[row, last]
        return batch._replace(attention_mask=np.ones_like(real), sequence_id=ids)

    return with_batch(parts, seen)


@wrong("MLM-ENC-8", "packed_sequences_do_not_see_each_other")
def attention_sees_packed_neighbours(parts: Parts) -> Parts:
    """Sequences of one row attend to each other."""

    def seen(batch: TrainingBatch) -> TrainingBatch:
        first = np.broadcast_to(batch.sequence_id[:, :1], batch.sequence_id.shape)
        return batch._replace(sequence_id=first.copy())

    return with_batch(parts, seen)


def _other_terms(parts: Parts, where: Any, name: str, how: Any) -> Parts:
    """A backward whose terms of one parameter are others."""
    correct = getattr(gradients, where)

    def backward(*given: Any) -> Any:
        found = correct(*given)
        terms = found if where == "backward" else found[1]
        terms[name] = how(terms[name])
        return found

    return inside(parts, (gradients, where, backward))


@wrong("MLM-ENC-11", _USES)
def a_tied_gradient_without_the_output_layer(parts: Parts) -> Parts:
    """Word embeddings learn from their use as inputs alone."""
    return _other_terms(parts, "predict_backward", WORDS, lambda t: t._replace(left=0 * t.left))


@wrong("MLM-ENC-11", _USES, "https://github.com/huggingface/transformers/issues/1730")
def a_tied_gradient_without_the_embeddings(parts: Parts) -> Parts:
    """Word embeddings learn from their use as output layer alone."""
    return _other_terms(parts, "backward", WORDS, lambda t: t._replace(left=0 * t.left))


@wrong("MLM-ENC-11", _USES)
def the_word_gradient_is_that_of_the_last_use(parts: Parts) -> Parts:
    """A token that occurs twice gives its embedding the gradient of one of its places."""

    def last(terms: Terms) -> Terms:
        rows = np.asarray(terms.rows)
        later = [i for i, row in enumerate(rows) if row not in rows[i + 1 :]]
        kept = np.isin(np.arange(len(rows)), later)
        return terms._replace(left=terms.left * kept[:, None])

    return _other_terms(parts, "backward", WORDS, last)


@wrong("MLM-ENC-12", _GRADIENTS)
def no_gradient_for_the_output_bias(parts: Parts) -> Parts:
    """The bias of the output layer never learns."""
    return _other_terms(parts, "predict_backward", BIAS, lambda t: t._replace(left=0 * t.left))


@wrong("MLM-ENC-7", "padding_is_not_seen")
def padding_trains_its_embedding(parts: Parts) -> Parts:
    """Padding is given to word 0, which gets a gradient at every place of it."""
    correct = parts.gradients

    def found(parameters: Any, batch: TrainingBatch, *given: Any, **named: Any) -> Any:
        result = correct(parameters, batch, *given, **named)
        result.gradients[WORDS][0] += 1e-3 * float((~batch.attention_mask).sum())
        return result

    return replace(parts, gradients=found)


@wrong("MLM-ENC-2", _GRADIENTS)
def no_token_types(parts: Parts) -> Parts:
    """All tokens are of type 0."""
    return with_batch(parts, lambda b: b._replace(token_type_ids=np.zeros_like(b.token_type_ids)))


@wrong("MLM-ENC-2", _GRADIENTS)
def positions_are_columns(parts: Parts) -> Parts:
    """The position table is read by the column, whatever the batch says."""

    def columns(batch: TrainingBatch) -> TrainingBatch:
        ids = np.arange(batch.inputs.shape[1], dtype=batch.position_ids.dtype)
        return batch._replace(position_ids=np.broadcast_to(ids, batch.inputs.shape).copy())

    return with_batch(parts, columns)


@wrong("MLM-ENC-12", _GRADIENTS)
def all_real_positions_are_predicted(parts: Parts) -> Parts:
    """The loss is over every position that is no padding."""
    return with_batch(parts, lambda b: b._replace(selected=b.attention_mask.copy()))


@wrong("MLM-ENC-12", _GRADIENTS)
def only_changed_tokens_are_predicted(parts: Parts) -> Parts:
    """Selected tokens that were kept do not count."""
    return with_batch(parts, lambda b: b._replace(selected=b.selected & (b.inputs != b.targets)))


@wrong("MLM-ENC-12", _GRADIENTS, "https://github.com/huggingface/transformers/issues/8619")
def shown_tokens_are_the_targets(parts: Parts) -> Parts:
    """The targets are what the encoder is shown."""
    return with_batch(parts, lambda b: b._replace(targets=b.inputs.copy()))
