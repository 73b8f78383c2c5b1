"""The report on a terminal: progress while it runs, then counts, failures and the verdict.

On a terminal the progress is one line that is rewritten; elsewhere (a log) each requirement
leaves one plain line.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mlm_conformance.accuracy import grades
from mlm_conformance.outcomes import Outcome
from mlm_conformance.reports import summary
from mlm_conformance.results import CheckResult, Progress, RequirementResult, RunReport

__all__ = ["print_report", "watching"]

_STYLES = {
    Outcome.PASS: "green",
    Outcome.FAIL: "bold red",
    Outcome.ERROR: "bold magenta",
    Outcome.NOT_CLAIMED: "yellow",
    Outcome.NOT_RUN: "yellow",
    Outcome.WAIVED: "cyan",
}
_WIDTH = 88  # of prose; programs and commands are never broken
_VERDICTS = {0: "bold green", 1: "bold red", 2: "bold magenta"}


@contextmanager
def watching(console: Console) -> Iterator[Callable[[Progress], None]]:
    """A function that shows each `Progress` for as long as the context lasts."""
    if not console.is_terminal:
        yield lambda step: _log(console, step)
        return
    with Live(console=console, transient=True, refresh_per_second=8) as live:
        failed: list[str] = []

        def show(step: Progress) -> None:
            if step.outcome in (Outcome.FAIL, Outcome.ERROR):
                failed.append(step.requirement)
            live.update(_progress(step, failed))

        yield show


def _log(console: Console, step: Progress) -> None:
    if step.outcome is None:
        return
    width = len(str(step.total))
    text = f"[{step.done:>{width}}/{step.total}] {step.outcome.value:<11} {step.requirement}"
    console.print(Text(f"{text}  {step.seconds:.1f} s"), soft_wrap=True)


def _progress(step: Progress, failed: list[str]) -> RenderableType:
    line = Table.grid(padding=(0, 1))
    parts: list[RenderableType] = [
        ProgressBar(total=max(step.total, 1), completed=step.done, width=24),
        Text(f"{step.done} of {step.total}"),
        Text(step.requirement, style="bold"),
        Text(f"{int(step.seconds) // 60}:{int(step.seconds) % 60:02d}", style="dim"),
    ]
    if failed:
        parts.append(Text(f"{len(failed)} not passing, first {failed[0]}", style="red"))
    line.add_row(*parts)
    return line


def print_report(report: RunReport, console: Console) -> None:
    """Print the whole report; the verdict is its last line."""
    console.print(_head(report), soft_wrap=True)
    if report.note:
        console.print(Panel(Text(_safe(report.note)), title="NOTE", border_style="yellow"))
    if report.requirements:
        console.print(_table(report))
    if report.accuracy:
        console.print(_accuracy(report), soft_wrap=True)
    for block in (*_failures(report), *_errors(report), *_quiet(report)):
        console.print(block, soft_wrap=True)
    console.print(
        Text(report.verdict, style=_VERDICTS.get(report.exit_status, "bold yellow")),
        soft_wrap=True,
    )


def _head(report: RunReport) -> Text:
    versions = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    return Text(
        f"mlm-spec {report.spec_version}: {report.target} on {report.device}, "
        f"profile {report.profile}, seed {report.seed}, {report.seconds:.1f} s\n"
        f"{report.platform}" + (f" ({versions})" if versions else "")
    )


def _table(report: RunReport) -> Table:
    table = Table(title="Requirements", title_justify="left", show_footer=True, box=None)
    table.add_column("chapter", footer="all")
    counts, total = report.counts, len(report.requirements)
    for outcome in summary.COLUMNS:
        footer = Text(str(counts[outcome]), style=_STYLES[outcome] if counts[outcome] else "dim")
        table.add_column(outcome.value, footer=footer, justify="right", no_wrap=True)
    table.add_column("of", footer=str(total), justify="right")
    for chapter in summary.chapters(report):
        cells = [
            Text(str(n) if n else "·", style=_STYLES[outcome] if n else "dim")
            for outcome, n in chapter.counts.items()
        ]
        table.add_row(summary.chapter_name(chapter.chapter), *cells, str(chapter.total))
    return table


def _accuracy(report: RunReport) -> Text:
    """The grades in one line: measured, and no verdict."""
    parts = [
        f"{g.dtype} {g.letter} ({g.ordinary:.2g} ulp, {g.worst.ulps:.2g} where worst)"
        for g in grades(report.accuracy)
    ]
    return Text(f"Accuracy (measured, no verdict): {', '.join(parts)}\n", style="dim")


def _failures(report: RunReport) -> Iterator[RenderableType]:
    failed = summary.failures(report)
    for index, requirement in enumerate(failed):
        if index == 0:
            stage = f", seen in: {report.first_stage}" if report.first_stage else ""
            first = requirement.id == report.first_failure
            title = f"FIRST DIVERGENCE{stage}" if first else "FAILURE"
            yield _rule(f"{title} (of {len(failed)} failed requirements)", Outcome.FAIL)
        elif requirement.consequence_of:
            yield _consequence(requirement)
            continue
        yield _story(requirement)


def _errors(report: RunReport) -> Iterator[RenderableType]:
    broken = summary.with_outcome(report, Outcome.ERROR)
    if broken:
        yield _rule(f"ERRORS ({len(broken)}): the suite or the adapter broke", Outcome.ERROR)
    for requirement in broken:
        yield _story(requirement)


def _quiet(report: RunReport) -> Iterator[RenderableType]:
    """What did not run, said loudly: it is no pass."""
    for outcome in (Outcome.NOT_CLAIMED, Outcome.NOT_RUN, Outcome.WAIVED):
        found = summary.with_outcome(report, outcome)
        if not found:
            continue
        share = summary.percent(len(found), len(report.requirements))
        yield _rule(f"{outcome.upper()}: {share}", outcome)
        for reason, ids in summary.loud(found):
            yield Text(f"{_prose(reason)}\n{_prose(', '.join(ids), 4)}")


def _rule(title: str, outcome: Outcome) -> Text:
    return Text(f"\n{title}", style=_STYLES[outcome])


def _consequence(requirement: RequirementResult) -> Text:
    text = Text(f"  {requirement.id} ", style="red")
    text.append(f"{requirement.title}: ", style="default")
    text.append(f"may follow from {requirement.consequence_of}", style="dim")
    for line in requirement.message.splitlines()[:1]:
        text.append(f"\n    {_safe(line)}", style="default")
    return text


def _story(requirement: RequirementResult) -> RenderableType:
    lines = [
        Text.assemble("\n", (requirement.id, "bold"), f"  {requirement.title}"),
        Text(_prose(requirement.statement), style="italic"),
    ]
    return Group(*lines, *map(_told, summary.deciding(requirement)))


def _told(check: CheckResult) -> Text:
    text = Text(f"  {check.name} [{check.port}]", style="bold")
    text.append(f"\n{_lines(check.message)}", style="not bold")
    if check.worst is not None:
        text.append(f"\n  worst: {_safe(summary.said(check.worst))}", style="not bold")
    if check.reproduction:
        text.append(f"\n\n{_lines(check.reproduction.rstrip(), 4)}\n", style="not bold cyan")
    command = summary.replay_command(check)
    if command is not None:
        text.append(f"\n  replay: {command}", style="not bold")
    return text


def _prose(text: str, indent: int = 2) -> str:
    """Sentences, broken between words and never cut."""
    blank = " " * indent
    wrapped = [
        textwrap.fill(
            line,
            _WIDTH,
            initial_indent=blank,
            subsequent_indent=blank,
            break_long_words=False,
            break_on_hyphens=False,
        )
        for line in _safe(text).splitlines()
    ]
    return "\n".join(wrapped)


def _lines(text: str, indent: int = 2) -> str:
    """Lines that must stay as they are: messages, programs, commands."""
    return textwrap.indent(_safe(text), " " * indent)


def _safe(text: str) -> str:
    """``text`` without control characters: what a target says must not steer the terminal."""
    return "".join(c if c in "\n\t" or c.isprintable() else "\ufffd" for c in text)
