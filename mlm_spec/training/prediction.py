"""The head: from hidden states at selected positions to log-likelihoods, and back (MLM-ENC-9).

    t = LN(gelu(h · Wtᵀ + bt)),  logits = t · Wtokᵀ + b

What follows the logits is that of the chapters LIK, GRA and HED.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlm_spec.checking import check_logits
from mlm_spec.likelihood import log_likelihood, logit_gradient
from mlm_spec.training.config import EncoderConfig
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
from mlm_spec.training.parameters import BIAS, WORDS, pair

__all__ = ["Predicted", "predict", "predict_backward"]

_DENSE, _NORM = "cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm"


class Predicted(NamedTuple):
    """The objective at the selected positions, and what the backward needs.

    Attributes
    ----------
    sum : nats.
    targets : integer (n,).
    hidden, inner, below : (n, d): h, h · Wtᵀ + bt, and its Φ.
    normalized : of LayerNorm.
    states : (n, d), t.
    logits : (n, V).
    """

    sum: np.float64
    targets: NDArray[np.integer]
    hidden: Floats
    inner: Floats
    below: Floats
    normalized: Normalized
    states: Floats
    logits: Floats


def predict(
    parameters: Mapping[str, Floats],
    config: EncoderConfig,
    hidden: Floats,
    targets: NDArray[np.integer],
    index: NDArray[np.intp],
    rounded: Rounded,
) -> Predicted:
    """The log-likelihoods of n selected positions, added up.

    Parameters
    ----------
    hidden : (n, d), their hidden states.
    targets : integer (n,).
    index : (n, 2), their rows and columns, for messages.
    """
    inner = linear(hidden, *pair(parameters, _DENSE), rounded)
    active, below = gelu(inner, rounded)
    norm = pair(parameters, _NORM)
    states, normalized = layer_norm(active, *norm, config.layer_norm_eps, rounded)
    logits = linear(states, parameters[WORDS], parameters[BIAS], rounded)
    check_logits(logits, targets, index)
    nats = rounded(log_likelihood(logits, targets))
    total = rounded(np.array([math.fsum(nats.tolist())]))[0]
    return Predicted(total, targets, hidden, inner, below, normalized, states, logits)


def predict_backward(
    parameters: Mapping[str, Floats], kept: Predicted, rounded: Rounded
) -> tuple[Floats, dict[str, Terms]]:
    """The gradient of h (n, d), and the terms of the head's parameters.

    Those of the tied weight are the decoder's use of it alone; the embeddings' are the encoder's.
    """
    d_logits = rounded(logit_gradient(kept.logits, kept.targets))
    d_states, of_words, of_logits = linear_backward(
        d_logits, kept.states, parameters[WORDS], rounded
    )
    d_active, of_norm, of_shift = layer_norm_backward(
        d_states, kept.normalized, parameters[f"{_NORM}.weight"], rounded
    )
    d_inner = gelu_backward(d_active, kept.inner, kept.below, rounded)
    d_hidden, of_dense, of_bias = linear_backward(
        d_inner, kept.hidden, parameters[f"{_DENSE}.weight"], rounded
    )
    return d_hidden, {
        WORDS: of_words,
        BIAS: of_logits,
        f"{_NORM}.weight": of_norm,
        f"{_NORM}.bias": of_shift,
        f"{_DENSE}.weight": of_dense,
        f"{_DENSE}.bias": of_bias,
    }
