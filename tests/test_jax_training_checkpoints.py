"""Checkpoints of the JAX backend: whole or refused, and nothing changed by a refusal."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jax_training_cases import ENCODER, STILL, assert_same_state, batch, open_session
from mlm_jax.training import checkpoint
from mlm_jax.training.checkpoint import read_checkpoint
from mlm_jax.training.parameters import shapes
from safetensors import safe_open
from safetensors.numpy import save_file

from mlm_spec.errors import CheckpointError

KEYS = {"format", "update", "loss_scale", "position", "encoder", "training", "policy", "sha256"}


def moment(session: Any) -> Any:
    return session.parameters(), session.state()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoints") / "two.safetensors"
    session = open_session()
    for seed in (1, 2):
        session.step([batch(3, seed)])
    session.save(path)
    return path


def test_a_run_goes_on_from_its_checkpoint_bit_for_bit(whole: Path) -> None:
    through, resumed = open_session(), open_session()
    for seed in (1, 2, 3, 4):
        through.step([batch(3, seed)])
    resumed.load(whole)
    assert (resumed.state()["update"], resumed.state()["position"]) == (2, 6)
    for seed in (3, 4):
        resumed.step([batch(3, seed)])
    assert_same_state(moment(through), moment(resumed))
    assert through.state()["position"] == resumed.state()["position"] == 12


def test_a_checkpoint_says_what_it_is(whole: Path) -> None:
    with safe_open(whole, framework="numpy") as file:
        metadata, names = file.metadata(), set(file.keys())
    assert set(metadata) == KEYS
    assert (metadata["update"], metadata["loss_scale"], metadata["position"]) == ("2", "1.0", "6")
    assert metadata["format"] == "mlm-spec-checkpoint/1"
    groups = ("parameters", "exp_avg", "exp_avg_sq")
    assert names == {f"{group}/{name}" for group in groups for name in shapes(ENCODER)}


def test_a_checkpoint_is_written_again_byte_for_byte(whole: Path, tmp_path: Path) -> None:
    session = open_session()
    session.load(whole)
    session.save(tmp_path / "again")
    held = [read_checkpoint(p, shapes(ENCODER), np.float64) for p in (whole, tmp_path / "again")]
    assert held[0][1:] == held[1][1:]
    for group, named in held[0].tensors.items():
        for name, array in named.items():
            np.testing.assert_array_equal(array, held[1].tensors[group][name])


def test_sequences_are_counted_or_told(whole: Path, tmp_path: Path) -> None:
    session = open_session()
    session.step([batch(2, 1), batch(1, 2)])
    session.step([batch(2, 1)], sequences=40)
    session.save(tmp_path / "told")
    assert read_checkpoint(tmp_path / "told", shapes(ENCODER), np.float64).position == 43


def refused(path: Path, match: str | None = None) -> None:
    session = open_session()
    session.step([batch(3, 9)])
    before = moment(session)
    with pytest.raises(CheckpointError, match=match):
        session.load(path)
    assert_same_state(moment(session), before)
    assert session.state()["position"] == before[1]["position"] == 3


def everything(path: Path) -> list[Any]:
    with safe_open(path, framework="numpy") as file:
        return [file.get_tensor(name) for name in file.keys()]  # noqa: SIM118


def changed(
    whole: Path, path: Path, change: Callable[[dict[str, Any], dict[str, str]], Any]
) -> Path:
    with safe_open(whole, framework="numpy") as file:
        arrays, metadata = {n: file.get_tensor(n) for n in file.keys()}, file.metadata()  # noqa: SIM118
    change(arrays, metadata)
    save_file(arrays, path, metadata)
    return path


BIAS = "exp_avg/cls.predictions.bias"
CHANGES: dict[str, tuple[Callable[[dict[str, Any], dict[str, str]], Any], str]] = {
    "newer": (lambda a, m: m.update(format="mlm-spec-checkpoint/2"), "checkpoint/2"),
    "no format": (lambda a, m: m.pop("format"), "format is missing"),
    "no checksum": (lambda a, m: m.pop("sha256"), "metadata"),
    "more metadata": (lambda a, m: m.update(note=""), "metadata"),
    "another update": (lambda a, m: m.update(update="3"), "sha256"),
    "a value": (lambda a, m: a[BIAS].__setitem__(3, 1.0), "sha256"),
    "missing": (lambda a, m: a.pop(BIAS), f"{BIAS} is missing"),
    "unknown": (lambda a, m: a.update({"exp_avg/x": a[BIAS]}), "exp_avg/x is there"),
    "shape": (lambda a, m: a.update({BIAS: a[BIAS][1:]}), "of shape"),
    "dtype": (lambda a, m: a.update({BIAS: a[BIAS].astype(np.float32)}), "float32"),
    "integers": (lambda a, m: a.update({BIAS: a[BIAS].astype(np.int64)}), "int64"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_checkpoint_that_was_changed_is_refused(change: str, whole: Path, tmp_path: Path) -> None:
    refused(changed(whole, tmp_path / "changed", CHANGES[change][0]), CHANGES[change][1])


@pytest.mark.parametrize("said", ['"update":"2"', f'"{BIAS}":'])
def test_a_name_that_comes_twice_is_refused(said: str, whole: Path, tmp_path: Path) -> None:
    contents = whole.read_bytes()
    header = json.loads(contents[8 : 8 + int.from_bytes(contents[:8], "little")])
    text = json.dumps(header, separators=(",", ":"))
    entry = json.dumps(header[BIAS], separators=(",", ":")) if said.endswith(":") else ""
    twice = text.replace(said, f"{said}{entry},{said}", 1).encode()
    data = contents[-sum(8 * x.size for x in everything(whole)) :]
    (tmp_path / "twice").write_bytes(len(twice).to_bytes(8, "little") + twice + data)
    refused(tmp_path / "twice", "twice; expected each name once")


NUMBERS = {
    "update": ["-1", "1.0", "01", "", str(2**31), str(10**30), "\u0664"],
    "position": ["-1", "x", str(2**63)],
    "loss_scale": ["nan", "0.0", "-1.0", "1e400", "", "0x1"],
}


@pytest.mark.parametrize(("field", "text"), [(f, t) for f, ts in NUMBERS.items() for t in ts])
def test_a_number_that_is_none_is_refused_even_with_a_right_checksum(
    field: str, text: str, whole: Path, tmp_path: Path
) -> None:
    def change(arrays: dict[str, Any], metadata: dict[str, str]) -> None:
        metadata[field] = text
        rest = {n: t for n, t in metadata.items() if n != "sha256"}
        metadata["sha256"] = checkpoint._checksum(rest, arrays)

    refused(changed(whole, tmp_path / "changed", change), f"{field} is ")


@pytest.mark.parametrize("part", [0, 1, 7, 8, 100, -1000, -1])
def test_a_truncated_checkpoint_is_refused(part: int, whole: Path, tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(whole.read_bytes()[:part])
    refused(tmp_path / "short")


def test_no_flipped_bit_passes(whole: Path, tmp_path: Path) -> None:
    contents = whole.read_bytes()
    rng = np.random.default_rng(0)
    header = int.from_bytes(contents[:8], "little") + 8
    places = [*rng.integers(0, header, 40), *rng.integers(header, len(contents), 40)]
    for place in places:
        damaged = bytearray(contents)
        damaged[place] ^= 1 << int(rng.integers(8))
        (tmp_path / "flipped").write_bytes(damaged)
        with pytest.raises(CheckpointError):
            read_checkpoint(tmp_path / "flipped", shapes(ENCODER), np.float64)


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    refused(tmp_path / "absent", "not readable")
    refused(tmp_path)
    (tmp_path / "text").write_text("no checkpoint")
    refused(tmp_path / "text")
    save_file({"a": np.zeros(3)}, tmp_path / "other")
    refused(tmp_path / "other", "format is missing")


@pytest.mark.parametrize("change", ["encoder", "seed", "precision"])
def test_the_checkpoint_of_another_run_is_refused(change: str, whole: Path, tmp_path: Path) -> None:
    others = {
        "encoder": lambda: open_session(STILL),
        "seed": lambda: open_session(seed=1),
        "precision": lambda: open_session(precision="float32"),
    }
    other = others[change]()
    before = moment(other)
    with pytest.raises(CheckpointError):
        other.load(whole)
    assert_same_state(moment(other), before)


def test_what_cannot_be_written_leaves_the_older_one(whole: Path, tmp_path: Path) -> None:
    session = open_session()
    with pytest.raises(CheckpointError, match="not writable"):
        session.save(tmp_path / "absent" / "checkpoint")
    (tmp_path / "folder").mkdir()
    with pytest.raises(CheckpointError, match="not writable"):
        session.save(tmp_path / "folder")
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


def test_what_a_killed_writer_left_is_removed(tmp_path: Path) -> None:
    left = tmp_path / f".run.{'0' * 16}.tmp"
    kept = tmp_path / f".other.{'0' * 16}.tmp"
    for path in (left, kept):
        path.write_bytes(b"half")
    open_session().save(tmp_path / "run")
    assert {p.name for p in tmp_path.iterdir()} == {"run", kept.name}
