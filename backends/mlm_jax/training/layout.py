"""Where a session's arrays lie: on one device, or shared out over a mesh of them.

Rows of a batch go along the axis ``data``, ids along the axis ``vocabulary``.  Programs are those
of one device: where their arguments lie tells the compiler how to share the work out, and what is
added up over rows, or over ids, it adds up over the devices.  So masks and dropped units are the
same on any mesh, and sums differ in their order alone.

A vocabulary that its axis does not divide is filled up with ids whose logits are −inf, and a batch
with rows in which nothing is real or selected.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mlm_jax.training.parameters import OUTPUT_BIAS, WORDS
from mlm_spec.errors import DeviceError

__all__ = ["AXES", "Layout"]

Array = np.ndarray

#: The axes of a mesh, by name.
AXES = ("data", "vocabulary")
_BY_ID = (WORDS, OUTPUT_BIAS)


class Layout:
    """How the arrays of a session are placed.

    Parameters
    ----------
    mesh : with the axes ``data`` and ``vocabulary``; None: one device, JAX's default.
    vocab_size : of the encoder.

    Raises
    ------
    DeviceError : a mesh with other axes.

    Attributes
    ----------
    rows : a micro-batch has a multiple of so many rows.
    vocabulary : ids of the tables, those that fill them up included.

    >>> layout = Layout(Mesh(np.array(jax.devices()[:1]).reshape(1, 1), AXES), vocab_size=5)
    >>> layout.rows, layout.vocabulary
    (1, 5)
    """

    def __init__(self, mesh: Mesh | None, vocab_size: int) -> None:
        if mesh is not None and mesh.axis_names != AXES:
            raise DeviceError("mesh", f"with axes {mesh.axis_names}", f"the axes {AXES}")
        self._mesh, self._vocab_size = mesh, vocab_size
        self.rows, shards = (1, 1) if mesh is None else (mesh.shape[axis] for axis in AXES)
        self.vocabulary = -(-vocab_size // shards) * shards

    def parameters(self, arrays: Mapping[str, Array]) -> dict[str, jax.Array]:
        """Parameters, or moments of them, on their devices; copies."""
        return {name: self._placed(name, array) for name, array in arrays.items()}

    def on_host(self, arrays: Mapping[str, jax.Array]) -> dict[str, Array]:
        """The inverse; copies, since a later update gives the buffers themselves away."""
        size = self._vocab_size
        return {n: np.array(x)[:size] if n in _BY_ID else np.array(x) for n, x in arrays.items()}

    def batch(self, batch: Any) -> Any:
        """A micro-batch whose arrays (rows, ...) lie on the devices, as its key does on each."""
        if self._mesh is None:
            return batch
        by_row, whole = self._sharding("data"), self._sharding()
        placed = {
            name: None if x is None else jax.device_put(x, whole if name == "key" else by_row)
            for name, x in batch._asdict().items()
        }
        return type(batch)(**placed)

    def _placed(self, name: str, array: Array) -> jax.Array:
        if name in _BY_ID and len(array) < self.vocabulary:
            more = ((0, self.vocabulary - len(array)), *((0, 0),) * (array.ndim - 1))
            array = np.pad(array, more)
        # JAX may share memory with NumPy, and a program gives its buffers away.
        held = jnp.array(array)
        if self._mesh is None:
            return held
        return jax.device_put(held, self._sharding(*(("vocabulary",) if name in _BY_ID else ())))

    def _sharding(self, *axes: str) -> NamedSharding:
        assert self._mesh is not None
        return NamedSharding(self._mesh, PartitionSpec(*axes))
