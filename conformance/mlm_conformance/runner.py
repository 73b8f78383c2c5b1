"""Runs checks against a target, and says what became of each requirement."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hypothesis.errors import Flaky

from mlm_conformance.check import Broken, Check, NotClaimed, Unmeasurable, Violation
from mlm_conformance.checks import CHECKS
from mlm_conformance.distributions.budget import within_budget
from mlm_conformance.divergence import mark_consequences, stage_seen
from mlm_conformance.failure import FAILURES, reproduction, write_failure
from mlm_conformance.outcomes import Outcome
from mlm_conformance.profiles import PROFILES
from mlm_conformance.resolve import DeviceMissing, FrameworkMissing
from mlm_conformance.results import CheckResult, Progress, RequirementResult, RunReport, Sensitivity
from mlm_conformance.session import Session, open_session
from mlm_conformance.simplify import simplify
from mlm_conformance.trial import Trial
from mlm_spec import text

__all__ = [
    "Session",
    "open_session",
    "plan",
    "planned",
    "refusal_of",
    "run",
    "run_check",
    "unresolved",
    "with_texts",
]

_Results = dict[str, list[CheckResult]]


def plan(only: Sequence[str] = ()) -> list[Check]:
    """The checks of the given requirements (ids or prefixes; none given: all), in order."""
    order = {r.id: i for i, r in enumerate(text.load())}
    chosen = [c for c in CHECKS if not only or any(_matches(c.requirement, o) for o in only)]
    return sorted(chosen, key=lambda c: order[c.requirement])


def planned(only: Sequence[str], profile: str) -> list[Check]:
    """Those of a run: what is asked for, or all but what the profile leaves out."""
    if only:
        return plan(only)
    chapters, ports = PROFILES[profile].left_out, PROFILES[profile].left_out_ports
    return [
        check
        for check in plan()
        if check.requirement.split("-")[1] not in chapters and check.port not in ports
    ]


def _matches(requirement: str, wanted: str) -> bool:
    return requirement == wanted or requirement.startswith(wanted.rstrip("-") + "-")


def unresolved(only: Sequence[str]) -> list[str]:
    """Those of ``only`` that name no requirement."""
    return [o for o in only if not any(_matches(r.id, o) for r in text.load())]


def run(
    target: str,
    *,
    device: str = "cpu",
    profile: str = "ci",
    seed: int | None = 0,
    only: Sequence[str] = (),
    in_process: bool = False,
    time_limit: float | None = None,
    failures: Path | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> RunReport:
    """Check a target against the specification.

    A target whose framework or device is missing gives a report in which nothing ran; Ctrl-C
    gives one of what ran so far.

    Raises
    ------
    TargetError : the target cannot be used at all.
    """
    started, clock = datetime.now(UTC).isoformat(timespec="seconds"), time.perf_counter()
    checks = planned(only, profile)
    try:
        session = open_session(
            target,
            device=device,
            profile=profile,
            run_seed=seed,
            in_process=in_process,
            time_limit=time_limit,
            failures=FAILURES if failures is None else failures,
            ports={check.port for check in checks},
        )
    except (FrameworkMissing, DeviceMissing) as error:
        results = _none_of(checks, str(error))
        about: dict[str, Any] = {"note": str(error), "seed": seed or 0, "versions": {}}
    else:
        results, interrupted = _run_all(session, checks, progress)
        about = {**_about(session), "interrupted": interrupted}
    requirements, first = mark_consequences(within_budget(with_texts(results)))
    return RunReport(
        target=target,
        device=device,
        profile=profile,
        spec_version=text.SPEC_VERSION,
        platform=platform.platform(),
        started=started,
        seconds=time.perf_counter() - clock,
        requirements=requirements,
        first_failure=first,
        first_stage=stage_seen(requirements, first) if first else None,
        only=tuple(only),
        **about,
    )


def _about(session: Session) -> dict[str, Any]:
    """What a report says of a session that ran."""
    declared = session.hello.accumulation
    return {
        "seed": session.seed,
        "versions": dict(session.hello.versions),
        "accumulation": None if declared is None else str(declared),
        "accuracy": session.accuracy.bins(),
    }


def _run_all(
    session: Session, checks: Sequence[Check], progress: Callable[[Progress], None] | None
) -> tuple[_Results, bool]:
    """All results, and whether Ctrl-C ended the run; ends the target."""
    results: _Results = {}
    try:
        _run_each(session, checks, results, progress)
    except KeyboardInterrupt:
        rest = [check for check in checks if check.requirement not in results]
        return results | _none_of(rest, "interrupted"), True
    finally:
        session.close()
    return results, False


def _run_each(
    session: Session,
    checks: Sequence[Check],
    results: _Results,
    progress: Callable[[Progress], None] | None,
) -> None:
    clock = time.perf_counter()
    names = list(dict.fromkeys(check.requirement for check in checks))
    for done, name in enumerate(names):
        own = [check for check in checks if check.requirement == name]
        if progress is not None:
            progress(Progress(done, len(names), name, None, time.perf_counter() - clock))
        results[name] = [run_check(session, check) for check in own]
        if progress is not None:
            outcome = _requirement(name, results[name]).outcome
            progress(Progress(done + 1, len(names), name, outcome, time.perf_counter() - clock))


def _none_of(checks: Sequence[Check], why: str) -> _Results:
    """Each of the checks as not run."""
    results: _Results = {}
    for check in checks:
        results.setdefault(check.requirement, []).append(_unrun(check, why))
    return results


def _unrun(check: Check, message: str, outcome: Outcome = Outcome.NOT_RUN) -> CheckResult:
    return CheckResult(
        check.requirement, check.name, check.port, check.theorem, outcome, 0, {}, None, message, 0.0
    )


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What became of one check; the file and the lines that show it where it fails."""

    outcome: Outcome
    message: str = ""
    what: str = ""
    kept: str | None = None
    hint: str | None = None
    sensitivities: tuple[Sensitivity, ...] = ()


def run_check(session: Session, check: Check) -> CheckResult:
    """Run one check, and make a failing case small."""
    refusal = refusal_of(session, check)
    if refusal is not None:
        return _unrun(check, refusal[1], refusal[0])
    clock = time.perf_counter()
    trial = Trial(session, check)
    verdict = _judged(trial)
    return CheckResult(
        check.requirement,
        check.name,
        check.port,
        check.theorem,
        verdict.outcome,
        trial.examples,
        dict(trial.seen),
        trial.worst,
        verdict.message,
        time.perf_counter() - clock,
        verdict.kept,
        verdict.hint,
        what=verdict.what,
        sensitivities=verdict.sensitivities,
    )


def _judged(trial: Trial) -> _Verdict:
    try:
        trial.run()
        sensitivities = tuple(trial.sensitivities)
    except Unmeasurable as error:
        return _Verdict(Outcome.NOT_RUN, str(error))
    except NotClaimed as error:
        return _Verdict(Outcome.NOT_CLAIMED, str(error))
    except Broken as error:
        return _Verdict(Outcome.ERROR, f"{error} [{trial.case}]")
    except Violation as error:
        return _failure(trial, error)
    except Flaky:
        message = f"the same case failed once and passed once: not a function [{trial.case}]"
        return _Verdict(Outcome.FAIL, message)
    except Exception as error:  # the harness itself: never taken for a verdict on the target
        return _Verdict(Outcome.ERROR, f"the check broke: {type(error).__name__}: {error}")
    missing = [need for need in trial.check.needs if not trial.seen[need]]
    if missing or not trial.examples:
        message = f"the check never saw {', '.join(missing) or 'a case'}: it has tested nothing"
        return _Verdict(Outcome.ERROR, message)
    return _Verdict(Outcome.PASS, sensitivities=sensitivities)


def _failure(trial: Trial, error: Violation) -> _Verdict:
    """The smallest case found that fails the same way, kept in a file and as lines of Python."""
    session, check = trial.session, trial.check
    seconds = session.profile.simplify_seconds
    case, message = simplify(trial.case, str(error), trial.violates, seconds)
    message = f"{message} [{case}]" if f"{case}" not in message else message
    kept = None
    if session.failures is not None:
        try:
            kept = str(write_failure(session.failures, session, check, case, message))
        except OSError as lost:  # the verdict stands without it
            message = f"{message} (its failure file is lost: {lost})"
    trial.violates(case)  # its last call is the one to show
    hint = reproduction(session.name, session.device, trial.last_call)
    return _Verdict(Outcome.FAIL, message, error.what, kept, hint, _sensitivities(trial))


def _sensitivities(trial: Trial) -> tuple[Sensitivity, ...]:
    try:
        return tuple(trial.sensitivities)
    except Exception:  # of counts that no right target gives: the verdict stands without them
        return ()


def refusal_of(session: Session, check: Check) -> tuple[Outcome, str] | None:
    """Why a check is not run at all, if it is not."""
    hello = session.hello
    if check.port not in hello.claims:
        return Outcome.NOT_CLAIMED, f"{session.name} has no {check.port}"
    if check.reductions and hello.loss_reduction not in check.reductions:
        return Outcome.NOT_CLAIMED, f"its loss is a {hello.loss_reduction}"
    if check.declared and hello.accumulation is None:
        return Outcome.NOT_CLAIMED, f"{session.name} declares no accumulation class"
    tried = session.smoke[check.port]
    if tried.broken:
        return Outcome.ERROR, f"the first call of {check.port} failed: {tried.broken}"
    if check.result_field and check.result_field not in tried.fields:
        return Outcome.NOT_CLAIMED, f"{check.port} returns no {check.result_field}"
    return None


def _requirement(name: str, checks: Sequence[CheckResult]) -> RequirementResult:
    words = next(r for r in text.load() if r.id == name)
    return RequirementResult(
        name, words.chapter, words.level, words.title, words.statement, tuple(checks)
    )


def with_texts(results: _Results) -> tuple[RequirementResult, ...]:
    return tuple(_requirement(name, checks) for name, checks in results.items())
