"""What a run over the field found, as frozen data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from mlm_conformance.field.accuracy.results import League
from mlm_conformance.field.registry import Peer
from mlm_conformance.outcomes import EXIT_INTERRUPTED, Outcome
from mlm_conformance.results import RequirementResult, RunReport

__all__ = ["FORMAT", "FieldReport", "PeerResult", "Verdict"]

#: Name and version of the JSON form.
FORMAT = "mlm-spec-field/2"


class Verdict(StrEnum):
    """What became of one implementation."""

    CONFORMS = "conforms"
    FAILS = "fails"
    NOT_RUN = "not run"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class PeerResult:
    """One implementation and what the suite said of it.

    Attributes
    ----------
    peer : the entry of the registry.
    report : the suite's report, or None where there is none.
    problem : why there is no verdict; "" where there is one.
    broken : the harness or the adapter broke, rather than something missing.
    """

    peer: Peer
    report: RunReport | None
    problem: str = ""
    broken: bool = False

    @property
    def verdict(self) -> Verdict:
        """An error in the suite or the adapter hides any verdict; nothing run is no verdict."""
        if self.broken:
            return Verdict.ERROR
        if self.report is None or self.problem:
            return Verdict.NOT_RUN
        counts = self.report.counts
        if counts[Outcome.ERROR]:
            return Verdict.ERROR
        if counts[Outcome.FAIL]:
            return Verdict.FAILS
        return Verdict.CONFORMS if counts[Outcome.PASS] else Verdict.NOT_RUN

    @property
    def reason(self) -> str:
        """Why there is no verdict, in words; "" where there is one."""
        if self.problem or self.verdict not in (Verdict.NOT_RUN, Verdict.ERROR):
            return self.problem
        errors = self.with_outcome(Outcome.ERROR)
        if errors:
            return "\n".join(f"{each.id}: {each.message}" for each in errors)
        said = self.report.note if self.report is not None else ""
        return said or "the suite has no check for what it offers"

    def count(self, outcome: Outcome) -> int:
        """How many requirements have this outcome."""
        return 0 if self.report is None else self.report.counts[outcome]

    @property
    def judged(self) -> int:
        """How many requirements it claims: passed, failed or ended in an error."""
        return sum(self.count(o) for o in (Outcome.PASS, Outcome.FAIL, Outcome.ERROR))

    def with_outcome(self, outcome: Outcome) -> list[RequirementResult]:
        """The requirements of one outcome, in the order of the specification."""
        found = () if self.report is None else self.report.requirements
        return [requirement for requirement in found if requirement.outcome is outcome]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            **self.peer.to_json(),
            "upstream": dict(self.peer.upstream),
            "not_asked": dict(self.peer.not_asked),
            "causes": dict(self.peer.causes),
            "verdict": self.verdict.value,
            "reason": self.reason,
            "report": None if self.report is None else self.report.to_json(),
        }


@dataclass(frozen=True, slots=True)
class FieldReport:
    """All of a run.

    Attributes
    ----------
    results : one for each implementation that was asked for.
    versions : package to version, of what is installed.
    spec_version : of the specification's text.
    python, system, started : in words; the date is ISO 8601.
    profile : how much of the suite ran.
    interrupted : ended by Ctrl-C; what was not reached is "not run".
    accuracy : the accuracy league; None where it was not asked for.
    """

    results: tuple[PeerResult, ...]
    versions: Mapping[str, str]
    spec_version: str
    python: str
    system: str
    started: str
    profile: str
    interrupted: bool = False
    accuracy: League | None = None

    @property
    def exit_status(self) -> int:
        """0 all conform, 1 one fails, 2 an error, 3 one or more not run, 130 interrupted.

        As of a check: a failure is hidden by nothing that broke or is missing, and what is
        missing is never passed over.  In the accuracy league a row of the table is the verdict.
        """
        if self.interrupted:
            return EXIT_INTERRUPTED
        if any(result.count(Outcome.FAIL) for result in self.results):
            return 1
        verdicts = {result.verdict for result in self.results}
        entries = () if self.accuracy is None else self.accuracy.entries
        if Verdict.ERROR in verdicts or any(entry.broken for entry in entries):
            return 2
        missing = Verdict.NOT_RUN in verdicts or any(entry.problem for entry in entries)
        return 3 if missing or not (verdicts or entries) else 0

    def with_verdict(self, verdict: Verdict) -> list[PeerResult]:
        """The implementations of one verdict, in order."""
        return [result for result in self.results if result.verdict is verdict]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "format": FORMAT,
            "spec_version": self.spec_version,
            "versions": dict(self.versions),
            "python": self.python,
            "system": self.system,
            "started": self.started,
            "profile": self.profile,
            "interrupted": self.interrupted,
            "exit_status": self.exit_status,
            "results": [result.to_json() for result in self.results],
            "accuracy": None if self.accuracy is None else self.accuracy.to_json(),
        }
