"""A case that was made smaller is still fair: the correct masker passes it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from mlm_conformance import profiles
from mlm_conformance.cases.distributions_anywhere import AnywhereDraw
from mlm_conformance.cases.model import SampleCase
from mlm_conformance.check import Check, Violation
from mlm_conformance.checks import CHECKS
from mlm_conformance.mutants.library import MUTANTS, Mutant
from mlm_conformance.runner import open_session
from mlm_conformance.session import Session
from mlm_conformance.simplify import reductions, simplify
from mlm_conformance.trial import Trial

from mlm_spec import Bernoulli, Corruption, MaskingPolicy

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


ANYWHERE = [c for c in MINE if any(isinstance(recipe, AnywhereDraw) for recipe in c.always)]
TINY = [
    (vocab, special, pool)
    for vocab in (4, 7)
    for special in ((), (0,), (vocab - 1,), (0, vocab - 1))
    for pool in ("regular", "all", (1, vocab - 1))
]


@pytest.mark.parametrize(("vocab", "special", "pool"), TINY)
def test_a_correct_masker_passes_where_its_mask_id_may_be_drawn_and_be_a_token(
    vocab: int, special: tuple[int, ...], pool: Any
) -> None:
    """Few ids, the mask id and the tokens among those that are drawn, or not."""
    assert len(ANYWHERE) == 4
    policy = MaskingPolicy(
        Bernoulli("1/2"),
        Corruption("1/5", "7/10", "1/10"),
        vocab,
        mask_id=vocab - 1,
        pad_id=0,
        special_ids=special,
        pool=pool,
    )
    tokens = np.random.default_rng(vocab).integers(vocab, size=(6, 6))
    case = SampleCase(tokens, np.ones(tokens.shape, np.bool_), policy, 500)
    for check in ANYWHERE:
        check.judge(CORRECT.context(), case)
