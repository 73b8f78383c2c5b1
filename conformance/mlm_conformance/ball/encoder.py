"""The encoder and its objective once more, one number at a time, in ball arithmetic (chapter ENC).

A transcription of the text: places and units are plain indices, attention asks of each pair of
places whether one sees the other, and every sum is a loop.  Dropout comes from scalar random words.
Types apart, it shares no line with `mlm_spec`.

A number is a power series of two coefficients, c₀ + c₁·ε.  With c₁ = 1 at one entry of one
parameter (or a direction over many), the second coefficient of the objective is the derivative: it
takes no step size and no backward.  Both coefficients are enclosed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from flint import arb, arb_series, ctx, fmpq
from numpy.typing import NDArray

from mlm_conformance.transcription.random_words import threefry4x32_20, threshold
from mlm_spec.training.batch import TrainingBatch
from mlm_spec.training.config import EncoderConfig

__all__ = ["Derivative", "derivative", "hidden_states"]

Number = Any  # arb_series
Row = list[Number]
Update = tuple[int, int]  # seed and number

_TAG = 0x4D4C4D00
_DROPOUT = 3
_PRECISION = 160  # bits; float64 inputs of moderate size lose some dozens


class Derivative(NamedTuple):
    """The objective and its derivative in one direction, each the middle of its ball.

    Attributes
    ----------
    sum, slope : float64.
    radius : no ball is wider than this.
    """

    sum: float
    slope: float
    radius: float


class _Model(NamedTuple):
    numbers: Mapping[str, list[Any]]
    batch: TrainingBatch
    config: EncoderConfig
    update: Update | None


def _numbers(
    parameters: Mapping[str, NDArray[Any]], direction: Mapping[str, NDArray[Any]]
) -> dict[str, list[Any]]:
    """Each parameter as a list of numbers, or of rows of numbers."""
    found = {}
    for name, values in parameters.items():
        slopes = direction.get(name, np.zeros(values.shape))
        pairs = zip(values.reshape(-1).tolist(), slopes.reshape(-1).tolist(), strict=True)
        flat = [_number(value, slope) for value, slope in pairs]
        width = values.shape[-1]
        rows = [flat[start : start + width] for start in range(0, len(flat), width)]
        found[name] = rows if values.ndim == 2 else flat
    return found


def derivative(
    parameters: Mapping[str, NDArray[Any]],
    direction: Mapping[str, NDArray[Any]],
    batch: TrainingBatch,
    config: EncoderConfig,
    update: Update | None = None,
) -> Derivative:
    """The sum of log-likelihoods at ``parameters``, and how it changes along ``direction``.

    Parameters
    ----------
    parameters : {name: float64 array}, all of the encoder and the head.
    direction : {name: float64 array}, of the same shapes; what is not there stands still.
    batch, config : as in `mlm_spec.training.objective`.
    update : (seed, number) of the update whose units are dropped, or None.
    """
    with _Precision():
        model = _Model(_numbers(parameters, direction), batch, config, update)
        total = _number(0.0, 0.0)
        for states in _rows(model, range(batch.inputs.shape[0])):
            for (row, column), state in states[-1].items():
                if batch.selected[row, column]:
                    total += _log_likelihood(model, state, int(batch.targets[row, column]))
        value, slope = total[0], total[1]
        radius = max(float(value.rad()), float(slope.rad()))
        return Derivative(float(value.mid()), float(slope.mid()), radius)


def hidden_states(
    parameters: Mapping[str, NDArray[Any]],
    batch: TrainingBatch,
    config: EncoderConfig,
    update: Update | None = None,
) -> list[NDArray[np.float64]]:
    """L + 1 arrays (B, T, d), the middles of the balls; 0.0 at padding."""
    with _Precision():
        model = _Model(_numbers(parameters, {}), batch, config, update)
        shape = (*batch.inputs.shape, config.hidden_size)
        found = [np.zeros(shape) for _ in range(config.num_hidden_layers + 1)]
        for states in _rows(model, range(shape[0])):
            for array, state in zip(found, states, strict=True):
                for place, numbers in state.items():
                    array[place] = [float(x[0].mid()) for x in numbers]
        return found


class _Precision:
    """Series of two coefficients, in ``_PRECISION`` bits; what was set before comes back."""

    def __enter__(self) -> None:
        self.before = ctx.prec, ctx.cap
        ctx.prec, ctx.cap = _PRECISION, 2

    def __exit__(self, *error: object) -> None:
        ctx.prec, ctx.cap = self.before


def _number(value: float, slope: float) -> Number:
    return arb_series([arb(value), arb(slope)])


def _exact(value: Fraction) -> arb:
    return arb(fmpq(value.numerator, value.denominator))


Place = tuple[int, int]
States = dict[Place, Row]


def _rows(model: _Model, rows: Sequence[int]) -> list[list[States]]:
    """For each row: h⁰ … h^L at its real places."""
    found = []
    mask = model.batch.attention_mask.tolist()
    for row in rows:
        places = [(row, column) for column, real in enumerate(mask[row]) if real]
        states = [{place: _embedding(model, place) for place in places}]
        for layer in range(model.config.num_hidden_layers):
            states.append(_layer(model, layer, states[-1]))
        found.append(states)
    return found


def _embedding(model: _Model, place: Place) -> Row:
    batch, start = model.batch, "bert.embeddings"
    parts = [
        model.numbers[f"{start}.word_embeddings.weight"][int(batch.inputs[place])],
        model.numbers[f"{start}.position_embeddings.weight"][int(batch.position_ids[place])],
        model.numbers[f"{start}.token_type_embeddings.weight"][int(batch.token_type_ids[place])],
    ]
    e = [a + b + c for a, b, c in zip(*parts, strict=True)]
    return _dropped(model, 0, 0, place, _layer_norm(model, f"{start}.LayerNorm", e))


def _layer(model: _Model, layer: int, states: States) -> States:
    start = f"bert.encoder.layer.{layer}"
    attention, inner = f"{start}.attention", f"{start}.intermediate.dense"
    q, k, v = (
        {place: _linear(model, f"{attention}.self.{part}", h) for place, h in states.items()}
        for part in ("query", "key", "value")
    )
    after = {}
    for place, h in states.items():
        context = _context(model, layer, place, q[place], k, v)
        out = _linear(model, f"{attention}.output.dense", context)
        out = _dropped(model, 2, layer, place, out)
        a = _layer_norm(model, f"{attention}.output.LayerNorm", _add(h, out))
        active = [_gelu(x) for x in _linear(model, inner, a)]
        out = _dropped(model, 3, layer, place, _linear(model, f"{start}.output.dense", active))
        after[place] = _layer_norm(model, f"{start}.output.LayerNorm", _add(a, out))
    return after


def _context(model: _Model, layer: int, place: Place, q: Row, k: States, v: States) -> Row:
    """Σ_j D(P)_ij v_j, head by head."""
    size = model.config.hidden_size // model.config.num_attention_heads
    seen = [other for other in k if _visible(model.batch, place, other)]
    context = []
    for head in range(model.config.num_attention_heads):
        units = range(head * size, (head + 1) * size)
        scores = [_sum(q[c] * k[other][c] for c in units) / arb(size).sqrt() for other in seen]
        power = [score.exp() for score in scores]
        total = _sum(power)
        weights = [
            _kept(
                model, 1, layer, place, head * 2**24 + int(model.batch.position[other]), x / total
            )
            for other, x in zip(seen, power, strict=True)
        ]
        context += [_sum(w * v[o][c] for o, w in zip(seen, weights, strict=True)) for c in units]
    return context


def _visible(batch: TrainingBatch, i: Place, j: Place) -> bool:
    """Same row, both real, the same sequence."""
    real = bool(batch.attention_mask[i] and batch.attention_mask[j])
    return real and i[0] == j[0] and batch.sequence_id[i].tolist() == batch.sequence_id[j].tolist()


def _log_likelihood(model: _Model, h: Row, target: int) -> Number:
    start = "cls.predictions"
    active = [_gelu(x) for x in _linear(model, f"{start}.transform.dense", h)]
    t = _layer_norm(model, f"{start}.transform.LayerNorm", active)
    bias = model.numbers[f"{start}.bias"]
    words = model.numbers["bert.embeddings.word_embeddings.weight"]
    logits = [_dot(t, row) + b for row, b in zip(words, bias, strict=True)]
    return logits[target] - _sum(z.exp() for z in logits).log()


def _linear(model: _Model, name: str, x: Row) -> Row:
    bias = model.numbers[f"{name}.bias"]
    return [_dot(x, row) + b for row, b in zip(model.numbers[f"{name}.weight"], bias, strict=True)]


def _layer_norm(model: _Model, name: str, x: Row) -> Row:
    mean = _sum(x) / len(x)
    variance = _sum((value - mean) * (value - mean) for value in x) / len(x)
    deviation = (variance + arb(model.config.layer_norm_eps)).sqrt()
    scale, shift = model.numbers[f"{name}.weight"], model.numbers[f"{name}.bias"]
    return [(v - mean) / deviation * s + t for v, s, t in zip(x, scale, shift, strict=True)]


def _gelu(x: Number) -> Number:
    return x * (1 + (x / arb(2).sqrt()).erf()) / 2


def _dropped(model: _Model, site: int, layer: int, place: Place, values: Row) -> Row:
    return [_kept(model, site, layer, place, c, x) for c, x in enumerate(values)]


def _kept(model: _Model, site: int, layer: int, place: Place, channel: int, x: Number) -> Number:
    """x / (1 − p) if the unit is kept, else 0; x itself where nothing is dropped."""
    config = model.config
    p = Fraction(config.attention_dropout if site == 1 else config.hidden_dropout)
    if model.update is None or p == 0:
        return x
    key = tuple(n >> shift & 0xFFFFFFFF for n in model.update for shift in (0, 32))
    key = threefry4x32_20(key, (site, _TAG ^ _DROPOUT, layer, 0))
    sequence = (int(word) for word in model.batch.sequence_id[place])
    counter = (int(model.batch.position[place]), channel // 4, *sequence)
    word = threefry4x32_20(key, counter)[channel % 4]
    return x / _exact(1 - p) if word < threshold(1 - p) else x * 0


def _add(x: Row, y: Row) -> Row:
    return [a + b for a, b in zip(x, y, strict=True)]


def _dot(x: Row, y: Row) -> Number:
    return _sum(a * b for a, b in zip(x, y, strict=True))


def _sum(numbers: Any) -> Number:
    total = _number(0.0, 0.0)
    for number in numbers:
        total += number
    return total
