"""The objective of an update and its gradients, in balls (chapters LIK, GRA, HED and TRN)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.bounds.arithmetic import arithmetic
from mlm_conformance.bounds.scoring import value_bound
from mlm_conformance.bounds.softmax import probability_error
from mlm_conformance.bounds.softmax import softmax as soft_of
from mlm_conformance.training.balls import Ball, Rounding, exact, rounding
from mlm_conformance.training.dropout import Dropout
from mlm_conformance.training.encoder import Encoder
from mlm_conformance.training.layers import gelu
from mlm_conformance.training.names import shapes
from mlm_spec.training.config import EncoderConfig

__all__ = ["Objective", "evaluated", "objective"]

Array = NDArray[Any]
_WORDS = "bert.embeddings.word_embeddings.weight"
_BIAS = "cls.predictions.bias"


@dataclass(frozen=True, slots=True)
class Objective:
    """Of all micro-batches of an update.

    Attributes
    ----------
    sum : Σ log p over the selected positions, in nats.
    count : how many they are.
    gradients : of the loss −sum/count by each parameter; zeros where nothing is selected.
    """

    sum: Ball
    count: int
    gradients: dict[str, Ball]


def evaluated(
    config: EncoderConfig,
    parameters: Mapping[str, Array],
    batches: Sequence[Mapping[str, Array]],
    unit: float = 2.0**-53,
) -> Objective:
    """Sum and count without dropout; no gradients."""
    r = rounding(unit)
    balls = {name: exact(value) for name, value in parameters.items()}
    count = sum(int(b["selected"].sum()) for b in batches)
    sums = []
    for batch in batches:
        run = Encoder(r, config, balls, dict(batch), None, 1)
        states, _ = run.encode()
        sums.append(_likelihood(run, states, count)[0])
    return Objective(_sum_of(r, sums).inflated(), count, {})


def objective(
    config: EncoderConfig,
    parameters: Mapping[str, Array],
    batches: Sequence[Mapping[str, Array]],
    seed: int,
    update: int,
    unit: float = 2.0**-53,
) -> Objective:
    """What update number ``update`` of a run with this seed sees.

    Parameters
    ----------
    config : which encoder.
    parameters : float64 (or a longer float) by name.
    batches : masked micro-batches.
    seed, update : of dropout.
    unit : the unit roundoff of the implementation.
    """
    r, sums, found = rounding(unit), [], dict[str, list[Ball]]()
    balls = {name: exact(value) for name, value in parameters.items()}
    count = sum(int(b["selected"].sum()) for b in batches)
    terms = sum(b["selected"].size for b in batches) + count + len(batches)
    for batch in batches:
        dropped = Dropout(seed, update, batch["sequence_id"], batch["position"])
        run = Encoder(r, config, balls, dict(batch), dropped, terms)
        sums.append(_pulled(run, count))
        for name, gradient in run.gradients.items():
            found.setdefault(name, []).append(gradient)
    total = _sum_of(r, sums)
    gradients = {
        name: _mean(r, found.get(name, []), count, shape) for name, shape in shapes(config).items()
    }
    return Objective(total.inflated(), count, gradients)


def _mean(r: Rounding, parts: Sequence[Ball], count: int, shape: tuple[int, ...]) -> Ball:
    """−Σ/N: of the loss, which is minimised."""
    if count == 0 or not parts:
        return exact(np.zeros(shape))
    whole = -r.add(*parts)
    return r.divided(whole, exact(whole.value.dtype.type(count)), 2).inflated()


def _sum_of(r: Rounding, parts: Sequence[Ball]) -> Ball:
    return r.add(*parts) if parts else exact(np.zeros(()))


def _pulled(run: Encoder, count: int) -> Ball:
    """The sum of one micro-batch; its gradients are then in ``run.gradients``."""
    states, pull_encoder = run.encode()
    total, pull = _likelihood(run, states, count)
    pull_encoder(pull())
    return total


def _likelihood(run: Encoder, states: Ball, count: int) -> tuple[Ball, Any]:
    """Σ log p at the selected positions, and what gives the gradient by the hidden states."""
    r, at = run.r, np.flatnonzero(run.batch["selected"])
    targets = run.batch["targets"].reshape(-1)[at].astype(np.intp)
    h = states.moved(lambda x: x[at], lambda x: x[at])
    t, pull_dense = run.dense("cls.predictions.transform.dense", h)
    t, pull_gelu = gelu(r, t)
    t, pull_norm = run.norm("cls.predictions.transform.LayerNorm", t)
    words, bias = run.parameters[_WORDS], run.parameters[_BIAS]
    logits = r.add(r.mapped(t, words.moved(np.transpose), more=1), bias)
    nats = _log_likelihood(r, logits, targets)
    total = r.total(nats, 0, count)

    def pull() -> Ball:
        dz = _signal(r, logits, targets)
        run.collect(_WORDS, r.matmul(dz.moved(np.transpose), t, run.terms))
        run.collect(_BIAS, r.total(dz, 0, run.terms))
        dh = pull_dense(pull_gelu(pull_norm(r.mapped(dz, words))))
        return _placed(dh, at, len(states.value))

    return total, pull


def _placed(dh: Ball, at: Array, count: int) -> Ball:
    """Rows at their positions, among rows of zeros."""

    def placed(rows: Array) -> Array:
        found = np.zeros((count, *rows.shape[1:]), rows.dtype)
        found[at] = rows
        return found

    return dh.moved(placed, placed)


def _log_likelihood(r: Rounding, logits: Ball, targets: Array) -> Ball:
    """log p of the targets (N,): by the perturbed logits, and by the bound of chapter LIK."""
    if not len(targets):
        return exact(np.zeros(0, logits.value.dtype))
    p, nats = _softmax(logits.value)
    column = targets[:, None]
    value = np.take_along_axis(nats, column, -1)[:, 0]
    own = np.take_along_axis(logits.radius, column, -1)[:, 0]
    moved = own + np.log1p((p * np.expm1(logits.radius)).sum(-1))
    how = replace(arithmetic("float64"), unit=r.unit)
    return Ball(value, moved + value_bound(logits.value.astype(np.float64), targets, how))


def _signal(r: Rounding, logits: Ball, targets: Array) -> Ball:
    """1[j = t] − p_j, which may be scaled by 1/N here already (N, V)."""
    p, nats = _softmax(logits.value)
    hit = targets[:, None] == np.arange(p.shape[-1])
    value = np.where(hit, -np.expm1(nats), -np.exp(nats))
    if not len(targets):
        return exact(value)
    how = replace(arithmetic("float64"), unit=r.unit)
    rounded = probability_error(soft_of(logits.value.astype(np.float64)), how)
    spread = np.log1p((p * np.expm1(logits.radius)).sum(-1, keepdims=True))
    moved = p * np.expm1(rounded + logits.radius + spread)
    return r.widened(Ball(value, moved + r.unit * p), 6)


def _softmax(logits: Array) -> tuple[Array, Array]:
    """p in float64, log p in the dtype of the logits."""
    shifted = logits - logits.max(-1, keepdims=True)
    nats = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return np.exp(nats).astype(np.float64), nats
