"""The record of the reference's mutants: enough are noticed, and the rest is explained."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from checkout import ROOT

from benchmarks.mutation.order import FIRST, rank
from benchmarks.mutation.page import page
from benchmarks.mutation.record import FORMAT, explanations, faults, record, shares
from benchmarks.mutation.verdicts import Mutant

LEAST = 0.95
LEFT_OUT = "training"
SURVIVOR = Mutant("mlm_spec.a", "f", "x + 1", "x - 1", "survived")
KILLED = Mutant("mlm_spec.a", "f", "x + 1", "x + 2", "killed")
ENDLESS = Mutant("mlm_spec.a", "f", "x + 1", "x * 1", "timeout")


def committed() -> dict[str, Any]:
    path = ROOT / "benchmarks" / "results" / "mutation.json"
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return found


def test_the_committed_page_is_that_of_the_committed_record() -> None:
    assert page(committed()) == (ROOT / "docs" / "mutation.md").read_text("utf-8")


def test_every_survivor_is_explained_and_every_explanation_has_its_survivor() -> None:
    found = committed()
    listed = {
        (s["function"], s["was"], s["now"]): (s["kind"], s["why"]) for s in found["survivors"]
    }
    assert found["format"] == FORMAT
    assert listed == explanations()
    assert len(listed) == sum(count["survived"] for count in found["modules"].values())


def test_enough_mutants_are_noticed() -> None:
    noticed, run, different = shares(committed()["modules"].values())
    assert noticed >= LEAST * run
    assert noticed <= different <= run
    assert run > 1000
    assert not any(count["not run"] for count in committed()["modules"].values())


def test_what_is_said_to_survive_is_still_in_the_source() -> None:
    sources: dict[Path, str] = {}
    for survivor in committed()["survivors"]:
        module, _, _ = survivor["function"].partition(".x")
        path = ROOT.joinpath(*module.split("."))
        while not path.with_suffix(".py").is_file():  # what is left of the name is a function's
            path = path.parent
        file = path.with_suffix(".py")
        if file not in sources:
            sources[file] = " ".join(file.read_text("utf-8").split())
        assert " ".join(survivor["was"].split()) in sources[file], survivor["function"]


def test_every_module_with_a_function_is_in_the_record() -> None:
    modules = set(committed()["modules"])
    there = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in (ROOT / "mlm_spec").rglob("*.py")
        if path.parent.name != LEFT_OUT
        if "\ndef " in path.read_text("utf-8") or "    def " in path.read_text("utf-8")
    }
    assert there <= modules


def test_what_is_left_out_is_said_where_it_is_left_out() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["mutmut"]
    assert settings["do_not_mutate"] == [f"mlm_spec/{LEFT_OUT}/*"]
    assert f"`mlm_spec.{LEFT_OUT}`, which is not measured yet" in page(committed())


def test_a_survivor_without_an_explanation_is_a_fault() -> None:
    (fault,) = faults([SURVIVOR, KILLED], {})
    assert fault == "survived: mlm_spec.a.f: x + 1 → x - 1"
    assert faults([SURVIVOR, KILLED], {SURVIVOR.key: ("equivalent", "so")}) == []


@pytest.mark.parametrize("other", [KILLED, ENDLESS])
def test_an_explanation_of_what_is_noticed_is_a_fault(other: Mutant) -> None:
    (fault,) = faults([other], {other.key: ("equivalent", "so")})
    assert fault.startswith(f"explained, but {other.verdict}: mlm_spec.a.f")
    (fault,) = faults([], {SURVIVOR.key: ("equivalent", "so")})
    assert fault.startswith("explained, but not there: ")


def test_a_record_counts_what_was_noticed_and_what_is_equivalent() -> None:
    explained = {SURVIVOR.key: ("equivalent", "so it is")}
    found = record([SURVIVOR, KILLED, ENDLESS, KILLED], explained, {"mutmut": "3"})
    assert shares(found["modules"].values()) == (3, 4, 3)
    assert "**3 of 4 noticed (75.0%); of the 3 that are not equivalent,\n100.0%.**" in page(found)
    assert "- `mlm_spec.a.f`: `x + 1` → `x - 1`" in page(found)


def test_what_was_not_run_is_in_no_figure_and_is_said() -> None:
    waiting = Mutant("mlm_spec.a", "f", "x + 1", "x + 3", "not run")
    found = record([KILLED, waiting], {}, {"mutmut": "3"})
    assert shares(found["modules"].values()) == (1, 1, 1)
    assert "Not run, and in no figure of this page: 1: `mlm_spec.a` (1)." in page(found)


def test_a_mutant_is_explained_once_and_by_a_kind_that_there_is(tmp_path: Path) -> None:
    file = tmp_path / "explained.toml"
    once = '[[equivalent]]\nwhy = "so"\nmutants = [["a.f", "x", "y"]]\n'
    file.write_text(once, encoding="utf-8")
    assert explanations(file) == {("a.f", "x", "y"): ("equivalent", "so")}
    file.write_text(once + once, encoding="utf-8")
    with pytest.raises(ValueError, match="explained twice"):
        explanations(file)
    file.write_text(once.replace("equivalent", "unlucky"), encoding="utf-8")
    with pytest.raises(ValueError, match="no kind of explanation"):
        explanations(file)


def test_the_tests_that_are_run_exist_and_those_made_for_a_module_go_first() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["mutmut"]
    files = settings["pytest_add_cli_args_test_selection"]
    assert files == sorted(files)
    assert all((ROOT / file).is_file() for file in files)
    for module in FIRST:
        assert (ROOT / "mlm_spec" / f"{module.replace('.', '/')}.py").is_file()
    assert rank("tests/test_policy.py::test_x", "policy") == 0
    assert rank("tests/test_text.py::test_x", "policy") == len(FIRST["policy"])
    assert rank("tests/test_text.py::test_x", "nowhere") == 0
