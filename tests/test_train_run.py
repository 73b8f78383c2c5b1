"""Runs of ``mlm-spec train`` from their beginning to their end, broken off and taken up again."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlm_conformance import cli
from mlm_conformance.outcomes import BadCallError
from mlm_conformance.train import held_out as held_out_module
from mlm_conformance.train.folder import RunFolder, read_metrics
from mlm_conformance.train.loop import micro_batches
from mlm_conformance.train.settings import Rhythm, settings_from
from mlm_conformance.train.store import open_store
from mlm_conformance.train.windows import Windows, cut
from train_cases import made_text, small_command

import mlm_spec
from mlm_spec.training.checkpoint import read_checkpoint
from mlm_spec.training.order import epoch_order
from mlm_spec.training.parameters import initial_parameters
from mlm_spec.training.session import session as session_of_reference
from mlm_spec.training.tensor_file import read_tensors

# Sessions of the reference, with a moment at which something happens to them.
TARGETS = """
import os
import signal

from mlm_spec.training.session import session


class Around:
    def __init__(self, inner):
        self.inner = inner

    def __getattr__(self, name):
        return getattr(self.inner, name)


class CountsOneMore(Around):
    def evaluate(self, batches):
        found = self.inner.evaluate(batches)
        return found | {"count": found["count"] + 1}


class DoesNothing(Around):
    def step(self, batches):
        names = ("loss", "count", "norm", "learning_rate", "update")
        return dict.fromkeys(names, 0) | {"status": 8}


class RefusesStep(Around):
    def step(self, batches):
        if self.inner.state()["update"] == int(os.environ.get("HAPPENS_AFTER", "0")):
            raise NotImplementedError("updates\\nof this kind")
        return self.inner.step(batches)


class RefusesEvaluate(Around):
    def evaluate(self, batches):
        raise NotImplementedError("evaluation")


class Happens(Around):
    def step(self, batches):
        if self.inner.state()["update"] == int(os.environ.get("HAPPENS_AFTER", "-1")):
            happens()
        return self.inner.step(batches)

    def evaluate(self, batches):
        if os.environ.get("HAPPENS_IN") == "evaluate":
            happens()
        return self.inner.evaluate(batches)


def happens():
    if os.environ["HAPPENS"] == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    for _ in range(int(os.environ["HAPPENS"])):
        os.kill(os.getpid(), signal.SIGINT)


class Port:
    def __init__(self, kind):
        self.kind = kind

    def policy(self, fields):
        return fields

    def session(self, **arguments):
        return self.kind(session(**arguments))


class WithoutSession:
    def policy(self, fields):
        return fields


class WithoutPrecision(WithoutSession):
    def session(self, **arguments):
        raise NotImplementedError


refuses_session, refuses_step = WithoutPrecision(), Port(RefusesStep)
refuses_evaluate = Port(RefusesEvaluate)
counts_one_more, does_nothing, something = Port(CountsOneMore), Port(DoesNothing), Port(Happens)
without_session = WithoutSession()


def without_framework():
    import a_framework_that_nobody_has
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing happened to."""
    folder = tmp_path_factory.mktemp("finished")
    made_text(folder)
    assert cli.main(small_command(folder, "--checkpoint-every", "2", "--evaluate-every", "3")) == 0
    return folder / "run"


@pytest.fixture
def targets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "around.py").write_text(TARGETS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "around", raising=False)
    return tmp_path


def timeless(path: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in entry.items() if k != "seconds"} for entry in read_metrics(path)]


def windows_of(run: Path, length: int = 16) -> Windows:
    return cut(open_store(run / "store"), length)


# --- a run


def test_a_run_leaves_its_books_its_state_and_its_model(finished: Path) -> None:
    assert sorted(p.name for p in finished.iterdir()) == [
        "checkpoint.safetensors", "curve.png", "metrics.jsonl", "model", "run.json", "store",
    ]  # fmt: skip
    entries = read_metrics(finished / "metrics.jsonl")
    assert [(e["kind"][0], e["update"]) for e in entries] == [
        ("e", 0), ("u", 1), ("u", 2), ("u", 3), ("e", 3), ("u", 4), ("u", 5), ("u", 6), ("e", 6),
    ]  # fmt: skip
    updates = [e for e in entries if e["kind"] == "update"]
    assert [e["position"] for e in updates] == [4, 8, 12, 16, 20, 24]
    assert all(e["loss"] > 0 and e["count"] > 0 and e["tokens"] > 0 for e in updates)
    assert (finished / "curve.png").read_bytes().startswith(b"\x89PNG\r\n")
    state = read_checkpoint(finished / "checkpoint.safetensors").state
    assert (state.update, state.position) == (6, 24)


def test_the_losses_are_those_of_the_reference_on_the_text_in_the_specified_order(
    finished: Path,
) -> None:
    found = read_checkpoint(finished / "checkpoint.safetensors")
    windows = windows_of(finished)
    parameters = initial_parameters(found.encoder, 7)
    session = session_of_reference(
        found.encoder.to_mapping(), found.training.to_mapping(), parameters, found.policy
    )
    order = epoch_order(0, windows.trained, 7)
    recorded = [e for e in read_metrics(finished / "metrics.jsonl") if e["kind"] == "update"]
    for number, entry in enumerate(recorded):
        report = session.step([windows.batch(order[4 * number : 4 * number + 4], 0)])
        assert report["loss"] == entry["loss"]
        assert report["count"] == entry["count"]


def test_a_model_learns_what_the_frequency_of_tokens_does_not_tell(tmp_path: Path) -> None:
    words = ["fox", "dog", "bird", "worm", "river", "mill", "road", "hill"]
    text = "\n\n".join(" ".join([words[n % 8]] * 60) for n in range(160))
    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    changes = ("--updates", "40", "--learning-rate", "0.002", "--batch", "16", "--warmup", "10")
    assert cli.main(small_command(tmp_path, *changes)) == 0
    found = [e for e in read_metrics(tmp_path / "run" / "metrics.jsonl") if "nats" in e]
    assert found[0]["nats"] > found[0]["unigram"]
    assert found[-1]["nats"] < found[-1]["unigram"] - 0.5  # the neighbours tell


# --- the order of a run, and its micro-batches


def test_micro_batches_are_cut_where_an_epoch_ends(finished: Path) -> None:
    windows = windows_of(finished)
    settings = settings_from({"batch": 7, "micro_batch": 3, "length": 16, "seed": 7})
    position = 2 * windows.trained - 5
    batches, tokens = micro_batches(windows, settings, position)
    assert [(b["epoch"], len(b["tokens"])) for b in batches] == [(1, 3), (1, 2), (2, 2)]
    numbers = [int(n) for b in batches for n in b["sequence_id"][:, 0, 0]]
    orders = [epoch_order(epoch, windows.trained, 7) for epoch in (1, 2)]
    assert numbers == [*orders[0][-5:].tolist(), *orders[1][:2].tolist()]
    assert tokens == sum(int(b["eligible"].sum()) for b in batches)


# --- evaluation


def test_held_out_text_is_never_trained_on_and_its_masks_are_no_epochs(finished: Path) -> None:
    windows, checkpoint = windows_of(finished), read_checkpoint(finished / "checkpoint.safetensors")
    text = held_out_module.held_out(windows, checkpoint.policy, 7, 1000, 5)
    numbers = [int(n) for batch in text.batches for n in batch["sequence_id"][:, 0, 0]]
    assert sorted(numbers) == list(range(windows.trained, len(windows.begin)))
    assert {batch["epoch"] for batch in text.batches} == {2**64 - 1}
    fewer = held_out_module.held_out(windows, checkpoint.policy, 7, 3, 5)
    assert [int(n) for b in fewer.batches for n in b["sequence_id"][:, 0, 0]] == numbers[:3]


def test_the_unigram_entropy_is_that_of_smoothed_counts_at_the_same_positions(
    finished: Path,
) -> None:
    windows, checkpoint = windows_of(finished), read_checkpoint(finished / "checkpoint.safetensors")
    policy = checkpoint.policy
    text = held_out_module.held_out(windows, policy, 7, 8, 8)
    counts: Counter[int] = Counter()
    for number in range(windows.trained):
        begin = windows.begin[number]
        counts.update(windows.tokens[begin : begin + windows.size[number]].tolist())
    (batch,) = text.batches
    masked = mlm_spec.mask(
        batch["tokens"], batch["sequence_id"], batch["position"], None, batch["eligible"],
        policy, 7, 2**64 - 1,
    )  # fmt: skip
    total = sum(counts.values()) + policy.vocab_size
    logs = [math.log(Fraction(counts[int(t)] + 1, total)) for t in masked.targets[masked.selected]]
    assert text.count == len(logs)
    assert round(text.unigram + sum(logs) / len(logs), 12) == 0
    recorded = read_metrics(finished / "metrics.jsonl")[0]
    assert recorded["unigram"] == text.unigram
    assert recorded["count"] == text.count


def test_a_backend_that_counts_other_positions_is_refused(
    targets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(small_command(targets, backend="around:counts_one_more")) == 2
    assert "selected positions of the held-out text; expected" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("session", "it does not say why"),
        ("step", "updates of this kind"),
        ("evaluate", "evaluation"),
    ],
)
def test_a_backend_that_refuses_a_run_leaves_one_line_and_no_folder(
    name: str, reason: str, targets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    backend = f"around:refuses_{name}"
    said = f"mlm-spec: the backend {backend} cannot train this: {reason}\n"
    command = small_command(targets, backend=backend)
    deep = targets / "some" / "where"
    assert cli.main([*command, "--out", str(deep)]) == 2
    assert capsys.readouterr().err == said
    assert not deep.parent.exists()
    (targets / "run").mkdir()
    assert cli.main(command) == 2
    assert list((targets / "run").iterdir()) == []


def test_a_run_that_is_refused_after_an_update_stays(
    targets: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HAPPENS_AFTER", "1")
    assert cli.main(small_command(targets, backend="around:refuses_step")) == 2
    run = targets / "run"
    assert {path.name for path in run.iterdir()} == {"run.json", "store", "metrics.jsonl"}
    again = ["train", "--backend", "around:refuses_session", "--out", str(run), "--resume"]
    assert cli.main(again) == 2
    assert "cannot train this: it does not say why" in capsys.readouterr().err
    assert {path.name for path in run.iterdir()} == {"run.json", "store", "metrics.jsonl"}


def test_a_run_whose_updates_have_no_effect_ends(
    targets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(small_command(targets, backend="around:does_nothing")) == 2
    said = capsys.readouterr()
    assert "nothing is selected in 100 updates one after the other" in said.err
    assert said.out.count("nothing is selected, nothing was changed") == 100


# --- broken off, and taken up again


def test_a_run_that_is_killed_ends_as_if_it_had_not_been(
    targets: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = ("--checkpoint-every", "2", "--evaluate-every", "3")
    command = small_command(targets, *kept, backend="around:something")
    environment = {**os.environ, "HAPPENS": "kill", "HAPPENS_AFTER": "5"}
    done = subprocess.run(
        [sys.executable, "-m", "mlm_conformance", *command],
        env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == -9, done.stderr
    run = targets / "run"
    assert read_checkpoint(run / "checkpoint.safetensors").state.update == 4
    with open(run / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.write('{"kind": "upd')  # a line that was being written
    resumed = ["train", "--backend", "numpy", "--out", str(run), "--resume", *kept]
    assert cli.main(resumed) == 0
    same = "checkpoint.safetensors"
    assert (run / same).read_bytes() == (finished / same).read_bytes()
    assert timeless(run / "metrics.jsonl") == timeless(finished / "metrics.jsonl")
    for path in (finished / "model").iterdir():
        assert (run / "model" / path.name).read_bytes() == path.read_bytes()


def test_a_run_that_is_killed_before_its_first_checkpoint_begins_again(
    targets: Path, finished: Path
) -> None:
    command = small_command(targets, "--evaluate-every", "3", backend="around:something")
    environment = {**os.environ, "HAPPENS": "kill", "HAPPENS_AFTER": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "mlm_conformance", *command],
        env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == -9, done.stderr
    run = targets / "run"
    assert not (run / "checkpoint.safetensors").exists()
    resumed = ["train", "--backend", "numpy", "--out", str(run), "--resume"]
    assert cli.main([*resumed, "--evaluate-every", "3"]) == 0
    assert timeless(run / "metrics.jsonl") == timeless(finished / "metrics.jsonl")


def test_ctrl_c_saves_a_checkpoint_and_says_how_to_go_on(
    targets: Path, finished: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("HAPPENS", "1")
    monkeypatch.setenv("HAPPENS_AFTER", "2")
    assert cli.main(small_command(targets, backend="around:something")) == 130
    said = capsys.readouterr().err
    run = targets / "run"
    assert "a checkpoint is saved" in said
    assert f"mlm-spec train --backend around:something --out {run} --resume" in said
    # The update during which it was pressed is made.
    assert read_checkpoint(run / "checkpoint.safetensors").state.update == 3
    assert cli.main(["train", "--backend", "numpy", "--out", str(run), "--resume"]) == 0
    same = "checkpoint.safetensors"
    assert (run / same).read_bytes() == (finished / same).read_bytes()


def test_ctrl_c_before_the_first_update_leaves_nothing_twice(
    targets: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HAPPENS", "1")
    monkeypatch.setenv("HAPPENS_IN", "evaluate")
    kept = ("--evaluate-every", "3")
    assert cli.main(small_command(targets, *kept, backend="around:something")) == 130
    run = targets / "run"
    assert read_checkpoint(run / "checkpoint.safetensors").state.update == 0
    assert cli.main(["train", "--backend", "numpy", "--out", str(run), "--resume", *kept]) == 0
    assert timeless(run / "metrics.jsonl") == timeless(finished / "metrics.jsonl")


def test_a_second_ctrl_c_ends_at_once(targets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAPPENS", "2")
    monkeypatch.setenv("HAPPENS_AFTER", "2")
    assert cli.main(small_command(targets, backend="around:something")) == 130
    assert not (targets / "run" / "checkpoint.safetensors").exists()


def test_a_resumed_run_is_evaluated_and_saved_as_often_as_before_or_as_it_is_told(
    targets: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HAPPENS", "1")
    monkeypatch.setenv("HAPPENS_AFTER", "1")
    kept = ("--evaluate-every", "3", "--checkpoint-every", "2")
    assert cli.main(small_command(targets, *kept, backend="around:something")) == 130
    run = targets / "run"
    about = json.loads((run / "run.json").read_text(encoding="utf-8"))
    assert about["every"] == {"evaluate": 3, "checkpoint": 2}
    monkeypatch.setenv("HAPPENS_AFTER", "3")
    again = ["train", "--backend", "around:something", "--out", str(run), "--resume"]
    assert cli.main([*again, "--checkpoint-every", "5"]) == 130
    about = json.loads((run / "run.json").read_text(encoding="utf-8"))
    assert about["every"] == {"evaluate": 3, "checkpoint": 5}
    monkeypatch.setenv("HAPPENS_AFTER", "-1")
    assert cli.main(again) == 0
    assert timeless(run / "metrics.jsonl") == timeless(finished / "metrics.jsonl")


def test_a_record_of_an_earlier_version_is_resumed_in_the_usual_rhythm(finished: Path) -> None:
    folder = RunFolder(finished)
    about = json.loads(folder.about.read_text(encoding="utf-8"))
    before = folder.about.read_bytes()
    try:
        del about["every"]
        folder.about.write_text(json.dumps(about), encoding="utf-8")
        assert folder.recorded()[2] == Rhythm(1, 100)
        for bad in (7, {"evaluate": 0, "checkpoint": 1}, {"evaluate": True, "checkpoint": 1}):
            folder.about.write_text(json.dumps(about | {"every": bad}), encoding="utf-8")
            with pytest.raises(BadCallError, match="the recorded numbers of updates are"):
                folder.recorded()
    finally:
        folder.about.write_bytes(before)


def test_a_finished_run_that_is_resumed_is_finished(finished: Path) -> None:
    before = (finished / "checkpoint.safetensors").read_bytes()
    assert cli.main(["train", "--backend", "numpy", "--out", str(finished), "--resume"]) == 0
    assert (finished / "checkpoint.safetensors").read_bytes() == before


def test_the_recorded_settings_are_those_of_the_options(finished: Path) -> None:
    about = json.loads((finished / "run.json").read_text(encoding="utf-8"))
    settings = about["settings"]
    assert settings | {"text": None} == {
        "preset": "tiny", "vocabulary": 150, "length": 16, "batch": 4, "micro_batch": 4,
        "updates": 6, "warmup": 2, "learning_rate": 2e-3, "dropout": "0", "precision": "float32",
        "seed": 7, "masking": "bert", "held_out": 8, "text": None,
    }  # fmt: skip
    assert about["fingerprint"] == open_store(finished / "store").fingerprint


def test_parameters_that_come_out_are_those_of_the_last_update(finished: Path) -> None:
    tensors, _ = read_tensors(finished / "model" / "model.safetensors")
    state = read_checkpoint(finished / "checkpoint.safetensors").state
    for name, value in state.parameters.items():
        assert np.array_equal(tensors[name], value)
