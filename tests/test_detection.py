"""Wrong log-likelihoods are rejected at every size, correct ones at none."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mlm_conformance.detection.rates import SIZES, rate
from mlm_conformance.detection.table import Detection, correct, markdown
from mlm_conformance.detection.verdicts import first_to_reject, target
from mlm_conformance.detection.wrong import WRONG
from mlm_conformance.outcomes import Outcome
from mlm_conformance.runner import run
from mlm_conformance.soak import BACKENDS, exit_status, one
from mlm_conformance.variants import SCORING, VARIANTS, Variant

from mlm_spec import log_likelihood

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
NUMBERS = ("MLM-OBJ", "MLM-LIK", "MLM-GRA")


def committed() -> Detection:
    return Detection.from_json(json.loads((RESULTS / "detection.json").read_text("utf-8")))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", list(WRONG))
def test_a_wrong_log_likelihood_is_rejected_if_only_at_one_size(name: str, size: int) -> None:
    assert first_to_reject(target(name, size)) is not None


def test_there_are_as_many_as_is_promised() -> None:
    assert len(WRONG) >= 15
    assert len(VARIANTS) >= 30


@pytest.mark.parametrize("name", [n for n in SCORING if n != "online_by_element"])
def test_a_correct_one_is_within_its_bounds_everywhere(name: str) -> None:
    entry = correct(name, SIZES[1], None)
    assert entry.rate.ratio <= 1.0
    assert entry.rate.best == 0.0


def test_the_right_answer_has_rate_0_and_nonsense_has_1() -> None:
    assert rate(log_likelihood, 64).best == 0.0
    nonsense = rate(lambda z, t: np.full(len(t), np.nan), 64)
    assert (nonsense.ordinary, nonsense.best, nonsense.ratio) == (1.0, 1.0, np.inf)


def test_a_backend_that_is_right_at_that_size_is_not_rejected() -> None:
    assert first_to_reject("mlm_conformance.variants.scoring:tree", "quick") is None


def test_the_committed_page_is_that_of_the_committed_results() -> None:
    found = committed()
    assert Detection.from_json(found.to_json()) == found
    assert markdown(found) == (ROOT / "docs" / "detection.md").read_text("utf-8")


def test_the_committed_results_have_no_hole_and_no_false_alarm() -> None:
    found = committed()
    assert [(e.name, e.vocab_size) for e in found.wrong] == [(n, v) for n in WRONG for v in SIZES]
    assert [(e.name, e.vocab_size) for e in found.correct] == [
        (n, v) for n in SCORING for v in SIZES
    ]
    assert found.holes == []
    assert found.false_alarms == []
    assert replace(found, correct=found.wrong).false_alarms
    assert replace(found, wrong=found.correct).holes


# --- soak


@pytest.mark.parametrize("seed", range(5))
def test_five_seeds_reject_no_correct_backend(seed: int) -> None:
    """Spread over the variants; `make soak` runs two hundred."""
    result = one(VARIANTS[seed * 8 % len(VARIANTS)], 1000 + seed)
    assert result.rejected == {}
    assert result.broken == {}
    assert result.examples > 500


def test_a_wrong_backend_in_a_soak_is_said() -> None:
    wrong = Variant("wrong", target("label smoothing 0.01", 64), NUMBERS)
    result = one(wrong, 3, "quick")
    assert "MLM-LIK-1" in result.rejected
    assert exit_status([result]) == 1
    assert exit_status([replace(result, rejected={})]) == 0
    assert exit_status([replace(result, rejected={}, broken={"MLM-LIK-1": "x"})]) == 2
    assert exit_status([replace(result, rejected={}, note="no framework")]) == 3


def test_the_committed_soak_covers_every_variant_and_rejects_none() -> None:
    record = json.loads((RESULTS / "soak.json").read_text("utf-8"))
    runs = record["runs"]
    assert [r["seed"] for r in runs] == list(range(200))
    assert {r["variant"] for r in runs} == {v.name for v in (*VARIANTS, *BACKENDS)}
    assert {r["profile"] for r in runs} == {"ci"}
    assert all(not r["rejected"] and not r["broken"] and not r["note"] for r in runs)


CLASSED = [v for v in VARIANTS if "MLM-LIK" in v.only]


@pytest.mark.parametrize("variant", CLASSED, ids=lambda v: v.name)
def test_a_variant_declares_a_class_and_keeps_it(variant: Variant, tmp_path: Path) -> None:
    only = ("MLM-LIK-11",)
    report = run(variant.target, profile="quick", only=only, in_process=True, failures=tmp_path)
    assert report.accumulation is not None
    assert report.requirements[0].outcome is Outcome.PASS, report.requirements[0].message
