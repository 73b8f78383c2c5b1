"""What the adapters of maskers share: what a policy asks for, and a seed for each call.

A masker of the field has options for some policies and none for others.  An adapter's method
``expressible(policy)`` gives the reason why a policy cannot be put into its package's options, or
None; its ``sample`` raises `NotImplementedError` with that reason.  The set of ids that random
replacements come from is not among the reasons: no package here has an option for it, every
one draws from the whole vocabulary, and MLM-COR-5 is where that shows.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_spec.policy import MaskingPolicy, Selection

__all__ = ["IGNORED", "require", "seed_of", "why_not"]

#: The label of a position that is not selected.
IGNORED = -100

_NAMES = {
    "Bernoulli": "a Bernoulli law",
    "FixedCount": "a fixed count",
    "WholeWord": "whole words",
    "Span": "spans",
}


def why_not(
    policy: MaskingPolicy, laws: tuple[type[Selection], ...], *, mask_only: bool = False
) -> str | None:
    """Why a masker with these laws cannot follow ``policy``, or None if it can.

    Parameters
    ----------
    policy : what is asked for.
    laws : the selection laws that it has.
    mask_only : every selected position shows the mask token.

    >>> from mlm_spec import Bernoulli, Corruption
    >>> policy = MaskingPolicy(Bernoulli("3/20"), Corruption(0, 1, 0), vocab_size=9, mask_id=1)
    >>> why_not(policy, (Bernoulli,))
    >>> why_not(policy, (Bernoulli,), mask_only=True)
    'every selected position shows the mask token'
    """
    shown = policy.corruption
    if not isinstance(policy.selection, laws):
        return f"it has no option for {_NAMES[type(policy.selection).__name__]}"
    if mask_only and shown.mask != 1:
        return "every selected position shows the mask token"
    if shown.unit != "token" and 1 not in (shown.mask, shown.random, shown.keep):
        return "each token is replaced on its own"
    if shown.random > 0 and isinstance(policy.pool, tuple):
        return "it has no option for the ids of random replacements"
    return None


def require(reason: str | None) -> None:
    """Refuse a policy that cannot be expressed.

    Raises
    ------
    NotImplementedError : there is a reason.
    """
    if reason is not None:
        raise NotImplementedError(reason)


def seed_of(tokens: NDArray[Any], eligible: NDArray[Any], policy: MaskingPolicy, n: int) -> int:
    """A 32-bit seed that is a function of the call: a failing case fails when it is replayed."""
    fields = f"{policy.to_mapping()} {n} {tokens.shape}".encode()
    data = (fields, np.ascontiguousarray(tokens).tobytes(), np.packbits(eligible).tobytes())
    seed = 0
    for part in data:
        seed = zlib.crc32(part, seed)
    return seed
