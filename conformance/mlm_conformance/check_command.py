"""``mlm-spec check`` and ``mlm-spec replay``."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from mlm_conformance import parallel, runner, text_commands
from mlm_conformance import replay as replaying
from mlm_conformance.cases.codec import CaseError
from mlm_conformance.outcomes import EXIT_INTERRUPTED, BadCallError
from mlm_conformance.reports import json_report, junit, terminal
from mlm_conformance.reports.files import require_writable, write_atomically
from mlm_conformance.resolve import DeviceMissing, FrameworkMissing, TargetError
from mlm_conformance.results import Progress, RunReport
from mlm_spec.text import Requirement

__all__ = ["replay_file", "run"]


def run(options: argparse.Namespace) -> int:
    """Check a target, write the reports that were asked for, print one; the exit status.

    Raises
    ------
    BadCallError : a report cannot be written, an id is unknown, or the target is of no use.
    """
    if options.in_process and options.time_limit is not None:
        raise BadCallError("--time-limit needs a process of its own; --in-process has none")
    _require_writable(options)
    texts = text_commands.requirements()
    only = text_commands.expand(options.only or [], list(texts))
    if options.as_share:
        return _run_share(options, only)
    watcher = _Watcher()
    try:
        with terminal.watching(Console(stderr=True)) as show:
            watcher.show = show
            report = _run(options, only, watcher.note)
    except KeyboardInterrupt:
        print(f"mlm-spec: interrupted: {watcher.told()}", file=sys.stderr)
        return EXIT_INTERRUPTED
    except (FrameworkMissing, DeviceMissing) as error:
        print(f"mlm-spec: NOT RUN: {error}", file=sys.stderr)
        return 3
    report = replace(report, only=tuple(options.only or ()))
    written = _write(report, options, texts)
    terminal.print_report(report, Console())
    return report.exit_status if written else report.exit_status or 2


def replay_file(options: argparse.Namespace) -> int:
    """Run a failing case again: 1 it fails still, 0 it does not, 2 no verdict, 3 cannot run."""
    path = Path(options.file)
    try:
        status, told = replaying.replay(
            path, target=options.target, device=options.device, in_process=options.in_process
        )
    except (CaseError, TargetError) as error:
        raise BadCallError(str(error)) from error
    except (FrameworkMissing, DeviceMissing) as error:
        print(f"mlm-spec: NOT RUN: {error}", file=sys.stderr)
        return 3
    print(told)
    return status


@dataclass(slots=True)
class _Watcher:
    """Shows a run as it goes, and remembers what it has come to, for when it is ended."""

    show: Callable[[Progress], None] | None = None
    total: int = 0
    outcomes: dict[str, str] = field(default_factory=dict)

    def note(self, step: Progress) -> None:
        self.total = step.total
        if step.outcome is not None:
            self.outcomes[step.requirement] = step.outcome.value
        if self.show is not None:
            self.show(step)

    def told(self) -> str:
        counts = Counter(self.outcomes.values())
        reached = f"{len(self.outcomes)} of {self.total} requirements were reached"
        return ": ".join([reached, *([_listed(counts)] if counts else [])])


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{number} {outcome}" for outcome, number in counts.items())


def _run(
    options: argparse.Namespace, only: list[str], progress: Callable[[Progress], None]
) -> RunReport:
    how: dict[str, Any] = {
        "device": options.device,
        "profile": options.profile,
        "seed": options.seed,
        "only": only,
        "in_process": options.in_process,
        "time_limit": options.time_limit,
        "progress": progress,
    }
    try:
        if options.workers > 1:
            return parallel.run(options.target, workers=options.workers, **how)
        return runner.run(options.target, **how)
    except TargetError as error:
        raise BadCallError(str(error)) from error


def _run_share(options: argparse.Namespace, only: list[str]) -> int:
    """One share of a parallel run: progress as JSON lines, and the report in a file."""

    def tell(step: Progress) -> None:
        print(json.dumps(parallel.step_to_json(step)), flush=True)

    try:
        report = _run(options, only, tell)
    except BadCallError as error:
        print(json.dumps({"refused": str(error)}), flush=True)
        return 2
    write_atomically(options.json, json_report.render(report))
    return report.exit_status


def _require_writable(options: argparse.Namespace) -> None:
    paths = [path for path in (options.json, options.junit, options.html) if path is not None]
    for path in paths:
        require_writable(path)
    if len({Path(path).resolve() for path in paths}) < len(paths):
        raise BadCallError("two reports cannot be written to one file")


def _html(report: RunReport, texts: Mapping[str, Requirement]) -> str:
    from mlm_conformance.reports import html_report  # its plots take a while to load

    return html_report.render(report, texts)


def _write(
    report: RunReport, options: argparse.Namespace, texts: Mapping[str, Requirement]
) -> bool:
    """Write what was asked for.  One report that cannot be written does not lose the others."""
    forms: dict[str, Callable[[], str]] = {
        "json": lambda: json_report.render(report),
        "junit": lambda: junit.render(report),
        "html": lambda: _html(report, texts),
    }
    written = True
    for form, render in forms.items():
        path = getattr(options, form)
        if path is None:
            continue
        try:
            write_atomically(path, render())
        except OSError as error:
            print(f"mlm-spec: the {form} report is lost: {error}", file=sys.stderr)
            written = False
    return written
