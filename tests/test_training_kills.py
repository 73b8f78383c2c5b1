"""A run that is killed at any moment goes on, and ends as if it had never been killed.

``MLM_SPEC_KILLS`` says how many times it is killed, 5 by default; ``make soak`` takes 50.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlm_spec.training.checkpoint import read_checkpoint

KILLS = int(os.environ.get("MLM_SPEC_KILLS", "5"))
LIFE = 4  # updates that a life may begin, at most
UPDATES = KILLS * LIFE + 5
SCRIPT = Path(__file__).with_name("training_run.py")


def begin(path: Path, *moment: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(SCRIPT), str(path), str(UPDATES), *moment]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)


def end(process: subprocess.Popen[str], status: int = 0) -> list[str]:
    """What a run still says, not held up any more."""
    said = process.communicate(timeout=600)[0].splitlines()
    assert process.returncode == status, said
    return said


def saved_at(path: Path) -> int:
    """The number of the last update in a checkpoint; 0 where there is none."""
    return read_checkpoint(path).state.update if path.exists() else 0


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of the last checkpoint of a run that nobody killed."""
    path = tmp_path_factory.mktemp("whole") / "run.safetensors"
    assert end(begin(path))[0] == "from 0"
    assert saved_at(path) == UPDATES
    return path.read_bytes()


def test_a_run_that_is_killed_at_random_moments_ends_as_if_it_had_not_been(
    tmp_path: Path, uninterrupted: bytes
) -> None:
    path, chance = tmp_path / "run.safetensors", random.Random(KILLS)
    saved = 0
    for _ in range(KILLS):
        process = begin(path)
        assert process.stdin
        assert process.stdout
        allowed = chance.randrange(1, LIFE + 1)
        process.stdin.write("go\n" * allowed)
        process.stdin.flush()
        first, *said = [process.stdout.readline() for _ in range(allowed)]
        assert first in (f"from {saved}\n", f"from {saved + 1}\n")  # nothing that was saved is lost
        # The last update that it may make takes about 20 ms.
        time.sleep(chance.uniform(0.0, 0.03))
        process.kill()
        said += process.communicate(timeout=60)[0].splitlines()
        assert process.returncode == -signal.SIGKILL
        saved = int([first, *said][-1].split()[1])
        assert saved_at(path) in (saved, saved + 1)
    end(begin(path))
    assert path.read_bytes() == uninterrupted
    assert os.listdir(tmp_path) == [path.name]


MOMENTS = {
    "c_call:listdir:1": 0,
    "c_call:open:1": 0,
    "c_call:write:1": 0,
    "c_return:write:1": 0,
    "c_call:write:40": 0,
    "c_call:fsync:1": 0,
    "c_return:fsync:1": 0,
    "c_call:replace:1": 0,
    "c_return:replace:1": 1,
    "c_call:open:2": 1,
    "c_call:fsync:2": 1,
    "c_return:fsync:2": 1,
}
"""Moments within the writing of a checkpoint: does the new one take effect?"""


def test_killed_within_a_write_a_run_has_the_old_checkpoint_or_the_new_one(
    tmp_path: Path, uninterrupted: bytes
) -> None:
    path, chance = tmp_path / "run.safetensors", random.Random(KILLS + 1)
    for moment, gain in [*MOMENTS.items(), ("c_call:replace:1", 0)]:
        before = saved_at(path)
        end(begin(path, moment), -signal.SIGKILL)
        assert saved_at(path) == before + gain, moment
    for _ in range(KILLS):
        before = saved_at(path)
        end(begin(path, str(chance.randrange(1, 500))), -signal.SIGKILL)
        assert saved_at(path) in (before, before + 1)
    end(begin(path))
    assert path.read_bytes() == uninterrupted
    assert os.listdir(tmp_path) == [path.name]
