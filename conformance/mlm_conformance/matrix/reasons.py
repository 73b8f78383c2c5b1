"""Why no mutant can break some requirements alone."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["NEVER_ALONE"]

NEVER_ALONE: Mapping[str, str] = MappingProxyType({})
