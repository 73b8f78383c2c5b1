"""What the written reports say alike: order of failures, counts by chapter, words."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from mlm_conformance.outcomes import Outcome
from mlm_conformance.results import CheckResult, RequirementResult, RunReport, Worst

__all__ = [
    "COLUMNS",
    "ChapterCount",
    "Described",
    "chapter_name",
    "chapters",
    "deciding",
    "failures",
    "loud",
    "percent",
    "replay_command",
    "said",
    "seen",
    "story",
    "with_outcome",
]

#: The six outcomes in the order of every table.
COLUMNS = (
    Outcome.PASS,
    Outcome.FAIL,
    Outcome.ERROR,
    Outcome.NOT_CLAIMED,
    Outcome.NOT_RUN,
    Outcome.WAIVED,
)


class Described(Protocol):
    """What has a requirement's words: its result, or its text."""

    @property
    def id(self) -> str: ...

    @property
    def title(self) -> str: ...

    @property
    def statement(self) -> str: ...


_CHAPTERS = {
    "OBJ": "objective",
    "RNG": "random words",
    "SEL": "selection",
    "COR": "corruption",
    "DST": "distributions",
    "LIK": "log-likelihood",
    "GRA": "gradients",
    "HED": "head",
    "ERR": "bad input",
}


def chapter_name(chapter: str) -> str:
    """A chapter's code with its subject; the code alone for one that is not known here.

    >>> chapter_name("OBJ")
    'OBJ objective'
    """
    return f"{chapter} {_CHAPTERS[chapter]}" if chapter in _CHAPTERS else chapter


@dataclass(frozen=True, slots=True)
class ChapterCount:
    """How many requirements of one chapter have each outcome."""

    chapter: str
    counts: dict[Outcome, int]
    total: int


def chapters(report: RunReport) -> list[ChapterCount]:
    """The counts of each chapter, in the order of the report."""
    found: dict[str, dict[Outcome, int]] = {}
    for requirement in report.requirements:
        counts = found.setdefault(requirement.chapter, dict.fromkeys(COLUMNS, 0))
        counts[requirement.outcome] += 1
    return [ChapterCount(name, counts, sum(counts.values())) for name, counts in found.items()]


def with_outcome(report: RunReport, outcome: Outcome) -> list[RequirementResult]:
    """The requirements of one outcome, in the order of the report."""
    return [r for r in report.requirements if r.outcome is outcome]


def failures(report: RunReport) -> list[RequirementResult]:
    """The failed requirements: the first divergence, those that stand alone, consequences."""

    def rank(requirement: RequirementResult) -> int:
        if requirement.id == report.first_failure:
            return 0
        return 1 if requirement.consequence_of is None else 2

    return sorted(with_outcome(report, Outcome.FAIL), key=rank)


def deciding(requirement: RequirementResult) -> list[CheckResult]:
    """The checks whose outcome became the requirement's."""
    return [check for check in requirement.checks if check.outcome is requirement.outcome]


def percent(part: int, whole: int) -> str:
    """A share with its denominator, rounded towards "not all": 99.96% is never written 100%.

    >>> percent(2999, 3000), percent(1, 3000), percent(0, 7), percent(0, 0)
    ('99.9% (2999 of 3000)', '0.1% (1 of 3000)', '0% (0 of 7)', 'none (0 of 0)')
    """
    if whole == 0:
        return "none (0 of 0)"
    tenths = (1000 * part) // whole
    if part and not tenths:
        tenths = 1
    share = f"{tenths // 10}.{tenths % 10}" if tenths % 10 else f"{tenths // 10}"
    return f"{share}% ({part} of {whole})"


def said(worst: Worst) -> str:
    """An observed error beside its bound.

    >>> said(Worst(0.25, 1e-7, 4e-7, "sum", "B=2 T=8 float32"))
    'sum: error 1e-07, bound 4e-07 (0.25 of it) [B=2 T=8 float32]'
    """
    numbers = f"error {worst.error:.3g}, bound {worst.bound:.3g} ({worst.ratio:.3g} of it)"
    return f"{worst.what}: {numbers}" + (f" [{worst.case}]" if worst.case else "")


def seen(check: CheckResult) -> str:
    """What really occurred in a check: its examples and its counters, largest first."""
    counters = sorted(check.saw.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join([f"{check.examples} examples", *(f"{n} {what}" for what, n in counters)])


def replay_command(check: CheckResult) -> str | None:
    """The command that runs the simplified case again, or None where there is no file."""
    if check.failure_file is None:
        return None
    return f"mlm-spec replay {shlex.quote(check.failure_file)}"


def story(requirement: Described, check: CheckResult) -> str:
    """One check's failure or error in plain text, for readers of a log."""
    lines = [f"{requirement.id} {requirement.title}", requirement.statement, "", check.message]
    if check.consequence_of:
        lines += ["", f"May follow from {check.consequence_of}."]
    if check.worst is not None:
        lines += ["", f"worst: {said(check.worst)}"]
    if check.reproduction:
        lines += ["", check.reproduction.rstrip()]
    command = replay_command(check)
    return "\n".join(lines if command is None else [*lines, "", f"replay: {command}"])


def loud(requirements: Iterable[RequirementResult]) -> list[tuple[str, list[str]]]:
    """Reasons with the ids that share them, in the order of their first occurrence."""
    reasons: dict[str, list[str]] = {}
    for requirement in requirements:
        reason = "; ".join(requirement.message.splitlines()) or "no reason given"
        reasons.setdefault(reason, []).append(requirement.id)
    return list(reasons.items())
