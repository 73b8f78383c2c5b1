"""The league in the field report, and on the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mlm_conformance.field.accuracy.defects import Defect
from mlm_conformance.field.accuracy.families import FAMILIES, SEED
from mlm_conformance.field.accuracy.formats import FORMATS
from mlm_conformance.field.accuracy.results import Entry, League, Standing
from mlm_conformance.field.accuracy.statistics import Score
from mlm_conformance.field.registry import ACCURACY

__all__ = ["print_league", "section"]

#: The dtype whose families are shown one by one.
_CLOSER = "float32"
_LONGEST = 200  # characters of what an implementation raised


def section(found: League) -> Iterator[str]:
    """The blocks of the section, in Markdown; what did not run comes before what did."""
    yield "## The accuracy league"
    yield from _about(found)
    yield from _unjudged(found)
    for dtype in FORMATS:
        if found.ranking(dtype):
            yield f"### Logits in {dtype}"
            yield _digest(found, dtype)
            yield _standings(found, dtype)
    if found.ranking(_CLOSER):
        yield f"### Logits in {_CLOSER}, by family"
        yield (
            "Correctly rounded, and the largest distance in ulps; where answers were lost, their "
            "share."
        )
        yield _by_family(found)
    for defect in found.defects:
        yield from _defect(found, defect)
    yield "### How each is called"
    yield "\n".join(f"- {_cell(e.peer.title)}: {e.peer.about}" for e in found.entries)


def _about(found: League) -> Iterator[str]:
    sizes = [f"{size:,}" for size in found.rows]
    yield (
        "How close log Pr(target) of one position comes to the real number, one position a call, "
        "on the CPU. The logits are exactly representable in the dtype that they are given in. "
        "The truth is that of `mlm_spec.enclose`, confirmed at every position by ball arithmetic "
        "(python-flint), and rounded to the format of the answer directly; so `float(enclose(...))`"
        " is right by construction, and no entrant."
    )
    yield (
        "*Correctly rounded*: the answer is the number nearest to the truth in the answer's own "
        "format. *ulps*: the distance in units in the last place of that format. *Relative "
        "error*: the distance by the truth, or by the smallest normal number if that is larger. "
        "*Lost*: the answer is infinite or NaN where the right one is finite; it counts as "
        "infinitely far. The order: fewest lost, then the smallest worst relative error, then "
        "most correctly rounded."
    )
    yield f"Families of logits, each with V = {', '.join(sizes[:-1])} and {sizes[-1]}:"
    yield "\n".join(f"- *{family.name}*: {family.about}." for family in FAMILIES)
    versions = ", ".join(f"{name} {version}" for name, version in found.versions.items())
    yield f"Seed {SEED}; {versions}. Again: `mlm-spec field --only {ACCURACY}`."


def _unjudged(found: League) -> Iterator[str]:
    for title, entries in (("Errors", found.broken), ("Not run", found.missing)):
        if entries:
            yield f"### {title}: {len(entries)} of {len(found.entries)}"
            yield "\n".join(f"- **{_cell(e.peer.title)}**: {_line(e.problem)}" for e in entries)
    refused = [(e, dtype, why) for e in found.entries for dtype, why in e.refused.items()]
    if refused:
        yield "Dtypes that an implementation does not take, and what it says:"
        yield "\n".join(f"- {_cell(e.peer.title)}, {d}: {_line(why)}" for e, d, why in refused)


def _digest(found: League, dtype: str) -> str:
    totals = [standing.total for _, standing in found.ranking(dtype)]
    gone = sum(total.max_relative >= 1 for total in totals)
    return (
        f"{gone} of {len(totals)} give at least one answer in which nothing is right: a relative "
        "error of 1 or more, as where 0 is answered."
    )


def _standings(found: League, dtype: str) -> str:
    names = (
        *("implementation", "answers in", "cases", "correctly rounded", "median ulps", "max ulps"),
        *("worst relative error", "lost", "worst family"),
    )
    rows = [[_cell(e.peer.title), *_standing(s)] for e, s in found.ranking(dtype)]
    return _table(names, rows)


def _standing(standing: Standing) -> Iterator[str]:
    total = standing.total
    yield standing.answers_in
    yield f"{total.cases:,}"
    yield _down(total.correct_share)
    yield from map(_number, (total.median_ulps, total.max_ulps, total.max_relative))
    yield _up(total.lost_share)
    yield standing.worst_family


def _by_family(found: League) -> str:
    ranking = found.ranking(_CLOSER)
    families = [family.name for family in FAMILIES if family.name in ranking[0][1].families]
    rows = [
        [_cell(entry.peer.title), *(_short(standing.families[name]) for name in families)]
        for entry, standing in ranking
    ]
    return _table(["implementation", *families], rows)


def _short(found: Score) -> str:
    worst = f"lost {_up(found.lost_share)}" if found.lost else _number(found.max_ulps)
    return f"{100 * found.correct_share:.0f}%, {worst}"


def _defect(found: League, defect: Defect) -> Iterator[str]:
    answered = [entry for entry in found.entries if defect.name in entry.defects]
    dtype = defect.probes[0].dtype
    yield f"### {defect.title}"
    yield f"{defect.about} Shown by {defect.criterion}."
    yield from _still(answered, defect)
    if not answered:
        return
    truths = (_value(probe.truth.nearest["float64"]) for probe in defect.probes)
    rows = [["**true**", "", *truths, ""]]
    for entry in answered:
        seen = entry.defects[defect.name]
        shown = "**yes**" if defect.is_shown(seen) else "no"
        answers_in = entry.standings[dtype].answers_in
        values = (_value(each.answer) for each in seen)
        rows.append([_cell(entry.peer.title), answers_in, *values, shown])
    labels = (probe.label for probe in defect.probes)
    yield _table(["implementation", "answers in", *labels, "shown"], rows)


def _still(answered: Iterable[Entry], defect: Defect) -> Iterator[str]:
    """Whether those in which it was seen first show it still."""
    states = {e.peer.name: defect.is_shown(e.defects[defect.name]) for e in answered}
    titles = {e.peer.name: e.peer.title for e in answered}
    words = {True: "still there", False: "no longer there", None: "not run"}
    said = [
        f"{_cell(titles.get(name, name))} ({words[states.get(name)]})" for name in defect.seen_in
    ]
    yield f"First seen in {', '.join(said)}."


def print_league(found: League, console: Console) -> None:
    """Correctly rounded and the largest distance, by dtype; what did not run is said below."""
    table = Table(title="Accuracy: correctly rounded, max ulps", title_justify="left")
    for name in ("implementation", *FORMATS):
        table.add_column(name, no_wrap=name == "implementation")
    for entry in found.entries:
        if not entry.problem:
            cells = (_short(s.total) if s else "–" for s in map(entry.standings.get, FORMATS))
            table.add_row(Text(entry.peer.name), *cells)
    console.print(table)
    for style, word, entries in (
        ("bold magenta", "ERROR", found.broken),
        ("bold yellow", "NOT RUN", found.missing),
    ):
        for entry in entries:
            text = Text(f"{word} {entry.peer.name}: {entry.problem}", style=style)
            console.print(text, soft_wrap=True)


def _table(names: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(names)
    lines = [head, ["---"] * len(head), *map(list, rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _number(x: float) -> str:
    """Two digits: 7.6e15, 0.38, ∞."""
    if math.isinf(x):
        return "∞"
    mantissa, e, exponent = f"{x:.2g}".partition("e")
    return f"{mantissa}e{int(exponent)}" if e else mantissa


def _value(x: float) -> str:
    """A log-likelihood, four digits."""
    x += 0.0  # a sign that was turned leaves -0.0
    return f"{x:.4g}".replace("-", "−") if math.isfinite(x) else str(x).replace("-inf", "−∞")


def _down(share: float) -> str:
    """Rounded down, so that 100% is all."""
    return f"{math.floor(1000 * share) / 10:.1f}%"


def _up(share: float) -> str:
    """Rounded up, so that nothing lost is nothing."""
    return f"{math.ceil(1000 * share) / 10:.1f}%" if share else "none"


def _line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 3]}..."


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
