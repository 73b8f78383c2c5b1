"""A run of ``mlm-spec train`` that is killed at any moment goes on, and leaves what it would have.

``MLM_SPEC_KILLS`` says how many times it is killed, 5 by default; ``make soak`` takes 50.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mlm_conformance.reports.files import is_leftover, remove_leftovers
from mlm_conformance.train.folder import read_metrics
from train_cases import made_text

KILLS = int(os.environ.get("MLM_SPEC_KILLS", "5"))
#: Few and short sequences: what takes time here is a process.
SETTINGS = (
    "--vocabulary", "100", "--length", "6", "--batch", "2", "--updates", "6", "--warmup", "2",
    "--held-out", "4", "--seed", "7", "--dropout", "1/10",
)  # fmt: skip
OFTEN = ("--checkpoint-every", "2", "--evaluate-every", "3")
FORKS = Path(__file__).with_name("train_run.py")
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}  # so small a model has no use for more


def arguments(run: Path, backend: str) -> list[str]:
    """Those that begin a run, or that go on where one has begun."""
    text = ["--text", str(run.parent / "text.txt"), *SETTINGS]
    told = ["--resume"] if (run / "run.json").exists() else text
    return ["train", "--backend", backend, "--out", str(run), *OFTEN, *told]


@dataclass(frozen=True)
class Forks:
    """Lives of the command; see ``train_run.py``."""

    process: subprocess.Popen[str]

    def live(self, command: list[str], count: int = 0, seconds: float = 0.0) -> list[float]:
        """Status, changes of files and seconds of one life."""
        assert self.process.stdin
        assert self.process.stdout
        print(json.dumps([count, seconds, *command]), file=self.process.stdin, flush=True)
        return [float(word) for word in self.process.stdout.readline().split()]


@contextmanager
def forks(*modules: str) -> Iterator[Forks]:
    command = [sys.executable, str(FORKS), *modules]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=ONE_THREAD) as process:
        yield Forks(process)


def left_in(run: Path) -> dict[str, Any]:
    """All files of a run: their bytes, and of the metrics all but how long an update took."""
    found: dict[str, Any] = {
        path.relative_to(run).as_posix(): path.read_bytes() if path.is_file() else "a folder"
        for path in run.rglob("*")
    }
    entries = read_metrics(run / "metrics.jsonl")
    assert found["metrics.jsonl"].count(b"\n") == len(entries)
    timeless = [{k: v for k, v in entry.items() if k != "seconds"} for entry in entries]
    return found | {"metrics.jsonl": timeless}


def moments(changes: float, seconds: float) -> Iterator[dict[str, Any]]:
    """Random ones of a whole life: before some change of a file, and at some time, in turns."""
    chance = random.Random(KILLS)
    while True:
        yield {"count": chance.randrange(1, int(changes) + 1)}
        yield {"seconds": chance.uniform(0.0, seconds)}


def ends_as_the_whole(left: dict[str, Any], whole: dict[str, Any]) -> None:
    assert left.keys() == whole.keys()
    assert [name for name, content in whole.items() if left[name] != content] == []


@pytest.mark.parametrize(
    ("backend", "modules", "kills"),
    [("numpy", ("mlm_spec.port",), KILLS), ("torch", ("mlm_torch.port",), -(-KILLS // 5))],
)
def test_a_run_that_is_killed_at_random_moments_leaves_what_it_would_have_left(
    backend: str, modules: tuple[str, ...], kills: int, tmp_path: Path
) -> None:
    made_text(tmp_path, 160)
    with forks(*modules) as lives:
        status, *life = lives.live(arguments(tmp_path / "whole", backend))
        assert status == 0
        whole = left_in(tmp_path / "whole")
        moment, number, left = moments(*life), 0, kills
        while left:  # one that has come to its end before its moment is compared, and another begun
            run = tmp_path / f"run{number}"
            status, *_ = lives.live(arguments(run, backend), **next(moment))
            if status == -signal.SIGKILL:
                left -= 1
                continue
            assert status == 0
            ends_as_the_whole(left_in(run), whole)
            number += 1
    last = [sys.executable, "-m", "mlm_conformance", *arguments(run, backend)]
    subprocess.run(last, check=True, stdout=subprocess.DEVNULL, timeout=600, env=ONE_THREAD)
    ends_as_the_whole(left_in(run), whole)


def test_what_was_on_its_way_to_a_name_is_removed_and_nothing_else(tmp_path: Path) -> None:
    for name in (".run.json.x", "run.json", ".run.jsonx", ".other.x"):
        (tmp_path / name).touch()
    (tmp_path / ".store.x" / "inner").mkdir(parents=True)
    remove_leftovers(tmp_path, ["run.json", "store"])
    assert sorted(p.name for p in tmp_path.iterdir()) == [".other.x", ".run.jsonx", "run.json"]
    assert not is_leftover("run.json", ["run.json"])
