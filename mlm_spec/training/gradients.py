"""The objective of a micro-batch and its gradient with respect to every parameter (chapter ENC).

What is differentiated is the *sum* of log-likelihoods over the selected positions.  So the pairs
(sum, count) and the gradients of micro-batches add up, and whoever wants a mean divides once, by
the count of the global batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlm_spec.training.batch import TrainingBatch
from mlm_spec.training.config import EncoderConfig
from mlm_spec.training.dropout import Dropout
from mlm_spec.training.encoder import Encoded, backward, forward
from mlm_spec.training.layers import Floats, Rounded, Terms, add_up, identity, magnitudes
from mlm_spec.training.parameters import WORDS, checked, shapes
from mlm_spec.training.places import check_batch
from mlm_spec.training.prediction import Predicted, predict, predict_backward

__all__ = [
    "Gradients",
    "Objective",
    "gradient_magnitudes",
    "objective",
    "objective_and_gradients",
]


class Objective(NamedTuple):
    """The objective of a micro-batch: maximise it.

    Attributes
    ----------
    sum : float64, nats.  Σ log Pr(x_i | x̄) over the selected positions, 0.0 of none.
    count : int64, the number of selected positions.
    """

    sum: Any
    count: Any


class Gradients(NamedTuple):
    """The objective of a micro-batch and its gradient.

    Attributes
    ----------
    sum, count : as in `Objective`.
    gradients : {name: float64 array}, d sum / d parameter, all of `shapes`; zeros of none.
    """

    sum: Any
    count: Any
    gradients: dict[str, Floats]


def objective(
    parameters: Mapping[str, Floats],
    batch: TrainingBatch,
    config: EncoderConfig,
    *,
    dropout: Dropout | None = None,
    rounded: Rounded = identity,
) -> Objective:
    """(sum, count) of a micro-batch: the masked-language-modelling objective.

    Parameters
    ----------
    parameters : {name: float array}, the names and shapes of `shapes`; any float dtype, converted
        exactly.
    batch : B rows and T positions.
    config : which encoder.
    dropout : the seed and the update whose units are dropped; None in an evaluation.
    rounded : applied to the result of every operation (`mlm_spec.training.layers`).

    Returns
    -------
    Objective : nothing selected: 0.0 and 0.

    Raises
    ------
    ConfigError, InputError, ShapeError, DTypeError, IdRangeError, NotFiniteError, SeedError.

    Source: chapter ENC.  Bound: that of its section "Bounds" at u = 2⁻⁵³.

    >>> from mlm_spec.training.parameters import initial_parameters
    >>> config = EncoderConfig(vocab_size=9, hidden_size=4, num_hidden_layers=1,
    ...                        num_attention_heads=2, intermediate_size=8)
    >>> tokens, real, place = np.array([[1, 5, 2]]), np.ones((1, 3), bool), np.arange(3)[None]
    >>> batch = TrainingBatch(np.array([[1, 4, 2]]), tokens, tokens == 5, real, 0 * tokens, place,
    ...                       np.zeros((1, 3, 2), np.uint32), place.astype(np.uint32))
    >>> result = objective(initial_parameters(config, seed=7), batch, config)
    >>> round(float(result.sum), 6), int(result.count)
    (-2.213691, 1)
    """
    _, predicted = _run(checked(parameters, config), batch, config, dropout, rounded)
    if predicted is None:
        return Objective(np.float64(0.0), np.int64(0))
    return Objective(predicted.sum, np.int64(predicted.targets.size))


def objective_and_gradients(
    parameters: Mapping[str, Floats],
    batch: TrainingBatch,
    config: EncoderConfig,
    *,
    dropout: Dropout | None = None,
    rounded: Rounded = identity,
) -> Gradients:
    """(sum, count), and the gradient of the sum with respect to every parameter.

    The table of word embeddings has two uses, as embeddings and as output layer; its gradient is
    the sum of both.

    Parameters
    ----------
    parameters, batch, config, dropout, rounded : as in `objective`.

    Returns
    -------
    Gradients : in the direction of ascent; nothing selected: 0.0, 0 and zeros.

    Raises
    ------
    As `objective`.

    Source: chapter ENC.  Bound: that of its section "Bounds" at u = 2⁻⁵³.

    >>> from mlm_spec.training.parameters import initial_parameters
    >>> config = EncoderConfig(vocab_size=9, hidden_size=4, num_hidden_layers=1,
    ...                        num_attention_heads=2, intermediate_size=8)
    >>> tokens, real, place = np.array([[1, 5, 2]]), np.ones((1, 3), bool), np.arange(3)[None]
    >>> batch = TrainingBatch(np.array([[1, 4, 2]]), tokens, tokens == 5, real, 0 * tokens, place,
    ...                       np.zeros((1, 3, 2), np.uint32), place.astype(np.uint32))
    >>> result = objective_and_gradients(initial_parameters(config, seed=7), batch, config)
    >>> [round(float(g), 3) for g in result.gradients["cls.predictions.bias"]]
    [-0.114, -0.115, -0.116, -0.11, -0.114, 0.891, -0.11, -0.109, -0.104]
    """
    known = checked(parameters, config)
    encoded, predicted = _run(known, batch, config, dropout, rounded)
    zeros = {name: np.zeros(shape) for name, shape in shapes(config).items()}
    if predicted is None:
        return Gradients(np.float64(0.0), np.int64(0), zeros)
    uses = _terms(known, batch, encoded, predicted, rounded)
    for name, gradient in zeros.items():
        parts = [rounded(add_up(terms, gradient.shape)) for terms in uses[name]]
        zeros[name] = parts[0] if len(parts) == 1 else rounded(parts[0] + parts[1])
    return Gradients(predicted.sum, np.int64(predicted.targets.size), zeros)


def gradient_magnitudes(
    parameters: Mapping[str, Floats],
    batch: TrainingBatch,
    config: EncoderConfig,
    *,
    dropout: Dropout | None = None,
) -> dict[str, Floats]:
    """For each entry of each gradient, the sum of the magnitudes of its terms over the positions.

    An error of an entry is to be compared with this and not with the entry: the gradient of a key's
    bias is 0 in real arithmetic, and what is computed for it is the rounding of its terms.

    Parameters
    ----------
    parameters, batch, config, dropout : as in `objective`.

    Returns
    -------
    {name: float64 array}, at least |gradient| up to rounding.

    Raises
    ------
    As `objective`.

    Source: chapter ENC.  Bound: that of its section "Bounds" at u = 2⁻⁵³.
    """
    known = checked(parameters, config)
    encoded, predicted = _run(known, batch, config, dropout, identity)
    if predicted is None:
        return {name: np.zeros(shape) for name, shape in shapes(config).items()}
    uses = _terms(known, batch, encoded, predicted, identity)
    return {
        name: np.sum([add_up(magnitudes(terms), shape) for terms in uses[name]], axis=0)
        for name, shape in shapes(config).items()
    }


def _run(
    parameters: Mapping[str, Floats],
    batch: TrainingBatch,
    config: EncoderConfig,
    dropout: Dropout | None,
    rounded: Rounded,
) -> tuple[Encoded, Predicted | None]:
    """Forward: the encoder, and the head at the selected positions if there are any."""
    check_batch(batch, config)
    encoded = forward(parameters, batch, config, dropout, rounded)
    chosen = _chosen(batch, encoded)
    if not chosen.any():
        return encoded, None
    hidden, targets = encoded.states[-1][chosen], batch.targets[encoded.places.at][chosen]
    index = np.argwhere(batch.selected)
    return encoded, predict(parameters, config, hidden, targets, index, rounded)


def _chosen(batch: TrainingBatch, encoded: Encoded) -> NDArray[np.bool_]:
    """Which of the real positions are selected, (N,)."""
    chosen: NDArray[np.bool_] = batch.selected[encoded.places.at]
    return chosen


def _terms(
    parameters: Mapping[str, Floats],
    batch: TrainingBatch,
    encoded: Encoded,
    predicted: Predicted,
    rounded: Rounded,
) -> dict[str, list[Terms]]:
    """Backward: the terms of each parameter's gradient, for each of its uses."""
    d_chosen, of_head = predict_backward(parameters, predicted, rounded)
    d_hidden = np.zeros_like(encoded.states[-1])
    d_hidden[_chosen(batch, encoded)] = d_chosen
    of_encoder = backward(parameters, encoded, d_hidden, rounded)
    found = {name: [terms] for name, terms in (of_encoder | of_head).items()}
    found[WORDS] = [of_encoder[WORDS], of_head[WORDS]]
    return found
