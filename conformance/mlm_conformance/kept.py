"""Results that a caller keeps while it calls again, as one does with a loss of each micro-batch."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlm_conformance.ports import normalise

__all__ = ["KeptResults"]


class KeptResults:
    """What the last call of each port gave, and what that was at the time.

    A target that returns a buffer of its own, and fills it again in the next call, changes what its
    caller has.
    """

    def __init__(self) -> None:
        self._kept: dict[str, tuple[object, dict[str, Any]]] = {}

    def keep(self, port: str, found: object) -> None:
        """Keep an answer as the target gave it."""
        self._kept[port] = found, {n: np.copy(v) for n, v in _arrays(port, found).items()}

    def overwritten(self, port: str) -> list[str]:
        """The fields of the kept answer that are not what they were."""
        if port not in self._kept:
            return []
        found, before = self._kept[port]
        now = _arrays(port, found)
        return [n for n, v in before.items() if np.asarray(now[n]).tobytes() != v.tobytes()]


def _arrays(port: str, found: object) -> dict[str, Any]:
    """The arrays of an answer, those of nested names under ``field/name``."""
    arrays: dict[str, Any] = {}
    for name, value in normalise(port, found).items():
        if isinstance(value, dict):
            arrays.update({f"{name}/{inner}": array for inner, array in value.items()})
        elif value is not None:
            arrays[name] = value
    return arrays
