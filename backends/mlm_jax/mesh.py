"""Sessions on a mesh of devices, as the port `session` for the conformance suite.

    mlm-spec check mlm_jax.mesh:MeshPort --only MLM-ENC MLM-OPT MLM-TRN MLM-CKP

Chapter DST says what devices must not change, and `JaxPort.device_session` is checked for that.
Here all that is required of a session is required of one on a mesh.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mlm_jax.port import JaxPort
from mlm_jax.session import JaxSession
from mlm_spec.policy import MaskingPolicy

__all__ = ["MeshPort"]

_ROWS, _IDS = 2, 4  # devices along the two axes


class MeshPort:
    """Sessions whose batches go over two devices, and whose vocabulary goes over four.

    Parameters
    ----------
    device : as that of `JaxPort`.  Where there are fewer than eight, a session is a `DeviceError`.
    """

    def __init__(self, device: str = "cpu") -> None:
        self._port = JaxPort(device)
        self.versions = self._port.versions

    def session(
        self,
        encoder: Mapping[str, Any],
        training: Mapping[str, Any],
        parameters: Mapping[str, np.ndarray],
        policy: MaskingPolicy | None = None,
    ) -> JaxSession:
        """`mlm_jax.port.JaxPort.device_session` on the mesh."""
        return self._port.device_session(encoder, training, parameters, policy, _ROWS, _IDS)
