"""Chapter CKP: a wrong trainer fails the check that it names, and files are what they say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mlm_conformance.cases.checkpoint_files import (
    CLAIMED,
    boastful,
    broken,
    executing,
    foreign,
    hostile,
    parsed,
    reordered,
)
from mlm_conformance.cases.training import TrainingCase
from mlm_conformance.check import CHECKS, Context, Unmeasurable, Violation
from mlm_conformance.checks import chapter_ckp, training_saving
from mlm_conformance.in_process import InProcessTarget
from mlm_conformance.mutants.library import MUTANTS, Mutant
from mlm_conformance.oracle import reference_oracle
from mlm_conformance.process import TargetProcess
from safetensors.numpy import load

from mlm_spec.errors import CheckpointError
from mlm_spec.training.checkpoint import read_checkpoint
from mlm_spec.training.session import session

OWN = {check.name: check for check in CHECKS if check.requirement.startswith("MLM-CKP")}
WRONG = [mutant for mutant in MUTANTS if mutant.requirement.startswith("MLM-CKP")]
ORACLE = reference_oracle()
CORRECT = "mlm_conformance.mutants.trainer:correct_trainer"


def case() -> TrainingCase:
    found: TrainingCase = chapter_ckp.ONE[1][0].build(0)
    return found


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("good") / "good.safetensors"
    about = case()
    session(about.encoder, about.training, about.parameters).save(path)
    return path.read_bytes()


@pytest.mark.parametrize("mutant", WRONG, ids=lambda mutant: mutant.name)
def test_a_wrong_trainer_fails_the_check_that_names_it(mutant: Mutant) -> None:
    assert mutant.check is not None
    check = OWN[mutant.check]
    assert check.requirement == mutant.requirement
    context = Context(InProcessTarget(mutant.target), ORACLE, frozenset({"session"}), None)
    with pytest.raises(Violation):
        check.judge(context, check.always[0].build(0))


def test_room_is_taken_from_a_process_of_its_own() -> None:
    ready = {ready.name: ready for ready in training_saving.READY}
    with TargetProcess(CORRECT) as target:
        context = Context(target, ORACLE, frozenset(target.hello().claims), None)
        ready["a_disk_that_is_full_is_an_error"].judge(context, case())
        assert context.seen["failed saves"] == 1
        assert target.pid is not None
        target.restart()
        assert target.pid is None


def test_where_room_cannot_be_taken_nothing_is_said() -> None:
    with (
        pytest.raises(Unmeasurable, match="cannot be kept short"),
        training_saving._room_for(None, 1),
    ):
        pass


def test_every_file_is_refused_and_like_no_other(good: bytes, tmp_path: Path) -> None:
    trace, path = tmp_path / "trace", tmp_path / "file"
    for files in (
        broken(good, np.random.default_rng(0)),
        foreign(good),
        hostile(good),
        boastful(good),
        executing(good, trace),
    ):
        found = list(files)
        assert len({content for _, content in found}) == len(dict(found)) == len(found)
        for _, content in found:
            assert content != good
            path.write_bytes(content)
            with pytest.raises(CheckpointError):
                read_checkpoint(path)


def test_files_of_something_else_have_a_right_checksum(good: bytes) -> None:
    for what, content in foreign(good):
        file = parsed(content)
        assert file.sealed() == file, what


def test_another_order_is_the_same_checkpoint(good: bytes, tmp_path: Path) -> None:
    other = reordered(parsed(good))
    tensors, again = load(good), load(other)
    assert all(np.array_equal(tensors[name], again[name]) for name in tensors)
    assert list(parsed(other).entries) != list(parsed(good).entries)
    (tmp_path / "other").write_bytes(other)
    assert read_checkpoint(tmp_path / "other").state.update == 0


def test_programs_run_where_they_are_run(good: bytes, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    files = dict(executing(good, trace))
    call = parsed(files["a call for its update"]).texts["update"]
    runs = [["-c", call]]
    for protocol in (0, 2):
        path = tmp_path / f"pickle-{protocol}"
        path.write_bytes(files[f"a pickle of protocol {protocol}"])
        runs.append(["-m", "pickle", str(path)])
    for run in runs:
        subprocess.run([sys.executable, *run], check=True, capture_output=True)
        assert trace.exists(), run
        trace.unlink()


def test_files_that_claim_much_are_small(good: bytes) -> None:
    for _, content in boastful(good):
        assert len(content) < CLAIMED / 1000
