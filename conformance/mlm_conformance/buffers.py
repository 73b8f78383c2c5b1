"""Arrays that are passed again with other contents, as a training loop passes its buffers."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Buffers"]

_KEPT = 48  # arrays
_LARGEST = 2**20  # bytes; copying a larger one would take longer than most calls


class Buffers:
    """Where the arguments of earlier calls lie: later ones of their shape are put there.

    A target that knows an array by its place in memory, and not by what is in it, answers wrongly.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[object, ...], NDArray[Any]] = OrderedDict()

    def place(self, port: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of a call, the arrays among them in the buffers of the port."""
        return {name: self._placed((port, name), value) for name, value in arguments.items()}

    def _placed(self, use: tuple[str, str], value: Any) -> Any:
        if not isinstance(value, np.ndarray) or value.nbytes > _LARGEST:
            return value
        key = (*use, value.shape, value.dtype)
        kept = self._kept.setdefault(key, value)
        self._kept.move_to_end(key)
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        if kept is not value:
            if (kept.shape, kept.dtype) != (value.shape, value.dtype) or not kept.flags.writeable:
                self._kept[key] = kept = value  # a target has changed more than contents
            np.copyto(kept, value)
        return kept
