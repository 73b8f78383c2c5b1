"""The report as JUnit XML, which continuous integration reads: one test case per check.

Only a pass is a passed test case.  A failure is ``<failure>``, an error ``<error>``; not
claimed, not run and waived are ``<skipped>`` with their reason, never silent.
"""

from __future__ import annotations

import re
from xml.etree import ElementTree

from mlm_conformance.outcomes import Outcome
from mlm_conformance.reports.summary import said, seen, story
from mlm_conformance.results import CheckResult, RequirementResult, RunReport

__all__ = ["render"]

_SKIPPED = (Outcome.NOT_CLAIMED, Outcome.NOT_RUN, Outcome.WAIVED)
_TAGS = {
    Outcome.FAIL: "failure",
    Outcome.ERROR: "error",
    **dict.fromkeys(_SKIPPED, "skipped"),
}
# XML 1.0 forbids most control characters, even escaped (its production 2, Char).
_FORBIDDEN = re.compile(r"[^\t\n\r\x20-\uD7FF\uE000-\uFFFD\U00010000-\U0010FFFF]")


def render(report: RunReport) -> str:
    """The report as JUnit XML text: a suite per chapter, a case per check."""
    root = ElementTree.Element("testsuites", _counts(report.requirements))
    root.set("name", _clean(f"mlm-spec {report.spec_version}: {report.target}"))
    root.set("time", f"{report.seconds:.3f}")
    chapters = dict.fromkeys(requirement.chapter for requirement in report.requirements)
    for chapter in chapters:
        root.append(_suite(report, chapter))
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def _suite(report: RunReport, chapter: str) -> ElementTree.Element:
    mine = tuple(r for r in report.requirements if r.chapter == chapter)
    suite = ElementTree.Element("testsuite", {"name": _clean(chapter), **_counts(mine)})
    suite.set("timestamp", report.started)
    suite.set("time", f"{sum(c.seconds for r in mine for c in r.checks):.3f}")
    properties = ElementTree.SubElement(suite, "properties")
    for name, value in _properties(report).items():
        ElementTree.SubElement(properties, "property", {"name": name, "value": _clean(value)})
    for requirement in mine:
        suite.extend(_case(requirement, check) for check in requirement.checks)
        if not requirement.checks:
            suite.append(_unchecked(requirement))
    return suite


def _case(requirement: RequirementResult, check: CheckResult) -> ElementTree.Element:
    case = _named(requirement.id, f"{check.name}[{check.port}]", check.seconds)
    tag = _TAGS.get(check.outcome)
    if tag is not None:
        reason = f"{check.outcome.upper()}: {check.message}"
        told = ElementTree.SubElement(case, tag, {"message": _clean(reason)})
        if tag != "skipped":
            told.set("type", check.outcome.value)
            told.text = _clean(story(requirement, check))
    ElementTree.SubElement(case, "system-out").text = _clean(_evidence(check))
    return case


def _unchecked(requirement: RequirementResult) -> ElementTree.Element:
    case = _named(requirement.id, "unchecked", 0.0)
    ElementTree.SubElement(case, "skipped", {"message": "NOT RUN: no check ran"})
    return case


def _named(requirement: str, name: str, seconds: float) -> ElementTree.Element:
    named = {"classname": _clean(requirement), "name": _clean(name), "time": f"{seconds:.3f}"}
    return ElementTree.Element("testcase", named)


def _evidence(check: CheckResult) -> str:
    return seen(check) if check.worst is None else f"{seen(check)}\nworst {said(check.worst)}"


def _counts(requirements: tuple[RequirementResult, ...]) -> dict[str, str]:
    outcomes = [c.outcome for r in requirements for c in r.checks]
    outcomes += [Outcome.NOT_RUN for r in requirements if not r.checks]
    return {
        "tests": str(len(outcomes)),
        "failures": str(outcomes.count(Outcome.FAIL)),
        "errors": str(outcomes.count(Outcome.ERROR)),
        "skipped": str(sum(outcome in _SKIPPED for outcome in outcomes)),
    }


def _properties(report: RunReport) -> dict[str, str]:
    about = {
        "target": report.target,
        "device": report.device,
        "profile": report.profile,
        "seed": str(report.seed),
        "verdict": report.verdict,
        "platform": report.platform,
    }
    if report.note:
        about["note"] = report.note
    return {**about, **{f"version {name}": v for name, v in report.versions.items()}}


def _clean(text: str) -> str:
    """``text`` without the characters that no XML file may hold, each shown as U+FFFD."""
    return _FORBIDDEN.sub("\ufffd", text)
