"""Grades are measured in the right unit, and the worst input can be made again."""

from __future__ import annotations

import ast
import json
import math
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlm_conformance import trial
from mlm_conformance.accuracy import Accuracy, AccuracyBin, grades, merged
from mlm_conformance.cases.search import SearchRecipe
from mlm_conformance.checks import CHECKS
from mlm_conformance.profiles import PROFILES
from mlm_conformance.reports.accuracy_plot import ulps_svg
from mlm_conformance.results import RunReport
from mlm_conformance.runner import open_session, run, run_check

from mlm_spec import enclose, log_likelihood


def measured(dtype: str, off: float, logits: np.ndarray, target: int = 0) -> AccuracyBin:  # type: ignore[type-arg]
    """The bin of one position whose answer is ``off`` units from the truth."""
    z = logits.astype(dtype)[None]
    true = log_likelihood(z, np.array([target]))
    digits = 52 if dtype == "float64" else 23
    unit = 2.0 ** (math.floor(math.log2(-true[0])) - digits)
    found = Accuracy()
    found.measure(z, np.array([target]), true + off * unit, true)
    (one,) = found.bins()
    return one


ORDINARY = np.array([0.0, 1.0, 2.0])
CERTAIN = np.array([9.0, 0.0])


@pytest.mark.parametrize("off", [0.0, 1.0, -3.0, 100.0])
@pytest.mark.parametrize("logits", [ORDINARY, CERTAIN])
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_errors_are_counted_in_units_of_the_accumulation_dtype(
    dtype: str,
    logits: np.ndarray,
    off: float,  # type: ignore[type-arg]
) -> None:
    seen = measured(dtype, off, logits).ulps
    # In float64 the truth that the answer was made from is itself off by some of a unit.
    assert round(seen) == abs(off) if dtype == "float64" else round(seen, 5) == abs(off)


def test_float64_answers_are_measured_against_the_enclosure() -> None:
    z = np.random.default_rng(0).normal(size=(8, 50))
    ids = np.arange(8)
    nearest = np.array([float(enclose(row, int(t))) for row, t in zip(z, ids, strict=True)])
    found = Accuracy()
    found.measure(z, ids, nearest, log_likelihood(z, ids))
    assert all(b.ulps <= 0.5 for b in found.bins())


@pytest.mark.parametrize(
    ("logits", "off", "letter"),
    [
        (ORDINARY, 4.0, "R"),
        (ORDINARY, 5.0, "C"),
        (CERTAIN, 4.0, "R"),
        (CERTAIN, 400.0, "A"),  # still a small part of an ulp of 1
        (CERTAIN, 1e6, "C"),
        (ORDINARY, math.inf, "C"),
    ],
)
def test_a_grade_is_what_its_meaning_says(
    logits: np.ndarray,
    off: float,
    letter: str,  # type: ignore[type-arg]
) -> None:
    (grade,) = grades([measured("float32", off, logits)])
    assert grade.letter == letter


def test_certainty_that_is_not_finite_has_no_good_grade() -> None:
    found = Accuracy()
    z, t = CERTAIN[None].astype(np.float32), np.array([0])
    found.measure(z, t, np.array([np.nan]), log_likelihood(z, t))
    assert grades(found.bins())[0].letter == "C"
    assert json.loads(json.dumps([b.to_json() for b in found.bins()], allow_nan=False))


def test_a_logarithm_of_1_has_no_unit_and_is_not_counted() -> None:
    found = Accuracy()
    found.measure(np.zeros((1, 1)), np.array([0]), np.zeros(1), np.zeros(1))
    assert found.bins() == ()


def test_bins_of_shares_add_up_to_those_of_the_whole() -> None:
    one, two = (measured("float32", off, ORDINARY) for off in (1.0, 3.0))
    (whole,) = merged([[one], [two]])
    assert whole.positions == 2
    assert whole.ulps == two.ulps
    assert [AccuracyBin.from_json(b.to_json()) for b in (one, whole)] == [one, whole]


def test_the_picture_names_each_dtype_that_was_measured() -> None:
    bins = [measured("float32", 1.0, ORDINARY), measured("float64", math.inf, CERTAIN)]
    svg = ulps_svg(bins, "c")
    assert svg is not None
    assert all(word in svg for word in ("float32", "float64", "vocabulary size", 'labelledby="c"'))
    assert ulps_svg([], "c") is None


# --- the search


def test_a_search_recipe_makes_what_it_says() -> None:
    recipe = SearchRecipe((2, 3, 50), "float64", 2.0, 7.0, 100.0, "falling", 5)
    case = recipe.build(0)
    assert (np.diff(case.logits, axis=-1) <= 0).all()
    assert (case.targets == 0).all()  # seven nats above all others, so it comes first
    others = np.sort(case.logits, axis=-1)[..., -2]
    assert (np.round(case.logits[..., 0] - others, 9) == 7.0).all()
    again = recipe.build(0).logits
    assert (again == case.logits).all()
    assert not (recipe.build(1).logits == case.logits).all()
    rising = SearchRecipe((2, 3, 50), "float16", 1e9, None, 0.0, "rising", 5).build(0)
    assert np.isfinite(rising.logits).all()
    assert (np.diff(rising.logits.astype(float), axis=-1) >= 0).all()


def test_searches_climb_by_the_ratio_of_each_case(monkeypatch: pytest.MonkeyPatch) -> None:
    climbed: list[float] = []
    monkeypatch.setattr(trial, "climb", climbed.append)
    session = open_session("numpy", profile="quick", in_process=True, ports={"score"})
    climbing = [check for check in CHECKS if check.climbs]
    assert {check.requirement for check in climbing} == {
        f"MLM-LIK-{n}" for n in (1, 2, 3, 4, 9, 11)
    }
    for check in climbing:
        climbed.clear()
        result = run_check(session, check)
        assert len(climbed) >= PROFILES["quick"].examples
        assert result.worst is not None
        assert max(climbed) <= result.worst.ratio


def test_the_worst_input_of_a_report_can_be_made_again(tmp_path: Path) -> None:
    report = run("torch", profile="quick", only=["MLM-LIK-4"], failures=tmp_path)
    worst = RunReport.from_json(report.to_json()).requirements[0].worst
    assert worst is not None
    bring, make = ast.parse(worst.recipe).body
    assert isinstance(bring, ast.ImportFrom)
    assert isinstance(make, ast.Expr)
    call: Any = make.value
    named = call.func.value
    assert [alias.name for alias in bring.names] == [named.func.id]
    recipe = getattr(import_module(bring.module or ""), named.func.id)
    fields = {word.arg: ast.literal_eval(word.value) for word in named.keywords}
    assert str(recipe(**fields).build(ast.literal_eval(call.args[0]))) == worst.case
