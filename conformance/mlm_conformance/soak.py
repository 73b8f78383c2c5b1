"""``mlm-spec soak``: many seeds, spread over correct backends; no one may be rejected."""

from __future__ import annotations

import json
import platform
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import entry_points
from typing import Any

from rich.console import Console
from rich.table import Table

from mlm_conformance.failure import FAILURES
from mlm_conformance.outcomes import Outcome
from mlm_conformance.pools import side_by_side
from mlm_conformance.reports.files import write_atomically
from mlm_conformance.resolve import GROUP
from mlm_conformance.runner import run as check
from mlm_conformance.variants import VARIANTS, Variant
from mlm_spec.text import SPEC_VERSION

__all__ = ["FORMAT", "Soaked", "exit_status", "one", "run", "soak"]

FORMAT = "mlm-spec-soak/1"
#: The backends of this project stand beside the variants; those of others may be wrong.
BACKENDS = tuple(
    Variant(point.name, point.name)
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name)
    if point.dist is not None and point.dist.name == "mlm-spec"
)


@dataclass(frozen=True, slots=True)
class Soaked:
    """One seed on one correct backend.

    Attributes
    ----------
    seed, variant, profile : what ran.
    outcomes : how many requirements have each outcome.
    rejected : ids that failed, each with its message.
    broken : ids that ended in an error, likewise.
    examples : cases that ran.
    largest : the largest error over its bound, and where.
    note : why nothing ran, or "".
    seconds : time it took.
    """

    seed: int
    variant: str
    profile: str
    outcomes: dict[str, int]
    rejected: dict[str, str]
    broken: dict[str, str]
    examples: int
    largest: tuple[float, str]
    note: str
    seconds: float


def one(variant: Variant, seed: int, profile: str = "ci") -> Soaked:
    """Check one backend with one seed; backends of frameworks in processes of their own."""
    clock = time.perf_counter()
    report = check(
        variant.target,
        profile=profile,
        seed=seed,
        only=variant.only,
        in_process=variant not in BACKENDS,
        failures=FAILURES / f"soak-{variant.name}-{seed}",
    )
    messages: dict[Outcome, dict[str, str]] = {Outcome.FAIL: {}, Outcome.ERROR: {}}
    for requirement in report.requirements:
        if requirement.outcome in messages:
            messages[requirement.outcome][requirement.id] = requirement.message
    worst = [(r.worst.ratio, r.id) for r in report.requirements if r.worst is not None]
    return Soaked(
        seed,
        variant.name,
        profile,
        {outcome.value: number for outcome, number in report.counts.items() if number},
        messages[Outcome.FAIL],
        messages[Outcome.ERROR],
        sum(c.examples for r in report.requirements for c in r.checks),
        max(worst, default=(0.0, "")),
        report.note,
        time.perf_counter() - clock,
    )


def soak(
    seeds: Sequence[int],
    workers: int,
    profile: str = "ci",
    variants: Sequence[Variant] = (*VARIANTS, *BACKENDS),
    say: Callable[[int, Soaked], object] = lambda done, found: None,
) -> list[Soaked]:
    """Each seed on one variant, in turn; ``say`` gets each result and how many there are."""
    found: list[Soaked] = []
    calls = [(variants[s % len(variants)], s, profile) for s in seeds]
    with side_by_side(workers, one, calls) as running:
        for future in running:
            found.append(future.result())
            say(len(found), found[-1])
    return sorted(found, key=lambda result: result.seed)


def exit_status(found: Sequence[Soaked]) -> int:
    """1 a correct backend was rejected, 2 an error, 3 something was not run, else 0."""
    if any(result.rejected for result in found):
        return 1
    if any(result.broken for result in found):
        return 2
    return 3 if any(result.note or not result.examples for result in found) else 0


def run(seeds: int, first: int, workers: int, profile: str, json_path: str | None) -> int:
    """Soak, print a table by variant, write the results."""
    console, shown = Console(), Console(stderr=True)

    def say(done: int, result: Soaked) -> None:
        shown.print(f"[{done}/{seeds}] {_line(result)}", markup=False, soft_wrap=True)

    clock = time.perf_counter()
    found = soak(range(first, first + seeds), workers, profile, say=say)
    console.print(_table(found))
    for result in found:
        if result.rejected or result.broken or result.note:
            console.print(_line(result), markup=False, soft_wrap=True)
    rejected = sum(bool(result.rejected) for result in found)
    cases = sum(result.examples for result in found)
    console.print(
        f"{rejected} of {len(found)} runs rejected a correct backend; {cases} cases, "
        f"{time.perf_counter() - clock:.0f} s",
        markup=False,
        highlight=False,
    )
    if json_path is not None:
        record: dict[str, Any] = {"format": FORMAT, "spec_version": SPEC_VERSION}
        record |= {"platform": platform.platform(), "profile": profile, "rejected": rejected}
        record |= {"cases": cases, "runs": [asdict(result) for result in found]}
        write_atomically(json_path, json.dumps(record, indent=1, allow_nan=False) + "\n")
    return exit_status(found)


def _line(result: Soaked) -> str:
    faults = {**result.rejected, **result.broken}
    said = "; ".join(f"{id}: {message}" for id, message in faults.items()) or result.note or "ok"
    return f"seed {result.seed} {result.variant}: {said} ({result.seconds:.1f} s)"


def _table(found: Sequence[Soaked]) -> Table:
    heads = ("variant", "seeds", "cases", "rejected", "errors", "largest error/bound", "in")
    table = Table(*heads, box=None)
    seeds = Counter(result.variant for result in found)
    for name in seeds:
        mine = [result for result in found if result.variant == name]
        ratio, where = max(result.largest for result in mine)
        rejected = sum(bool(result.rejected) for result in mine)
        broken = sum(bool(result.broken) for result in mine)
        cases = sum(result.examples for result in mine)
        counts = map(str, (seeds[name], cases, rejected, broken))
        table.add_row(name, *counts, f"{ratio:.3f}", where)
    return table
