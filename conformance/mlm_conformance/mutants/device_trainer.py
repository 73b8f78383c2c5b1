"""A trainer on several devices, in parts, each of which can be a wrong one.

There is no device here: rows are dealt out and ids cut into parts, and each share is computed by
itself.  `SHARING` is how that is done right; a wrong trainer is registered by a function from it
to one with a mistake:

    @wrong("MLM-DST-28", "parts_are_those_of_a_whole")
    def the_bias_is_a_part_behind(sharing: Sharing) -> Sharing:
        \"\"\"Each part adds the bias of the part before it.\"\"\"
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from mlm_conformance.mutants.registry import register_mutant
from mlm_conformance.mutants.trainer import CORRECT_PARTS, Parts, Trainer, inside
from mlm_spec import MaskingPolicy
from mlm_spec.training.batch import TrainingBatch
from mlm_spec.training.config import EncoderConfig
from mlm_spec.training.dropout import Dropout
from mlm_spec.training.encoder import backward, forward
from mlm_spec.training.gradients import Gradients, Objective
from mlm_spec.training.layers import (
    Floats,
    add_up,
    gelu,
    gelu_backward,
    identity,
    layer_norm,
    layer_norm_backward,
    linear,
    linear_backward,
)
from mlm_spec.training.parameters import BIAS, WORDS, pair, shapes

__all__ = ["SHARING", "Part", "Sharing", "backend", "correct_devices", "filled", "wrong"]

_METHODS = ("evaluate", "gradients", "step", "parameters", "state", "save", "load")
_DENSE, _NORM = "cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm"


class Part(NamedTuple):
    """The ids of one device: the first of them, their rows of the table, and which are real."""

    first: int
    weight: Floats
    bias: Floats
    real: Any

    @property
    def ids(self) -> Any:
        """(v,)."""
        return self.first + np.arange(len(self.bias))


def filled(array: Any, count: int) -> Any:
    """Zeros after the last row, up to a multiple of ``count``."""
    missing = -len(array) % count
    return np.pad(array, ((0, missing), *((0, 0),) * (array.ndim - 1)))


def _rows(batch: TrainingBatch, devices: int) -> TrainingBatch:
    """Filled up with rows in which nothing is real or selected."""
    return TrainingBatch(*(filled(array, devices) for array in batch))


def _shares(batch: TrainingBatch, devices: int) -> list[TrainingBatch]:
    """The rows of each device."""
    cuts = [np.split(array, devices) for array in batch]
    return [TrainingBatch(*own) for own in zip(*cuts, strict=True)]


def _parts(parameters: Mapping[str, Floats], devices: int) -> list[Part]:
    """The ids of each device, filled up."""
    weight, bias = (filled(parameters[name], devices) for name in (WORDS, BIAS))
    real = np.arange(len(bias)) < len(parameters[BIAS])
    cuts = [np.split(array, devices) for array in (weight, bias, real)]
    size = len(bias) // devices
    return [Part(n * size, *own) for n, own in enumerate(zip(*cuts, strict=True))]


def _logits(states: Floats, parts: Sequence[Part]) -> list[Floats]:
    """(n, v) of each part; −∞ at an id that fills it up."""
    return [np.where(p.real, states @ p.weight.T + p.bias, -np.inf) for p in parts]


def _normalisers(logits: Sequence[Floats]) -> list[Floats]:
    """log Σ exp over the ids of all parts (n, 1), as each part has it in the end."""
    most = [z.max(axis=-1, keepdims=True) for z in logits]
    top = np.max(most, axis=0)
    own = [np.exp(z - np.where(np.isinf(m), 0.0, m)).sum(-1, keepdims=True)
           for z, m in zip(logits, most, strict=True)]  # fmt: skip
    total = np.sum([s * np.exp(m - top) for s, m in zip(own, most, strict=True)], axis=0)
    return [top + np.log(total)] * len(logits)


def _hits(targets: Any, parts: Sequence[Part]) -> list[Any]:
    """bool (n, v) of each part: where its targets are."""
    return [targets[:, None] == part.ids for part in parts]


def _whole(parts: Sequence[Any], size: int) -> Any:
    """The gradient of a table from those of its parts, without what filled it up."""
    return np.concatenate(parts)[:size]


def _total(found: Sequence[Gradients]) -> Gradients:
    """Of all rows, from those of each device."""
    names = found[0].gradients
    total = {name: np.sum([f.gradients[name] for f in found], axis=0) for name in names}
    return Gradients(sum(f.sum for f in found), sum(f.count for f in found), total)


@dataclass(frozen=True, slots=True)
class Sharing:
    """How a trainer shares its work out, each part as its correct one.

    ``masked`` makes a batch of what was given for so many devices; ``changes`` are names of the
    reference that are something else while a share is computed; ``methods`` of the session stand in
    place of the trainer's, which they are given with the number of devices along the ids.
    """

    parts_of_trainer: Parts
    masked: Callable[[Callable[[Any], TrainingBatch], Any, int], TrainingBatch]
    rows: Callable[[TrainingBatch, int], TrainingBatch]
    shares: Callable[[TrainingBatch, int], list[TrainingBatch]]
    parts: Callable[[Mapping[str, Floats], int], list[Part]]
    logits: Callable[[Floats, Sequence[Part]], list[Floats]]
    normalisers: Callable[[Sequence[Floats]], list[Floats]]
    hits: Callable[[Any, Sequence[Part]], list[Any]]
    states: Callable[[Sequence[Floats]], Floats]
    whole: Callable[[Sequence[Any], int], Any]
    total: Callable[[Sequence[Gradients]], Gradients]
    value: Callable[[Sequence[Gradients]], Gradients]
    methods: Callable[[Trainer, int], dict[str, Any]]
    changes: tuple[tuple[object, str, Any], ...] = ()


SHARING = Sharing(
    CORRECT_PARTS, lambda make, given, devices: make(given), _rows, _shares, _parts, _logits,
    _normalisers, _hits, lambda parts: np.sum(parts, axis=0), _whole, _total, _total,
    lambda trainer, ids: {},
)  # fmt: skip


def _share(
    sharing: Sharing,
    parameters: Mapping[str, Floats],
    batch: TrainingBatch,
    config: EncoderConfig,
    dropout: Dropout | None,
    ids: int,
) -> Gradients:
    """Sum, count and gradients of the rows of one device."""
    zeros = {name: np.zeros(shape) for name, shape in shapes(config).items()}
    if not batch.selected.any():
        return Gradients(0.0, 0, zeros)
    encoded = forward(parameters, batch, config, dropout, identity)
    chosen = batch.selected[encoded.places.at]
    targets = batch.targets[encoded.places.at][chosen]
    total, d_chosen, of_head = _head(
        sharing, parameters, encoded.states[-1][chosen], targets, config, ids
    )
    d_hidden = np.zeros_like(encoded.states[-1])
    d_hidden[chosen] = d_chosen
    for name, terms in backward(parameters, encoded, d_hidden, identity).items():
        zeros[name] = zeros[name] + add_up(terms, zeros[name].shape)
    for name, gradient in of_head.items():
        zeros[name] = zeros[name] + gradient
    return Gradients(total, len(targets), zeros)


def _head(
    sharing: Sharing,
    parameters: Mapping[str, Floats],
    hidden: Floats,
    targets: Any,
    config: EncoderConfig,
    ids: int,
) -> tuple[float, Floats, dict[str, Any]]:
    """Σ log p, the gradient of the hidden states, and those of the head's parameters."""
    inner = linear(hidden, *pair(parameters, _DENSE), identity)
    active, below = gelu(inner, identity)
    norm = pair(parameters, _NORM)
    states, kept = layer_norm(active, *norm, config.layer_norm_eps, identity)
    parts = sharing.parts(parameters, ids)
    logits, hits = sharing.logits(states, parts), sharing.hits(targets, parts)
    nats = [z - top for z, top in zip(logits, sharing.normalisers(logits), strict=True)]
    total = sum(float(own[hit].sum()) for own, hit in zip(nats, hits, strict=True))
    d_logits = [hit - np.exp(own) for own, hit in zip(nats, hits, strict=True)]
    d_parts = [d @ part.weight for d, part in zip(d_logits, parts, strict=True)]
    d_active, *of_norm = layer_norm_backward(sharing.states(d_parts), kept, norm[0], identity)
    d_inner = gelu_backward(d_active, inner, below, identity)
    d_hidden, *of_dense = linear_backward(d_inner, hidden, parameters[f"{_DENSE}.weight"], identity)
    found = {
        WORDS: sharing.whole([d.T @ states for d in d_logits], config.vocab_size),
        BIAS: sharing.whole([d.sum(axis=0) for d in d_logits], config.vocab_size),
    }
    for name, pair_of_terms in ((_NORM, of_norm), (_DENSE, of_dense)):
        for kind, terms in zip(("weight", "bias"), pair_of_terms, strict=True):
            found[f"{name}.{kind}"] = add_up(terms, parameters[f"{name}.{kind}"].shape)
    return total, d_hidden, found


def _on_devices(sharing: Sharing, rows: int, ids: int) -> Parts:
    """The parts of a trainer that shares its micro-batches out."""

    def found(
        dropout: Dropout | None, parameters: Any, batch: TrainingBatch, config: EncoderConfig
    ) -> list[Gradients]:
        shares = sharing.shares(sharing.rows(batch, rows), rows)
        with np.errstate(all="ignore"):  # what is wrong with it is for the suite to say
            return [_share(sharing, parameters, s, config, dropout, ids) for s in shares]

    def gradients(*given: Any, dropout: Dropout | None = None) -> Gradients:
        return sharing.total(found(dropout, *given))

    def value(*given: Any, dropout: Dropout | None = None) -> Objective:
        return Objective(*sharing.value(found(dropout, *given))[:2])

    def masked(given: Any, *about: Any) -> TrainingBatch:
        make = sharing.parts_of_trainer.masked
        return sharing.masked(lambda batch: make(batch, *about), given, rows)

    shared = replace(sharing.parts_of_trainer, masked=masked, gradients=gradients, value=value)
    return inside(shared, *sharing.changes)


def backend(sharing: Sharing) -> SimpleNamespace:
    """A backend whose one port is `device_session`."""

    def device_session(
        encoder: Any,
        training: Any,
        parameters: Any,
        policy: MaskingPolicy | None,
        rows: int,
        ids: int,
    ) -> SimpleNamespace:
        parts = _on_devices(sharing, rows, ids)
        trainer = Trainer(parts, encoder, training, parameters, policy)
        own = {name: getattr(trainer, name) for name in _METHODS}
        return SimpleNamespace(**own | sharing.methods(trainer, ids))

    return SimpleNamespace(device_session=device_session)


correct_devices = backend(SHARING)


def wrong(
    requirement: str, check: str, url: str = ""
) -> Callable[[Callable[[Sharing], Sharing]], Any]:
    """Register a mistake; its docstring says what is wrong."""

    def register(mistake: Callable[[Sharing], Sharing]) -> Any:
        register_mutant(mistake, requirement, ("device_session",), check, url or ())
        return backend(mistake(SHARING))

    return register
