"""keras-hub's ``MaskedLMMaskGenerator``, on both its paths, as the port ``sample``.

Called with NumPy arrays the layer runs in Python and selects by a Bernoulli law; inside a
``tf.function`` or a ``tf.data`` pipeline it runs tensorflow-text, which selects a fixed count, the
ceiling of rate · selectable tokens.  These are two laws under one name, and two adapters here;
asked for a rate, each follows its own law.

The layer knows ineligible tokens by id alone (``unselectable_token_ids``), not by position.  So an
ineligible position is shown to it as an id of its own, one beyond the vocabulary, which is among
the unselectable ids; where that id comes back, the original is put in its place again.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
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

# Rows are shuffled side by side otherwise, and a drawing could not be repeated.
tf.config.experimental.enable_op_determinism()

_VERSIONS = {
    "keras": keras.__version__,
    "keras-hub": keras_hub.__version__,
    "tensorflow": tf.__version__,
    "tensorflow-text": tensorflow_text.__version__,
}
_Array: TypeAlias = NDArray[Any]

#: Seed of the TensorFlow path: its operations keep the one they were traced with.
_SEED = 20_181_011


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
        return _sample(_layer(policy), tokens, eligible, policy, n)


@dataclass(frozen=True, slots=True)
class TensorFlowPath:
    """The layer inside a ``tf.function``."""

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
        tf.random.set_seed(_SEED)
        return _sample(_traced(policy), tokens, eligible, policy, n)


def python_path() -> PythonPath:
    """``MaskedLMMaskGenerator`` in Python."""
    return PythonPath(_VERSIONS)


def tensorflow_path() -> TensorFlowPath:
    """``MaskedLMMaskGenerator`` in a ``tf.function``."""
    return TensorFlowPath(_VERSIONS)


def _layer(policy: MaskingPolicy) -> Any:
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
    )


@lru_cache(maxsize=32)
def _traced(policy: MaskingPolicy) -> Callable[[Any], Any]:
    rows = tf.TensorSpec([None, None], tf.int64)
    function: Callable[[Any], Any] = tf.function(_layer(policy), input_signature=[rows])
    return function


def _hidden(policy: MaskingPolicy) -> int:
    """The id under which ineligible positions are shown: one that no token has."""
    return policy.vocab_size


def _sample(
    layer: Callable[[Any], Any], tokens: _Array, eligible: _Array, policy: MaskingPolicy, n: int
) -> dict[str, _Array]:
    rows, columns = tokens.shape
    shown = np.tile(np.where(eligible, tokens, _hidden(policy)), (n, 1))
    found = layer(shown)
    inputs = np.asarray(found["token_ids"], np.int64).reshape(n, rows, columns)
    labels = np.full((n * rows, columns), IGNORED, np.int64)
    for row, (places, ids, weights) in enumerate(
        zip(*(_lists(found[f"mask_{name}"]) for name in ("positions", "ids", "weights")), strict=True)
    ):
        chosen = np.asarray(weights) > 0
        labels[row, np.asarray(places, int)[chosen]] = np.asarray(ids, np.int64)[chosen]
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
