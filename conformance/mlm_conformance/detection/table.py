"""``mlm-spec detection``: wrong log-likelihoods that are rejected, correct ones that pass.

Two things are measured.  A *rate* is the share of positions at which an implementation is beyond
the any-order bound.  A *verdict* is what the `ci` profile says of a backend that is wrong at one
size of vocabulary only.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from mlm_conformance.detection.rates import ROWS, SIZES, Rate, rate
from mlm_conformance.detection.verdicts import first_to_reject, target
from mlm_conformance.detection.wrong import WRONG, Value
from mlm_conformance.reports.files import write_atomically
from mlm_conformance.variants import SCORING
from mlm_spec.text import SPEC_VERSION

__all__ = ["FORMAT", "Detection", "Entry", "correct", "markdown", "measure", "run", "wrong"]

FORMAT = "mlm-spec-detection/1"
_PROFILE = "ci"


@dataclass(frozen=True, slots=True)
class Entry:
    """One implementation at one size.

    Attributes
    ----------
    name, vocab_size : which.
    rate : how it shows.
    rejected_by : the first check of chapter LIK that fails, or None.
    """

    name: str
    vocab_size: int
    rate: Rate
    rejected_by: str | None


@dataclass(frozen=True, slots=True)
class Detection:
    """What was measured of all."""

    wrong: tuple[Entry, ...]
    correct: tuple[Entry, ...]

    @property
    def holes(self) -> list[Entry]:
        """Wrong ones that pass."""
        return [entry for entry in self.wrong if entry.rejected_by is None]

    @property
    def false_alarms(self) -> list[Entry]:
        """Correct ones that do not pass, or are beyond a bound anywhere."""
        return [e for e in self.correct if e.rejected_by is not None or not e.rate.ratio <= 1.0]

    def to_json(self) -> dict[str, Any]:
        """Plain data; an infinite ratio is written as ``"inf"``."""
        return {
            "format": FORMAT,
            "spec_version": SPEC_VERSION,
            "wrong": [_plain(entry) for entry in self.wrong],
            "correct": [_plain(entry) for entry in self.correct],
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Detection:
        """Read back what `to_json` wrote; ValueError for another format."""
        if data.get("format") != FORMAT:
            raise ValueError(f"results of format {data.get('format')!r}; this reads {FORMAT!r}")
        return cls(tuple(map(_entry, data["wrong"])), tuple(map(_entry, data["correct"])))


def _entry(data: dict[str, Any]) -> Entry:
    seen = {**data["rate"], "ratio": float(data["rate"]["ratio"])}
    return Entry(**{**data, "rate": Rate(**seen)})


def _plain(entry: Entry) -> dict[str, Any]:
    data = asdict(entry)
    if np.isinf(entry.rate.ratio):
        data["rate"]["ratio"] = "inf"
    return data


def wrong(name: str, vocab_size: int) -> Entry:
    """One of `WRONG`, at one size."""
    rejected = first_to_reject(target(name, vocab_size), _PROFILE)
    return Entry(name, vocab_size, rate(WRONG[name], vocab_size), rejected)


def correct(name: str, vocab_size: int, verdict: str | None) -> Entry:
    """One of `SCORING`, at one size; its verdict is that of all sizes together."""
    return Entry(name, vocab_size, rate(_value(name), vocab_size), verdict)


def _value(name: str) -> Value:
    def value(logits: NDArray[Any], targets: NDArray[Any]) -> NDArray[Any]:
        every = np.ones((1, len(targets)), np.bool_)
        result = SCORING[name].score(logits[None], targets[None], every, None)
        values: NDArray[Any] = result.log_likelihood[0]
        return values

    return value


def measure(
    say: Callable[[Entry], object] = lambda entry: None, sizes: Sequence[int] = SIZES
) -> Detection:
    """All of them; ``say`` gets each entry as it is there."""
    found: dict[str, list[Entry]] = {"wrong": [], "correct": []}

    def keep(kind: str, entry: Entry) -> None:
        found[kind].append(entry)
        say(entry)

    for name in WRONG:
        for size in sizes:
            keep("wrong", wrong(name, size))
    for name in SCORING:
        verdict = first_to_reject(f"mlm_conformance.variants.scoring:{name}", _PROFILE)
        for size in sizes:
            keep("correct", correct(name, size, verdict))
    return Detection(tuple(found["wrong"]), tuple(found["correct"]))


def run(json_path: str | None, markdown_path: str | None) -> int:
    """Measure, print, write; 0 if every wrong one is rejected and every correct one passes."""
    console, shown = Console(), Console(stderr=True)
    found = measure(lambda entry: shown.print(_line(entry), highlight=False, soft_wrap=True))
    for title, entries in (("Wrong", found.wrong), ("Correct", found.correct)):
        console.print(_table(title, entries))
    console.print(_verdict(found), markup=False, highlight=False, soft_wrap=True)
    if json_path is not None:
        write_atomically(json_path, json.dumps(found.to_json(), indent=1, allow_nan=False) + "\n")
    if markdown_path is not None:
        write_atomically(markdown_path, markdown(found))
    return 1 if found.holes or found.false_alarms else 0


def _line(entry: Entry) -> str:
    return f"{entry.name}, V = {entry.vocab_size}: {entry.rejected_by or 'passes'}"


def _verdict(found: Detection) -> str:
    holes, alarms = len(found.holes), len(found.false_alarms)
    wrong, correct = len(found.wrong), len(found.correct)
    return f"{wrong - holes} of {wrong} wrong rejected, {alarms} of {correct} correct rejected"


_HEADS = ("implementation", "V", "ordinary", "best", "where", "error/bound", "rejected by")


def _cells(entry: Entry) -> list[str]:
    seen = entry.rate
    shares = [f"{100 * share:.0f} %" for share in (seen.ordinary, seen.best)]
    where = seen.probe if seen.best else "nowhere"
    return [
        entry.name,
        f"{entry.vocab_size:,}",
        *shares,
        where,
        f"{seen.ratio:.2g}",
        entry.rejected_by or "none",
    ]


def _table(title: str, entries: Sequence[Entry]) -> Table:
    """As on the page, less what a terminal has no room for."""
    heads = (*_HEADS[:4], *_HEADS[5:])
    table = Table(*heads, title=title, title_justify="left", box=None)
    for entry in entries:
        cells = _cells(entry)
        table.add_row(*cells[:4], cells[5], cells[6].partition("/")[0])
    return table


_PAGE = """# What the suite detects

<!-- Written by `mlm-spec detection --markdown`; edit nothing here. -->

`make detection` measures this page. Each wrong implementation below gives a plausible loss. In the
column *rejected by* it is a backend that is right except at that one size of vocabulary, and the
check is the first of chapter LIK of the `{profile}` profile that it fails. The rates are shares of
positions beyond the any-order bound: among ordinary float32 logits (normal, of standard deviation
0.1 to 10), and in the family of logits and the dtype where most are. They are measured on
{rows} positions of each family and dtype at V = {sizes}.
The two rates together say why the suite has families: at V = 30,522 most of these errors cannot be
seen on ordinary logits at all.

**{verdict}.**

## Wrong

{wrong}

## Correct

*error/bound* is the largest anywhere; a correct implementation stays at or below 1.

{correct}
"""


def markdown(found: Detection) -> str:
    """The page ``docs/detection.md``."""
    return _PAGE.format(
        profile=_PROFILE,
        rows=", ".join(str(ROWS[size]) for size in SIZES),
        sizes=", ".join(f"{size:,}" for size in SIZES),
        verdict=_verdict(found),
        wrong=_rows(found.wrong),
        correct=_rows(found.correct),
    )


def _rows(entries: Sequence[Entry]) -> str:
    lines = [_HEADS, ("---",) * len(_HEADS), *(_cells(entry) for entry in entries)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
