"""Correct implementations that compute in unusual ways: none may be rejected."""

from __future__ import annotations

from mlm_conformance.variants.registry import VARIANTS, Variant
from mlm_conformance.variants.scoring import SCORING

__all__ = ["SCORING", "VARIANTS", "Variant"]
