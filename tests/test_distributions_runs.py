"""What a run of the chapter DST owes: no more tests than its error allows, each with a power."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

import pytest
from mlm_conformance.dialects import decide, simulated
from mlm_conformance.dialects.probes import observe
from mlm_conformance.distributions import binomial, judge
from mlm_conformance.distributions.budget import within_budget
from mlm_conformance.field.dialects import DIALECTS
from mlm_conformance.in_process import InProcessTarget
from mlm_conformance.outcomes import Outcome
from mlm_conformance.results import CheckResult, RunReport
from mlm_conformance.runner import run

TARGET = "mlm_conformance.mutants.correct:with_sum"
DISTRIBUTIONS = [f"MLM-DST-{n}" for n in range(1, 21)]  # the others are no statistics

#: Checks that compare counts exactly and report no power, with the reason.
EXACT: Mapping[str, str] = dict.fromkeys(
    [
        "no_calls_decide_one_another",
        "no_columns_decide_one_another",
        "no_ids_decide_one_another",
        "no_kinds_decide_one_another",
        "no_rows_or_samples_decide_one_another",
        "no_words_decide_one_another",
    ],
    "a relation that always holds is found whenever there is one: there is no smallest deviation",
)


@pytest.fixture(scope="module")
def report() -> RunReport:
    return run(TARGET, profile="quick", only=DISTRIBUTIONS, in_process=True)


def checks_of(report: RunReport) -> list[CheckResult]:
    return [check for found in report.requirements for check in found.checks]


def silent(report: RunReport) -> set[str]:
    """Checks that do not say what they can see."""
    return {check.name for check in checks_of(report) if not check.sensitivities}


def test_every_check_of_the_chapter_says_what_it_can_see(report: RunReport) -> None:
    assert {check.outcome for check in checks_of(report)} == {Outcome.PASS}
    assert silent(report) == set(EXACT)


def test_a_check_that_does_not_say_what_it_can_see_is_found(report: RunReport) -> None:
    first = report.requirements[0]
    dumb = replace(first, checks=(replace(first.checks[0], sensitivities=()),))
    changed = replace(report, requirements=(dumb, *report.requirements[1:]))
    assert first.checks[0].name in silent(changed) - silent(report)


def test_a_run_with_too_many_tests_is_an_error(
    report: RunReport, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = sum(check.saw.get("tests", 0) for check in checks_of(report))
    monkeypatch.setattr(judge, "TESTS", made)
    assert within_budget(report.requirements) == report.requirements
    monkeypatch.setattr(judge, "TESTS", made - 1)
    voided = [c for found in within_budget(report.requirements) for c in found.checks]
    for check in voided:
        assert check.outcome is (Outcome.ERROR if "tests" in check.saw else Outcome.PASS)
    assert f"made {made} tests of counts, and {made - 1} share" in voided[0].message


@pytest.mark.parametrize("number", [1, 2])
def test_the_runner_counts_the_tests_of_the_whole_run(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judge, "TESTS", 21)
    only = ["MLM-DST-10", "MLM-DST-16"][:number]  # 21 tests, then one more
    found = run(TARGET, profile="quick", only=only, in_process=True)
    expected = Outcome.PASS if number == 1 else Outcome.ERROR
    assert [r.outcome for r in found.requirements] == [expected] * number


def test_identify_makes_no_more_tests_than_share_its_error(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, _ = observe(InProcessTarget(simulated.hf_collator), 0)
    made = decide.identify(seen, DIALECTS).tests
    assert made <= judge.TESTS
    monkeypatch.setattr(judge, "TESTS", made - 1)
    with pytest.raises(AssertionError, match=f"{made} events tested, and {made - 1} share"):
        decide.identify(seen, DIALECTS)


def test_a_tail_that_no_precision_encloses_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binomial, "_BITS", (2,))
    with pytest.raises(ArithmeticError, match=r"x = 17/20, a = 900, b = 101"):
        binomial.at_most(100, 1000, Fraction(3, 20))
