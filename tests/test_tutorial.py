"""The tutorial does what it says: each version of its backend fails, or passes, as told."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from checkout import ROOT
from mlm_conformance.outcomes import Outcome
from mlm_conformance.results import RunReport
from mlm_conformance.runner import run

PAGE = (ROOT / "docs" / "adding-a-backend.md").read_text(encoding="utf-8")
VERSIONS = [
    block
    for block in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    if "class Mine" in block
]


def report_of(version: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> RunReport:
    (folder / "mine.py").write_text(VERSIONS[version])
    monkeypatch.chdir(folder)
    return run(
        "mine:Mine", profile="quick", only=["MLM-OBJ", "MLM-LIK"], failures=folder / "failures"
    )


def test_the_page_has_three_versions() -> None:
    assert len(VERSIONS) == 3


@pytest.mark.parametrize(("version", "first"), [(0, "MLM-OBJ-1"), (1, "MLM-LIK-2")])
def test_an_early_version_fails_where_the_page_says(
    version: int, first: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = report_of(version, tmp_path, monkeypatch)
    assert report.first_failure == first
    assert report.exit_status == 1
    failed = sum(r.outcome is Outcome.FAIL for r in report.requirements)
    if version == 0:
        assert f"of {failed} failed requirements" in PAGE
    kept = {c.failure_file for r in report.requirements for c in r.checks if c.failure_file}
    named = re.findall(rf"mine-Mine-{first}-\w+\.json", PAGE)
    assert all(any(file.endswith(name) for file in kept) for name in named)


def test_the_last_version_passes_all_it_claims(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = report_of(2, tmp_path, monkeypatch)
    passed = sum(r.outcome is Outcome.PASS for r in report.requirements)
    total = len(report.requirements)
    assert report.exit_status == 0
    assert f"{passed} of {total} pass, {total - passed} of {total} NOT CLAIMED" in PAGE
