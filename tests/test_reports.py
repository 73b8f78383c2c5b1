"""What the reports say, and that none of them can make anything but a pass look like one."""

from __future__ import annotations

import io
import math
import os
import stat
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import pytest
from mlm_conformance.outcomes import BadCallError, Outcome, combine, exit_status
from mlm_conformance.reports import html_report, json_report, junit, plot, summary, terminal
from mlm_conformance.reports.files import require_writable, write_atomically
from mlm_conformance.results import CheckResult, Progress, RequirementResult, RunReport, Worst
from rich.console import Console

HOSTILE = "</script><script>alert('x')</script> & \"q\" \x00\x1b[31m"


def a_worst(ratio: float, what: str = "sum") -> Worst:
    return Worst(ratio, ratio * 4e-7, 4e-7, what, "B=2 T=8 V=31 float32")


def a_check(
    requirement: str,
    outcome: Outcome = Outcome.PASS,
    message: str = "",
    worst: Worst | None = None,
    consequence_of: str | None = None,
    name: str = "value_is_within_the_bound",
) -> CheckResult:
    failed = outcome is Outcome.FAIL
    return CheckResult(
        requirement=requirement,
        name=name,
        port="score",
        theorem=False,
        outcome=outcome,
        examples=100 if outcome in (Outcome.PASS, Outcome.FAIL) else 0,
        saw={"selected": 812, "improbable": 9} if outcome is Outcome.PASS else {},
        worst=worst,
        message=message,
        seconds=0.25,
        failure_file=f"mlm-spec-failures/{requirement}.json" if failed else None,
        reproduction="logits = np.zeros((1, 1, 2), np.float32)\nport.score(logits)" if failed else None,
        consequence_of=consequence_of,
    )


def a_requirement(id: str, *checks: CheckResult) -> RequirementResult:
    return RequirementResult(
        id=id,
        chapter=id.split("-")[1],
        level="MUST",
        title=f"The title of {id}",
        statement=f"The statement of {id} holds for every batch, whatever it contains.",
        checks=checks,
    )


def with_outcome(id: str, outcome: Outcome, message: str = "") -> RequirementResult:
    return a_requirement(id, a_check(id, outcome, message))


def a_report(*requirements: RequirementResult, **changes: object) -> RunReport:
    report = RunReport(
        target="torch",
        device="cpu",
        profile="ci",
        seed=2**64 - 1,
        spec_version="0.1",
        versions={"python": "3.11.9", "numpy": "2.4.0", "torch": "2.13.0"},
        platform="Linux x86_64",
        started="2025-11-23T11:02:00+00:00",
        seconds=61.5,
        requirements=requirements,
    )
    return replace(report, **changes)  # type: ignore[arg-type]


def a_passing_report() -> RunReport:
    chapters = {"OBJ": 12, "RNG": 6, "SEL": 12, "COR": 9, "LIK": 10, "GRA": 7}
    requirements = [
        a_requirement(
            f"MLM-{chapter}-{n}",
            a_check(
                f"MLM-{chapter}-{n}",
                worst=a_worst(10 ** (-n / 2)) if chapter in ("OBJ", "LIK", "GRA") else None,
            ),
        )
        for chapter, total in chapters.items()
        for n in range(1, total + 1)
    ]
    reason = "the target has no method head"
    requirements += [
        with_outcome(f"MLM-HED-{n}", Outcome.NOT_CLAIMED, reason) for n in range(1, 10)
    ]
    return a_report(*requirements)


def a_failing_report() -> RunReport:
    """Every outcome, a first divergence, consequences, exact and infinite ratios."""
    message = "sum is 2.31, should be 2.29 ± 4e-7 [B=2 T=8 N=3 float32, any-order bound]"
    first = a_requirement(
        "MLM-LIK-4",
        a_check("MLM-LIK-4", Outcome.FAIL, message, a_worst(5e4, "log_likelihood")),
    )
    follows = a_requirement(
        "MLM-OBJ-2",
        a_check("MLM-OBJ-2", Outcome.FAIL, message, a_worst(math.inf), "MLM-LIK-4"),
    )
    alone = a_requirement(
        "MLM-COR-1",
        a_check("MLM-COR-1", Outcome.FAIL, "inputs[0, 3] is 7 and the position is not selected"),
    )
    return a_report(
        follows,
        a_requirement("MLM-OBJ-3", a_check("MLM-OBJ-3", worst=a_worst(0.0))),
        a_requirement("MLM-OBJ-5", a_check("MLM-OBJ-5", worst=a_worst(0.03))),
        a_requirement("MLM-OBJ-6", a_check("MLM-OBJ-6", worst=a_worst(0.4))),
        alone,
        a_requirement("MLM-LIK-1", a_check("MLM-LIK-1", worst=a_worst(0.1))),
        first,
        a_requirement("MLM-GRA-1", a_check("MLM-GRA-1", worst=a_worst(1.0))),
        with_outcome("MLM-HED-1", Outcome.NOT_CLAIMED, "the target has no method head"),
        with_outcome("MLM-HED-2", Outcome.NOT_CLAIMED, "the target has no method head"),
        with_outcome("MLM-HED-8", Outcome.NOT_RUN, "peak memory cannot be read on cpu"),
        with_outcome("MLM-ERR-7", Outcome.WAIVED, "reason and link of the waiver"),
        with_outcome("MLM-ERR-8", Outcome.ERROR, "the worker died: signal 11"),
        first_failure="MLM-LIK-4",
    )
