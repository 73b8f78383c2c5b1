"""What maskers with wrong spans are made of: spans of random numbers of their own."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_spec import Span

__all__ = ["all_masked", "drawn", "span_law", "united"]

Call = dict[str, Any]
Array = NDArray[Any]


def span_law(call: Call) -> Span | None:
    """The call's law where it is one of spans."""
    law = call["policy"].selection
    return law if isinstance(law, Span) else None


def all_masked(call: Call, chosen: Array) -> Any:
    """These positions selected, and all of them masked: inputs, labels."""
    tokens = np.broadcast_to(call["tokens"], chosen.shape)
    chosen = chosen & call["eligible"]
    return np.where(chosen, call["policy"].mask_id, tokens), np.where(chosen, tokens, -100)


def drawn(call: Call, law: Span) -> tuple[Array, Array]:
    """Random numbers of its own: where spans start, and how long they are; (n, B, T)."""
    shape = (call["n"], *call["tokens"].shape)
    rng = np.random.default_rng(int(call["tokens"].sum()) + call["n"])
    shares = np.cumsum([float(p) for p in law.lengths[:-1]])
    lengths = 1 + np.searchsorted(shares, rng.random(shape), side="right")
    return rng.random(shape) < float(law.start), lengths


def united(starts: Array, lengths: Array) -> Array:
    """What spans cover."""
    covered = np.zeros(starts.shape, np.bool_)
    for back in range(int(lengths.max(initial=1))):
        reach = starts & (lengths > back)
        covered[..., back:] |= reach[..., : starts.shape[-1] - back]
    return covered
