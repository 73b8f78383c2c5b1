"""``-n WORKERS``: the requirements in shares, each checked by a process of its own.

Requirements on the same ports share a process, so that what one call has warmed up or compiled
serves the next, and as little as possible is done twice.  A share is an ordinary
``mlm-spec check --only … --json FILE`` that tells its progress as JSON lines.  Each share has
its own target.  The seed of a check's cases follows from the run's seed and the check, so a run
in shares draws the same cases as a run in one piece.
"""

from __future__ import annotations

import contextlib
import json
import platform
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from mlm_conformance import runner
from mlm_conformance.accuracy import merged
from mlm_conformance.check import Check
from mlm_conformance.distributions.budget import within_budget
from mlm_conformance.divergence import mark_consequences, stage_seen
from mlm_conformance.outcomes import EXIT_INTERRUPTED, BadCallError, Outcome
from mlm_conformance.ports import OPENS
from mlm_conformance.profiles import PROFILES, Profile
from mlm_conformance.reports import json_report
from mlm_conformance.results import CheckResult, Progress, RequirementResult, RunReport
from mlm_spec import text

__all__ = ["FAMILIES", "merge", "run", "shared_out", "step_from_json", "step_to_json"]

# Ports that share programs.  A requirement goes with the last family that one of its ports is in.
FAMILIES = (
    (
        *("random_words", "policy", "sample", "sample_words", "sample_parallel"),
        *("mask", "mask_step", "raise_for_status", "order"),
    ),
    ("loss", "score", "score_step"),
    ("head", "head_step", "head_loss"),
    OPENS,
)
_TAIL = 2000  # characters of a dead share's output that its error shows
_DRAINING = 5.0  # seconds for what a process said before its end
_ENDING = 30.0  # seconds that an interrupted share has to write what it found


def run(
    target: str,
    *,
    workers: int,
    device: str,
    profile: str,
    seed: int | None,
    only: Sequence[str],
    in_process: bool,
    time_limit: float | None,
    progress: Callable[[Progress], None] | None,
) -> RunReport:
    """As `runner.run`, in ``workers`` processes.

    Raises
    ------
    BadCallError : the target cannot be used.
    """
    started, clock = datetime.now(UTC).isoformat(timespec="seconds"), time.perf_counter()
    if seed is None:  # one seed for all shares
        seed = 0 if PROFILES[profile].derandomised else secrets.randbits(32)
    checks = runner.planned(only, profile)
    ids = list(dict.fromkeys(check.requirement for check in checks))
    command = [sys.executable, "-m", "mlm_conformance", "check", target, "--as-share"]
    command += ["--device", device, "--profile", profile, "--seed", str(seed)]
    command += ["--in-process"] if in_process else []
    command += [] if time_limit is None else ["--time-limit", repr(time_limit)]
    with tempfile.TemporaryDirectory(prefix="mlm-spec-") as folder:
        shares = [
            _Share(own, Path(folder) / f"{k}.json")
            for k, own in enumerate(shared_out(checks, workers, PROFILES[profile]))
        ]
        interrupted = _run_shares(shares, command, _Board(len(ids), clock, progress))
        reports = [_collected(share, checks) for share in shares]
    about = {"target": target, "device": device, "profile": profile, "seed": seed}
    times = {"started": started, "seconds": time.perf_counter() - clock}
    merged = merge(reports, checks, {**about, **times})
    return replace(merged, interrupted=merged.interrupted or interrupted)


def shared_out(checks: Sequence[Check], workers: int, profile: Profile) -> list[tuple[str, ...]]:
    """The ids of the requirements in at most ``workers`` shares of about as many cases each.

    A share of few workers is made of whole families: no program is compiled in two of them.
    """
    cases: dict[str, int] = defaultdict(int)
    family: dict[str, int] = defaultdict(int)
    for check in checks:
        cases[check.requirement] += check.cases(profile)
        number = next(i for i, ports in enumerate(FAMILIES) if check.port in ports)
        family[check.requirement] = max(family[check.requirement], number)
    pieces = [[r for r in cases if family[r] == number] for number in range(len(FAMILIES))]
    if workers > len(FAMILIES):
        pieces = [[requirement] for requirement in cases]
    shares: list[list[str]] = [[] for _ in range(workers)]
    for piece in sorted(pieces, key=lambda piece: -sum(cases[r] for r in piece)):
        min(shares, key=lambda share: sum(cases[r] for r in share)).extend(piece)
    return [tuple(share) for share in shares if share]


def merge(
    reports: Sequence[RunReport | tuple[RequirementResult, ...]],
    checks: Sequence[Check],
    fields: dict[str, Any],
) -> RunReport:
    """One report of many.

    Parameters
    ----------
    reports : what each share reported, or the results of a share that left no report.
    checks : all that were planned; they give the order, and the first divergence.
    fields : what the merged report says of the whole run.
    """
    whole = [report for report in reports if isinstance(report, RunReport)]
    found = {
        requirement.id: _unmarked(requirement)
        for report in reports
        for requirement in (report.requirements if isinstance(report, RunReport) else report)
    }
    ids = dict.fromkeys(check.requirement for check in checks)
    ordered = tuple(found[id] for id in ids)
    # A share knows its own failures only; which one came first is seen here.
    marked, first = mark_consequences(within_budget(ordered))
    return RunReport(
        **fields,
        spec_version=text.SPEC_VERSION,
        versions=whole[0].versions if whole else {},
        platform=platform.platform(),
        requirements=marked,
        first_failure=first,
        first_stage=stage_seen(marked, first) if first else None,
        note="\n".join(dict.fromkeys(report.note for report in whole if report.note)),
        interrupted=any(report.interrupted for report in whole),
        accumulation=whole[0].accumulation if whole else None,
        accuracy=merged(report.accuracy for report in whole),
    )


def step_to_json(step: Progress) -> dict[str, Any]:
    """A step of progress as plain data."""
    outcome = None if step.outcome is None else step.outcome.value
    about = {"requirement": step.requirement, "outcome": outcome, "seconds": step.seconds}
    return {"done": step.done, "total": step.total, **about}


def step_from_json(data: dict[str, Any]) -> Progress:
    """Read back what `step_to_json` wrote."""
    outcome = None if data["outcome"] is None else Outcome(data["outcome"])
    return Progress(**{**data, "outcome": outcome})


@dataclass(slots=True)
class _Share:
    """Some of the requirements, and the process that checks them."""

    ids: tuple[str, ...]
    file: Path
    process: subprocess.Popen[str] | None = None
    refused: str | None = None
    output: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Board:
    """The progress of all shares, added up."""

    total: int
    clock: float
    progress: Callable[[Progress], None] | None
    done: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def post(self, step: Progress) -> None:
        with self.lock:
            self.done += step.outcome is not None
            if self.progress is not None:
                seconds = time.perf_counter() - self.clock
                self.progress(replace(step, done=self.done, total=self.total, seconds=seconds))


def _run_shares(shares: Sequence[_Share], command: list[str], board: _Board) -> bool:
    """Run all shares to their end; True if Ctrl-C ended them."""
    readers: list[threading.Thread] = []
    interrupted = False
    try:
        with _ended_at_last(shares):
            for share in shares:
                readers += _start(share, command, board)
            for share in shares:
                if share.process is not None:
                    share.process.wait()
    except KeyboardInterrupt:
        interrupted = True
    for reader in readers:
        # Something that a dead target left behind may hold a pipe open for ever.
        reader.join(_DRAINING)
    return interrupted


@contextlib.contextmanager
def _ended_at_last(shares: Sequence[_Share]) -> Iterator[None]:
    """Whatever happens, no share's process outlives this context."""
    try:
        yield
    except BaseException:
        for share in shares:
            if share.process is not None and share.process.poll() is None:
                share.process.send_signal(signal.SIGINT)
        raise
    finally:
        deadline = time.monotonic() + _ENDING
        for share in shares:
            if share.process is not None:
                _await(share.process, deadline)


def _await(process: subprocess.Popen[str], deadline: float) -> None:
    try:
        process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _start(share: _Share, command: list[str], board: _Board) -> list[threading.Thread]:
    share.process = process = subprocess.Popen(
        [*command, "--json", str(share.file), "--only", *share.ids],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
        # Ctrl-C reaches this process alone, which passes it on once.
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    readers = [
        threading.Thread(target=_read_steps, args=(process.stdout, share, board), daemon=True),
        threading.Thread(target=_read_output, args=(process.stderr, share), daemon=True),
    ]
    for reader in readers:
        reader.start()
    return readers


def _read_steps(pipe: IO[str], share: _Share, board: _Board) -> None:
    for line in pipe:
        try:
            data = json.loads(line)
            if "refused" in data:
                share.refused = str(data["refused"])
            else:
                board.post(step_from_json(data))
        except (ValueError, TypeError, KeyError):
            share.output.append(line)  # the target's own words, under --in-process


def _read_output(pipe: IO[str], share: _Share) -> None:
    share.output.extend(pipe)


def _collected(share: _Share, checks: Sequence[Check]) -> RunReport | tuple[RequirementResult, ...]:
    """A share's report; for a share that left none, an error of each of its checks."""
    if share.refused is not None:
        raise BadCallError(share.refused)
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return json_report.load(share.file.read_text(encoding="utf-8"))
    assert share.process is not None
    status = share.process.returncode
    output = "".join(share.output)[-_TAIL:]
    stopped = status in (EXIT_INTERRUPTED, -signal.SIGINT)
    outcome = Outcome.NOT_RUN if stopped else Outcome.ERROR
    reason = "interrupted" if stopped else f"its process ended with {status}"
    message = f"{reason}, and left no report\n{output}".rstrip()
    lost = {
        id: [_lost(c, outcome, message) for c in checks if c.requirement == id] for id in share.ids
    }
    return runner.with_texts(lost)


def _lost(check: Check, outcome: Outcome, message: str) -> CheckResult:
    about = (check.requirement, check.name, check.port, check.theorem)
    return CheckResult(*about, outcome, 0, {}, None, message, 0.0)


def _unmarked(requirement: RequirementResult) -> RequirementResult:
    checks = tuple(replace(check, consequence_of=None) for check in requirement.checks)
    return replace(requirement, checks=checks)
