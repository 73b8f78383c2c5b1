"""The reference passes every check of what it claims, in this very process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from mlm_conformance.check import Check
from mlm_conformance.outcomes import Outcome
from mlm_conformance.runner import Session, open_session, plan, run_check

# The reference is no training loss and no masker of its own: its loss is a mean, and it draws from
# no generator.
PORTS_OF_OTHERS = {"head_loss", "sample", "sample_words", "sample_parallel"}
OTHER_REDUCTIONS = {"MLM-OBJ-9", "MLM-OBJ-10"}
CLAIMED = [
    check
    for check in plan()
    if check.port not in PORTS_OF_OTHERS and check.requirement not in OTHER_REDUCTIONS
]


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    opened = open_session("numpy", profile="quick", in_process=True)
    # A failing case need not be made small here: `mlm-spec check numpy` does that.
    opened.profile = replace(opened.profile, simplify_seconds=0.0)
    yield opened
    opened.target.close()


@pytest.mark.parametrize("check", CLAIMED, ids=lambda check: check.id)
def test_the_reference_passes(check: Check, session: Session) -> None:
    result = run_check(session, check)
    assert result.outcome is Outcome.PASS, result.message
