"""How many tests of counts a run makes: no more than share its error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mlm_conformance.distributions import judge
from mlm_conformance.outcomes import Outcome
from mlm_conformance.results import CheckResult, RequirementResult

__all__ = ["within_budget"]


def within_budget(requirements: Sequence[RequirementResult]) -> tuple[RequirementResult, ...]:
    """The results of a run; those of tests of counts are errors if there were too many of them.

    Each test has the level of one of `judge.TESTS`: of more a right masker may fail one too often,
    and a pass beside such a fail says nothing either.
    """
    made = sum(_tests(check) for found in requirements for check in found.checks)
    if made <= judge.TESTS:
        return tuple(requirements)
    why = f"this run made {made} tests of counts, and {judge.TESTS} share its error"
    return tuple(
        replace(found, checks=tuple(_void(check, why) for check in found.checks))
        for found in requirements
    )


def _tests(check: CheckResult) -> int:
    return check.saw.get("tests", 0)


def _void(check: CheckResult, why: str) -> CheckResult:
    return replace(check, outcome=Outcome.ERROR, message=why) if _tests(check) else check
