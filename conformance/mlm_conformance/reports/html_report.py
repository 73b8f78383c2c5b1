"""The report as one self-contained page: no script, no font, no picture from elsewhere.

It is a function of the report alone: the same report gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mlm_conformance.accuracy import GRADES, grades
from mlm_conformance.outcomes import Outcome
from mlm_conformance.reports import accuracy_plot, plot, summary
from mlm_conformance.results import CheckResult, RequirementResult, RunReport
from mlm_spec.text import Requirement

__all__ = ["render"]


def render(report: RunReport, texts: Mapping[str, Requirement] | None = None) -> str:
    """The page, as HTML text.

    Parameters
    ----------
    report : what is shown.
    texts : the specification by id; where it is given, formula and reason stand beside each
        requirement's statement.
    """
    found = plot.points(report)
    svg = plot.worst_svg(found)
    ulps = accuracy_plot.ulps_svg(report.accuracy, "ulps-caption")
    return (
        _environment()
        .get_template("report.html.jinja")
        .render(
            report=report,
            outcomes=Outcome,
            columns=summary.COLUMNS,
            counts=report.counts,
            total=len(report.requirements),
            chapters=_grouped(report),
            failures=summary.failures(report),
            errors=summary.with_outcome(report, Outcome.ERROR),
            quiet=_quiet(report),
            plot=None if svg is None else Markup(svg),
            ulps=None if ulps is None else Markup(ulps),
            grades=grades(report.accuracy),
            meanings=GRADES,
            searched=_searched(report),
            counted=[(c.requirement, s) for c in _checks(report) for s in c.sensitivities],
            bounded=len(found),
            beyond=[point.id for point in found if not point.ratio <= 1],
            started=datetime.fromisoformat(report.started).strftime("%Y-%m-%d %H:%M %Z").strip(),
            texts=texts or {},
            summary=summary,
        )
    )


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("mlm_conformance.reports", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _checks(report: RunReport) -> Iterator[CheckResult]:
    for requirement in report.requirements:
        yield from requirement.checks


def _searched(report: RunReport) -> list[RequirementResult]:
    """The requirements whose worst input can be made again, the worst first."""
    found = [r for r in report.requirements if r.worst is not None and r.worst.recipe]
    return sorted(found, key=lambda r: -r.worst.ratio if r.worst is not None else 0.0)


def _grouped(report: RunReport) -> list[tuple[summary.ChapterCount, list[RequirementResult]]]:
    return [
        (chapter, [r for r in report.requirements if r.chapter == chapter.chapter])
        for chapter in summary.chapters(report)
    ]


def _quiet(report: RunReport) -> list[tuple[Outcome, int, list[tuple[str, list[str]]]]]:
    """What did not run, by outcome and reason."""
    found = []
    for outcome in (Outcome.NOT_CLAIMED, Outcome.NOT_RUN, Outcome.WAIVED):
        mine = summary.with_outcome(report, outcome)
        if mine:
            found.append((outcome, len(mine), summary.loud(mine)))
    return found
