"""``mlm-spec verify-reference`` finds what is wrong, says so, and passes what is right."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from mlm_conformance import cli, verify_reference
from mlm_conformance.cases.hard import FAMILIES
from mlm_conformance.verify_reference import COUNTS, verify

import mlm_spec

FEW = 120


def test_the_reference_is_right_on_every_family_and_escalates_where_it_must() -> None:
    results = {found.name: found for found in verify(FEW, 1)}
    assert set(results) == set(FAMILIES)
    assert all(found.is_right for found in results.values())
    assert results["near a middle"].escalations > 0
    assert results["normal"].escalations == 0


def test_profiles_are_as_large_as_is_promised() -> None:
    assert COUNTS["ci"] >= 2_000
    assert COUNTS["nightly"] >= 25_000


def test_two_seeds_draw_different_positions() -> None:
    one, other = (verify(FEW, seed, families=["normal"])[0] for seed in (1, 2))
    assert one.numbers != other.numbers


def shifted(function: Any, by: Fraction) -> Any:
    """The enclosures of a function, moved."""

    def moved(*arguments: Any) -> Any:
        found = function(*arguments)
        if found.lower == found.upper:
            return found
        return replace(found, lower=found.lower + by, upper=found.upper + by, finer=None)

    return moved


@pytest.mark.parametrize("name", ["enclose", "enclose_sum"])
def test_an_enclosure_that_misses_the_number_is_found(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = shifted(getattr(mlm_spec, name), Fraction(1, 2**55))
    monkeypatch.setattr(verify_reference, name, wrong)
    found = verify(FEW, 1, families=["likely"])[0]
    assert found.outside
    assert not found.is_right
    assert "should be" in found.first


def test_a_gradient_that_is_off_by_one_float_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*arguments: Any) -> Any:
        gradient = mlm_spec.rounded_gradient(*arguments)
        gradient[-1] *= 1 + 2.0**-52
        return gradient

    monkeypatch.setattr(verify_reference, "rounded_gradient", wrong)
    found = verify(FEW, 1, families=["normal"])[0]
    assert found.misrounded
    assert found.first.startswith("gradient[")


def test_nothing_compared_is_not_right() -> None:
    assert not verify_reference.FamilyResult("none").is_right


def test_the_command_says_what_it_found_and_exits_by_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(verify_reference, "COUNTS", {"ci": 60})
    file = tmp_path / "found.json"
    assert cli.main(["verify-reference", "--seed", "3", "--json", str(file)]) == 0
    assert "all rounded correctly" in capsys.readouterr().out
    record = json.loads(file.read_text())
    assert record["seed"] == 3
    assert [family["name"] for family in record["families"]] == list(FAMILIES)
    wrong = shifted(mlm_spec.enclose, Fraction(1, 2**40))
    monkeypatch.setattr(verify_reference, "enclose", wrong)
    assert cli.main(["verify-reference"]) == 1
    assert "NOT ALL ROUNDED CORRECTLY" in capsys.readouterr().out
