"""Masks of which some, added up without carry, are nothing but zeros or nothing but ones.

Of m rows of N fair independent bits each combination by xor is constant with probability 2^(1 − N),
and there are 2^m of them: so any is found with probability below 2^(m + 1 − N).  Repeated masks,
periods, a place that copies another and one that is the parity of others all are such combinations.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.check import Context, Violation
from mlm_conformance.distributions.makers import PROOF

__all__ = ["enough", "relation", "require_no_relation"]


def enough(variables: int) -> int:
    """How many bits of each make a relation proof: it occurs with probability 2^-500 or less."""
    return variables + 1 + PROOF


def relation(bits: NDArray[np.bool_]) -> list[int]:
    """Rows of a bool (m, N) that add up to a constant, by elimination; none: an empty list.

    >>> relation(np.array([[1, 0, 0, 1, 0], [0, 1, 0, 0, 1], [0, 0, 1, 1, 0], [0, 1, 1, 0, 0]]) > 0)
    [0, 1, 2]
    """
    ones = (1 << bits.shape[1]) - 1
    reduced = {ones.bit_length(): (ones, 0)}  # by their highest bits; and which rows they are of
    for row, packed in enumerate(np.packbits(bits, axis=1, bitorder="little")):
        value, of = int.from_bytes(packed.tobytes(), "little"), 1 << row
        while value and value.bit_length() in reduced:
            other, also = reduced[value.bit_length()]
            value, of = value ^ other, of ^ also
        if not value:
            return [i for i in range(row + 1) if of >> i & 1]
        reduced[value.bit_length()] = (value, of)
    return []


def require_no_relation(context: Context, what: str, bits: NDArray[np.bool_]) -> None:
    """No rows of a bool (m, N) add up to a constant.

    Raises
    ------
    Violation : some do, which fair bits do with probability 2^-500 or less.
    """
    if bits.shape[1] < enough(len(bits)):  # of a simplified case
        return
    context.saw("relations", 1)
    found = relation(bits)
    if not found:
        return
    names = ", ".join(map(str, found[:6])) + (" …" if len(found) > 6 else "")
    how = {1: "never changes", 2: "are always equal or always different"}.get(
        len(found), f"({len(found)}) decide one another"
    )
    raise Violation(f"{what} {names}: {how}, {bits.shape[1]} times", what)
