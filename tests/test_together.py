"""One target in several processes: each call is made by all, and none waits for ever."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlm_conformance.check import Broken, Context, NotClaimed, Unmeasurable
from mlm_conformance.mutants.replica_trainer import correct_replicas
from mlm_conformance.oracle import reference_oracle
from mlm_conformance.outcomes import Outcome
from mlm_conformance.process import TargetProcess
from mlm_conformance.replica_session import dealt, replica_session
from mlm_conformance.runner import run
from mlm_conformance.together import Together

TARGETS = Path(__file__).parent / "targets"
REPLICAS = [f"MLM-DST-{n}" for n in range(21, 28)]


@pytest.fixture
def together() -> Iterator[Together]:
    def start() -> TargetProcess:
        return TargetProcess("parting:Target", cwd=TARGETS, limit=3.0, first_limit=20.0)

    group = Together(start)
    yield group
    group.close()


@pytest.fixture
def context(together: Together) -> Context:
    target = TargetProcess("parting:Target", cwd=TARGETS)
    claims = frozenset({"replica_session"})
    return Context(target, reference_oracle(), claims, None, together=together)


def opened(context: Context, kind: str, size: int = 3) -> Any:
    return replica_session(context, size, {"kind": kind}, {}, {"line": np.zeros(3)})


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def processes(together: Together) -> list[int]:
    members = [m for m in together._members if isinstance(m, TargetProcess)]
    return [member.pid for member in members if member.pid is not None]


def test_all_are_asked_and_the_first_answers(context: Context) -> None:
    with opened(context, "agrees") as session:
        assert session.size == 3
        assert session.has == {"evaluate"}
        assert session.evaluate([])["count"] == 2
        with pytest.raises(NotClaimed, match="its replicas have no step"):
            session.step([])


def test_one_that_dies_is_an_error_with_what_all_printed(
    context: Context, together: Together
) -> None:
    start = time.monotonic()
    with opened(context, "agrees"):
        pids = processes(together)
    died = pytest.raises(Broken, match="replica 1 of 3 ended with status 7")
    with died as error, opened(context, "dies") as session:
        session.evaluate([])
    assert all(f"replica {rank} was here" in str(error.value) for rank in range(3))
    assert time.monotonic() - start < 100
    assert not any(map(is_there, pids))
    with opened(context, "agrees") as session:  # fresh ones
        assert session.evaluate([])["count"] == 2


def test_all_that_hang_are_late(context: Context) -> None:
    with opened(context, "agrees", 2) as session:
        session.evaluate([])  # a first call has more time
    late = pytest.raises(Broken, match=r"on replica [01] of 2 gave no answer within 3 s")
    with late, opened(context, "hangs", 2) as session:
        session.evaluate([])
    with opened(context, "agrees", 2) as session:  # by fresh processes, all of them
        assert session.evaluate([])["count"] == 2


def test_what_is_not_implemented_is_not_claimed(context: Context) -> None:
    with pytest.raises(NotClaimed, match="nothing of the kind"), opened(context, "refuses"):
        pass


def test_closing_ends_all_processes(context: Context, together: Together) -> None:
    with opened(context, "agrees"):
        pids = processes(together)
    assert len(pids) == 3
    together.close()
    assert not any(map(is_there, pids))


def test_a_run_without_processes_says_so() -> None:
    target = TargetProcess("parting:Target", cwd=TARGETS)
    alone = Context(target, reference_oracle(), frozenset({"replica_session"}), None)
    with pytest.raises(Unmeasurable, match="no second process"), opened(alone, "agrees"):
        pass


def test_micro_batches_are_dealt_out_and_some_get_none() -> None:
    batches: list[Any] = [{"n": np.array(n)} for n in range(3)]
    assert [[int(b["n"]) for b in own] for own in dealt(batches, 4)] == [[0], [1], [2], []]
    assert [[int(b["n"]) for b in own] for own in dealt(batches, 2)] == [[0, 2], [1]]


@pytest.mark.parametrize("in_process", [True, False])
def test_the_reference_passes_as_threads_and_as_processes(in_process: bool, tmp_path: Path) -> None:
    report = run("numpy", profile="quick", only=REPLICAS, in_process=in_process, failures=tmp_path)
    assert [r.outcome for r in report.requirements] == [Outcome.PASS] * len(REPLICAS)


def test_the_replicas_that_mutants_depart_from_pass(tmp_path: Path) -> None:
    assert hasattr(correct_replicas, "replica_session")
    name = "mlm_conformance.mutants.replica_trainer:correct_replicas"
    report = run(name, profile="quick", only=REPLICAS, in_process=True, failures=tmp_path)
    assert [r.outcome for r in report.requirements] == [Outcome.PASS] * len(REPLICAS)
