"""Why some requirements are the first divergence of no mutant, or reject none alone."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["NEVER_ALONE", "NEVER_FIRST"]

NEVER_FIRST: Mapping[str, str] = MappingProxyType(
    {
        "MLM-COR-6": "it is MLM-COR-5 where the pool has one id: what is shown in its place is "
        "outside the pool, and MLM-COR-5 says so first",
    }
)
NEVER_ALONE: Mapping[str, str] = MappingProxyType(
    {
        "MLM-SEL-6": "MLM-SEL-7 says of every piece whether it is selected, and the same of all "
        "pieces of a word: where some are and others are not, it rejects one or the other, and it "
        "always has the cases of MLM-SEL-6",
        "MLM-COR-6": "it is MLM-COR-5 where the pool has one id: a random id that is not this one "
        "is outside the pool, whatever the original is",
    }
)
