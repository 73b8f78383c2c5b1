"""Sessions on a mesh of devices, as a port for the conformance suite.

    mlm-spec check mlm_jax.mesh:MeshPort --only MLM-ENC MLM-OPT MLM-TRN MLM-CKP

The same requirements, the same bounds: an update that is shared out is an update.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jaxlib
import numpy as np
from jax.sharding import Mesh

from mlm_jax.session import JaxSession
from mlm_jax.training.layout import AXES
from mlm_spec.errors import DeviceError
from mlm_spec.policy import MaskingPolicy

__all__ = ["MeshPort"]

_ROWS, _IDS = 2, 4  # devices along the two axes
_DEVICES = _ROWS * _IDS


class MeshPort:
    """Sessions whose batches go over two devices, and whose vocabulary goes over four.

    Parameters
    ----------
    device : the platform: ``"cuda"``, ``"tpu"``, or ``"cpu"``, which has eight devices then.

    Raises
    ------
    DeviceError : there are fewer than eight of them.
    """

    def __init__(self, device: str = "cpu") -> None:
        self.versions = {"jax": jax.__version__, "jaxlib": jaxlib.__version__}
        if device == "cpu":
            _make_room()
        try:
            found = jax.devices(device)
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise DeviceError("device", f"{device!r} ({reason})", f"{_DEVICES} devices") from error
        if len(found) < _DEVICES:
            raise DeviceError("device", f"{len(found)} of {device}", f"{_DEVICES} devices")
        self.mesh = Mesh(np.array(found[:_DEVICES]).reshape(_ROWS, _IDS), AXES)

    def session(
        self,
        encoder: Mapping[str, Any],
        training: Mapping[str, Any],
        parameters: Mapping[str, np.ndarray],
        policy: MaskingPolicy | None = None,
    ) -> JaxSession:
        """`mlm_jax.session.JaxSession` on the mesh."""
        return JaxSession(encoder, training, parameters, policy, mesh=self.mesh)


def _make_room() -> None:
    """Eight devices of the CPU, unless this process has used JAX already."""
    try:
        jax.config.update("jax_num_cpu_devices", _DEVICES)
    except RuntimeError:
        return  # then there are as many as there are
