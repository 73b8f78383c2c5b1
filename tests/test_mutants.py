"""Mutants are made as they should be, and what rejects one is its change.

That every one is rejected, on each of its ports and by the check that is there for it, is measured
by ``mlm-spec mutants``, which fails where one is not (test_matrix.py).  The correct backends that
mutants depart from pass the same requirements.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlm_conformance import profiles
from mlm_conformance.mutants import library, registry
from mlm_conformance.mutants.correct import CORRECT
from mlm_conformance.mutants.library import MUTANTS, Mutant
from mlm_conformance.outcomes import Outcome, combine
from mlm_conformance.resolve import claims, resolve
from mlm_conformance.results import CheckResult
from mlm_conformance.runner import open_session, plan, run, run_check

import mlm_spec
from mlm_spec import corruption, masking, objective, selection, thresholds

QUICK = replace(profiles.PROFILES["quick"], simplify_seconds=0.0)
# What ci has more than quick, but for the number of cases that are drawn.
CI = replace(profiles.PROFILES["ci"], simplify_seconds=0.0, examples=3)
PROFILES = {"quick": QUICK, "ci": CI}
MODULES = (corruption, masking, objective, selection, thresholds, mlm_spec)
NAMES = [dict(vars(module)) for module in MODULES]
CORRECT_TARGETS = {
    reduction: f"mlm_conformance.mutants.correct:{name}"
    for reduction, name in (
        ("sum", "with_sum"),
        ("mean", "with_mean"),
        ("sum/num_items", "with_num_items"),
    )
}


@cache
def verdicts(target: str, requirement: str, profile: str = "quick") -> tuple[CheckResult, ...]:
    """What the checks of one requirement find, of those that the target claims."""
    session = open_session(target, profile=profile, in_process=True, failures=None)
    session.profile = PROFILES[profile]
    results = (run_check(session, check) for check in plan([requirement]))
    return tuple(r for r in results if r.outcome is not Outcome.NOT_CLAIMED)


def meant(mutant: Mutant, port: str, results: tuple[CheckResult, ...]) -> list[CheckResult]:
    """The results of the checks that are there to catch a mutant on one of its ports."""
    own = [result for result in results if result.port == port]
    if mutant.check is None:
        return own
    return [result for result in own if result.name == mutant.check.format(port)]


def rejected(mutant: Mutant, results: tuple[CheckResult, ...]) -> bool:
    """Whether the requirement fails, on every port of the mutant, by the check that is meant."""
    whole = combine(result.outcome for result in results) is Outcome.FAIL
    return whole and all(
        Outcome.FAIL in {result.outcome for result in meant(mutant, port, results)}
        for port in mutant.ports
    )


@pytest.mark.parametrize(
    ("requirement", "reduction", "profile"),
    sorted(
        {
            (mutant.requirement, reduction, mutant.profile)
            for mutant in MUTANTS
            for reduction in CORRECT_TARGETS
            if reduction == (getattr(resolve(mutant.target), "loss_reduction", None) or "sum")
        }
    ),
)
def test_the_correct_backend_passes_what_mutants_fail(
    requirement: str, reduction: str, profile: str
) -> None:
    results = verdicts(CORRECT_TARGETS[reduction], requirement, profile)
    assert results
    assert [r for r in results if r.outcome is not Outcome.PASS] == []


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: m.name)
def test_a_mutant_has_the_ports_it_names_and_no_others(mutant: Mutant) -> None:
    assert set(claims(resolve(mutant.target))) == set(mutant.ports)


def test_what_a_mutant_computes_is_no_warning_and_what_the_suite_computes_is() -> None:
    nothing = np.ones(0)

    @registry.mutant("MLM-OBJ-2", "loss")
    def a_mean_of_nothing(**call: Any) -> Any:
        return call["logits"].mean() / np.zeros(1)

    registry.REGISTERED.pop()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        a_mean_of_nothing.loss(logits=nothing)
        assert said == []
        nothing.mean()
    assert said


def test_a_correct_backend_in_a_mutants_place_is_not_rejected() -> None:
    mutant = next(m for m in MUTANTS if m.name == "mean_over_all_positions")
    assert rejected(mutant, verdicts(mutant.target, mutant.requirement))
    assert not rejected(mutant, verdicts(CORRECT_TARGETS["mean"], mutant.requirement))


def test_a_mutant_that_only_other_checks_catch_is_not_rejected() -> None:
    mutant = next(m for m in MUTANTS if m.name == "the_largest_words_are_selected")
    results = verdicts(mutant.target, mutant.requirement)
    assert rejected(mutant, results)
    assert not rejected(replace(mutant, check="no_such_check"), results)
    assert not rejected(replace(mutant, ports=("mask", "score")), results)


def test_mutants_leave_the_reference_as_it_was() -> None:
    each = {mutant.requirement: mutant for mutant in MUTANTS if {"mask", "score"} & {*mutant.ports}}
    for mutant in each.values():
        verdicts(mutant.target, mutant.requirement)
    for module, names in zip(MODULES, NAMES, strict=True):
        changed = [name for name, value in names.items() if getattr(module, name) is not value]
        assert changed == [], module.__name__


def test_a_mutant_fails_in_a_process_of_its_own_too(tmp_path: Path) -> None:
    mutant = next(m for m in MUTANTS if m.name == "mean_over_all_positions")
    report = run(mutant.target, profile="quick", only=[mutant.requirement], failures=tmp_path)
    assert [r.outcome for r in report.requirements] == [Outcome.FAIL]
    assert report.first_failure == mutant.requirement
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("mean_over_all_positions", "MLM-OBJ-8"),
        ("softmax_without_max_shift", "MLM-LIK-2"),
        ("unselected_positions_count", "MLM-OBJ-1"),
        ("a_product_masks_the_sum", "MLM-OBJ-1"),
        ("the_batch_size_is_in_the_seed", "MLM-SEL-9"),
        ("the_row_is_in_the_counter", "MLM-SEL-9"),
    ],
)
def test_the_whole_check_names_the_requirement_that_diverged_first(
    name: str, first: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(profiles.PROFILES, "quick", QUICK)  # type: ignore[arg-type]
    mutant = next(m for m in MUTANTS if m.name == name)
    report = run(mutant.target, profile="quick", in_process=True, failures=tmp_path)
    assert report.first_failure == mutant.requirement == first


def test_the_library_has_every_mutant_once() -> None:
    names = [mutant.name for mutant in MUTANTS]
    assert len(set(names)) == len(names) == len({mutant.target for mutant in MUTANTS})
    chapters = [getattr(library, name) for name in library.__all__ if name.islower()]
    listed = [f"{chapter.__name__}:{name}" for chapter in chapters for name in chapter.__all__]
    assert sorted(listed) == sorted(mutant.target for mutant in MUTANTS)


def test_every_mutant_says_in_one_sentence_what_is_wrong() -> None:
    for mutant in MUTANTS:
        assert mutant.about.endswith("."), mutant.name
        assert ". " not in mutant.about, mutant.name
        assert all(url.startswith("https://") for url in mutant.urls), mutant.name


def test_every_reduction_has_a_correct_backend() -> None:
    assert set(CORRECT) == set(CORRECT_TARGETS)
    for reduction, target in CORRECT_TARGETS.items():
        assert resolve(target) is CORRECT[reduction]
    ports = {port for mutant in MUTANTS for port in mutant.ports}
    assert ports <= set(claims(CORRECT["sum"]))
