"""One way to compute a log-likelihood, as a target that the suite's own process can run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.field.sampling import require

__all__ = ["Form", "One"]

_Array: TypeAlias = NDArray[Any]

#: (logits (V,), target) to log Pr(target), in the dtype that comes out of the implementation.
One: TypeAlias = Callable[[_Array, int], Any]


@dataclass(frozen=True, slots=True)
class Form:
    """Position by position, as the port ``score``: a mask and a sum are added.

    Attributes
    ----------
    one : the implementation.
    versions : of its packages.
    """

    one: One
    versions: Mapping[str, str]

    def score(
        self, logits: _Array, targets: _Array, selected: _Array, weights: _Array | None
    ) -> dict[str, _Array]:
        """log_likelihood (B, T) in the implementation's dtype, sum () in float64, count ()."""
        require(None if weights is None else "it has no weights")
        rows = zip(logits[selected], targets[selected].tolist(), strict=True)
        with np.errstate(all="ignore"):  # what overflows is a finding; it need not be a warning
            found = [np.asarray(self.one(row, target)) for row, target in rows]
        each = np.stack(found) if found else np.zeros(0)
        nats = np.zeros(selected.shape, each.dtype)
        nats[selected] = each
        total = each.astype(np.float64).sum()
        return {"log_likelihood": nats, "sum": total, "count": np.asarray(len(each))}
