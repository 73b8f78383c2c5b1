"""What a run found, as frozen data that goes to JSON and comes back unchanged.

`CheckResult` (one check on one port) → `RequirementResult` (one numbered requirement) →
`RunReport` (one run).  A requirement's outcome is always computed from its checks, so the two
cannot disagree.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from mlm_conformance import outcomes
from mlm_conformance.accuracy import AccuracyBin
from mlm_conformance.outcomes import Outcome
from mlm_conformance.profiles import PROFILES

__all__ = [
    "FORMAT",
    "CheckResult",
    "Progress",
    "RequirementResult",
    "RunReport",
    "Sensitivity",
    "Worst",
]

#: Name and version of the JSON form; it changes when a reader of the old form would break.
FORMAT = "mlm-spec-report/2"


@dataclass(frozen=True, slots=True)
class Progress:
    """One step of a running check, for whoever watches.

    Attributes
    ----------
    done, total : requirements finished, and in all.
    requirement : the id that this is about.
    outcome : its outcome, or None while it runs.
    seconds : since the run began.
    """

    done: int
    total: int
    requirement: str
    outcome: Outcome | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Worst:
    """The largest observed error over its bound, among all that a check compared.

    Attributes
    ----------
    ratio : error / bound; at most 1 where the requirement holds; inf where the bound is 0 and
        the error is not.
    error, bound : in the units of ``what``.
    what : the quantity, such as ``"sum"``.
    case : the case it was seen in, in words.
    recipe : a line of Python that makes that case again; "" where nothing is drawn.
    """

    ratio: float
    error: float
    bound: float
    what: str
    case: str
    recipe: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain data; a number that JSON cannot write becomes ``"inf"``, ``"-inf"``, ``"nan"``."""
        return {
            "ratio": _plain_number(self.ratio),
            "error": _plain_number(self.error),
            "bound": _plain_number(self.bound),
            "what": self.what,
            "case": self.case,
            "recipe": self.recipe,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Worst:
        """Read back what `to_json` wrote."""
        numbers = {name: float(data[name]) for name in ("ratio", "error", "bound")}
        return cls(**numbers, what=data["what"], case=data["case"], recipe=data["recipe"])


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """What one test of a count can see.

    Attributes
    ----------
    what : what is counted.
    trials : independent trials.
    probability : what it should be, as a fraction in text.
    below, above : the nearest probabilities that are found with power 0.999; None: none is.
    """

    what: str
    trials: int
    probability: str
    below: float | None
    above: float | None

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Sensitivity:
        """Read back what `to_json` wrote."""
        return cls(**data)


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What one check found on one port.

    Attributes
    ----------
    requirement : the id of the requirement that it tests.
    name : the check's own name, unique within its requirement.
    port : the method it called, such as ``"score"``.
    theorem : whether it needs no reference (a property), or compares with the reference.
    outcome : one of six.
    examples : cases that ran.
    saw : counts of what really occurred, such as ``{"selected": 812}``.
    worst : the largest error over its bound, or None where nothing was bounded.
    message : why it failed, erred, was not claimed, not run or waived; "" for a pass.
    seconds : time it took.
    failure_file : the file of the simplified case, or None.
    reproduction : lines that show the failure again, or None.
    consequence_of : the id of the requirement whose failure explains this one, or None.
    what : the quantity in which a failure was seen, such as ``"inputs"``; "" where it was none.
    sensitivities : what its tests of counts can see, where it has such; of a failure, those that
        ran before it and the one that it is.

    Raises
    ------
    ValueError : a pass that contradicts itself: nothing ran, or an error is beyond its bound.
    """

    requirement: str
    name: str
    port: str
    theorem: bool
    outcome: Outcome
    examples: int
    saw: dict[str, int]
    worst: Worst | None
    message: str
    seconds: float
    failure_file: str | None = None
    reproduction: str | None = None
    consequence_of: str | None = None
    what: str = ""
    sensitivities: tuple[Sensitivity, ...] = ()

    def __post_init__(self) -> None:
        if self.outcome is not Outcome.PASS:
            return
        if self.examples < 1:
            raise ValueError(f"{self.requirement}/{self.name} passes on no example")
        # Not "> 1": a NaN is within no bound.
        if self.worst is not None and not self.worst.ratio <= 1:
            raise ValueError(f"{self.requirement}/{self.name} passes beyond its bound")

    def to_json(self) -> dict[str, Any]:
        """Plain data, in the order of the fields."""
        data = {field.name: getattr(self, field.name) for field in fields(self)}
        data["outcome"] = self.outcome.value
        data["saw"] = dict(self.saw)
        data["worst"] = None if self.worst is None else self.worst.to_json()
        data["sensitivities"] = [test.to_json() for test in self.sensitivities]
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> CheckResult:
        """Read back what `to_json` wrote."""
        values = dict(data)
        values["outcome"] = Outcome(values["outcome"])
        values["saw"] = dict(values["saw"])
        values["worst"] = None if values["worst"] is None else Worst.from_json(values["worst"])
        values["sensitivities"] = tuple(map(Sensitivity.from_json, values["sensitivities"]))
        return cls(**values)


@dataclass(frozen=True, slots=True)
class RequirementResult:
    """What became of one requirement: its text, and the results of its checks."""

    id: str
    chapter: str
    level: str
    title: str
    statement: str
    checks: tuple[CheckResult, ...]

    @property
    def outcome(self) -> Outcome:
        """Combined from the checks: fail, error, waived, not run, pass, not claimed."""
        return outcomes.combine(check.outcome for check in self.checks)

    @property
    def worst(self) -> Worst | None:
        """The largest error over its bound among the checks, or None."""
        found = [check.worst for check in self.checks if check.worst is not None]
        # NaN is an error beyond every bound, so it ranks as the largest.
        return max(found, key=lambda w: math.inf if math.isnan(w.ratio) else w.ratio, default=None)

    @property
    def message(self) -> str:
        """What the checks that decided the outcome say, each sentence once."""
        said = [c.message for c in self.checks if c.outcome is self.outcome and c.message]
        return "\n".join(dict.fromkeys(said))

    @property
    def consequence_of(self) -> str | None:
        """The id whose failure explains all of this one's failing checks, or None."""
        causes = {c.consequence_of for c in self.checks if c.outcome is self.outcome}
        return causes.pop() if len(causes) == 1 else None

    def to_json(self) -> dict[str, Any]:
        """Plain data; ``outcome`` is written too, for readers of the file."""
        return {
            "id": self.id,
            "chapter": self.chapter,
            "level": self.level,
            "title": self.title,
            "statement": self.statement,
            "outcome": self.outcome.value,
            "checks": [check.to_json() for check in self.checks],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> RequirementResult:
        """Read back what `to_json` wrote; ValueError where outcome and checks disagree."""
        values = dict(data)
        written = Outcome(values.pop("outcome"))
        checks = tuple(CheckResult.from_json(check) for check in values.pop("checks"))
        result = cls(**values, checks=checks)
        if result.outcome is not written:
            raise ValueError(
                f"{result.id} is written as {written}; its checks say {result.outcome}"
            )
        return result


@dataclass(frozen=True, slots=True)
class RunReport:
    """One run of the suite against one target.

    Attributes
    ----------
    target, device, profile, seed : what was asked for.
    spec_version : the version of the specification's text.
    versions : names to versions: Python, NumPy, the suite, and what the target says of itself.
    platform : the machine, in words.
    started : ISO 8601, with its offset from UTC.
    seconds : time the run took.
    requirements : in the order of the specification.
    first_failure : the id of the requirement that diverged first, or None.
    first_stage : the stage in which it did, such as "gradient", or None.
    note : what a reader must know of the whole run, such as why nothing ran; or "".
    interrupted : the run was ended by Ctrl-C; what it did not reach is "not run".
    only : the ids or prefixes that were asked for; empty for the whole specification.
    accumulation : the class that the target declares, in words, or None.
    accuracy : the errors of its log-likelihoods, measured and never judged.
    """

    target: str
    device: str
    profile: str
    seed: int
    spec_version: str
    versions: Mapping[str, str]
    platform: str
    started: str
    seconds: float
    requirements: tuple[RequirementResult, ...]
    first_failure: str | None = None
    first_stage: str | None = None
    note: str = ""
    interrupted: bool = False
    only: tuple[str, ...] = ()
    accumulation: str | None = None
    accuracy: tuple[AccuracyBin, ...] = ()

    @property
    def counts(self) -> dict[Outcome, int]:
        """How many requirements have each of the six outcomes; all six are present."""
        count = dict.fromkeys(Outcome, 0)
        for requirement in self.requirements:
            count[requirement.outcome] += 1
        return count

    @property
    def exit_status(self) -> int:
        """130 interrupted, 1 a failure, 2 an error, 3 nothing passed, else 0."""
        return outcomes.exit_status(self)

    @property
    def verdict(self) -> str:
        """The run in one sentence, each number with its denominator."""
        count, total = self.counts, len(self.requirements)
        head = f"{self._word()}: {self.target} on {self.device}"
        parts = [f"{count[o]} of {total} {_VERBS[o]}" for o in _ORDER if count[o]]
        if not count[Outcome.PASS]:
            parts.insert(0, f"0 of {total} pass")
        about = f"mlm-spec {self.spec_version}, {self.profile}"
        if self.left_out:
            about += f", which leaves out the chapters {', '.join(self.left_out)}"
            about += " and what else needs a session"
        return f"{head}: {', '.join(parts)} ({about})"

    @property
    def left_out(self) -> tuple[str, ...]:
        """The chapters that the profile leaves to a longer one; none where some were asked for."""
        profile = PROFILES.get(self.profile)
        ran = {requirement.chapter for requirement in self.requirements}
        return (
            ()
            if self.only or profile is None
            else tuple(c for c in profile.left_out if c not in ran)
        )

    def _word(self) -> str:
        if self.exit_status:
            return _WORDS[self.exit_status]
        if self.only:
            return f"PASSES (only {', '.join(self.only)})"
        found = {outcome for outcome, number in self.counts.items() if number}
        if found <= {Outcome.PASS, Outcome.NOT_CLAIMED}:
            claimed = Outcome.NOT_CLAIMED in found
            return "CONFORMS IN ALL THAT IT CLAIMS" if claimed else "CONFORMS"
        return "PASSES IN WHAT RAN"

    def to_json(self) -> dict[str, Any]:
        """Plain data, as ``report.schema.json`` describes it."""
        data = {field.name: getattr(self, field.name) for field in fields(self)}
        data["versions"] = dict(self.versions)
        data["only"] = list(self.only)
        data["accuracy"] = [found.to_json() for found in self.accuracy]
        data["requirements"] = [requirement.to_json() for requirement in self.requirements]
        summary = {"counts": {o.value: n for o, n in self.counts.items()}}
        ending = {"verdict": self.verdict, "exit_status": self.exit_status}
        return {"format": FORMAT, **data, **summary, **ending}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> RunReport:
        """Read back what `to_json` wrote; ValueError for another format."""
        values = dict(data)
        form = values.pop("format", None)
        if form != FORMAT:
            raise ValueError(f"a report of format {form!r}; this version reads {FORMAT!r}")
        for derived in ("counts", "verdict", "exit_status"):
            values.pop(derived)
        values["versions"] = dict(values["versions"])
        values["only"] = tuple(values["only"])
        values["accuracy"] = tuple(AccuracyBin.from_json(found) for found in values["accuracy"])
        values["requirements"] = tuple(
            RequirementResult.from_json(requirement) for requirement in values["requirements"]
        )
        return cls(**values)


_WORDS = {
    1: "FAILS",
    2: "ERROR",
    3: "NOTHING PASSED",
    outcomes.EXIT_INTERRUPTED: "INTERRUPTED",
}
_VERBS = {
    Outcome.PASS: "pass",
    Outcome.FAIL: "fail",
    Outcome.ERROR: "ended in an error",
    Outcome.NOT_CLAIMED: "NOT CLAIMED",
    Outcome.NOT_RUN: "NOT RUN",
    Outcome.WAIVED: "waived",
}
_ORDER = tuple(_VERBS)


def _plain_number(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
