"""The record of a run as a page of Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.mutation.record import KINDS, shares

__all__ = ["page"]

_HEAD = """\
# Mutants of the reference

<!-- Written by `python -m benchmarks.mutation`; edit nothing here. -->

`make mutation` measures this page. {tool} makes small changes of the functions of `mlm_spec`, but
for those of `mlm_spec.training`, which is not measured yet: another operator, another constant, an
argument left out, a message in capitals. For each it runs the tests that reach the changed
function, those of `[tool.mutmut]` in `pyproject.toml`, until one fails. A mutant that does not end
is noticed too. Not changed are docstrings, annotations, the constants and tables of a module, and
functions under a decorator.

**{noticed:,} of {run:,} noticed ({share:.1%}); of the {different:,} that are not equivalent,
{other:.1%}.**
"""

_MODULES = """
## Modules

| module | run | noticed | of these by time | survived | equivalent | accepted | not run |
| --- | --- | --- | --- | --- | --- | --- | --- |
"""

_SURVIVORS = """
## Survivors

*Equivalent*: {equivalent}. *Accepted*: {accepted}.
"""


def page(record: Mapping[str, Any]) -> str:
    """The page of a record."""
    modules = record["modules"]
    noticed, run, different = shares(modules.values())
    parts = [
        _HEAD.format(
            tool=f"mutmut {record['versions']['mutmut']}",
            noticed=noticed,
            run=run,
            share=noticed / run,
            different=different,
            other=noticed / different,
        ),
        _missing(modules),
        _MODULES,
        *(_row(name, count) for name, count in modules.items() if any(count.values())),
        _SURVIVORS.format(**KINDS),
        *_reasons(record["survivors"]),
    ]
    return "".join(parts)


def _missing(modules: Mapping[str, Mapping[str, int]]) -> str:
    missing = {name: count["not run"] for name, count in modules.items() if count["not run"]}
    if not missing:
        return ""
    listed = ", ".join(f"`{name}` ({number:,})" for name, number in missing.items())
    return f"\nNot run, and in no figure of this page: {sum(missing.values()):,}: {listed}.\n"


def _row(name: str, count: Mapping[str, int]) -> str:
    noticed = count["killed"] + count["timeout"]
    run = noticed + count["survived"]
    cells = [run, noticed, count["timeout"], count["survived"], count["equivalent"]]
    cells += [count["accepted"], count["not run"]]
    return f"| `{name}` | " + " | ".join(f"{n:,}" for n in cells) + " |\n"


def _reasons(survivors: list[dict[str, str]]) -> list[str]:
    """Every survivor under its explanation, in the order in which they first come."""
    groups: dict[tuple[str, str], list[dict[str, str]]] = {}
    for one in survivors:
        groups.setdefault((one["kind"], one["why"]), []).append(one)
    lines = []
    for (kind, why), group in groups.items():
        lines.append(f"\n**{kind.capitalize()}.** {why}\n\n")
        lines += [f"- `{one['function']}`: {_change(one['was'], one['now'])}\n" for one in group]
    return lines


def _change(was: str, now: str) -> str:
    """What is changed, with as much around it as makes words of it."""
    start = 0
    while start < min(len(was), len(now)) and was[start] == now[start]:
        start += 1
    end = 0
    while end < min(len(was), len(now)) - start and was[-1 - end] == now[-1 - end]:
        end += 1
    first = was.rfind(" ", 0, max(0, start - 12)) + 1
    last = was.find(" ", len(was) - end + 12)
    rest = len(was) - last if last >= 0 else 0
    marks = ("… " if first else "", " …" if rest else "")
    return " → ".join(
        f"{marks[0]}{_code(text[first : len(text) - rest])}{marks[1]}" for text in (was, now)
    )


def _code(text: str) -> str:
    fence = "``" if "`" in text else "`"
    pad = " " if "`" in text else ""
    return f"{fence}{pad}{text}{pad}{fence}"
