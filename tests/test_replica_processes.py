"""Processes that work together: one that dies or hangs is an error, and nothing is left behind."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest
from mlm_conformance.replicas import ReplicaError, run_replicas


def python(code: str) -> list[str]:
    return [sys.executable, "-c", "import os, sys, time; rank = int(os.environ['RANK']); " + code]


def test_each_knows_who_it_is_and_where_the_first_is() -> None:
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR")
    found = run_replicas(python(f"print(*map(os.environ.get, {names!r}))"), 3, 60)
    assert found == [f"{n} {n} 3 3 127.0.0.1\n" for n in range(3)]


def test_one_that_fails_ends_the_others_and_is_named_with_its_output(tmp_path: Path) -> None:
    code = (
        f"open({str(tmp_path)!r} + '/' + str(os.getpid()), 'w').close();"
        "rank == 1 or time.sleep(600); time.sleep(0.5); print('the last words'); sys.exit(7)"
    )
    start = time.monotonic()
    with pytest.raises(ReplicaError, match="replica 1 of 3 ended with status 7") as error:
        run_replicas(python(code), 3, 300)
    assert error.value.rank == 1
    assert "the last words" in str(error.value)
    assert time.monotonic() - start < 200
    for note in tmp_path.iterdir():
        with pytest.raises(ProcessLookupError):
            os.kill(int(note.name), 0)


def test_one_that_is_killed_is_named() -> None:
    with pytest.raises(ReplicaError, match="replica 0 of 2 was ended by signal 9"):
        run_replicas(python("os.kill(os.getpid(), 9) if rank == 0 else time.sleep(600)"), 2, 120)


def test_one_that_hangs_is_stopped_and_says_where_it_was() -> None:
    code = "exec('def waiting_for_ever(): time.sleep(600)'); rank == 1 and waiting_for_ever()"
    with pytest.raises(ReplicaError, match="replica 1 of 2 was not ready after 3 s") as error:
        run_replicas(python(code), 2, 3)
    assert "waiting_for_ever" in error.value.outputs[1]
    assert error.value.outputs[0] == ""
