"""What the adapters of maskers share: which policies they can follow, and a seed for each call.

A masker of the field has options for some parts of a policy and none for others.  An adapter's
``expressible(policy)`` gives the reason why a policy cannot be asked of its package, or None; its
``sample`` raises `NotImplementedError` with that reason.  Two things are no such reason, because
the port ``sample`` is judged by what must never happen (chapters SEL and COR):

* A package that has one law of selection and one option, the rate, is asked for that rate.
* No package here has an option for the ids of random replacements.  Each draws from the whole
  vocabulary, and MLM-COR-5 is where that shows.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_spec.policy import Bernoulli, FixedCount, MaskingPolicy, Selection, Span, WholeWord

__all__ = ["IGNORED", "require", "seed_of", "why_not"]

#: The label of a position that is not selected.
IGNORED = -100
_LARGEST = 2**20

_NAMES: dict[type[Selection], str] = {
    Bernoulli: "a Bernoulli law",
    FixedCount: "a fixed count",
    WholeWord: "whole words",
    Span: "spans",
}


def why_not(policy: MaskingPolicy, laws: tuple[type[Selection], ...]) -> str | None:
    """Why a masker with these selection laws cannot follow ``policy``, or None if it can.

    >>> from mlm_spec import Corruption, Span
    >>> policy = MaskingPolicy(Span("1/9", ("1",)), Corruption(0, 1, 0), vocab_size=9, mask_id=1)
    >>> why_not(policy, (Bernoulli,))
    'it has no option for spans'
    """
    shown = policy.corruption
    if not isinstance(policy.selection, laws):
        return f"it has no option for {_NAMES[type(policy.selection)]}"
    if shown.unit != "token" and 1 not in (shown.mask, shown.random, shown.keep):
        return "each token is replaced on its own"
    if shown.random > 0 and isinstance(policy.pool, tuple):
        return "it has no option for the ids of random replacements"
    if policy.mask_id not in policy.special_ids:
        return "the mask token is special to it"
    if policy.vocab_size > _LARGEST:
        return f"no tokenizer is made here for more than {_LARGEST:,} ids"
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
