"""The suite as pytest items: ``pytest --mlm-backend TARGET --pyargs mlm_conformance.suite``."""

from __future__ import annotations

__all__: list[str] = []
