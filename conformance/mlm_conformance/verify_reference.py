"""``mlm-spec verify-reference``: the exact reference against ball arithmetic, family by family.

The two share no code and no method: floats, integers and decimals here, python-flint there.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from mlm_conformance import ball
from mlm_conformance.cases.hard import FAMILIES, Position
from mlm_conformance.reports.files import write_atomically
from mlm_spec import Enclosure, UndecidedError, enclose, enclose_sum, rounded_gradient
from mlm_spec.exact.rounding import nearest

__all__ = ["COUNTS", "FamilyResult", "run", "verify", "verify_family"]

#: Positions of a run, by profile.
COUNTS = {"ci": 2_000, "nightly": 25_000}

_SMALL, _LARGE = (1, 2, 2, 3, 5, 17, 64), (1000, 30522, 262_144)
_LARGE_SHARE = (60, 400, 4000)  # one position in so many is of each large size
_SUMS, _GRADIENTS = 20, 10  # one position in so many stands for a sum, a gradient


@dataclass(slots=True)
class FamilyResult:
    """What was found in one family.

    Attributes
    ----------
    name : the family.
    numbers : how many floats were compared.
    misrounded : how many were not the nearest.
    outside : enclosures that do not meet those of ball arithmetic.
    escalations : how often more digits were needed.
    seconds : of the reference alone.
    first : the first fault, in words.
    """

    name: str
    numbers: int = 0
    misrounded: int = 0
    outside: int = 0
    escalations: int = 0
    seconds: float = 0.0
    first: str = ""

    @property
    def is_right(self) -> bool:
        """Nothing misrounded, nothing outside, and something compared."""
        return self.numbers > 0 and not self.misrounded and not self.outside


def run(profile: str, seed: int, json_path: str | None) -> int:
    """Verify, print a table, write the results; 0 if all is right, 1 if not.

    Parameters
    ----------
    profile : a key of `COUNTS`.
    seed : of the positions.
    json_path : where the results go as JSON too; None: nowhere.
    """
    console, shown = Console(), Console(stderr=True)
    results = verify(COUNTS[profile], seed, lambda r: shown.print(_line(r), highlight=False))
    table = Table(title=f"The reference against ball arithmetic, profile {profile}, seed {seed}")
    for name in ("family", "numbers", "misrounded", "outside", "escalations", "ms a number"):
        table.add_column(name, justify="left" if name == "family" else "right")
    for found in results:
        each = f"{1e3 * found.seconds / max(found.numbers, 1):.2f}"
        counts = (found.numbers, found.misrounded, found.outside, found.escalations)
        table.add_row(found.name, *map(str, counts), each)
    console.print(table)
    for found in results:
        if found.first:
            console.print(f"{found.name}: {found.first}", markup=False, soft_wrap=True)
    right = all(found.is_right for found in results)
    numbers = sum(found.numbers for found in results)
    verdict = "all rounded correctly" if right else "NOT ALL ROUNDED CORRECTLY"
    escalations = sum(found.escalations for found in results)
    console.print(f"{numbers} numbers, {verdict}; {escalations} escalations", markup=False)
    if json_path is not None:
        record: dict[str, Any] = {"format": "mlm-spec-verify-reference/1", "profile": profile}
        record |= {"seed": seed, "families": [asdict(found) for found in results]}
        write_atomically(json_path, json.dumps(record, indent=1) + "\n")
    return 0 if right else 1


def _line(found: FamilyResult) -> str:
    return f"{found.name}: {found.numbers} numbers, {'ok' if found.is_right else found.first}"


def verify(
    count: int,
    seed: int,
    say: Callable[[FamilyResult], object] = lambda found: None,
    families: Sequence[str] = tuple(FAMILIES),
) -> list[FamilyResult]:
    """About ``count`` positions over the families; ``say`` gets each family's result."""
    results = []
    for number, name in enumerate(families):
        rng = np.random.default_rng([seed, number])
        found = verify_family(name, -(-count // len(families)), rng)
        say(found)
        results.append(found)
    return results


def verify_family(name: str, count: int, rng: np.random.Generator) -> FamilyResult:
    """So many positions of one family: values, and now and then a sum and a gradient."""
    found = FamilyResult(name)
    for i in range(count):
        size = int(rng.choice(_SMALL))
        for large, share in zip(_LARGE, _LARGE_SHARE, strict=True):
            size = large if i % share == share - 1 else size
        position = FAMILIES[name](rng, size)
        _value(found, position)
        if i % _SUMS == 0:
            _sum(found, [FAMILIES[name](rng, 5) for _ in range(4)], rng)
        if i % _GRADIENTS == 0:
            _gradient(found, FAMILIES[name](rng, int(rng.choice(_SMALL))))
    return found


def _value(found: FamilyResult, position: Position) -> None:
    z, t = position
    clock = time.perf_counter()
    enclosure = enclose(z, t)
    value = _float(enclosure)
    found.seconds += time.perf_counter() - clock
    truth = ball.log_likelihood_sum(z[None], np.array([t]))
    _compare(found, "value", enclosure, value, truth, position)


def _sum(found: FamilyResult, positions: Sequence[Position], rng: np.random.Generator) -> None:
    size = min(len(z) for z, _ in positions)
    kept = [(z[:size], t % size) for z, t in positions if np.isfinite(z[: max(size, 1)][t % size])]
    if not kept:
        return
    z, t = np.stack([z for z, _ in kept]), np.array([t for _, t in kept])
    weights = rng.uniform(0.1, 2, len(kept))
    clock = time.perf_counter()
    enclosure = enclose_sum(z, t, weights)
    value = _float(enclosure)
    found.seconds += time.perf_counter() - clock
    truth = ball.log_likelihood_sum(z, t, weights)
    _compare(found, "sum", enclosure, value, truth, (z, int(t[0])))


def _gradient(found: FamilyResult, position: Position) -> None:
    z, t = position
    clock = time.perf_counter()
    seen = rounded_gradient(z, t)
    found.seconds += time.perf_counter() - clock
    one = np.array([[True]])
    truth = ball.score(z[None, None], np.array([[t]]), one).grad_logits[0, 0]
    wrong = np.flatnonzero(seen != truth)
    found.numbers += z.size
    found.misrounded += wrong.size
    if wrong.size and not found.first:
        j = int(wrong[0])
        found.first = f"gradient[{j}] is {seen[j]!r}, should be {truth[j]!r}: {_said(position)}"


def _float(enclosure: Enclosure) -> float:
    """NaN, which equals nothing, where the last precision does not decide."""
    try:
        return float(enclosure)
    except UndecidedError:
        return math.nan


def _compare(
    found: FamilyResult, what: str, enclosure: Enclosure, value: float, truth: Any, at: Position
) -> None:
    found.numbers += 1
    now = enclosure
    while nearest(now.lower, now.upper) is None and now.finer is not None:
        found.escalations += 1
        now = now.finer()
    # The first attempt and the second are two programs; each has to contain the number.
    attempts = [enclosure] if enclosure.finer is None else [enclosure, enclosure.finer()]
    outside = any(not (e.lower <= truth.upper and truth.lower <= e.upper) for e in attempts)
    found.outside += outside
    found.misrounded += value != truth.nearest
    if (outside or value != truth.nearest) and not found.first:
        found.first = f"{what} is {value!r}, should be {truth.nearest!r}: {_said(at)}"


def _said(position: Position) -> str:
    z, t = position
    return f"target {t}, logits {np.asarray(z).reshape(-1)[:6].tolist()} (V={np.shape(z)[-1]})"
