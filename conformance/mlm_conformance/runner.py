"""Runs checks against a target, and says what became of each requirement."""

from __future__ import annotations

import hashlib
import platform
import secrets
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as use_seed
from hypothesis.errors import Flaky

from mlm_conformance.answer import Hello
from mlm_conformance.check import Broken, Check, Context, Unmeasurable, Violation
from mlm_conformance.checks import CHECKS
from mlm_conformance.failure import FAILURES, reproduction, write_failure
from mlm_conformance.oracle import oracle_for
from mlm_conformance.outcomes import Outcome
from mlm_conformance.process import Target, open_target
from mlm_conformance.profiles import PROFILES, Profile
from mlm_conformance.resolve import DeviceMissing, FrameworkMissing
from mlm_conformance.results import CheckResult, Progress, RequirementResult, RunReport, Worst
from mlm_conformance.simplify import simplify
from mlm_conformance.smoke import Smoke, smoke
from mlm_spec import text

__all__ = ["Session", "open_session", "plan", "run", "run_check", "unresolved"]


@dataclass(slots=True)
class Session:
    """A target that is up, and what is known of it."""

    name: str
    device: str
    target: Target
    hello: Hello
    profile: Profile
    seed: int
    smoke: dict[str, Smoke]
    failures: Path | None = None

    def context(self) -> Context:
        """A fresh context for one check."""
        return Context(
            self.target,
            oracle_for(self.name),
            frozenset(self.hello.claims),
            self.hello.loss_reduction,
            self.device,
        )


def plan(only: Sequence[str] = ()) -> list[Check]:
    """The checks of the given requirements (ids or prefixes; none given: all), in order."""
    order = {r.id: i for i, r in enumerate(text.load())}
    chosen = [c for c in CHECKS if not only or any(_matches(c.requirement, o) for o in only)]
    return sorted(chosen, key=lambda c: order[c.requirement])


def _matches(requirement: str, wanted: str) -> bool:
    return requirement == wanted or requirement.startswith(wanted.rstrip("-") + "-")


def unresolved(only: Sequence[str]) -> list[str]:
    """Those of ``only`` that name no requirement."""
    return [o for o in only if not any(_matches(r.id, o) for r in text.load())]


def open_session(
    name: str,
    *,
    device: str = "cpu",
    profile: str = "ci",
    run_seed: int | None = 0,
    in_process: bool = False,
    time_limit: float | None = None,
    failures: Path | None = None,
) -> Session:
    """Start a target and try each of its ports once.

    Raises
    ------
    FrameworkMissing, DeviceMissing, TargetError : there is nothing to check.
    """
    target = open_target(name, device, in_process=in_process, limit=time_limit or 60.0)
    chosen = PROFILES[profile]
    if run_seed is None:
        run_seed = 0 if chosen.derandomised else secrets.randbits(32)
    try:
        hello = target.hello()
        tried = smoke(target, hello)
    except BaseException:
        target.close()
        raise
    return Session(name, device, target, hello, chosen, run_seed, tried, failures)


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

    A target whose framework or device is missing gives a report in which nothing ran.

    Raises
    ------
    TargetError : the target cannot be used at all.
    """
    started, clock = datetime.now(UTC).isoformat(timespec="seconds"), time.perf_counter()
    checks = plan(only)
    note, versions = "", {}
    results: dict[str, list[CheckResult]] = {}
    used = 0 if seed is None else seed
    try:
        session = open_session(
            target,
            device=device,
            profile=profile,
            run_seed=seed,
            in_process=in_process,
            time_limit=time_limit,
            failures=FAILURES if failures is None else failures,
        )
    except (FrameworkMissing, DeviceMissing) as error:
        note = str(error)
        for check in checks:
            results.setdefault(check.requirement, []).append(_unrun(check, note))
    else:
        used, versions = session.seed, dict(session.hello.versions)
        try:
            _run_all(session, checks, results, progress)
        finally:
            session.target.close()
    requirements = _with_texts(results)
    requirements, first = _mark_consequences(requirements, checks)
    return RunReport(
        target=target,
        device=device,
        profile=profile,
        seed=used,
        spec_version=text.SPEC_VERSION,
        versions=versions,
        platform=platform.platform(),
        started=started,
        seconds=time.perf_counter() - clock,
        requirements=requirements,
        first_failure=first,
        note=note,
    )


def _run_all(
    session: Session,
    checks: Sequence[Check],
    results: dict[str, list[CheckResult]],
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


def _unrun(check: Check, message: str, outcome: Outcome = Outcome.NOT_RUN) -> CheckResult:
    return CheckResult(
        check.requirement, check.name, check.port, check.theorem, outcome, 0, {}, None, message, 0.0
    )


def run_check(session: Session, check: Check) -> CheckResult:
    """Run one check, and make a failing case small."""
    refusal = _refusal(session, check)
    if refusal is not None:
        return _unrun(check, refusal[1], refusal[0])
    clock = time.perf_counter()
    trial = _Trial(session, check)
    outcome, message, kept, hint = Outcome.PASS, "", None, None
    try:
        trial.run()
        missing = [need for need in check.needs if not trial.seen[need]]
        if missing:
            outcome = Outcome.ERROR
            message = f"the check never saw {', '.join(missing)}: it has tested nothing"
    except Unmeasurable as error:
        outcome, message = Outcome.NOT_RUN, str(error)
    except Broken as error:
        outcome, message = Outcome.ERROR, f"{error} [{trial.case}]"
    except Violation as error:
        outcome = Outcome.FAIL
        case, message = simplify(
            trial.case, str(error), trial.violates, session.profile.simplify_seconds
        )
        message = f"{message} [{case}]" if f"{case}" not in message else message
        if session.failures is not None:
            kept = str(write_failure(session.failures, session, check, case, message))
        hint = reproduction(session, check, case)
    except Flaky:
        outcome = Outcome.FAIL
        message = f"the same case failed once and passed once: not a function [{trial.case}]"
    except Exception as error:  # the harness itself: never taken for a verdict on the target
        outcome, message = Outcome.ERROR, f"the check broke: {type(error).__name__}: {error}"
    return CheckResult(
        check.requirement,
        check.name,
        check.port,
        check.theorem,
        outcome,
        trial.examples,
        dict(trial.seen),
        trial.worst,
        message,
        time.perf_counter() - clock,
        kept,
        hint,
    )


def _refusal(session: Session, check: Check) -> tuple[Outcome, str] | None:
    """Why a check is not run at all, if it is not."""
    hello = session.hello
    if check.port not in hello.claims:
        return Outcome.NOT_CLAIMED, f"{session.name} has no {check.port}"
    if check.reductions and hello.loss_reduction not in check.reductions:
        return Outcome.NOT_CLAIMED, f"its loss is a {hello.loss_reduction}"
    tried = session.smoke[check.port]
    if tried.broken:
        return Outcome.ERROR, f"the first call of {check.port} failed: {tried.broken}"
    if check.result_field and check.result_field not in tried.fields:
        return Outcome.NOT_CLAIMED, f"{check.port} returns no {check.result_field}"
    return None


class _Trial:
    """One run of a check over its cases; remembers the case it was at."""

    def __init__(self, session: Session, check: Check) -> None:
        self._session, self._check = session, check
        self._context = session.context()
        self.examples = 0
        self.case: Any = None
        self._failing: set[Any] = set()
        self._failed_at: float | None = None

    @property
    def seen(self) -> Counter[str]:
        return self._context.seen

    @property
    def worst(self) -> Worst | None:
        return self._context.worst

    def run(self) -> None:
        for recipe in self._check.always:
            self._judge(recipe)
        drawn = max(1, round(self._session.profile.examples * self._check.share))
        if self._check.strategy is not None:
            self._draw(self._check.strategy, drawn)

    def _draw(self, strategy: Any, examples: int) -> None:
        """Hypothesis draws recipes and shrinks the one that fails."""

        @use_seed(_digest(self._session.seed, self._check.id))
        @settings(
            max_examples=examples,
            database=None,
            deadline=None,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
            report_multiple_bugs=False,
            print_blob=False,
        )
        @given(strategy)
        def drawn(recipe: Any) -> None:
            self._judge_within_budget(recipe)

        drawn()

    def _judge_within_budget(self, recipe: Any) -> None:
        """`_judge`, but shrinking ends in time: known failures fail again, the rest is let be."""
        late = self._failed_at is not None and (
            time.perf_counter() - self._failed_at > self._session.profile.simplify_seconds
        )
        if late and recipe not in self._failing:
            return
        try:
            self._judge(recipe)
        except Violation:
            self._failing.add(recipe)
            self._failed_at = self._failed_at or time.perf_counter()
            raise

    def _judge(self, recipe: Any) -> None:
        self.case = recipe.build(self._session.seed)
        self.examples += 1
        self._context.case = str(self.case)
        self._check.judge(self._context, self.case)

    def violates(self, case: Any) -> str | None:
        """The message of the violation on another case; None where there is none."""
        context = self._session.context()
        context.case = str(case)
        try:
            self._check.judge(context, case)
        except Violation as error:
            return str(error)
        except Exception:  # a case that cannot be judged is no smaller failure
            return None
        return None


def _digest(run_seed: int, name: str) -> int:
    """The run's seed enters every check's draws."""
    return int.from_bytes(hashlib.sha256(f"{run_seed} {name}".encode()).digest()[:8], "big")


def _requirement(name: str, checks: Sequence[CheckResult]) -> RequirementResult:
    words = next(r for r in text.load() if r.id == name)
    return RequirementResult(
        name, words.chapter, words.level, words.title, words.statement, tuple(checks)
    )


def _with_texts(results: dict[str, list[CheckResult]]) -> tuple[RequirementResult, ...]:
    return tuple(_requirement(name, checks) for name, checks in results.items())


# The way of one batch; what fails at a stage explains what fails at a later one.
_STAGES = ("words", "select", "replace", "likelihood", "sum", "gradient", "refuse")
_STAGE_OF_CHAPTER = {
    "RNG": "words",
    "SEL": "select",
    "COR": "replace",
    "LIK": "likelihood",
    "OBJ": "sum",
    "GRA": "gradient",
    "HED": "gradient",
    "ERR": "refuse",
}
_STAGE_OF_REQUIREMENT = {
    # Words are seen through the selection they make.
    "MLM-RNG-2": "select",
    "MLM-RNG-3": "select",
    "MLM-RNG-4": "select",
    "MLM-RNG-5": "select",
    "MLM-RNG-6": "replace",
    # Which positions count, comes before how much each counts.
    "MLM-OBJ-1": "select",
    "MLM-OBJ-3": "select",
    "MLM-OBJ-4": "select",
    "MLM-HED-1": "sum",
}


def _stage(requirement: str) -> int:
    chapter = requirement.split("-")[1]
    return _STAGES.index(_STAGE_OF_REQUIREMENT.get(requirement, _STAGE_OF_CHAPTER[chapter]))


def _mark_consequences(
    requirements: tuple[RequirementResult, ...], checks: Sequence[Check]
) -> tuple[tuple[RequirementResult, ...], str | None]:
    """The first requirement that diverged, and the rest of the failures as its consequences.

    The earliest stage comes first.  Within it a theorem comes before a comparison, since it says
    why; then the order of the specification.
    """
    theorems = {check.requirement for check in checks if check.theorem}
    failed = [r.id for r in requirements if r.outcome is Outcome.FAIL]
    if not failed:
        return requirements, None
    order = {r.id: i for i, r in enumerate(requirements)}
    first = min(failed, key=lambda name: (_stage(name), name not in theorems, order[name]))
    marked = []
    for requirement in requirements:
        # What is refused does not follow from what is computed: chapter ERR stands alone.
        stage = _stage(requirement.id)
        later = requirement.id != first and _stage(first) <= stage < _STAGES.index("refuse")
        own = tuple(
            replace(c, consequence_of=first) if later and c.outcome is Outcome.FAIL else c
            for c in requirement.checks
        )
        marked.append(replace(requirement, checks=own))
    return tuple(marked), first
