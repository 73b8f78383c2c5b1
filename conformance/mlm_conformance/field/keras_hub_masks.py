"""keras-hub's ``MaskedLMMaskGenerator``, on both its paths, as the port ``sample``.

Called with NumPy arrays the layer runs in Python and selects by a Bernoulli law; inside a
``tf.function`` or a ``tf.data`` pipeline it runs tensorflow-text, which selects a fixed count, the
ceiling of rate · selectable tokens.  These are two laws under one name, and two adapters here;
asked for a rate, each follows its own law.  The second path is run eagerly, through the layer's
own switch: inside a graph the rows are shuffled side by side, and no seed repeats a drawing.

The layer knows ineligible tokens by id alone (``unselectable_token_ids``), not by position.  So an
ineligible position is shown to it as an id of its own, one beyond the vocabulary, which is among
the unselectable ids; where that id comes back, the original is put in its place again.
"""

# The packages of the field are in no environment that is type-checked.
# mypy: disable-error-code="import-not-found, import-untyped"

from __future__ import annotations

import os
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

# Both are read when Keras and TensorFlow are imported.
os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import keras_hub
import numpy as np
import tensorflow as tf
import tensorflow_text
from numpy.typing import NDArray

from mlm_conformance.field.sampling import IGNORED, require, seed_of, why_not
from mlm_spec.policy import Bernoulli, FixedCount, MaskingPolicy

__all__ = ["python_path", "tensorflow_path"]

_VERSIONS = {
    "keras": keras.__version__,
    "keras-hub": keras_hub.__version__,
    "tensorflow": tf.__version__,
    "tensorflow-text": tensorflow_text.__version__,
}
_Array: TypeAlias = NDArray[Any]


@dataclass(frozen=True, slots=True)
class PythonPath:
    """The layer called directly."""

    versions: Mapping[str, str]

    def expressible(self, policy: MaskingPolicy) -> str | None:
        """Why ``policy`` cannot be asked for, or None."""
        return why_not(policy, (Bernoulli,))

    def sample(
        self, tokens: _Array, eligible: _Array, policy: MaskingPolicy, n: int
    ) -> dict[str, _Array]:
        """``n`` drawings, int64 (n, B, T): one call of the layer on n · B rows."""
        require(self.expressible(policy))
        random.seed(seed_of(tokens, eligible, policy, n))
        return _sample(_layer(policy, in_python=True), tokens, eligible, policy, n)


@dataclass(frozen=True, slots=True)
class TensorFlowPath:
    """The layer as a ``tf.data`` pipeline runs it."""

    versions: Mapping[str, str]

    def expressible(self, policy: MaskingPolicy) -> str | None:
        """Why ``policy`` cannot be asked for, or None."""
        law = policy.selection
        if isinstance(law, FixedCount):
            if (law.base, law.rounding, law.floor) != ("eligible", "ceiling", 0):
                return "its count is the ceiling of rate · selectable tokens, with no floor"
            if law.cap == 0:
                return "its cap is at least 1"
        return why_not(policy, (Bernoulli, FixedCount))

    def sample(
        self, tokens: _Array, eligible: _Array, policy: MaskingPolicy, n: int
    ) -> dict[str, _Array]:
        """``n`` drawings, int64 (n, B, T): one call of the layer on n · B rows."""
        require(self.expressible(policy))
        tf.random.set_seed(seed_of(tokens, eligible, policy, n))
        return _sample(_layer(policy, in_python=False), tokens, eligible, policy, n)


def python_path() -> PythonPath:
    """``MaskedLMMaskGenerator`` in Python."""
    return PythonPath(_VERSIONS)


def tensorflow_path() -> TensorFlowPath:
    """``MaskedLMMaskGenerator`` by tensorflow-text."""
    return TensorFlowPath(_VERSIONS)


def _layer(policy: MaskingPolicy, *, in_python: bool) -> Any:
    law, shown = policy.selection, policy.corruption
    assert isinstance(law, Bernoulli | FixedCount)
    return keras_hub.layers.MaskedLMMaskGenerator(
        vocabulary_size=policy.vocab_size,
        mask_selection_rate=float(law.rate),
        mask_token_id=policy.mask_id,
        mask_selection_length=law.cap if isinstance(law, FixedCount) else None,
        unselectable_token_ids=[*policy.special_ids, _hidden(policy)],
        mask_token_rate=float(shown.mask),
        random_token_rate=float(shown.random),
        _allow_python_workflow=in_python,
    )


def _hidden(policy: MaskingPolicy) -> int:
    """The id under which ineligible positions are shown: one that no token has."""
    return policy.vocab_size


def _sample(
    layer: Callable[[Any], Any], tokens: _Array, eligible: _Array, policy: MaskingPolicy, n: int
) -> dict[str, _Array]:
    rows, columns = tokens.shape
    found = layer(np.tile(np.where(eligible, tokens, _hidden(policy)), (n, 1)))
    inputs = np.asarray(found["token_ids"], np.int64).reshape(n, rows, columns)
    labels = np.full((n * rows, columns), IGNORED, np.int64)
    parts = [_lists(found[f"mask_{name}"]) for name in ("positions", "ids", "weights")]
    for row, (places, ids, weights) in zip(labels, zip(*parts, strict=True), strict=True):
        chosen = np.asarray(weights) > 0
        row[np.asarray(places, int)[chosen]] = np.asarray(ids, np.int64)[chosen]
    return {
        "inputs": np.where(inputs == _hidden(policy), tokens, inputs),
        "labels": labels.reshape(n, rows, columns),
    }


def _lists(values: Any) -> list[list[float]]:
    """Rows as lists, whether the layer made a list, an array or a ragged tensor of them."""
    if isinstance(values, list):
        return values
    rows: list[list[float]] = (
        values.to_list() if isinstance(values, tf.RaggedTensor) else np.asarray(values).tolist()
    )
    return rows
