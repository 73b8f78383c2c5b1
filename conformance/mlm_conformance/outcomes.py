"""The six outcomes of a check, how they combine, and the exit status that follows.

Outcomes are never merged: only ``PASS`` is a pass.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlm_conformance.results import RunReport

__all__ = ["EXIT_INTERRUPTED", "BadCallError", "Outcome", "combine", "exit_status"]

#: What a shell reports for a command that Ctrl-C ended: 128 + SIGINT.
EXIT_INTERRUPTED = 130


class Outcome(StrEnum):
    """What became of one check, or of one requirement."""

    PASS = "pass"
    FAIL = "fail"
    NOT_CLAIMED = "not claimed"
    NOT_RUN = "not run"
    WAIVED = "waived"
    ERROR = "error"


class BadCallError(Exception):
    """The command was called wrongly or its target cannot be used; the exit status is 2."""


#: The first of these that occurs among a requirement's checks is the requirement's outcome.
_PRECEDENCE = (
    Outcome.FAIL,
    Outcome.ERROR,
    Outcome.WAIVED,
    Outcome.NOT_RUN,
    Outcome.PASS,
    Outcome.NOT_CLAIMED,
)


def combine(outcomes: Iterable[Outcome]) -> Outcome:
    """The outcome of a requirement, from those of its checks.

    A pass beside checks that are not claimed is a pass; any other outcome hides a pass.
    No check at all: not run.

    >>> combine([Outcome.PASS, Outcome.NOT_CLAIMED]).value
    'pass'
    >>> combine([Outcome.PASS, Outcome.NOT_RUN]).value
    'not run'
    """
    found = frozenset(outcomes)
    return next((outcome for outcome in _PRECEDENCE if outcome in found), Outcome.NOT_RUN)


def exit_status(report: RunReport) -> int:
    """The exit status of a run: 1 a failure, 2 an error, 3 nothing passed, 0 otherwise.

    An interrupted run is 130, whatever it found: the runner catches Ctrl-C, marks what it did
    not reach as not run, and sets ``interrupted``.  A run in which nothing passed (nothing
    claimed, the framework or the device missing, only waivers) is never a success.
    """
    if report.interrupted:
        return EXIT_INTERRUPTED
    found = {requirement.outcome for requirement in report.requirements}
    if Outcome.FAIL in found:
        return 1
    if Outcome.ERROR in found:
        return 2
    return 0 if Outcome.PASS in found else 3
