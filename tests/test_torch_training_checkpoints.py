"""Checkpoints of the PyTorch session: whole or not at all, and only what is intact is read."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlm_torch import checkpoint
from safetensors import safe_open
from safetensors.numpy import save_file
from torch_training_cases import (
    ENCODER,
    assert_same,
    batch_of,
    everything,
    parameters_of,
    session_of,
)

from mlm_spec.errors import CheckpointError

Edit = Callable[[dict[str, Any], dict[str, str]], Any]


def trained(updates: int = 2, **training: Any) -> Any:
    session = session_of(**training)
    for n in range(updates):
        session.step([batch_of(n)])
    return session


def contents(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    with safe_open(path, "np") as file:
        return dict(
            zip(file.keys(), map(file.get_tensor, file.keys()), strict=True)
        ), file.metadata()


def refused(path: Path) -> str:
    """The message; and nothing was changed."""
    session = session_of()
    before = everything(session)
    with pytest.raises(CheckpointError) as error:
        session.load(path)
    assert_same(before, everything(session))
    return str(error.value)


@pytest.mark.parametrize("mask", [0o022, 0o027])
def test_a_checkpoint_has_the_permissions_of_any_new_file(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        session_of().save(tmp_path / "run.safetensors")
    finally:
        os.umask(before)
    found = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert found == {"run.safetensors": 0o666 & ~mask}


@pytest.mark.parametrize("precision", ["float64", "float32", "float16"])
def test_a_run_goes_on_from_its_checkpoint_to_the_bit(tmp_path: Path, precision: str) -> None:
    path = tmp_path / "run.safetensors"
    one = trained(3, precision=precision)
    one.save(path)
    other = session_of(precision=precision, parameters=parameters_of(seed=9))
    other.load(path)
    assert_same(everything(one), everything(other))
    for n in range(3, 6):
        assert one.step([batch_of(n)]) == other.step([batch_of(n)])
    assert_same(everything(one), everything(other))


def test_the_same_state_gives_the_same_bytes_and_leaves_nothing_beside_them(tmp_path: Path) -> None:
    path = tmp_path / "run"
    (tmp_path / ".run.0123456789abcdef.tmp").write_bytes(b"left by one that was killed")
    (tmp_path / ".run.notes.tmp").write_bytes(b"not ours")
    trained().save(path)
    first = path.read_bytes()
    trained().save(path)
    assert path.read_bytes() == first
    assert sorted(x.name for x in tmp_path.iterdir()) == [".run.notes.tmp", "run"]


def test_the_file_says_what_it_is(tmp_path: Path) -> None:
    session = trained()
    session.save(tmp_path / "run")
    tensors, metadata = contents(tmp_path / "run")
    assert metadata["format"] == "mlm-spec-checkpoint/1"
    assert (metadata["update"], metadata["position"], metadata["loss_scale"]) == ("2", "12", "1.0")
    assert json.loads(metadata["encoder"])["hidden_dropout"] == "1/10"
    assert len(tensors) == 3 * len(session.parameters())
    bias = tensors["parameters/cls.predictions.bias"]
    np.testing.assert_array_equal(bias, session.parameters()["cls.predictions.bias"])


def test_every_cut_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run"
    trained().save(path)
    whole = path.read_bytes()
    for size in (0, 7, 8, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        refused(path)
    path.write_bytes(whole + b"\0")
    refused(path)


def test_every_flipped_bit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run"
    trained().save(path)
    whole = path.read_bytes()
    draw = np.random.default_rng(0)
    header = 8 + int.from_bytes(whole[:8], "little")
    spaces = len(whole[:header]) - len(whole[:header].rstrip(b" "))
    places = [
        *range(8),
        *draw.integers(8, header - spaces, 40),
        *draw.integers(header, len(whole), 20),
    ]
    session = session_of()
    before = everything(session)
    for at in places:
        broken = bytearray(whole)
        broken[at] ^= 1 << int(draw.integers(8))
        path.write_bytes(broken)
        with pytest.raises(CheckpointError):
            session.load(path)
    assert_same(before, everything(session))


def without(name: str) -> Edit:
    return lambda tensors, _: tensors.pop(name)


BIAS = "exp_avg/cls.predictions.bias"
EDITS: list[tuple[str, Edit, str]] = [
    ("missing tensor", without(BIAS), "missing"),
    ("unknown tensor", lambda t, _: t.update({"exp_avg/x": t[BIAS]}), "unknown"),
    ("other shape", lambda t, _: t.update({BIAS: t[BIAS][:-1]}), "expected float64 of shape"),
    ("other dtype", lambda t, _: t.update({BIAS: t[BIAS].astype("f4")}), "is float32 of shape"),
    ("other value", lambda t, _: t[BIAS].__setitem__(0, 1.0), "sha256"),
    ("newer", lambda _, m: m.update(format="mlm-spec-checkpoint/2"), "another one wrote it"),
    ("foreign", lambda _, m: m.clear(), "format is 'missing'"),
    ("no position", lambda _, m: m.pop("position"), "__metadata__"),
    ("other update", lambda _, m: m.update(update="3"), "sha256"),
    ("no configuration", lambda _, m: m.update(encoder="[]"), "no configuration"),
    ("no JSON", lambda _, m: m.update(training="{"), "no configuration"),
]


@pytest.mark.parametrize(("name", "edit", "message"), EDITS, ids=[e[0] for e in EDITS])
def test_what_is_not_this_runs_checkpoint_is_refused(
    tmp_path: Path, name: str, edit: Edit, message: str
) -> None:
    path = tmp_path / "run"
    trained().save(path)
    tensors, metadata = contents(path)
    edit(tensors, metadata)
    save_file(tensors, path, metadata)
    assert message in refused(path)


@pytest.mark.parametrize("name", ["update", BIAS])
def test_a_name_that_comes_twice_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "run"
    trained().save(path)
    whole = path.read_bytes()
    end = 8 + int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8:end])
    value = json.dumps(header["__metadata__"].get(name) or header[name])
    text = json.dumps(header)
    twice = text.replace(f'"{name}":', f'"{name}": {value}, "{name}":', 1).encode()
    path.write_bytes(len(twice).to_bytes(8, "little") + twice + whole[end:])
    assert f"{name!r} twice" in refused(path)


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("update", "-1"),
        ("update", "1.0"),
        ("position", "01"),
        ("loss_scale", "nan"),
        ("loss_scale", "0"),
    ],
)
def test_numbers_that_are_none_are_refused_even_with_a_right_checksum(
    tmp_path: Path, key: str, text: str
) -> None:
    path = tmp_path / "run"
    trained().save(path)
    with safe_open(path, "pt") as file:
        tensors = dict(zip(file.keys(), map(file.get_tensor, file.keys()), strict=True))
        metadata = file.metadata()
    del metadata["sha256"]
    metadata[key] = text
    metadata["sha256"] = checkpoint._checksum(metadata, tensors)
    checkpoint.save_file(tensors, path, metadata)
    assert key in refused(path)


def test_a_checkpoint_of_another_run_is_refused_and_the_difference_named(tmp_path: Path) -> None:
    path = tmp_path / "run"
    trained(learning_rate=0.5).save(path)
    assert "of learning_rate 0.5; expected learning_rate 0.01" in refused(path)
    session_of(ENCODER | {"num_attention_heads": 2}).save(path)
    assert "of num_attention_heads 2" in refused(path)


def test_no_file_a_folder_and_a_place_that_cannot_be_written_are_errors(tmp_path: Path) -> None:
    refused(tmp_path / "absent")
    refused(tmp_path)
    session = session_of()
    for place in (tmp_path / "no folder" / "run", tmp_path):
        with pytest.raises(CheckpointError):
            session.save(place)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fails", ["replace", "fsync"])
def test_a_write_that_fails_leaves_the_old_checkpoint_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    path, session = tmp_path / "run", trained()
    session.save(path)
    before = path.read_bytes()
    session.step([batch_of(5)])

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, fails, full)
    with pytest.raises(CheckpointError, match="No space left"):
        session.save(path)
    assert path.read_bytes() == before
    assert [x.name for x in tmp_path.iterdir()] == ["run"]
