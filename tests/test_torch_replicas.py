"""One update made by several processes is the update of one, but for the order of its sums.

Replicas differ from a single process in nothing but the order in which the gradients of the
micro-batches are added up: those of each are the same numbers.  So the distance of two gradients is
at most what any order may do, 2·γ_M·Σ|G_k|/N for M micro-batches with gradients G_k of their sums
and N positions in all; that of two parameters follows through the formula of the update.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mlm_conformance.replicas import run_replicas
from replica_run import updates
from torch_training_cases import TRAINING, assert_same, everything, session_of

from mlm_spec.training.batch import UpdateStatus

SCRIPT = Path(__file__).with_name("replica_run.py")
SIZES = ("1", "2", "3", "4", "4 sharded")
U = 2.0**-53
# More than the roundings of one entry on its way from its mean gradient to its parameter.
STEPS = 32

Arrays = dict[str, np.ndarray]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """As in each replica: the gradients of a micro-batch are the same numbers on both sides only if
    as many threads cut its products."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def gamma(n: int) -> float:
    return n * U / (1 - n * U)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What four processes wrote down, of 1, 2, 3 and 4 replicas."""
    place = tmp_path_factory.mktemp("replicas")
    run_replicas([sys.executable, str(SCRIPT), str(place), "sharded"], 4, 300)
    return place


def written(folder: Path, size: str) -> list[list[dict[str, Any]]]:
    """For each replica what it saw in each update."""
    paths = [folder / f"{size}-{rank}.json" for rank in range(int(size[0]))]
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


def gradients_of(folder: Path, stem: str) -> Arrays:
    with np.load(folder / f"{stem}.npz") as file:
        return dict(file)


@dataclass(frozen=True, slots=True)
class Single:
    """One update of a single process from the state that the replicas had before it.

    Attributes
    ----------
    before, after : the whole state.
    report : of its step.
    gradients : of the mean loss.
    room : how far others may be from them.
    """

    before: dict[str, Any]
    after: dict[str, Any]
    report: dict[str, Any]
    gradients: Arrays
    room: Arrays


def single(folder: Path, size: str, number: int) -> Single:
    session, batches = session_of(), updates()[number]
    if number:
        session.load(folder / f"{size}-{number - 1}.safetensors")
    found = session.gradients(batches)
    parts = [session.gradients([batch]) for batch in batches]
    count = max(found["count"], 1)
    room = {
        name: 2 * gamma(len(batches) + 4)
        * sum((part["count"] * np.abs(part["gradients"][name]) for part in parts),
              start=np.zeros_like(value)) / count
        for name, value in found["gradients"].items()
    }  # fmt: skip
    before = everything(session)
    report = session.step(batches)
    return Single(before, everything(session), report, found["gradients"], room)


def norm_of(values: Arrays) -> float:
    return float(np.sqrt(sum(float((x * x).sum()) for x in values.values())))


def step_room(one: Single) -> Arrays:
    """How far exp_avg, exp_avg_sq and parameters may be after the update, entry by entry."""
    size = sum(x.size for x in one.gradients.values())
    norm, apart = norm_of(one.gradients), norm_of(one.room)
    clip = min(1.0, TRAINING["max_grad_norm"] / norm)
    bend = (1 + gamma(STEPS)) * (apart / norm + 2 * gamma(size + STEPS))  # of the norm, relative
    n, rate = one.report["update"], one.report["learning_rate"]
    found: Arrays = {}
    for name, mean in one.gradients.items():
        g = clip * mean
        room = clip * one.room[name] + np.abs(g) * (bend + gamma(STEPS))
        first, second = (one.after[f"{kind}/{name}"] for kind in ("exp_avg", "exp_avg_sq"))
        moved = 0.1 * room + 2 * gamma(STEPS) * (np.abs(one.before[f"exp_avg/{name}"]) + np.abs(g))
        squares = 0.001 * room * (2 * np.abs(g) + room) + 2 * gamma(STEPS) * second
        found |= {f"exp_avg/{name}": moved, f"exp_avg_sq/{name}": squares}
        lows = (np.maximum(second - squares, 0.0), second + squares)
        ends = np.stack([
            (m / (1 - 0.9**n)) / (np.sqrt(v / (1 - 0.999**n)) + 1e-6)
            for m in (first - moved, first + moved) for v in lows
        ])  # fmt: skip
        largest = np.abs(ends).max(axis=0)
        value = np.abs(one.before[f"parameters/{name}"])
        spread = rate * (ends.max(axis=0) - ends.min(axis=0))
        found[f"parameters/{name}"] = spread + 2 * gamma(STEPS) * (value + rate * largest)
    return found


def beyond(got: Arrays, want: Arrays, room: Arrays) -> list[str]:
    """Each tensor with an entry that is farther off than it may be."""
    return [name for name in room if (np.abs(got[name] - want[name]) > room[name]).any()]


@pytest.mark.parametrize("size", SIZES)
def test_all_replicas_have_the_same_numbers_bit_for_bit(folder: Path, size: str) -> None:
    first, *others = written(folder, size)
    for other in others:
        for mine, its in zip(first, other, strict=True):
            assert {**mine, "refused": None} == {**its, "refused": None}


@pytest.mark.parametrize("number", range(len(updates())))
@pytest.mark.parametrize("size", SIZES)
def test_an_update_of_replicas_is_the_update_of_one(folder: Path, size: str, number: int) -> None:
    one, seen = single(folder, size, number), written(folder, size)[0][number]
    got, report = gradients_of(folder, f"{size}-{number}"), seen["report"]
    assert beyond(got, one.gradients, one.room) == []
    for name in ("count", "status", "update", "learning_rate"):
        assert report[name] == one.report[name], name
    assert seen["position"] == one.after["position"]
    after = session_of()
    after.load(folder / f"{size}-{number}.safetensors")
    state = everything(after)
    if report["status"] == UpdateStatus.EMPTY:
        assert_same(one.before, state, but=("position",))
    else:
        assert report["count"] > 0
        assert beyond(state, one.after, step_room(one)) == []
    if size == "1":
        assert beyond(got, one.gradients, {name: 0 * x for name, x in got.items()}) == []


def test_the_cases_are_those_that_matter() -> None:
    """Counts that differ, a replica with nothing selected, one with nothing at all, all of them."""
    counts = [[int(b["selected"].sum()) for b in batches] for batches in updates()[1:5]]
    assert [len(c) for c in counts] == [4, 1, 3, 0]
    assert len(set(counts[0])) == 4
    assert counts[0][3] == 0
    assert counts[1][0] > 0
    assert not any(counts[2])


@pytest.mark.parametrize("size", SIZES[1:4])
def test_a_mean_over_replicas_would_be_found_out(folder: Path, size: str) -> None:
    one = single(folder, size, 0)
    assert beyond(gradients_of(folder, f"{size}-wrong"), one.gradients, one.room)


def test_what_parameters_are_allowed_is_little_but_where_gradients_mean_nothing(
    folder: Path,
) -> None:
    """A key bias has gradient 0, so its rounding decides its step.  Nothing else has such room."""
    one = single(folder, "4", 0)
    for name, room in step_room(one).items():
        if name.startswith("parameters/") and "self.key.bias" not in name:
            assert np.median(room) < gamma(2**16) * one.report["learning_rate"], name


@pytest.mark.parametrize("size", SIZES)
def test_what_one_replica_refuses_is_refused_by_all_and_changes_nothing(
    folder: Path, size: str
) -> None:
    told = [replica[-1]["refused"] for replica in written(folder, size)]
    assert {len(said) for said in told} == {3}
    for said in told[:-1]:
        assert all(f"refused on replica {int(size[0]) - 1}" in text for text in said)
    assert [text.split(":")[0] for text in told[-1]] == [
        "IdRangeError", "IdRangeError", "CheckpointError",
    ]  # fmt: skip


def test_a_run_of_replicas_that_is_resumed_ends_as_one_that_was_not(folder: Path) -> None:
    """In deterministic mode, bit for bit; without it the last bits were seen to differ."""
    paths = [folder / f"resumed-{rank}.json" for rank in range(4)]
    ends = {word for path in paths for word in json.loads(path.read_text(encoding="utf-8"))}
    assert len(ends) == 1


def test_torchrun_starts_them_too(folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", str(SCRIPT), str(tmp_path)]
    launcher = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        output, _ = launcher.communicate(timeout=300)
    finally:
        launcher.terminate()  # it ends those that it started; a kill would leave them
        launcher.wait()
    assert launcher.returncode == 0, output.decode()
    for size in ("1", "2"):
        for mine, its in zip(written(folder, size), written(tmp_path, size), strict=True):
            assert [x["state"] for x in mine] == [x["state"] for x in its]
