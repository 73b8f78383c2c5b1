"""The report as JSON, by a published schema: ``report.schema.json`` beside this file."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

from mlm_conformance.results import RunReport

__all__ = ["load", "render", "schema"]


def render(report: RunReport) -> str:
    """The report as JSON text.  Every number in it is one that JSON knows."""
    return json.dumps(report.to_json(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def load(text: str) -> RunReport:
    """Read back what `render` wrote.

    Raises
    ------
    ValueError : not JSON, another format, or a file that contradicts itself.
    """
    data = json.loads(text)
    if not isinstance(data, dict):
        raise ValueError("a report is a JSON object")
    return RunReport.from_json(data)


def schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a report."""
    text = resources.files(__package__).joinpath("report.schema.json").read_text("utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded
