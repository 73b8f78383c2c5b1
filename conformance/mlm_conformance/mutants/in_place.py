"""Where wrong backends write that write into their arguments."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["taken"]


def taken(array: Any) -> Any:
    """The caller's array where it may be written to, else a copy, as compiled code takes either."""
    if isinstance(array, np.ndarray) and not array.flags.writeable:
        return array.copy()
    return array
