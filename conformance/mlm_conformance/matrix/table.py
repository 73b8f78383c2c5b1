"""The matrix as data that goes to JSON, and as the page ``docs/mutants.md``."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mlm_conformance.divergence import stage_of
from mlm_conformance.matrix.measure import Fate, Kill
from mlm_conformance.matrix.reasons import NEVER_ALONE
from mlm_conformance.outcomes import BadCallError
from mlm_spec import text

__all__ = ["FORMAT", "LEAST_KILLED", "Matrix", "markdown"]

FORMAT = "mlm-spec-mutants/1"
#: The share of mutants that a profile has to kill by what they break.
LEAST_KILLED: Mapping[str, float] = {"quick": 0.95, "ci": 1.0, "nightly": 1.0}
LEAST_FIRST = 0.95


@dataclass(frozen=True, slots=True)
class Matrix:
    """The fates of all mutants in one profile."""

    profile: str
    fates: tuple[Fate, ...]

    @property
    def survivors(self) -> list[Fate]:
        """Those that the requirement they break does not reject."""
        return [fate for fate in self.fates if not fate.is_killed]

    @property
    def misplaced(self) -> list[Fate]:
        """Those whose first divergence is said to be in another stage."""
        return [fate for fate in self.fates if not _is_placed(fate)]

    @property
    def never_alone(self) -> list[str]:
        """Requirements without a mutant that only they reject."""
        alone = {fate.requirement for fate in self.fates if fate.is_killed_alone}
        return [id for id in _requirements() if id not in alone]

    @property
    def faults(self) -> list[str]:
        """Why the matrix is not good enough; empty where it is."""
        killed = 1.0 - len(self.survivors) / len(self.fates)
        placed = 1.0 - len(self.misplaced) / len(self.fates)
        broken = [f"{fate.mutant}: {why}" for fate in self.fates for why in fate.broken]
        unsaid = [id for id in self.never_alone if id not in NEVER_ALONE]
        names = ", ".join(fate.mutant for fate in self.survivors)
        return [
            *([f"survivors: {names}"] if killed < LEAST_KILLED[self.profile] else []),
            *([f"first divergence right for {placed:.1%} only"] if placed < LEAST_FIRST else []),
            *broken,
            *(f"{id}: no mutant that only it rejects, and no reason" for id in unsaid),
        ]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        about = {"profile": self.profile, "faults": self.faults}
        counts = {"mutants": len(self.fates), "survivors": len(self.survivors)}
        return {**about, **counts, "fates": [asdict(fate) for fate in self.fates]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Matrix:
        """Read back what `to_json` wrote."""
        return cls(data["profile"], tuple(_fate(fate) for fate in data["fates"]))


def _is_placed(fate: Fate) -> bool:
    return fate.first is not None and stage_of(fate.first) == stage_of(fate.requirement)


def _fate(data: Mapping[str, Any]) -> Fate:
    kills = tuple(Kill(**kill) for kill in data["kills"])
    return Fate(**{**data, "kills": kills, "broken": tuple(data["broken"])})


def _requirements() -> list[str]:
    return [requirement.id for requirement in text.load() if requirement.level == "MUST"]


_PAGE = """# Mutants

<!-- Written by `mlm-spec mutants --markdown`; edit nothing here. -->

A mutant is a backend with one thing wrong. `make mutants` runs each against every requirement of
its ports, in process, and writes this page and the whole matrix as
[JSON](../benchmarks/results/mutants.json). *Killed* means rejected by the requirement that the
mutant breaks. *Alone* means that no other requirement rejects it. *First* is how often the report
names that requirement itself as the first divergence. *Cases* is how many cases the rejecting check
ran, median and most.

{summary}

## By requirement

Profile `{profile}`.

| requirement | mutants | killed | alone | first | cases | by |
| --- | --- | --- | --- | --- | --- | --- |
{rows}

## Requirements that never stand alone

For each MUST there is a mutant that only its own tests reject, with these exceptions.

{never_alone}

## Where the first divergence is said to be in another stage

The stages are words, selection, replacement, likelihood, sum, gradient, nothing selected, refusal.

{misplaced}
"""


def markdown(matrices: Sequence[Matrix]) -> str:
    """The page; the last matrix is the one shown in full."""
    last = matrices[-1]
    never = [f"- {id}: {NEVER_ALONE.get(id, 'NO REASON')}" for id in last.never_alone]
    misplaced = [
        f"- `{fate.mutant}` breaks {fate.requirement} ({stage_of(fate.requirement)}); "
        f"{fate.first} ({stage_of(fate.first or fate.requirement)}) is named"
        for fate in last.misplaced
    ]
    return _PAGE.format(
        summary="\n".join(_said(matrix) for matrix in matrices),
        profile=last.profile,
        rows="\n".join(_row(last, id) for id in _requirements()),
        never_alone="\n".join(never) or "None.",
        misplaced="\n".join(misplaced) or "Nowhere.",
    )


def _said(matrix: Matrix) -> str:
    total, dead = len(matrix.fates), len(matrix.fates) - len(matrix.survivors)
    right = total - len(matrix.misplaced)
    return (
        f"- Profile `{matrix.profile}`: {dead} of {total} killed, "
        f"stage of the first divergence right for {right} of {total}."
    )


def _row(matrix: Matrix, id: str) -> str:
    mine = [fate for fate in matrix.fates if fate.requirement == id]
    if not mine:
        raise BadCallError(f"no mutant breaks {id}")
    own = [kill for fate in mine for kill in fate.kills if kill.requirement == id]
    cases = sorted(kill.cases for kill in own)
    spread = f"{statistics.median_low(cases)}, {cases[-1]}" if cases else ""
    counts = (
        len(mine),
        len(own),
        sum(fate.is_killed_alone for fate in mine),
        sum(fate.first == id for fate in mine),
    )
    checks = ", ".join(f"`{name}`" for name in dict.fromkeys(kill.check for kill in own))
    return f"| {id} | {' | '.join(map(str, counts))} | {spread} | {checks} |"
