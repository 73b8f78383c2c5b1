"""Every check of the suite as one pytest item, called by its requirement and its name."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from mlm_conformance import runner
from mlm_conformance.check import Check
from mlm_conformance.failure import FAILURES
from mlm_conformance.outcomes import Outcome
from mlm_conformance.pytest_plugin import PROPERTY
from mlm_conformance.reports.summary import seen, story
from mlm_conformance.resolve import DeviceMissing, FrameworkMissing, TargetError
from mlm_conformance.results import CheckResult
from mlm_spec import text

__all__: list[str] = []  # pytest finds what is here by itself

_TEXTS = {requirement.id: requirement for requirement in text.load()}


@pytest.fixture(scope="session")
def mlm_session(request: pytest.FixtureRequest) -> Iterator[runner.Session]:
    """The target, up for the whole run."""
    option = request.config.getoption
    try:
        session = runner.open_session(
            option("--mlm-backend"),
            device=option("--mlm-device"),
            profile=option("--mlm-profile"),
            run_seed=option("--mlm-seed"),
            failures=FAILURES,
        )
    except (FrameworkMissing, DeviceMissing) as error:
        pytest.skip(f"NOT RUN: {error}")
    except TargetError as error:
        pytest.exit(f"mlm-spec: {error}", returncode=2)
    try:
        yield session
    finally:
        session.close()


@pytest.mark.mlm_requirement  # pytest_plugin.MARKER
@pytest.mark.parametrize("check", runner.plan(), ids=lambda check: check.id)
def test_requirement(
    check: Check,
    mlm_session: runner.Session,
    record_property: Callable[[str, object], None],
) -> None:
    """One check passes, or says why not."""
    result = runner.run_check(mlm_session, check)
    record_property(PROPERTY, result.outcome.value)
    record_property("mlm_seen", seen(result))
    _tell(result, mlm_session.seed)


def _tell(result: CheckResult, seed: int) -> None:
    if result.outcome is Outcome.PASS:
        return
    told = f"{result.outcome.upper()}: "
    if result.outcome in (Outcome.FAIL, Outcome.ERROR):
        full = f"{told}{story(_TEXTS[result.requirement], result)}\n\nseed {seed}"
        pytest.fail(full, pytrace=False)
    pytest.skip(told + result.message)
