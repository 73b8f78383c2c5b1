"""Cases in which one part of the encoder decides, and what comes after it leaves no trace.

A wrong LayerNorm shows in every number of an encoder.  So that a report can tell which part is
wrong, the parameters of a case are changed until the others do not matter: where 40 is added to
what GELU is given, GELU and its approximations are all the identity; where queries and keys have
no weights, attention is the same whatever its scale; where embeddings are all equal, it does not
matter which of them is read; and without an output bias nobody misses it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.cases.numbers import generator
from mlm_conformance.cases.training import SIZES, TrainingCase, TrainingRecipe

__all__ = ["PARTS", "PartRecipe", "part_recipes"]

Array = NDArray[Any]
Arrays = dict[str, Array]
Batch = dict[str, Array]

_WORDS = "bert.embeddings.word_embeddings.weight"
_TABLES = ("position", "token_type")
_BIAS = "cls.predictions.bias"
_TRANSFORM, _INNER = "cls.predictions.transform.dense.bias", "intermediate.dense.bias"
_GAIN = "cls.predictions.transform.LayerNorm.weight"
#: Φ(x) is 1 − 10⁻³⁰⁰ and less, in every form.
_FAR = 40.0
#: So little that ε of 10⁻¹² is about the variance.
_LITTLE = 1e-6


def _alike(case: TrainingCase) -> TrainingCase:
    """Embeddings that are all one vector, about as long as the root of ε: LayerNorm decides."""
    parameters = _without_bias(_linear(case.parameters))
    for name in _TABLES:
        table = parameters[f"bert.embeddings.{name}_embeddings.weight"]
        table[:] = _LITTLE * table[0]
    parameters[_WORDS] = _LITTLE * parameters[_WORDS]
    parameters[_GAIN] = parameters[_GAIN] / _LITTLE
    batches = [
        [{**b, "inputs": np.full_like(b["inputs"], case.salt % 5)} for b in update]
        for update in case.updates
    ]
    return replace(case, parameters=parameters, updates=batches)


def _embedded(case: TrainingCase) -> TrainingCase:
    """No GELU that matters, and positions in no order."""
    rng, places = generator(case.salt, 52), case.config.max_position_embeddings

    def anywhere(batch: Batch) -> Batch:
        ids = rng.integers(places, size=batch["inputs"].shape).astype(np.int32)
        return {**batch, "position_ids": ids}

    parameters = _without_bias(_linear(case.parameters))
    updates = [[anywhere(batch) for batch in u] for u in case.updates]
    return replace(case, parameters=parameters, updates=updates)


def _layered(case: TrainingCase) -> TrainingCase:
    """Attention whose scale does not matter, no GELU that does: sums and LayerNorms decide."""
    return replace(case, parameters=_without_bias(_linear(_indifferent(case.parameters))))


def _activated(case: TrainingCase) -> TrainingCase:
    """GELU is given numbers from -4 to 4, in the layers and in the head."""
    parameters, rng = _without_bias(_indifferent(case.parameters)), generator(case.salt, 51)
    for name, bias in parameters.items():
        if name.endswith(_INNER) or name == _TRANSFORM:
            parameters[name] = rng.permutation(np.linspace(-4.0, 4.0, len(bias)))
    return replace(case, parameters=parameters)


def _attentive(case: TrainingCase) -> TrainingCase:
    """Queries and keys so large that attention is far from uniform."""
    parameters = _without_bias(case.parameters)
    for name in parameters:
        if name.endswith(("query.weight", "key.weight")):
            parameters[name] = 6.0 * parameters[name]
    return replace(case, parameters=parameters)


def _biased(case: TrainingCase) -> TrainingCase:
    """An output bias that decides."""
    return replace(case, parameters={**case.parameters, _BIAS: 5.0 * case.parameters[_BIAS]})


def _read_alike(case: TrainingCase) -> TrainingCase:
    """Positions are read at the rows at which words are: half of those of the smaller table."""
    rows = min(case.config.vocab_size, case.config.max_position_embeddings) // 2

    def alike(batch: Batch) -> Batch:
        inputs = batch["inputs"] % rows
        return {**batch, "inputs": inputs, "position_ids": inputs.copy()}

    return replace(case, updates=[[alike(batch) for batch in u] for u in case.updates])


def _lopsided(case: TrainingCase) -> TrainingCase:
    """Unit 0 of hidden states, of contexts and of what is added to either is 0."""
    parameters = {name: p.copy() for name, p in case.parameters.items()}
    for name, p in parameters.items():
        is_norm = ".LayerNorm." in name and name.startswith("bert.")
        if is_norm or ".value." in name or ".output.dense." in name:
            p[0] = 0.0
    return replace(case, parameters=parameters)


def _linear(parameters: Arrays) -> Arrays:
    """GELU is the identity."""
    far = {n: p + _FAR for n, p in parameters.items() if n.endswith(_INNER) or n == _TRANSFORM}
    return {**parameters, **far}


def _indifferent(parameters: Arrays) -> Arrays:
    """Attention is uniform, over values that are all the same."""
    parts = ("query.weight", "key.weight", "value.weight")
    return {n: 0.0 * p if n.endswith(parts) else p for n, p in parameters.items()}


def _without_bias(parameters: Arrays) -> Arrays:
    return {n: 0.0 * p if n == _BIAS else p.copy() for n, p in parameters.items()}


#: What decides, by its name.
PARTS: dict[str, Callable[[TrainingCase], TrainingCase]] = {
    "norms": _alike,
    "embeddings": _embedded,
    "layers": _layered,
    "activations": _activated,
    "attention": _attentive,
    "output bias": _biased,
    "equal rows": _read_alike,
    "unit 0": _lopsided,
}


@dataclass(frozen=True, slots=True)
class PartRecipe:
    """A `TrainingRecipe` in which one part decides."""

    base: TrainingRecipe
    part: str

    def build(self, run_seed: int) -> TrainingCase:
        """The case; equal recipes and run seeds give equal cases."""
        case = PARTS[self.part](self.base.build(run_seed))
        return replace(case, about=f"{case.about}, {self.part}")


def part_recipes(part: str, layers: int) -> tuple[None, tuple[PartRecipe, ...]]:
    """The recipe of a part, in an encoder of no layer or of one."""
    base = TrainingRecipe(SIZES[:2][layers], "full", "one", "none", 3)
    return None, (PartRecipe(base, part),)
