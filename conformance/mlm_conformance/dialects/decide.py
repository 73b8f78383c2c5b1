"""Which values of each feature, and so which dialects, the observations leave.

A value is *rejected* by an event that it makes all but impossible: with a p-value below `ALPHA`,
which all tests of a run share so that a run rejects anything true at most once in 10⁹ runs.  A
feature of which one value is left is decided; one with several is undecided.  A dialect is excluded
by a value of its own that is rejected, and by nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from mlm_conformance.dialects.dialect import Dialect
from mlm_conformance.dialects.event import Event
from mlm_conformance.dialects.features import FEATURES
from mlm_conformance.dialects.features.feature import Feature
from mlm_conformance.dialects.probes import Drawn, Seen, shares
from mlm_conformance.distributions import judge
from mlm_conformance.distributions.judge import ALPHA

__all__ = ["Finding", "Identification", "Verdict", "identify"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What was observed of one feature.

    Attributes
    ----------
    feature : its name.
    worst : each value's event with the smallest p-value.
    tests : how many events were tested.
    missing : why nothing was observed, or "".
    """

    feature: str
    worst: Mapping[str, Event]
    tests: int
    missing: str = ""

    @property
    def rejected(self) -> tuple[str, ...]:
        """The values that are rejected."""
        return tuple(name for name, event in self.worst.items() if event.p_value < ALPHA)

    @property
    def possible(self) -> tuple[str, ...]:
        """The values that are left."""
        return tuple(name for name in self.worst if name not in self.rejected)

    @property
    def next_best(self) -> tuple[str, Event] | None:
        """Of a decided feature the rejected value that would be least surprising: its margin."""
        if len(self.possible) > 1 or not self.rejected:
            return None
        name = max(self.rejected, key=lambda name: self.worst[name].p_value)
        return name, self.worst[name]

    @property
    def state(self) -> str:
        """Not observed, undecided, unknown (no value is left), or decided."""
        if self.missing:
            return "not observed"
        return {0: "unknown", 1: "decided"}.get(len(self.possible), "undecided")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the findings say of one dialect.

    Attributes
    ----------
    dialect : which.
    against : the evidence against it: feature to event, the strongest first.
    unseen : features that its description names and that were not observed.
    """

    dialect: Dialect
    against: Mapping[str, Event]
    unseen: tuple[str, ...]

    @property
    def fits(self) -> bool:
        """Whether nothing speaks against it."""
        return not self.against


@dataclass(frozen=True, slots=True)
class Identification:
    """The answer for one target.

    Attributes
    ----------
    findings : of each feature.
    verdicts : on each dialect.
    remarks, shares : sentences on what was observed; they decide nothing.
    """

    findings: Mapping[str, Finding]
    verdicts: tuple[Verdict, ...]
    remarks: tuple[str, ...] = ()
    shares: tuple[str, ...] = ()

    @property
    def fitting(self) -> tuple[str, ...]:
        """The dialects that nothing excludes."""
        return tuple(verdict.dialect.name for verdict in self.verdicts if verdict.fits)

    @property
    def tests(self) -> int:
        """How many events were tested."""
        return sum(finding.tests for finding in self.findings.values())

    def outcome(self, verdict: Verdict) -> str:
        """Excluded, fits, or not distinguishable from another that fits."""
        if not verdict.fits:
            return "excluded"
        return "fits" if len(self.fitting) == 1 else "not distinguishable"

    def apart(self) -> list[str]:
        """What would tell the dialects that are left from each other, pair by pair."""
        left = [verdict.dialect for verdict in self.verdicts if verdict.fits]
        return [self._between(one, other) for one, other in combinations(left, 2)]

    def _between(self, one: Dialect, other: Dialect) -> str:
        names = f"{one.name} and {other.name}"
        differ = [f for f in FEATURES if one.facts.get(f) != other.facts.get(f)]
        known = [f for f in differ if f in one.facts and f in other.facts]
        if known:
            return f"{names}: {'; '.join(self._difference(one, other, f) for f in known)}"
        if differ:
            silent = ", ".join(differ)
            return f"{names}: they differ in nothing that is known of both; of one alone: {silent}"
        return f"{names}: one law; nothing in their descriptions differs"

    def _difference(self, one: Dialect, other: Dialect, feature: str) -> str:
        finding = self.findings[feature]
        why = f"{finding.state}: {finding.missing}" if finding.missing else finding.state
        return f"{feature} is {one.facts[feature]} or {other.facts[feature]} ({why})"


def identify(
    seen: Seen, dialects: Sequence[Dialect], remarks: Sequence[str] = ()
) -> Identification:
    """The verdict on each dialect, from what was seen of a target."""
    findings = {name: _finding(feature, seen) for name, feature in FEATURES.items()}
    verdicts = tuple(_verdict(dialect, findings) for dialect in dialects)
    found = Identification(findings, verdicts, tuple(remarks), tuple(shares(seen)))
    if found.tests > judge.TESTS:
        raise AssertionError(f"{found.tests} events tested, and {judge.TESTS} share the error")
    return found


def _finding(feature: Feature, seen: Seen) -> Finding:
    results = {name: seen[name] for name in feature.probes}
    drawn = {name: result for name, result in results.items() if isinstance(result, Drawn)}
    if not drawn:
        missing = next(result for result in results.values() if isinstance(result, str))
        return Finding(feature.name, {}, 0, missing)
    worst, tests = {}, 0
    for name, value in feature.values.items():
        events = value.events(drawn)
        worst[name] = min(events, key=lambda event: event.p_value)
        tests += len(events)
    return Finding(feature.name, worst, tests)


def _verdict(dialect: Dialect, findings: Mapping[str, Finding]) -> Verdict:
    facts = {name: findings[name] for name in dialect.facts}
    against = {
        name: finding.worst[dialect.facts[name]]
        for name, finding in facts.items()
        if dialect.facts[name] in finding.rejected
    }
    strongest = dict(sorted(against.items(), key=lambda item: item[1].p_value))
    unseen = tuple(name for name, finding in facts.items() if finding.missing)
    return Verdict(dialect, strongest, unseen)
