"""A case that was made smaller is still fair: the correct masker passes it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from mlm_conformance import profiles
from mlm_conformance.check import Check, Violation
from mlm_conformance.checks import CHECKS
from mlm_conformance.mutants.library import MUTANTS, Mutant
from mlm_conformance.runner import open_session
from mlm_conformance.session import Session
from mlm_conformance.simplify import reductions, simplify
from mlm_conformance.trial import Trial

PORTS = ("sample", "sample_words")
MINE = [c for c in CHECKS if c.requirement.startswith("MLM-DST") and c.port in PORTS]
WRONG = [
    (mutant, port)
    for mutant in MUTANTS
    for port in mutant.ports
    if mutant.requirement.startswith("MLM-DST") and port in PORTS
]


def opened(target: str) -> Session:
    session = open_session(target, profile="quick", in_process=True, failures=None)
    session.profile = replace(profiles.PROFILES["quick"], simplify_seconds=0.0)
    return session


CORRECT = opened("mlm_conformance.mutants.correct:with_sum")


def failing(check: Check, session: Session) -> tuple[Trial, str] | None:
    """A run of a check that fails, and what it says."""
    trial = Trial(session, check)
    try:
        trial.run()
    except Violation as error:
        return trial, str(error)
    return None


@pytest.fixture(autouse=True)
def _short_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """What tests can see is measured elsewhere; a second look of twice the first does here."""
    from mlm_conformance.distributions import judge

    monkeypatch.setattr(judge, "_sensitivities", lambda tallies: [])
    monkeypatch.setattr(judge, "MORE", 2)


@pytest.mark.parametrize(("mutant", "port"), WRONG, ids=lambda x: getattr(x, "name", x))
def test_a_correct_masker_passes_the_case_that_is_kept(mutant: Mutant, port: str) -> None:
    session = opened(mutant.target)
    own = [c for c in MINE if c.requirement == mutant.requirement and c.port == port]
    for check in own:
        failed = failing(check, session)
        if failed is None:
            continue
        trial, message = failed
        kept, _ = simplify(trial.case, message, trial.violates, 0.5)
        check.judge(CORRECT.context(), kept)


def smaller(case: Any, steps: int, rng: np.random.Generator) -> Any:
    """One of the cases that so many reductions lead to; the fewer positions, the more masks."""
    for _ in range(steps):
        found = list(reductions(case))
        if not found:
            break
        case = found[rng.integers(len(found))]
    return replace(case, n=min(max(2**17 // case.tokens.size, case.n), 128))


#: The checks of spans take every position of a row for a candidate: here is nothing for them.
PLACES = [c for c in MINE if not c.judge.__module__.endswith("_spans")]


@pytest.mark.parametrize("check", PLACES, ids=lambda check: check.id)
def test_a_correct_masker_passes_whatever_may_be_kept(check: Check) -> None:
    """Reductions at random, until one position or so is left."""
    rng = np.random.default_rng(0)
    for recipe in check.always:
        for steps in (2, 5, 8, 12, 20):
            check.judge(CORRECT.context(), smaller(recipe.build(1), steps, rng))
