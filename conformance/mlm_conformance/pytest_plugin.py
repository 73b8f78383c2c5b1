"""The suite inside pytest: ``pytest --mlm-backend TARGET --pyargs mlm_conformance.suite``.

Every pytest of an environment loads this module, so it imports next to nothing.
"""

from __future__ import annotations

from collections import Counter

import pytest

from mlm_conformance.outcomes import Outcome
from mlm_conformance.profiles import PROFILES

__all__ = [
    "MARKER",
    "PROPERTY",
    "pytest_addoption",
    "pytest_collection_modifyitems",
    "pytest_configure",
    "pytest_report_header",
]

MARKER = "mlm_requirement"
#: The property by which an item tells its outcome, also from another process (xdist).
PROPERTY = "mlm_outcome"
_NOTHING_PASSED = 3


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of a run of the suite."""
    group = parser.getgroup("mlm-spec", "conformance to mlm-spec")
    say = "the backend to check: an installed backend's name, or module:attribute"
    group.addoption("--mlm-backend", metavar="TARGET", help=say)
    group.addoption("--mlm-device", metavar="D", default="cpu", help="default: cpu")
    group.addoption("--mlm-profile", choices=tuple(PROFILES), default="ci", help="default: ci")
    group.addoption("--mlm-seed", metavar="N", type=int, help="default: 0 (nightly: random)")


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, and look at the options before anything is collected."""
    config.addinivalue_line("markers", f"{MARKER}: a check of the mlm-spec conformance suite")
    seed = config.getoption("--mlm-seed")
    if seed is not None and not 0 <= seed < 2**64:
        raise pytest.UsageError(f"--mlm-seed is {seed}; expected an integer in 0..2^64-1")
    if config.getoption("--mlm-backend") is not None:
        config.pluginmanager.register(_Tally(config), "mlm-spec-tally")


def pytest_report_header(config: pytest.Config) -> str | None:
    """What is checked, at the top of the run."""
    target = config.getoption("--mlm-backend")
    if target is None:
        return None
    device, profile = config.getoption("--mlm-device"), config.getoption("--mlm-profile")
    return f"mlm-spec: {target} on {device}, profile {profile}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The suite without a target is a bad call, not a row of skipped tests."""
    if config.getoption("--mlm-backend") is None and any(map(_is_ours, items)):
        raise pytest.UsageError("the mlm-spec suite needs a target: --mlm-backend TARGET")


def _is_ours(item: pytest.Item) -> bool:
    return item.get_closest_marker(MARKER) is not None


class _Tally:
    """Counts what became of the suite's items, and keeps a run without a pass from exiting 0."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._counts: Counter[Outcome] = Counter()
        self._reasons: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        outcome = _outcome(report) if MARKER in report.keywords else None
        if outcome is not None:
            self._counts[outcome] += 1
        if outcome is not None and report.skipped and isinstance(report.longrepr, tuple):
            self._reasons[report.longrepr[2].removeprefix("Skipped: ")] += 1

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        # A worker of xdist sees a part of the items only; the process that leads it judges.
        is_worker = hasattr(self._config, "workerinput")
        if is_worker or self._config.getoption("collectonly") or self._counts[Outcome.PASS]:
            return
        if session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = _NOTHING_PASSED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._config.getoption("collectonly"):
            return
        total = sum(self._counts.values())
        parts = [f"{n} of {total} {o.value}" for o in Outcome if (n := self._counts[o])]
        passed = self._counts[Outcome.PASS] > 0
        head = "checks" if passed else "NOTHING PASSED; checks"
        terminalreporter.section("mlm-spec", green=passed, yellow=not passed)
        terminalreporter.line(f"{head}: {', '.join(parts) or 'none ran'}")
        for reason, number in self._reasons.items():
            terminalreporter.line(f"{reason} ({number} of {total})")


def _outcome(report: pytest.TestReport) -> Outcome | None:
    """The outcome that a report tells of, once for each item."""
    told = dict(report.user_properties).get(PROPERTY)
    if report.when == "call":
        return Outcome(str(told)) if told else Outcome.ERROR
    if report.when == "setup" and not report.passed:
        return Outcome.NOT_RUN if report.skipped else Outcome.ERROR
    return None
