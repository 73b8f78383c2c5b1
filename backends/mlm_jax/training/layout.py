"""Where a session's arrays lie: on one device, or shared out over a mesh of them.

Rows of a batch go along the axis ``data``, ids along the axis ``vocabulary``.  Programs are those
of one device: where their arguments lie tells the compiler how to share the work out, and what is
added up over rows, or over ids, it adds up over the devices.  So masks and dropped units are the
same on any mesh, and sums differ in their order alone.

A vocabulary that its axis does not divide is filled up with ids whose logits are −inf, and a batch
with rows in which nothing is real or selected.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mlm_jax.training.parameters import OUTPUT_BIAS, WORDS
from mlm_spec.errors import DeviceError, InputError

__all__ = ["AXES", "Layout", "make_mesh"]

Array = np.ndarray

#: The axes of a mesh, by name.
AXES = ("data", "vocabulary")
_BY_ID = (WORDS, OUTPUT_BIAS)


def make_mesh(devices: Sequence[jax.Device], rows: int, ids: int) -> Mesh:
    """The first ``rows`` × ``ids`` of some devices.

    Raises
    ------
    InputError : no devices along an axis.
    DeviceError : fewer than that.

    >>> dict(make_mesh(jax.devices(), 1, 1).shape)
    {'data': 1, 'vocabulary': 1}
    """
    for name, count in (("rows", rows), ("ids", ids)):
        if count < 1:
            raise InputError(name, count, "1 or more devices")
    needed = rows * ids
    if len(devices) < needed:
        found = f"{len(devices)} of {devices[0].platform}" if devices else "none"
        raise DeviceError("device", found, f"{needed} devices")
    return Mesh(np.array(devices[:needed]).reshape(rows, ids), AXES)


@dataclass(frozen=True, slots=True)
class Layout:
    """How the arrays of a session are placed; equal layouts place them alike.

    Parameters
    ----------
    mesh : with the axes ``data`` and ``vocabulary``; None: one device, JAX's default.
    vocab_size : of the encoder.

    Raises
    ------
    DeviceError : a mesh with other axes.

    >>> layout = Layout(make_mesh(jax.devices(), 1, 1), vocab_size=5)
    >>> layout.rows, layout.vocabulary
    (1, 5)
    """

    mesh: Mesh | None
    vocab_size: int

    def __post_init__(self) -> None:
        if self.mesh is not None and self.mesh.axis_names != AXES:
            raise DeviceError("mesh", f"with axes {self.mesh.axis_names}", f"the axes {AXES}")

    @property
    def rows(self) -> int:
        """A micro-batch has a multiple of so many rows."""
        return 1 if self.mesh is None else int(self.mesh.shape["data"])

    @property
    def vocabulary(self) -> int:
        """Ids of the tables, those that fill them up included."""
        shards = 1 if self.mesh is None else int(self.mesh.shape["vocabulary"])
        return -(-self.vocab_size // shards) * shards

    def parameters(self, arrays: Mapping[str, Array]) -> dict[str, jax.Array]:
        """Parameters, or moments of them, on their devices; copies."""
        return {name: self._placed(name, array) for name, array in arrays.items()}

    def on_host(self, arrays: Mapping[str, jax.Array]) -> dict[str, Array]:
        """The inverse; copies, since a later update gives the buffers themselves away."""
        size = self.vocab_size
        return {n: np.array(x)[:size] if n in _BY_ID else np.array(x) for n, x in arrays.items()}

    def batch(self, batch: Any) -> Any:
        """A micro-batch whose arrays (rows, ...) lie on the devices, as its key does on each."""
        if self.mesh is None:
            return batch
        by_row, whole = self._sharding("data"), self._sharding()
        placed = {
            name: None if x is None else jax.device_put(x, whole if name == "key" else by_row)
            for name, x in batch._asdict().items()
        }
        return type(batch)(**placed)

    def whole(self, array: Array) -> jax.Array:
        """An array that lies on each device."""
        held = jnp.array(array)
        return held if self.mesh is None else jax.device_put(held, self._sharding())

    def left(self, array: jax.Array, name: str = "") -> jax.Array:
        """An array within a program, which is to leave it where `parameters` places that of a
        name, or on each device.

        Where the arguments of a program lie is a part of what it is compiled for.
        """
        return self._constrained(array, *_axes(name))

    def by_row(self, array: jax.Array) -> jax.Array:
        """An array (rows, …) within a program, shared out as those of a batch are."""
        return self._constrained(array, "data")

    def _constrained(self, array: jax.Array, *axes: str) -> jax.Array:
        if self.mesh is None:
            return array
        return lax.with_sharding_constraint(array, self._sharding(*axes))

    def _placed(self, name: str, array: Array) -> jax.Array:
        if name in _BY_ID and len(array) < self.vocabulary:
            more = ((0, self.vocabulary - len(array)), *((0, 0),) * (array.ndim - 1))
            array = np.pad(array, more)
        # JAX may share memory with NumPy, and a program gives its buffers away.
        held = jnp.array(array)
        return held if self.mesh is None else jax.device_put(held, self._sharding(*_axes(name)))

    def _sharding(self, *axes: str) -> NamedSharding:
        assert self.mesh is not None
        return NamedSharding(self.mesh, PartitionSpec(*axes))


def _axes(name: str) -> tuple[str, ...]:
    """Those along which a parameter is shared out."""
    return ("vocabulary",) if name in _BY_ID else ()
