"""The record of a run: how many mutants of each module, and each survivor with its explanation."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.mutation.verdicts import Mutant

__all__ = ["EXPLAINED", "FORMAT", "KINDS", "explanations", "faults", "record", "shares"]

FORMAT = "mlm-spec-mutation/1"
EXPLAINED = Path(__file__).with_name("explained.toml")

#: What an explanation may say of a survivor.
KINDS = {
    "equivalent": "it computes the same in every call that the specification allows",
    "accepted": "a test could tell, and none is meant to",
}

Key = tuple[str, str, str]


def explanations(path: Path = EXPLAINED) -> dict[Key, tuple[str, str]]:
    """The kind and the reason of each explained mutant.

    Raises
    ------
    ValueError : a mutant is explained twice, or not by a kind that there is.
    """
    found: dict[Key, tuple[str, str]] = {}
    for kind, entries in tomllib.loads(path.read_text("utf-8")).items():
        if kind not in KINDS:
            raise ValueError(f"{path.name}: {kind} is no kind of explanation")
        for entry in entries:
            for function, was, now in entry["mutants"]:
                if (function, was, now) in found:
                    raise ValueError(f"{path.name}: {function} is explained twice: {now}")
                found[function, was, now] = (kind, entry["why"])
    return found


def faults(mutants: Sequence[Mutant], explained: Mapping[Key, tuple[str, str]]) -> list[str]:
    """Survivors without an explanation, and explanations without their survivor."""
    survivors = {m.key for m in mutants if m.verdict == "survived"}
    others = {m.key: m.verdict for m in mutants if m.verdict != "survived"}
    unexplained = [f"survived: {_line(key)}" for key in sorted(survivors - set(explained))]
    stale = [
        f"explained, but {others.get(key, 'not there')}: {_line(key)}"
        for key in sorted(set(explained) - survivors)
        if others.get(key) != "not run"
    ]
    return unexplained + stale


def _line(key: Key) -> str:
    function, was, now = key
    return f"{function}: {was} → {now}"


def record(
    mutants: Iterable[Mutant], explained: Mapping[Key, tuple[str, str]], versions: dict[str, str]
) -> dict[str, Any]:
    """The run as plain data."""
    counts: dict[str, Counter[str]] = {}
    survivors = []
    for mutant in mutants:
        counts.setdefault(mutant.module, Counter())[mutant.verdict] += 1
        if mutant.verdict == "survived":
            kind, why = explained.get(mutant.key, ("unexplained", ""))
            counts[mutant.module][kind] += 1
            function, was, now = mutant.key
            survivors.append(
                {"function": function, "was": was, "now": now, "kind": kind, "why": why}
            )
    verdicts = ("killed", "timeout", "survived", "not run", *KINDS)
    modules = {name: {v: count[v] for v in verdicts} for name, count in counts.items()}
    return {"format": FORMAT, "versions": versions, "modules": modules, "survivors": survivors}


def shares(modules: Iterable[Mapping[str, int]]) -> tuple[int, int, int]:
    """Mutants noticed, mutants run, and those of them that are not equivalent."""
    counts = list(modules)
    noticed = sum(c["killed"] + c["timeout"] for c in counts)
    run = noticed + sum(c["survived"] for c in counts)
    return noticed, run, run - sum(c["equivalent"] for c in counts)
