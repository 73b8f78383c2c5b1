"""Targets that declare an accumulation class, well or badly."""

from __future__ import annotations

from types import SimpleNamespace

from mlm_spec import score

in_float64 = SimpleNamespace(score=score, accumulation="tree in float64")
in_bfloat16 = SimpleNamespace(score=score, accumulation="any in bfloat16")
undeclared = SimpleNamespace(score=score)
fast = SimpleNamespace(score=score, accumulation="fast")
a_number = SimpleNamespace(score=score, accumulation=16)
