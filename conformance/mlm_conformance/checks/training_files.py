"""Sessions: what a checkpoint's file holds, read here by its bytes."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from mlm_conformance.cases.training import SIZES, TrainingCase, training_recipes
from mlm_conformance.check import Context, Violation
from mlm_conformance.checks.training_common import equal_names, opened
from mlm_conformance.checks.training_ready import Ready

__all__ = ["READY", "checksum", "read_file", "sequences_in"]

_DTYPES = {"F64": "<f8", "F32": "<f4"}
_FIELDS = {"dtype", "shape", "data_offsets"}


def a_checkpoint_has_the_documented_form(context: Context, case: TrainingCase) -> None:
    """One file of tensors, its metadata and its checksum, for anybody to read."""
    with TemporaryDirectory(prefix="mlm-spec-") as name, opened(context, case) as session:
        for batches in case.updates:
            session.step(batches)
        path = Path(name) / "one.safetensors"
        session.save(path)
        metadata, entries, data = read_file(path.read_bytes())
        state = session.state()
        groups = {"parameters": session.parameters()}
        groups |= {group: state[group] for group in ("exp_avg", "exp_avg_sq")}
        wanted = {f"{g}/{n}": array for g, arrays in groups.items() for n, array in arrays.items()}
        equal_names(context, "the tensors of a checkpoint", entries, wanted)
        for tensor, array in wanted.items():
            start, end = entries[tensor]["data_offsets"]
            kind, shape = _DTYPES[entries[tensor]["dtype"]], entries[tensor]["shape"]
            seen = np.frombuffer(data[start:end], kind).reshape(shape)
            context.equal(f"{tensor} in the file", seen, array)
        _metadata_is_right(context, case, metadata, state)
        found = checksum({n: t for n, t in metadata.items() if n != "sha256"}, entries, data)
        said = metadata["sha256"]
        context.require(said == found, f"sha256 of a checkpoint is {said}, should be {found}")
        context.saw("files")


def _metadata_is_right(
    context: Context, case: TrainingCase, metadata: dict[str, str], state: dict[str, Any]
) -> None:
    seen = (b for update in case.updates for b in update)
    position = sum(sequences_in(batch) for batch in seen)
    wanted = {
        "format": "mlm-spec-checkpoint/1",
        "update": str(int(state["update"])),
        "loss_scale": repr(float(state["loss_scale"])),
        "position": str(position),
        "encoder": _canonical(case.encoder),
        "training": _canonical(case.training),
        "policy": "",
    }
    equal_names(context, "the metadata of a checkpoint", metadata, {**wanted, "sha256": ""})
    for name, text in wanted.items():
        said = metadata[name]
        context.require(said == text, f"{name} of a checkpoint is {said!r}, should be {text!r}")


def sequences_in(batch: dict[str, Any]) -> int:
    """How many a micro-batch shows; one in two rows counts twice."""
    real, ids = batch["attention_mask"], batch["sequence_id"]
    return sum(len(np.unique(ids[row][real[row]], axis=0)) for row in range(len(real)))


def read_file(content: bytes) -> tuple[dict[str, str], dict[str, Any], bytes]:
    """The metadata, the entries of the tensors, and their bytes.

    Raises
    ------
    Violation : it is no file of tensors.
    """
    try:
        (size,) = struct.unpack("<Q", content[:8])
        header = json.loads(content[8 : 8 + size])
        metadata = header.pop("__metadata__")
        ends = [entry["data_offsets"][1] for entry in header.values()]
    except (ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise Violation(f"a checkpoint is no file of tensors: {error!r}") from None
    data = content[8 + size :]
    odd = [n for n, e in header.items() if set(e) != _FIELDS or e["dtype"] not in _DTYPES]
    if odd or max(ends, default=0) != len(data):
        raise Violation(f"a checkpoint with {len(data)} bytes of tensors, odd: {', '.join(odd)}")
    return metadata, header, data


def checksum(metadata: dict[str, str], entries: dict[str, Any], data: bytes) -> str:
    """SHA-256 of the canonical [metadata, [[name, dtype, shape] …]] and the bytes, by name."""
    names = sorted(entries)
    table = [[name, entries[name]["dtype"], entries[name]["shape"]] for name in names]
    digest = hashlib.sha256(_canonical([metadata, table]).encode())
    for name in names:
        start, end = entries[name]["data_offsets"]
        digest.update(data[start:end])
    return digest.hexdigest()


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


_RUNS = training_recipes(sizes=SIZES[:2], dropouts=("none", "hidden"), updates=2)

READY = (Ready(a_checkpoint_has_the_documented_form, _RUNS, ("files",), "save"),)
