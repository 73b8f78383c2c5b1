"""Checkpoints: what comes back is what was there, and anything else is refused with its reason."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from training_cases import ENCODER, POLICY, TRAINING, same, trained

from mlm_spec.errors import CheckpointError
from mlm_spec.training.checkpoint import checksum, read_checkpoint, write_checkpoint
from mlm_spec.training.tensor_file import read_tensors, write_tensors

Change = Callable[[dict[str, np.ndarray], dict[str, str]], None]


@pytest.mark.parametrize("precision", ["float64", "float32", "bfloat16", "float16"])
def test_a_checkpoint_comes_back_to_the_bit(precision: str, tmp_path: Path) -> None:
    written = trained(precision=precision)
    write_checkpoint(tmp_path / "a", written)
    found = read_checkpoint(tmp_path / "a")
    assert same(found.state, written.state)
    for name in ("encoder", "training", "policy"):
        assert getattr(found, name) == getattr(written, name)
    assert written.state.update > 0
    assert written.state.position == 12
    write_checkpoint(tmp_path / "b", found)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_run_without_a_policy_has_none_in_its_checkpoint(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "a", replace(trained(), policy=None))
    assert read_checkpoint(tmp_path / "a").policy is None


def test_the_file_is_what_the_text_says(tmp_path: Path) -> None:
    """Read by the other implementation, the checksum made anew from the text's sentence."""
    written = trained()
    write_checkpoint(tmp_path / "a", written)
    found = safetensors.numpy.load_file(tmp_path / "a")
    with safetensors.safe_open(tmp_path / "a", "np") as file:
        metadata = dict(file.metadata())
    assert found.keys() == {
        f"{group}/{name}"
        for group in ("parameters", "exp_avg", "exp_avg_sq")
        for name in written.state.parameters
    }
    claimed = metadata.pop("sha256")
    table = [[name, "F64", list(found[name].shape)] for name in sorted(found)]
    text = json.dumps([metadata, table], sort_keys=True, separators=(",", ":"))
    content = b"".join(found[name].astype("<f8").tobytes("C") for name in sorted(found))
    assert hashlib.sha256(text.encode() + content).hexdigest() == claimed
    assert metadata["format"] == "mlm-spec-checkpoint/1"
    numbers = [metadata[n] for n in ("update", "position", "loss_scale")]
    assert numbers == ["3", "12", "1.0"]
    assert json.loads(metadata["encoder"]) == ENCODER.to_mapping()
    assert json.loads(metadata["training"]) == TRAINING.to_mapping()
    assert json.loads(metadata["policy"]) == POLICY.to_mapping()


def test_a_checkpoint_written_by_the_other_implementation_is_read(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "a", trained())
    tensors, metadata = read_tensors(tmp_path / "a")
    safetensors.numpy.save_file(tensors, tmp_path / "b", metadata=metadata)
    assert (tmp_path / "a").read_bytes() != (tmp_path / "b").read_bytes()
    assert same(read_checkpoint(tmp_path / "b").state, trained().state)


# Refusals ---------------------------------------------------------------------------------------


def resealed(path: Path, change: Change) -> None:
    """Write a checkpoint with a change that its checksum vouches for."""
    write_checkpoint(path, trained())
    tensors, metadata = read_tensors(path)
    change(tensors, metadata)
    if "sha256" in metadata:
        rest = {k: v for k, v in metadata.items() if k != "sha256"}
        metadata["sha256"] = checksum(rest, tensors)
    write_tensors(path, tensors, metadata)


def put(name: str, text: str) -> Change:
    return lambda tensors, metadata: metadata.update({name: text})


def edited(name: str, **changes: Any) -> Change:
    def change(tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> None:
        metadata[name] = json.dumps({**json.loads(metadata[name]), **changes})

    return change


def turned(tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> None:
    name = "exp_avg/bert.embeddings.word_embeddings.weight"
    tensors[name] = np.ascontiguousarray(tensors[name].T)


def narrowed(tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> None:
    name = "exp_avg_sq/cls.predictions.bias"
    tensors[name] = tensors[name].astype(np.float32)


BIAS = "parameters/cls.predictions.bias"
REFUSED: dict[str, tuple[Change, str]] = {
    "newer": (
        put("format", "mlm-spec-checkpoint/2"),
        "format is 'mlm-spec-checkpoint/2'; expected 'mlm-spec-checkpoint/1', which this version "
        "reads; a newer one wrote it",
    ),
    "another format": (put("format", "pt"), "format is 'pt'; expected 'mlm-spec-checkpoint/1', a"),
    "foreign": (lambda t, m: m.clear(), "format is 'missing'; expected 'mlm-spec-checkpoint/1', a"),
    "without a checksum": (
        lambda t, m: void(m.pop("sha256")),
        "__metadata__ is with encoder, form",
    ),
    "a key less": (lambda t, m: void(m.pop("position")), "__metadata__ is with encoder, format, l"),
    "a key more": (put("more", ""), "expected exactly encoder, format, loss_scale, policy, positi"),
    "update as text": (put("update", "three"), "update is 'three'; expected an integer from 0 on"),
    "update below 0": (put("update", "-1"), "update is '-1'; expected an integer from 0 on, in d"),
    "update 007": (put("update", "007"), "update is '007'; expected an integer from 0 on, in digi"),
    "update in Arabic": (put("update", "٣"), "expected an integer from 0 on, in digits"),
    "update of 20 digits": (put("update", "9" * 20), "expected an integer from 0 on, in digits"),
    "position as text": (put("position", "1.0"), "position is '1.0'; expected an integer from 0"),
    "no loss scale": (put("loss_scale", "x"), "loss_scale is 'x'; expected a finite number above"),
    "loss scale 0": (put("loss_scale", "0.0"), "loss_scale is '0.0'; expected a finite number ab"),
    "loss scale inf": (put("loss_scale", "inf"), "loss_scale is 'inf'; expected a finite number"),
    "loss scale nan": (put("loss_scale", "nan"), "loss_scale is 'nan'; expected a finite number"),
    "encoder not JSON": (put("encoder", "{"), "encoder is not JSON"),
    "encoder as a list": (put("encoder", "[]"), "encoder is no configuration (encoder is []; exp"),
    "encoder of no sense": (edited("encoder", hidden_size=7), "encoder.hidden_size is 7; expected"),
    "encoder with more": (edited("encoder", tied=True), "encoder is with tied; expected only"),
    "training of no sense": (edited("training", beta1=1.0), "training.beta1 is 1.0; expected"),
    "training with NaN": (put("training", '{"beta1": NaN}'), "training is with the number NaN"),
    "policy of no sense": (edited("policy", mask_id=99), "policy is no configuration (mask_id is"),
    "policy with an odd law": (
        edited("policy", selection={"law": [], "rate": 1}),
        "policy is no configuration",
    ),
    "fewer layers": (
        edited("encoder", num_hidden_layers=0),
        "exp_avg/bert.encoder.layer.0.attention.output.LayerNorm.bias is unknown, with 47 others",
    ),
    "more layers": (
        edited("encoder", num_hidden_layers=2),
        "exp_avg/bert.encoder.layer.1.attention.output.LayerNorm.bias is missing, with 47 others",
    ),
    "layers without end": (
        edited("encoder", num_hidden_layers=2**31 - 1),
        "is of 2147483647 layers, with 78 tensors; expected all tensors of all layers",
    ),
    "a larger vocabulary": (
        edited("encoder", vocab_size=18),
        "word_embeddings.weight is float64 of shape (17, 8); expected float64 of shape (18, 8)",
    ),
    "a missing tensor": (
        lambda t, m: void(t.pop(BIAS)),
        f"{BIAS} is missing; expected the tensors",
    ),
    "an unknown tensor": (
        lambda t, m: t.update(x=np.ones(1)),
        "x is unknown; expected the tensors of its configuration",
    ),
    "a turned tensor": (turned, "is float64 of shape (8, 17); expected float64 of shape (17, 8)"),
    "a narrower tensor": (narrowed, "is float32 of shape (17,); expected float64 of shape (17,)"),
    "another precision": (
        edited("training", precision="bfloat16"),
        "expected float32 of shape",
    ),
}


def void(_: object) -> None:
    """What a change returns."""


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_checkpoint_of_this_version_is_refused(kind: str, tmp_path: Path) -> None:
    change, message = REFUSED[kind]
    resealed(tmp_path / "a", change)
    with pytest.raises(CheckpointError, match=re.escape(message)) as caught:
        read_checkpoint(tmp_path / "a")
    assert caught.value.where.startswith(str(tmp_path / "a"))
    assert caught.value.got
    assert caught.value.expected


def test_a_checkpoint_that_is_only_written_anew_is_taken(tmp_path: Path) -> None:
    resealed(tmp_path / "a", lambda tensors, metadata: None)
    assert same(read_checkpoint(tmp_path / "a").state, trained().state)


CHANGED: dict[str, Change] = {
    "a text": lambda tensors, metadata: metadata.update(update="4"),
    "a configuration": edited("training", learning_rate=1e-3),
    "a value": lambda tensors, metadata: void(tensors[BIAS].put(0, 1.0)),
    "two tensors exchanged": lambda tensors, metadata: tensors.update(
        {
            BIAS: tensors["exp_avg/cls.predictions.bias"],
            "exp_avg/cls.predictions.bias": tensors[BIAS],
        }
    ),
    "the checksum": lambda tensors, metadata: metadata.update(sha256="0" * 64),
}


@pytest.mark.parametrize("kind", CHANGED)
def test_a_change_is_seen_by_the_checksum(kind: str, tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "a", trained())
    tensors, metadata = read_tensors(tmp_path / "a")
    CHANGED[kind](tensors, metadata)
    write_tensors(tmp_path / "a", tensors, metadata)
    with pytest.raises(
        CheckpointError, match=r"sha256 is [0-9a-f]{64}; expected '[0-9a-f]{64}', t"
    ):
        read_checkpoint(tmp_path / "a")


def places(data: bytes) -> list[int]:
    """Every byte of the length, many of the header, and some of each kind of tensor."""
    start = 8 + int.from_bytes(data[:8], "little")
    rng = np.random.default_rng(3)
    header, body = rng.integers(8, start, 150), rng.integers(start, len(data), 60)
    return sorted({*range(8), 8, start - 1, start, len(data) - 1, *header.tolist(), *body.tolist()})


def test_no_flipped_bit_goes_unseen(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "a", trained())
    data = (tmp_path / "a").read_bytes()
    padding = data[: 8 + int.from_bytes(data[:8], "little")].rstrip(b" ")
    rng = np.random.default_rng(4)
    seen = 0
    for place in places(data):
        flipped = bytearray(data)
        flipped[place] ^= 1 << int(rng.integers(0, 8))
        (tmp_path / "a").write_bytes(flipped)
        if len(padding) <= place < len(padding) + 8 and flipped[place] in b" \t\n\r":
            continue  # white space behind the header, which says nothing
        with pytest.raises(CheckpointError):
            read_checkpoint(tmp_path / "a")
        seen += 1
    assert seen > 200


def test_no_shorter_file_is_taken(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "a", trained())
    data = (tmp_path / "a").read_bytes()
    for length in {0, 1, 7, 8, 9, 500, len(data) // 2, len(data) - 1}:
        (tmp_path / "a").write_bytes(data[:length])
        with pytest.raises(CheckpointError):
            read_checkpoint(tmp_path / "a")
