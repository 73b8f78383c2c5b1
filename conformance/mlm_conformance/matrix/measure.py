"""Every mutant against all requirements of its ports, in process and without shrinking."""

from __future__ import annotations

import gc
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from mlm_conformance.check import Check, NotClaimed, Unmeasurable, Violation
from mlm_conformance.checks import CHECKS
from mlm_conformance.divergence import mark_consequences
from mlm_conformance.mutants.library import MUTANTS, Mutant
from mlm_conformance.oracle import Oracle, reference_oracle, remembering
from mlm_conformance.outcomes import Outcome
from mlm_conformance.pools import side_by_side
from mlm_conformance.profiles import PROFILES
from mlm_conformance.results import CheckResult
from mlm_conformance.runner import open_session, plan, refusal_of, with_texts
from mlm_conformance.session import Session
from mlm_conformance.trial import recipes_of
from mlm_spec import errors

__all__ = ["Fate", "Kill", "fate", "measure"]

_SEED = 0
_LONGEST = 240  # characters of a message
_ANSWERS = 4000  # kept by each oracle: the same cases come with every mutant
#: Of a check that writes files; it has another name each time.
_OWN_FOLDER = re.compile(r"\S*/mlm-spec-\w+/")
#: How messages name an exception: ``score raised ValueError: …``, or the whole `Raised`.
_RAISED = re.compile(r"\braised (?P<name>\w+(\.\w+)*)|\btype='(?P<type>[^']+)'")


@dataclass(frozen=True, slots=True)
class Kill:
    """A requirement rejects a mutant.

    Attributes
    ----------
    requirement : its id.
    check : the name of the first of its checks that fails: of those that fail on a committed
        case, where there are any.
    cases : how many cases that check had run, the failing one included.
    committed : whether the failing case is one that always runs, and not one that is drawn.
    seconds : time that the failing check took.
    said : the message.
    """

    requirement: str
    check: str
    cases: int
    committed: bool
    seconds: float
    said: str

    @property
    def raised(self) -> str | None:
        """The exception that the message says the port raised, if it is none of ours."""
        found = _RAISED.search(self.said)
        name = None if found is None else found["name"] or found["type"]
        return None if name in (*errors.__all__, "nothing") else name


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of one mutant.

    Attributes
    ----------
    mutant : its name.
    requirement : the id of what it breaks.
    kills : one for each requirement that rejects it, in the order of the specification.
    first : the id of the first divergence, or None.
    broken : checks that ended in an error, each with why; there should be none.
    seconds : time taken by all.
    missed : its ports on which the check that is there to catch it did not.
    """

    mutant: str
    requirement: str
    kills: tuple[Kill, ...]
    first: str | None
    broken: tuple[str, ...]
    seconds: float
    missed: tuple[str, ...] = ()

    @property
    def is_killed(self) -> bool:
        """Whether the requirement that it breaks rejects it."""
        return any(kill.requirement == self.requirement for kill in self.kills)

    @property
    def is_killed_alone(self) -> bool:
        """Whether that requirement is the only one to reject it."""
        return [kill.requirement for kill in self.kills] == [self.requirement]


def measure(
    profile: str,
    workers: int,
    mutants: Sequence[Mutant] = MUTANTS,
    own: bool = False,
    say: Callable[[int, Fate], object] = lambda done, found: None,
) -> list[Fate]:
    """The fates of mutants, in their order.

    Parameters
    ----------
    profile : its name.
    workers : processes.
    mutants : those that are measured.
    own : whether each meets only the requirement that it breaks, and not all of its ports.
    say : gets each fate, and how many there are.
    """
    found: dict[str, Fate] = {}
    # A process meets the same cases again and again, and remembers what is right for them.
    with side_by_side(workers, fate, [(mutant, profile, own) for mutant in mutants]) as running:
        for done in running:
            one = done.result()
            found[one.mutant] = one
            say(len(found), one)
    return [found[mutant.name] for mutant in mutants]


def fate(mutant: Mutant, profile: str, own: bool = False, seed: int = _SEED) -> Fate:
    """One mutant against every requirement of its ports, or only its ``own``."""
    clock = time.perf_counter()
    _let_be_what_is_loaded()
    session = open_session(mutant.target, profile=profile, in_process=True, run_seed=seed)
    session.oracle = _oracle()
    only = (mutant.requirement,) if own else ()
    checks = [check for check in plan(only) if check.port in mutant.ports]
    results: dict[str, list[CheckResult]] = {}
    try:
        for check in checks:
            results.setdefault(check.requirement, []).append(_judged(session, check))
    finally:
        session.close()
    kills = [
        min(map(_kill, failed), key=lambda kill: not kill.committed)
        for found in results.values()
        if (failed := [result for result in found if result.outcome is Outcome.FAIL])
    ]
    broken = [
        f"{result.name}: {result.message}"
        for found in results.values()
        for result in found
        if result.outcome is Outcome.ERROR
    ]
    _, first = mark_consequences(with_texts(results))
    seconds = round(time.perf_counter() - clock, 4)
    missed = tuple(_missed(mutant, results.get(mutant.requirement, [])))
    about = (mutant.name, mutant.requirement, tuple(kills), first, tuple(broken))
    return Fate(*about, seconds, missed)


@cache
def _let_be_what_is_loaded() -> None:
    """Checks of memory collect garbage before each call; modules are none, and take the longest."""
    gc.freeze()


def _missed(mutant: Mutant, own: Sequence[CheckResult]) -> Iterator[str]:
    """The ports on which none of the checks that are meant has failed."""
    for port in mutant.ports:
        name = None if mutant.check is None else mutant.check.format(port)
        meant = [r for r in own if r.port == port and name in (None, r.name)]
        if Outcome.FAIL not in {result.outcome for result in meant}:
            yield port


def _kill(failed: CheckResult) -> Kill:
    (check,) = [c for c in CHECKS if (c.requirement, c.name) == (failed.requirement, failed.name)]
    committed, said = failed.examples <= len(check.always), _OWN_FOLDER.sub("", failed.message)
    about = (failed.requirement, failed.name, failed.examples, committed)
    return Kill(*about, round(failed.seconds, 4), said[:_LONGEST])


def _judged(session: Session, check: Check) -> CheckResult:
    """One check on one mutant: the first case that it fails ends it."""
    refusal = refusal_of(session, check)
    about = (check.requirement, check.name, check.port, check.theorem)
    if refusal is not None:
        return CheckResult(*about, refusal[0], 0, {}, None, refusal[1], 0.0)
    clock = time.perf_counter()
    context = session.context()
    outcome, said, what, done = Outcome.PASS, "", "", 0
    try:
        for case in _built(check.id, session.profile.name, session.seed):
            done += 1
            context.case = str(case)
            check.judge(context, case)
    except Violation as error:
        outcome, said, what = Outcome.FAIL, str(error), error.what
    except Unmeasurable as error:
        outcome, said = Outcome.NOT_RUN, str(error)
    except NotClaimed as error:
        outcome, said = Outcome.NOT_CLAIMED, str(error)
    except Exception as error:  # a check must not break on a mutant, whatever it answers
        outcome, said = Outcome.ERROR, f"{type(error).__name__}: {error}"
    seconds = time.perf_counter() - clock
    return CheckResult(*about, outcome, done, {}, None, said, seconds, what=what)


@cache
def _built(id: str, profile: str, seed: int) -> tuple[Any, ...]:
    (check,) = [c for c in CHECKS if c.id == id]
    return tuple(r.build(seed) for r in recipes_of(check, PROFILES[profile], seed))


@cache
def _oracle() -> Oracle:
    plain = reference_oracle()
    return replace(
        plain,
        mask=remembering(plain.mask, _ANSWERS),
        values=remembering(plain.values, _ANSWERS),
        score=remembering(plain.score, _ANSWERS),
        head=remembering(plain.head, _ANSWERS),
    )
