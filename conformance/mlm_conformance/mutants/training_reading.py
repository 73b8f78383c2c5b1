"""Trainers that load what is no checkpoint of theirs, or believe what it says of itself."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from mlm_conformance.mutants.trainer import Parts, wrong
from mlm_spec.errors import CheckpointError
from mlm_spec.training import checkpoint as files
from mlm_spec.training.checkpoint import Checkpoint
from mlm_spec.training.state import TrainingState
from mlm_spec.training.tensor_file import DTYPE_NAMES, little_endian, read_tensors, write_tensors

__all__ = [
    "a_missing_tensor_keeps_its_values",
    "a_newer_version_is_read",
    "claims_are_allocated",
    "names_may_come_twice",
    "pickles_are_read",
    "policies_are_not_compared",
    "seeds_are_not_compared",
    "tensors_of_any_dtype_are_read",
    "texts_are_evaluated",
    "the_checksum_goes_in_the_order_of_the_file",
    "the_length_of_the_header_is_believed",
    "unknown_tensors_are_skipped",
]

_ELSE = "a_checkpoint_of_something_else_is_refused"
_BELIEVED = "nothing_that_a_file_claims_is_believed"
_MOST = 2**28  # bytes that a mutant takes at most, whatever a file claims


@wrong("MLM-CKP-3", "the_order_in_a_file_does_not_matter")
def the_checksum_goes_in_the_order_of_the_file(parts: Parts) -> Parts:
    """The checksum of what is read goes from the first tensor to the last."""

    def load(session: Any, path: str, checkpoint: Checkpoint) -> TrainingState:
        tensors, metadata = read_tensors(path)
        said = metadata.pop("sha256", "")
        kinds = [[n, DTYPE_NAMES[x.dtype.name], list(x.shape)] for n, x in tensors.items()]
        text = json.dumps([metadata, kinds], sort_keys=True, separators=(",", ":"))
        digest = hashlib.sha256(text.encode())
        for tensor in tensors.values():
            digest.update(little_endian(tensor))
        if digest.hexdigest() != said:
            raise CheckpointError(f"{path}: sha256", digest.hexdigest(), said)
        return parts.load(session, path, checkpoint)

    return replace(parts, load=load)


def _reading(parts: Parts, change: Callable[[Any, Any, Checkpoint], None]) -> Parts:
    """Of a file that is whole, something is changed before it is looked at."""

    def load(session: Any, path: str, checkpoint: Checkpoint) -> TrainingState:
        tensors, metadata = read_tensors(path)
        said = metadata.pop("sha256", "")
        if files.checksum(metadata, tensors) != said:
            return parts.load(session, path, checkpoint)
        change(tensors, metadata, checkpoint)
        metadata["sha256"] = files.checksum(metadata, tensors)
        with TemporaryDirectory(prefix="mlm-spec-") as folder:
            other = f"{folder}/changed.safetensors"
            write_tensors(other, tensors, metadata)
            return parts.load(session, other, checkpoint)

    return replace(parts, load=load)


def _names(checkpoint: Checkpoint) -> dict[str, Any]:
    """The tensors that a checkpoint of the session has."""
    groups = ("parameters", "exp_avg", "exp_avg_sq")
    return {f"{g}/{n}": x for g in groups for n, x in getattr(checkpoint.state, g).items()}


@wrong("MLM-CKP-7", _ELSE)
def a_newer_version_is_read(parts: Parts) -> Parts:
    """Any version of the format is taken for this one."""

    def change(tensors: Any, metadata: Any, checkpoint: Checkpoint) -> None:
        if metadata.get("format", "").startswith("mlm-spec-checkpoint/"):
            metadata["format"] = "mlm-spec-checkpoint/1"

    return _reading(parts, change)


@wrong("MLM-CKP-7", _ELSE)
def unknown_tensors_are_skipped(parts: Parts) -> Parts:
    """Tensors whose names are unknown are not looked at."""

    def change(tensors: Any, metadata: Any, checkpoint: Checkpoint) -> None:
        for name in tensors.keys() - _names(checkpoint).keys():
            del tensors[name]

    return _reading(parts, change)


@wrong("MLM-CKP-7", _ELSE)
def a_missing_tensor_keeps_its_values(parts: Parts) -> Parts:
    """What is not in a file stays what it is."""

    def change(tensors: Any, metadata: Any, checkpoint: Checkpoint) -> None:
        tensors.update({n: x for n, x in _names(checkpoint).items() if n not in tensors})

    return _reading(parts, change)


@wrong("MLM-CKP-7", _ELSE)
def tensors_of_any_dtype_are_read(parts: Parts) -> Parts:
    """Tensors in float32 are made float64."""

    def change(tensors: Any, metadata: Any, checkpoint: Checkpoint) -> None:
        wanted = _names(checkpoint)
        tensors.update({n: x.astype(wanted[n].dtype) for n, x in tensors.items() if n in wanted})

    return _reading(parts, change)


@wrong("MLM-CKP-7", "a_checkpoint_of_another_run_is_refused")
def seeds_are_not_compared(parts: Parts) -> Parts:
    """A run goes on from a checkpoint of another seed."""

    def change(tensors: Any, metadata: Any, checkpoint: Checkpoint) -> None:
        with suppress(ValueError):  # what is no JSON is refused as it is
            told = {**json.loads(metadata["training"]), "seed": checkpoint.training.seed}
            metadata["training"] = json.dumps(told, sort_keys=True, separators=(",", ":"))

    return _reading(parts, change)


@wrong("MLM-CKP-7", "a_checkpoint_of_another_policy_is_refused")
def policies_are_not_compared(parts: Parts) -> Parts:
    """A run goes on from a checkpoint that was masked in another way."""

    def change(tensors: Any, metadata: Any, checkpoint: Checkpoint) -> None:
        own = checkpoint.policy
        text = "" if own is None else json.dumps(own.to_mapping(), sort_keys=True)
        metadata["policy"] = text

    return _reading(parts, change)


@wrong("MLM-CKP-8", _BELIEVED)
def names_may_come_twice(parts: Parts) -> Parts:
    """Of two equal names in a header the last one counts."""

    def load(session: Any, path: str, checkpoint: Checkpoint) -> TrainingState:
        try:
            return parts.load(session, path, checkpoint)
        except CheckpointError:
            with TemporaryDirectory(prefix="mlm-spec-") as folder:
                other = Path(folder) / "once.safetensors"
                try:
                    _once(Path(path), other)
                except (OSError, ValueError, RecursionError):
                    other = Path(path)
                return parts.load(session, str(other), checkpoint)

    return replace(parts, load=load)


def _once(path: Path, other: Path) -> None:
    """The same file with each name once."""
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    text = json.dumps(json.loads(content[8 : 8 + size]), separators=(",", ":")).encode()
    other.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + size :])


@wrong("MLM-CKP-8", _BELIEVED, raises="MemoryError")
def the_length_of_the_header_is_believed(parts: Parts) -> Parts:
    """Where a header begins, room is made for as much of it as there is said to be."""

    def load(session: Any, path: str, checkpoint: Checkpoint) -> TrainingState:
        start = Path(path).read_bytes()[:9] if Path(path).is_file() else b""
        if start.endswith(b"{"):
            bytearray(min(int.from_bytes(start[:8], "little"), 2**62))
        return parts.load(session, path, checkpoint)

    return replace(parts, load=load)


@wrong("MLM-CKP-8", "a_file_takes_no_more_memory_than_it_has")
def claims_are_allocated(parts: Parts) -> Parts:
    """Room is made, and cleared, for every tensor that the header speaks of."""

    def load(session: Any, path: str, checkpoint: Checkpoint) -> TrainingState:
        with contextlib.suppress(OSError, ValueError, RecursionError, TypeError, KeyError):
            content = Path(path).read_bytes()
            header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
            header.pop("__metadata__")
            claims = [int(entry["data_offsets"][1]) for entry in header.values()]
            room = [np.ones(min(max(claims), _MOST), np.uint8)]
            del room
        return parts.load(session, path, checkpoint)

    return replace(parts, load=load)


_PICKLED_CALL = re.compile(rb"cio\nopen\n\(V([^\n]*)\nVw\ntR\.")
_WRITTEN_CALL = re.compile(r"open\('([^']*)', 'w'\)")


@wrong("MLM-CKP-8", "nothing_in_a_file_is_executed")
def pickles_are_read(parts: Parts) -> Parts:
    """What is no file of tensors may be a pickle of former times, which is run."""

    # The one call that is looked for is made by hand: nothing in this project runs data.
    def load(session: Any, path: str, checkpoint: Checkpoint) -> TrainingState:
        try:
            return parts.load(session, path, checkpoint)
        except CheckpointError:
            found = (
                _PICKLED_CALL.fullmatch(Path(path).read_bytes()) if os.path.isfile(path) else None
            )
            if found is not None:
                Path(os.fsdecode(found[1])).touch()
            raise

    return replace(parts, load=load)


@wrong("MLM-CKP-8", "nothing_in_a_file_is_executed")
def texts_are_evaluated(parts: Parts) -> Parts:
    """Numbers in the texts are read as Python reads them; the one call by hand, as above."""

    def load(session: Any, path: str, checkpoint: Checkpoint) -> TrainingState:
        _, metadata = read_tensors(path)
        found = _WRITTEN_CALL.fullmatch(metadata.get("update", ""))
        if found is not None:
            Path(found[1]).touch()
        return parts.load(session, path, checkpoint)

    return replace(parts, load=load)
