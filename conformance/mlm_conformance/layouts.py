"""How the arrays of a call lie in memory: what they hold is the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["LAYOUTS", "laid_out"]

#: Fortran's order; the first two axes the other way round, as of time and batch; every second entry
#: of a wider array; not to be written to.
LAYOUTS = ("columns first", "rows second", "spaced", "read-only")


def laid_out(arguments: Mapping[str, Any], layout: str) -> dict[str, Any]:
    """The same arguments, the arrays among them in one of the `LAYOUTS`.

    >>> laid_out({"ids": np.arange(3), "seed": 7}, "spaced")["ids"].base.tolist()
    [0, 2, 1, 0, 2, 1]

    Raises
    ------
    ValueError : a layout that is none of them.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"the layout {layout!r}; expected one of {', '.join(LAYOUTS)}")
    return {
        name: _placed(value, layout) if isinstance(value, np.ndarray) else value
        for name, value in arguments.items()
    }


def _placed(array: NDArray[Any], layout: str) -> NDArray[Any]:
    if layout == "columns first" or not array.ndim:
        return np.asfortranarray(array)
    if layout == "rows second":
        return array if array.ndim == 1 else array.swapaxes(0, 1).copy().swapaxes(0, 1)
    if layout == "read-only":
        array.flags.writeable = False
        return array
    wide = np.empty((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
    wide[..., ::2] = array
    wide[..., 1::2] = np.roll(array, 1, axis=-1)  # what a wrong stride would meet
    return wide[..., ::2]
