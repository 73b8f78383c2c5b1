"""What became of each mutant, as mutmut has left it on disk."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Mutant", "read"]

#: By the exit status of the tests.  A mutant that does not end is noticed too.
_VERDICTS = {1: "killed", 3: "killed", 0: "survived", 33: "survived"}
_TIMEOUTS = (-24, 24, 152, 36, 255)  # SIGXCPU, and mutmut's own words for it


@dataclass(frozen=True, slots=True)
class Mutant:
    """One small change.

    Attributes
    ----------
    module, function : where; the function of a class as ``Class.function``.
    was, now : the changed lines, joined by blanks.
    verdict : ``"killed"``, ``"timeout"``, ``"survived"`` or ``"not run"``.
    """

    module: str
    function: str
    was: str
    now: str
    verdict: str

    @property
    def key(self) -> tuple[str, str, str]:
        """By which it is explained."""
        return f"{self.module}.{self.function}", self.was, self.now


def read(folder: Path) -> list[Mutant]:
    """Every mutant of a folder in which mutmut has run, in the order of modules and lines.

    Raises
    ------
    ValueError : the tests of a mutant ended as no tests do.
    """
    with contextlib.chdir(folder):
        records = sorted(Path("mutants", "mlm_spec").rglob("*.meta"))
        return [mutant for record in records for mutant in _of(record)]


def _of(record: Path) -> Iterator[Mutant]:
    source = record.relative_to("mutants").with_suffix("")
    module = ".".join(source.with_suffix("").parts)
    for name, status in json.loads(record.read_text("utf-8"))["exit_code_by_key"].items():
        was, now = _change(name, source)
        yield Mutant(module, _function(name), was, now, _verdict(name, status))


def _verdict(name: str, status: int | None) -> str:
    if status is None:
        return "not run"
    if status in _TIMEOUTS:
        return "timeout"
    if status not in _VERDICTS:
        raise ValueError(f"the tests of {name} ended with {status}")
    return _VERDICTS[status]


def _function(name: str) -> str:
    """mlm_spec.policy.xǁSpanǁrate_at__mutmut_3 is Span.rate_at."""
    bare = name.rpartition("__mutmut_")[0].rpartition(".")[2]
    return bare[2:].replace("ǁ", ".") if bare.startswith("xǁ") else bare.removeprefix("x_")


def _change(name: str, source: Path) -> tuple[str, str]:
    from mutmut.mutation.diff_apply import get_diff_for_mutant

    lines = get_diff_for_mutant(name, path=os.fspath(source)).splitlines()
    return _joined(lines, "-"), _joined(lines, "+")


def _joined(lines: list[str], mark: str) -> str:
    changed = (x[1:].strip() for x in lines if x.startswith(mark) and not x.startswith(mark * 3))
    return " ".join(changed)
