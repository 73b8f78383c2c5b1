"""The matrix as data that goes to JSON, and as the page ``docs/mutants.md``."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mlm_conformance.divergence import STAGES, stage_of
from mlm_conformance.matrix.measure import Fate, Kill
from mlm_conformance.matrix.reasons import NEVER_ALONE, NEVER_FIRST
from mlm_conformance.mutants.library import MUTANTS
from mlm_conformance.outcomes import BadCallError
from mlm_spec import text

__all__ = ["FORMAT", "LEAST_KILLED", "Matrix", "as_json", "markdown"]

FORMAT = "mlm-spec-mutants/1"
#: The share of mutants that a profile has to kill by what they break.
LEAST_KILLED: Mapping[str, float] = {"quick": 0.95, "ci": 1.0, "nightly": 1.0}
LEAST_FIRST = 0.95
_MUTANTS = {mutant.name: mutant for mutant in MUTANTS}
#: High words of seed, epoch and sequence, thresholds, the second word: no luck decides these.
BY_COMMITTED_CASES = ("MLM-RNG-2", "MLM-RNG-3", "MLM-RNG-5", "MLM-RNG-6")


@dataclass(frozen=True, slots=True)
class Matrix:
    """The fates of many mutants in one profile.

    Attributes
    ----------
    profile : its name.
    fates : one for each mutant.
    own : whether each met only the requirement that it breaks.
    around : the backend that they are around; None: the reference.
    """

    profile: str
    fates: tuple[Fate, ...]
    own: bool = False
    around: str | None = None

    @property
    def name(self) -> str:
        """The profile, and what else sets it apart."""
        where = "" if self.around is None else f" around {self.around}"
        return f"{self.profile}{where}{', own requirement only' if self.own else ''}"

    @property
    def survivors(self) -> list[Fate]:
        """Those that the requirement they break does not reject."""
        return [fate for fate in self.fates if not fate.is_killed]

    @property
    def misplaced(self) -> list[Fate]:
        """Those that are rejected, and whose first divergence is said to be in another stage."""
        return [fate for fate in self.rejected if not _is_placed(fate)]

    @property
    def rejected(self) -> list[Fate]:
        """Those that some requirement rejects."""
        return [fate for fate in self.fates if fate.first is not None]

    @property
    def by_luck(self) -> list[Fate]:
        """Those that only a drawn case kills, where committed ones should."""
        return [
            fate
            for fate in self.fates
            if fate.requirement in BY_COMMITTED_CASES
            and fate.is_killed
            and not any(k.committed for k in fate.kills if k.requirement == fate.requirement)
        ]

    @property
    def accidents(self) -> list[str]:
        """Kills by an exception that is not what is wrong with the mutant."""
        return [
            f"{fate.mutant} is killed by an accident: {kill.requirement}, {kill.said}"
            for fate in self.fates
            for kill in fate.kills
            if kill.raised not in (None, _declared(fate.mutant))
        ]

    @property
    def never_first(self) -> list[str]:
        """Requirements that are the first divergence of no mutant that breaks them."""
        first = {fate.requirement for fate in self.fates if fate.first == fate.requirement}
        return [id for id in _requirements() if id not in first]

    @property
    def never_alone(self) -> list[str]:
        """Requirements that are the only one to reject no mutant that breaks them."""
        alone = {fate.requirement for fate in self.fates if fate.is_killed_alone}
        return [id for id in _requirements() if id not in alone]

    @property
    def faults(self) -> list[str]:
        """Why the matrix is not good enough; empty where it is."""
        if not self.fates:
            return ["no mutant was measured"]
        killed = 1.0 - len(self.survivors) / len(self.fates)
        names = ", ".join(fate.mutant for fate in self.survivors)
        return [
            *([f"survivors: {names}"] if killed < LEAST_KILLED[self.profile] else []),
            *(f"{fate.mutant}: {why}" for fate in self.fates for why in fate.broken),
            *(f"{fate.mutant} is killed by a drawn case only" for fate in self.by_luck),
            *self.accidents,
            *self._unexpected(),
            *([] if self.own else (*self._faults_of_order(), *self._faults_of_company())),
        ]

    def _unexpected(self) -> Iterator[str]:
        """What this profile is to catch, by the check that is there for it, and does not."""
        for fate in self.fates:
            known = _MUTANTS.get(fate.mutant)
            if known is not None and known.profile in (self.profile, "quick"):
                for port in fate.missed:
                    yield f"{fate.mutant}: the check that is there for it misses it on {port}"

    def _faults_of_order(self) -> Iterator[str]:
        placed = 1.0 - len(self.misplaced) / max(1, len(self.rejected))
        if placed < LEAST_FIRST:
            yield f"first divergence right for {placed:.1%} only"
        for id in self.never_first:
            if id not in NEVER_FIRST:
                yield f"{id}: the first divergence of no mutant, and no reason"
        for id in NEVER_FIRST:
            if id not in self.never_first:
                yield f"{id}: the first divergence of a mutant, and a reason why of none"

    def _faults_of_company(self) -> Iterator[str]:
        for id in self.never_alone:
            if id not in NEVER_ALONE:
                yield f"{id}: rejects no mutant alone, and no reason"
        for id in NEVER_ALONE:
            if id not in self.never_alone:
                yield f"{id}: rejects a mutant alone, and a reason why none"

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        about = {"profile": self.profile, "own": self.own, "around": self.around}
        counts = {"mutants": len(self.fates), "survivors": len(self.survivors)}
        fates = [asdict(fate) for fate in self.fates]
        return {**about, "faults": self.faults, **counts, "fates": fates}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Matrix:
        """Read back what `to_json` wrote."""
        fates = tuple(_fate(fate) for fate in data["fates"])
        return cls(data["profile"], fates, data["own"], data["around"])


def _declared(mutant: str) -> str | None:
    """The exception that a mutant is about, by its name."""
    return _MUTANTS[mutant].raises if mutant in _MUTANTS else None


def _is_placed(fate: Fate) -> bool:
    return fate.first is not None and stage_of(fate.first) == stage_of(fate.requirement)


def _fate(data: Mapping[str, Any]) -> Fate:
    kills = tuple(Kill(**kill) for kill in data["kills"])
    tuples = {name: tuple(data.get(name, ())) for name in ("broken", "missed")}
    return Fate(**{**data, "kills": kills, **tuples})


def _requirements() -> list[str]:
    return [requirement.id for requirement in text.load() if requirement.level == "MUST"]


def as_json(matrices: Sequence[Matrix]) -> str:
    """All matrices as JSON, with one fate a line."""
    about = json.dumps({"format": FORMAT, "spec_version": text.SPEC_VERSION})
    profiles = ",\n".join(_lines(matrix.to_json()) for matrix in matrices)
    return f'{about[:-1]}, "profiles": [\n{profiles}\n]}}\n'


def _lines(matrix: dict[str, Any]) -> str:
    fates = ",\n".join(_compact(fate) for fate in matrix.pop("fates"))
    return f'{_compact(matrix)[:-1]},"fates":[\n{fates}\n]}}'


def _compact(data: object) -> str:
    return json.dumps(data, allow_nan=False, ensure_ascii=False, separators=(",", ":"))


_PAGE = """# Mutants

<!-- Written by `mlm-spec mutants --markdown`; edit nothing here. -->

A mutant is a backend with one thing wrong. `make mutants` runs each against every requirement of
its ports, in process and without shrinking, and writes this page and the whole matrix, requirement
by mutant, as [JSON](../benchmarks/results/mutants.json). Cases are those of a run with seed 0.

{summary}

## By requirement

Profile `{profile}`. *Killed* is how many of the mutants that break a requirement it rejects.
Where a mutant is rejected by several requirements, the report names the first divergence and marks
those that follow as its consequences: *first* is how often it names this requirement, and *alone*
how often no other requirement rejects the mutant at all. *Cases* is how many cases the rejecting
check ran, median and most. *Always with* are the requirements that reject every one of its mutants
too.

| requirement | mutants | killed | first | alone | cases | always with | by |
| --- | --- | --- | --- | --- | --- | --- | --- |
{rows}

## Requirements that are never first

For each MUST there is a mutant of which it is the first divergence, with these exceptions.

{never_first}

## Requirements that never reject a mutant alone

For each MUST there is a mutant that no other requirement rejects, with these exceptions.

{never_alone}

## Where the first divergence is said to be in another stage

The stages, in their order: {stages}.

{misplaced}

## Every mutant

In profile `{profile}`; *rejected by* has the first divergence first, and the other requirements
after it.

| mutant | breaks | rejected by | cases | what is wrong |
| --- | --- | --- | --- | --- |
{mutants}
"""


def markdown(matrices: Sequence[Matrix]) -> str:
    """The page; the last matrix of all requirements is the one shown in full."""
    last = [matrix for matrix in matrices if not matrix.own][-1]
    misplaced = [
        f"- `{fate.mutant}` breaks {fate.requirement} ({stage_of(fate.requirement)}); "
        f"{fate.first} ({stage_of(fate.first or fate.requirement)}) is named"
        for fate in last.misplaced
    ]
    return _PAGE.format(
        summary="\n".join(map(_said, matrices)),
        stages=", ".join(STAGES),
        profile=last.profile,
        rows="\n".join(_row(last, id) for id in _requirements()),
        never_first=_exceptions(last.never_first, NEVER_FIRST),
        never_alone=_exceptions(last.never_alone, NEVER_ALONE),
        misplaced="\n".join(misplaced) or "Nowhere.",
        mutants="\n".join(map(_mutant_row, last.fates)),
    )


def _exceptions(ids: Sequence[str], reasons: Mapping[str, str]) -> str:
    return "\n".join(f"- {id}: {reasons.get(id, 'NO REASON')}" for id in ids) or "None."


def _mutant_row(fate: Fate) -> str:
    known = _MUTANTS[fate.mutant]
    own = [str(kill.cases) for kill in fate.kills if kill.requirement == fate.requirement]
    others = [k.requirement[4:] for k in fate.kills if k.requirement != fate.first]
    first = "-" if fate.first is None else f"**{fate.first[4:]}**"
    seen = "".join(f" ([seen]({url}))" for url in known.urls)
    about = known.about.replace("|", "\\|")
    cases = own[0] if own else "-"
    cells = (f"`{fate.mutant}`", fate.requirement[4:], " ".join([first, *others]), cases)
    return f"| {' | '.join(cells)} | {about}{seen} |"


def _said(matrix: Matrix) -> str:
    total, dead = len(matrix.fates), len(matrix.fates) - len(matrix.survivors)
    said = f"- Profile {matrix.name}: {dead} of {total} killed"
    if matrix.own:
        return f"{said}."
    right, seen = len(matrix.rejected) - len(matrix.misplaced), len(matrix.rejected)
    return f"{said}, stage of the first divergence right for {right} of {seen} rejected."


def _row(matrix: Matrix, id: str) -> str:
    mine = [fate for fate in matrix.fates if fate.requirement == id]
    if not mine:
        raise BadCallError(f"no mutant breaks {id}")
    own = [kill for fate in mine for kill in fate.kills if kill.requirement == id]
    cases = sorted(kill.cases for kill in own)
    spread = f"{statistics.median_low(cases)}, {cases[-1]}" if cases else ""
    first = sum(fate.first == id for fate in mine)
    counts = (len(mine), len(own), first, sum(fate.is_killed_alone for fate in mine))
    companions = set.intersection(*({kill.requirement for kill in fate.kills} for fate in mine))
    others = ", ".join(other[4:] for other in _requirements() if other in companions - {id})
    checks = ", ".join(f"`{name}`" for name in dict.fromkeys(kill.check for kill in own))
    return f"| {id} | {' | '.join(map(str, counts))} | {spread} | {others} | {checks} |"
