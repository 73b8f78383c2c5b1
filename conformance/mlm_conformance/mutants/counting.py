"""Counts that are worked out in floats, and padding that counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import ceil, floor
from typing import Any
from unittest.mock import patch

import numpy as np

from mlm_conformance.mutants.inside import masked_from
from mlm_conformance.mutants.registry import Port, mutant_around
from mlm_spec import FixedCount, selection

__all__ = [
    "ceilings_are_those_of_doubles",
    "counts_of_a_sampler_are_those_of_doubles",
    "halves_are_those_of_doubles",
    "padding_beside_a_sequence_counts",
    "ties_are_those_of_single_precision",
]

Call = dict[str, Any]
_CHECK = "a_count_is_not_worked_out_in_floats"
_OF_SAMPLES = "a_fixed_count_is_not_worked_out_in_floats"


def _rounded(
    correct: Port, call: Call, rounding: str, count: Callable[[FixedCount, int], int]
) -> Any:
    """The right masks, but that counts of one rounding are others."""
    right = selection.fixed_count

    def fixed(law: FixedCount, n: int, available: int) -> int:
        if law.rounding != rounding:
            return right(law, n, available)
        most = available if law.cap is None else min(law.cap, available)
        return min(most, max(law.floor, count(law, n)))

    with patch.multiple(selection, fixed_count=fixed):
        return correct(**call)


@mutant_around("MLM-SEL-4", "mask", check=_CHECK)
def ceilings_are_those_of_doubles(correct: Port, call: Call) -> Any:
    """The ceiling is that of float(rate) · n, which may lie just above a whole number."""
    return _rounded(correct, call, "ceiling", lambda law, n: ceil(float(law.rate) * n))


@mutant_around("MLM-SEL-4", "mask", check=_CHECK)
def halves_are_those_of_doubles(correct: Port, call: Call) -> Any:
    """What is half rounded up is int(float(rate) · n + 0.5)."""
    return _rounded(correct, call, "half_up", lambda law, n: int(float(law.rate) * n + 0.5))


@mutant_around("MLM-SEL-4", "mask", check=_CHECK)
def ties_are_those_of_single_precision(correct: Port, call: Call) -> Any:
    """Ties are looked for in float32."""

    def count(law: FixedCount, n: int) -> int:
        return int(np.rint(np.float32(float(law.rate)) * np.float32(n)))

    return _rounded(correct, call, "half_even", count)


@mutant_around("MLM-DST-7", "sample", check=_OF_SAMPLES)
def counts_of_a_sampler_are_those_of_doubles(correct: Port, call: Call) -> Any:
    """What is half rounded up is floor(float(rate) · n + 0.5)."""
    return _rounded(correct, call, "half_up", lambda law, n: floor(float(law.rate) * n + 0.5))


@mutant_around("MLM-SEL-4", "mask", check="each_sequence_has_its_count")
def padding_beside_a_sequence_counts(correct: Port, call: Call) -> Any:
    """Where a row has one sequence with candidates, all positions of the row are counted."""

    def change(source: Any, policy: Any, *key: int) -> Any:
        law = policy.selection
        if not isinstance(law, FixedCount) or law.base != "all" or policy.pad_id is not None:
            return source, policy, *key
        able = source.eligible & ~np.isin(source.tokens, policy.special_ids)
        ids = source.sequence_id.copy()
        for row, here in zip(ids, able, strict=True):
            if here.any() and (row[here] == row[here][0]).all():
                row[:] = row[here][0]
        return replace(source, sequence_id=ids), policy, *key

    return masked_from(correct, call, change)
