"""Bad calls that differ from a good one in more than a single entry of a single array."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.cases.bad import good_head_call, good_mask_call, good_score_call
from mlm_conformance.cases.model import BadCallCase, StatusCase
from mlm_spec import Status

__all__ = ["further_bad_calls", "two_faults"]

Array = NDArray[Any]
_AT = (1, 3)  # a selected position of the good calls


def _changed(array: Array, index: Any, value: float) -> Array:
    other = array.copy()
    other[index] = value
    return other


def further_bad_calls(port: str) -> tuple[BadCallCase, ...]:
    """Further bad calls of ``mask``; none of the others."""
    return tuple(_bad_mask_calls()) if port == "mask" else ()


def _bad_mask_calls() -> Iterator[BadCallCase]:
    """Every token is an id, also where nothing can be selected."""
    good = good_mask_call()
    able = _changed(good["eligible"], (0, 2), False)
    for value in (-1, good["policy"].vocab_size):
        tokens = _changed(good["tokens"], (0, 2), value)
        call, about = {**good, "tokens": tokens, "eligible": able}, f"{value} where not eligible"
        yield BadCallCase("mask", call, "IdRangeError", "tokens[0, 2]", good, about)


def two_faults(port: str) -> tuple[StatusCase, ...]:
    """Calls of a step with two faults; the status has the bits of both."""
    if port == "score_step":
        good, data = {**good_score_call(), "capacity": 4}, "logits"
    else:
        good, data = {**good_head_call(), "capacity": 4}, "hidden"
    vocab = good["logits"].shape[-1] if port == "score_step" else len(good["weight"])
    ids = {"targets": _changed(good["targets"], _AT, vocab)}
    numbers = {data: _changed(good[data], (*_AT, 0), np.nan)}
    many = {"selected": np.ones_like(good["selected"])}
    overflow, range_, finite = Status.OVERFLOW, Status.ID_RANGE, Status.NOT_FINITE
    return tuple(
        StatusCase(port, {**good, **one, **two}, int(bits), about)
        for one, two, bits, about in (
            (many, ids, overflow | range_, "too many, and an id past the last"),
            (many, numbers, overflow | finite, "too many, and NaN"),
            (ids, numbers, range_ | finite, "an id past the last, and NaN"),
        )
    )
