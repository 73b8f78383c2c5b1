"""Why some requirements are the first divergence of no mutant."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["NEVER_FIRST"]

NEVER_FIRST: Mapping[str, str] = MappingProxyType(
    {
        "MLM-COR-6": "it is MLM-COR-5 where the pool has one id: what is shown in its place is "
        "outside the pool, and MLM-COR-5 says so first",
    }
)
