"""Sessions: what a run tells of itself, and how it goes on from its checkpoints."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from training_cases import (
    ENCODER,
    POLICY,
    TRAINING,
    content,
    corpus_batches,
    same,
    started,
    step,
    trained,
)

from mlm_spec.errors import CheckpointError, ConfigError, InputError, PolicyError
from mlm_spec.training.checkpoint import read_checkpoint
from mlm_spec.training.parameters import initial_parameters
from mlm_spec.training.session import session


def test_a_run_tells_what_an_update_did_and_keeps_its_own_arrays() -> None:
    run = started()
    report = step(run)
    names = ["loss", "count", "norm", "learning_rate", "status", "update"]
    assert list(report) == names
    assert (type(report["status"]), report["update"]) == (int, 1)
    before = content(run)
    for arrays in (run.parameters(), run.state()["exp_avg"], run.state()["exp_avg_sq"]):
        for array in arrays.values():
            array[:] = 7.0
    assert content(run) == before


def test_evaluation_and_gradients_change_nothing() -> None:
    run = started()
    step(run)
    before = content(run)
    batches = list(corpus_batches(0))
    evaluated, seen = run.evaluate(batches), run.gradients(batches)
    assert list(evaluated) == ["sum", "count"]
    assert list(seen) == ["sum", "count", "gradients"]
    assert evaluated["count"] == seen["count"] > 0
    assert evaluated["sum"] != seen["sum"]  # dropout
    assert content(run) == before
    assert run.evaluate(batches) == evaluated


def test_the_caller_may_say_how_many_sequences_an_update_consumed() -> None:
    run = started()
    run.step(corpus_batches(0), sequences=9)
    assert run.state()["position"] == 9
    run.step(corpus_batches(0))
    assert run.state()["position"] == 13


def test_the_configurations_of_a_session_are_checked() -> None:
    fields, parameters = ENCODER.to_mapping(), initial_parameters(ENCODER, 1)
    with pytest.raises(ConfigError, match="encoder is with tied; expected only"):
        session({**fields, "tied": True}, TRAINING.to_mapping(), parameters)
    with pytest.raises(ConfigError, match="training is without learning_rate"):
        session(fields, {}, parameters)
    with pytest.raises(PolicyError, match="policy is a dict; expected a MaskingPolicy or None"):
        session(fields, TRAINING.to_mapping(), parameters, POLICY.to_mapping())  # type: ignore[arg-type]
    with pytest.raises(InputError, match="parameters"):
        session(fields, TRAINING.to_mapping(), {})


@pytest.mark.parametrize("precision", ["float64", "float32", "float16"])
def test_a_run_goes_on_from_its_checkpoint_as_if_nothing_had_been(
    precision: str, tmp_path: Path
) -> None:
    whole, relay = started(precision=precision), started(precision=precision)
    for n in range(9):
        report = step(whole)
        if n % 3 == 0:
            relay.save(tmp_path / "a")
            relay = started(seed=2, precision=precision)
            relay.load(tmp_path / "a")
        assert step(relay) == report
    assert content(relay) == content(whole)


OTHERS = {
    "encoder": (
        lambda: replace(ENCODER, hidden_dropout="1/5"),
        lambda: TRAINING,
        lambda: POLICY,
        "encoder is of hidden_dropout '1/10'; expected hidden_dropout '1/5', as this session has",
    ),
    "training": (
        lambda: ENCODER,
        lambda: replace(TRAINING, seed=6),
        lambda: POLICY,
        "training is of seed 5; expected seed 6, as this session has it",
    ),
    "no policy": (
        lambda: ENCODER,
        lambda: TRAINING,
        lambda: None,
        "policy is there; expected None",
    ),
    "policy": (
        lambda: ENCODER,
        lambda: TRAINING,
        lambda: replace(POLICY, mask_id=3),
        "policy is of mask_id 4; expected mask_id 3, as this session has it",
    ),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_a_checkpoint_of_another_run_changes_nothing(kind: str, tmp_path: Path) -> None:
    encoder, training, policy, message = OTHERS[kind]
    started().save(tmp_path / "a")
    run = session(
        encoder().to_mapping(), training().to_mapping(), initial_parameters(ENCODER, 2), policy()
    )
    before = content(run)
    with pytest.raises(CheckpointError, match=re.escape(message)):
        run.load(tmp_path / "a")
    assert content(run) == before


def test_a_broken_checkpoint_changes_nothing(tmp_path: Path) -> None:
    run = started()
    run.save(tmp_path / "a")
    data = bytearray((tmp_path / "a").read_bytes())
    data[-1] ^= 1
    (tmp_path / "a").write_bytes(data)
    step(run)
    before = content(run)
    with pytest.raises(CheckpointError, match="sha256"):
        run.load(tmp_path / "a")
    assert content(run) == before


FULL = """
import resource, sys
from training_cases import started, step
from mlm_spec.errors import CheckpointError

run = started()
run.save(sys.argv[1])
step(run)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))  # less than a checkpoint takes
try:
    run.save(sys.argv[1])
except CheckpointError as error:
    print(error)
"""


def test_a_disk_without_room_leaves_the_previous_checkpoint(tmp_path: Path) -> None:
    """The system itself refuses to write on: here by a limit on the size of files."""
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path / "a")],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "not written ([Errno 27] File too large); expected a folder with room" in done.stdout
    assert done.returncode == 0, done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert same(read_checkpoint(tmp_path / "a").state, trained(0).state)
