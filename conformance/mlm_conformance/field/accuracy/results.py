"""What the league found, as frozen data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlm_conformance.field.accuracy.defects import Defect, Observed
from mlm_conformance.field.accuracy.statistics import Score
from mlm_conformance.field.registry import Peer

__all__ = ["Entry", "League", "Standing"]


@dataclass(frozen=True, slots=True)
class Standing:
    """An implementation in one dtype.

    Attributes
    ----------
    dtype : of the logits.
    answers_in : the dtype of what comes out, in which it is judged.
    total : over all cases.
    families : by family.
    """

    dtype: str
    answers_in: str
    total: Score
    families: Mapping[str, Score]

    @property
    def worst_family(self) -> str:
        """The family in which it does worst, the first of equals."""
        return max(self.families, key=lambda name: self.families[name].badness)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "answers_in": self.answers_in,
            "total": self.total.to_json(),
            "families": {name: found.to_json() for name, found in self.families.items()},
        }


@dataclass(frozen=True, slots=True)
class Entry:
    """One implementation.

    Attributes
    ----------
    peer : where it is.
    standings : by dtype of the logits.
    refused : by dtype, what it raised.
    defects : by defect, its answers; missing where it does not take the dtype.
    versions : of its packages, as it says.
    problem : why there is nothing of all this; "" where there is.
    broken : it is there and gave no answer, rather than something missing.
    """

    peer: Peer
    standings: Mapping[str, Standing] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    defects: Mapping[str, tuple[Observed, ...]] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""
    broken: bool = False

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            **self.peer.to_json(),
            "versions": dict(self.versions),
            "problem": self.problem,
            "broken": self.broken,
            "refused": dict(self.refused),
            "logits": {dtype: each.to_json() for dtype, each in self.standings.items()},
            "defects": {k: [each.to_json() for each in v] for k, v in self.defects.items()},
        }


@dataclass(frozen=True, slots=True)
class League:
    """All of a run.

    Attributes
    ----------
    entries : one for each implementation.
    rows : size of the vocabulary to positions of each family.
    defects : those that were looked for.
    interrupted : ended by Ctrl-C; what was not reached has that as its problem.
    """

    entries: tuple[Entry, ...]
    rows: Mapping[int, int]
    defects: Sequence[Defect]
    interrupted: bool = False

    @property
    def missing(self) -> list[Entry]:
        """Not run."""
        return [entry for entry in self.entries if entry.problem and not entry.broken]

    @property
    def broken(self) -> list[Entry]:
        """Ended in an error."""
        return [entry for entry in self.entries if entry.broken]

    @property
    def versions(self) -> dict[str, str]:
        """Of all packages that ran."""
        found = {k: v for entry in self.entries for k, v in entry.versions.items()}
        return {name: found[name] for name in sorted(found, key=str.lower)}

    def ranking(self, dtype: str) -> list[tuple[Entry, Standing]]:
        """Who takes logits of a dtype, the best first; equals in the order of the registry."""
        return sorted(self._in(dtype), key=lambda pair: pair[1].total.badness)

    def _in(self, dtype: str) -> Iterator[tuple[Entry, Standing]]:
        for entry in self.entries:
            if dtype in entry.standings:
                yield entry, entry.standings[dtype]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "rows": {str(size): count for size, count in self.rows.items()},
            "interrupted": self.interrupted,
            "versions": self.versions,
            "defects": {defect.name: defect.to_json() for defect in self.defects},
            "entries": [entry.to_json() for entry in self.entries],
        }
