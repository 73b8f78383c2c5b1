"""A run in one safetensors file: written whole or not at all, read only if intact (chapter CKP)."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import stat
from collections.abc import Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mlm_spec.errors import CheckpointError, InputError
from mlm_spec.policy import MaskingPolicy
from mlm_spec.training.config import EncoderConfig, TrainingConfig

__all__ = ["Checkpoint", "Configuration", "read_checkpoint", "write_checkpoint"]

_FAMILY = "mlm-spec-checkpoint/"
_FORMAT = _FAMILY + "1"
_NUMBERS = ("update", "position")
_CONFIGURATIONS = ("encoder", "training", "policy")
_KEYS = {"format", "loss_scale", "sha256", *_NUMBERS, *_CONFIGURATIONS}
_NAMES = {torch.float64: "F64", torch.float32: "F32"}


class Configuration(NamedTuple):
    """What a run is told, and what its checkpoints have to be of."""

    encoder: EncoderConfig
    training: TrainingConfig
    policy: MaskingPolicy | None

    def texts(self) -> dict[str, str]:
        """Each as canonical JSON, "" for no policy."""
        return {n: "" if x is None else _json(x.to_mapping()) for n, x in self._asdict().items()}


class Checkpoint(NamedTuple):
    """What a run consists of.

    Attributes
    ----------
    tensors : ``parameters/NAME``, ``exp_avg/NAME`` and ``exp_avg_sq/NAME``, on the host.
    update : the number of updates made.
    loss_scale : of the next one.
    position : sequences consumed so far.
    """

    tensors: dict[str, Tensor]
    update: int
    loss_scale: float
    position: int


def write_checkpoint(path: str | Path, checkpoint: Checkpoint, told: Configuration) -> None:
    """Write a checkpoint; what was at ``path`` before stays whole until the moment it is replaced.

    Raises
    ------
    CheckpointError : it cannot be written there.  What was there is intact.
    """
    where = Path(path)
    metadata = {name: str(getattr(checkpoint, name)) for name in _NUMBERS}
    metadata |= {"format": _FORMAT, "loss_scale": repr(checkpoint.loss_scale), **told.texts()}
    metadata["sha256"] = _checksum(metadata, checkpoint.tensors)
    with _file_errors(where, "a place that can be written"):
        _remove_leftovers(where)
        beside = where.with_name(f".{where.name}.{secrets.token_hex(8)}.tmp")
        try:
            mode = _create(beside)
            save_file(checkpoint.tensors, beside, metadata)
            beside.chmod(mode)  # safetensors may put a private file of its own in its place
            _put_in_order(beside)
            _flush(beside)
            os.replace(beside, where)
            _flush(where.parent)
        finally:
            beside.unlink(missing_ok=True)


def read_checkpoint(
    path: str | Path, told: Configuration, like: Mapping[str, Tensor]
) -> Checkpoint:
    """Read a checkpoint of the same run.

    Parameters
    ----------
    path : where it is.
    told : the configuration it has to have.
    like : tensors of the names, shapes and dtypes that it has to have.

    Raises
    ------
    CheckpointError : it is not there, cut off, changed, of another program, version or run.
    """
    where = Path(path)
    with _file_errors(where, "a whole safetensors file"), safe_open(where, "pt") as file:
        _check_once(where)
        metadata = _check_metadata(where, file.metadata() or {})
        _check_told(where, metadata, told)
        _check_names(where, set(file.keys()), set(like))
        tensors = {name: file.get_tensor(name) for name in sorted(like)}
    for name, tensor in tensors.items():
        got, expected = _describe(tensor), _describe(like[name])
        if got != expected:
            raise CheckpointError(f"{where}: {name}", got, expected)
    rest = {name: text for name, text in metadata.items() if name != "sha256"}
    found = _checksum(rest, tensors)
    if found != metadata["sha256"]:
        raise CheckpointError(
            f"{where}: sha256", found, f"{metadata['sha256']!r}, that of the file"
        )
    update, position = (_whole(where, name, metadata[name]) for name in _NUMBERS)
    return Checkpoint(tensors, update, _scale(where, metadata["loss_scale"]), position)


def _checksum(metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over texts, names, dtypes and shapes, then the bytes in the order of the names."""
    names = sorted(tensors)
    table = [[name, _NAMES[tensors[name].dtype], list(tensors[name].shape)] for name in names]
    digest = hashlib.sha256(_json([dict(metadata), table]).encode("ascii"))
    for name in names:
        values = tensors[name].contiguous().numpy()
        digest.update(values.astype(values.dtype.newbyteorder("<"), copy=False).reshape(-1).data)
    return digest.hexdigest()


def _check_once(where: Path) -> None:
    """No name stands in the header twice, of which safetensors would take the last.

    It has read this header already, so neither its length nor its depth is a lie.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            twice = max(names, key=names.count)
            raise CheckpointError(f"{where}: header", f"with {twice!r} twice"[:200], "a name once")
        return found

    with where.open("rb") as file:
        json.loads(file.read(int.from_bytes(file.read(8), "little")), object_pairs_hook=once)


def _check_metadata(where: Path, metadata: dict[str, str]) -> dict[str, str]:
    kind = metadata.get("format", "missing")
    if kind != _FORMAT:
        newer = (
            ", which this version reads; another one wrote it" if kind.startswith(_FAMILY) else ""
        )
        raise CheckpointError(f"{where}: format", repr(kind)[:80], f"{_FORMAT!r}{newer}")
    if metadata.keys() != _KEYS:
        got = ", ".join(sorted(metadata))[:200]
        raise CheckpointError(f"{where}: __metadata__", got, ", ".join(sorted(_KEYS)))
    return metadata


def _check_told(where: Path, metadata: Mapping[str, str], told: Configuration) -> None:
    kinds = {"encoder": EncoderConfig, "training": TrainingConfig, "policy": MaskingPolicy}
    for name, kind in kinds.items():
        ours, text = getattr(told, name), metadata[name]
        try:
            theirs = kind.from_mapping(json.loads(text)) if text or name != "policy" else None
        except (InputError, TypeError, ValueError, RecursionError) as error:
            got = f"no configuration ({error})"[:200]
            raise CheckpointError(f"{where}: {name}", got, "a valid one") from error
        if theirs != ours:
            raise CheckpointError(f"{where}: {name}", *_difference(theirs, ours))


def _difference(theirs: Any, ours: Any) -> tuple[str, str]:
    """Got and expected: the first field that differs, or the whole."""
    if theirs is None or ours is None:
        return repr(theirs)[:200], repr(ours)[:200]
    left, right = theirs.to_mapping(), ours.to_mapping()
    name = min(n for n in right if left[n] != right[n])
    return f"of {name} {left[name]!r}"[:200], f"{name} {right[name]!r}, that of this run"[:200]


def _check_names(where: Path, found: set[str], wanted: set[str]) -> None:
    for names, fault in ((wanted - found, "missing"), (found - wanted, "unknown")):
        if names:
            got = f"{fault}, and {len(names) - 1} others" if len(names) > 1 else fault
            raise CheckpointError(f"{where}: {min(names)}", got, "the tensors of its encoder")


def _describe(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} of shape {tuple(tensor.shape)}"


def _whole(where: Path, name: str, text: str) -> int:
    if not re.fullmatch(r"0|[1-9][0-9]{0,18}", text, re.ASCII):
        raise CheckpointError(f"{where}: {name}", repr(text)[:80], "digits of a number from 0 on")
    return int(text)


def _scale(where: Path, text: str) -> float:
    scale = 0.0
    with suppress(ValueError):
        scale = float(text)
    if not 0.0 < scale < float("inf"):
        raise CheckpointError(f"{where}: loss_scale", repr(text)[:80], "a finite number above 0")
    return scale


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


@contextmanager
def _file_errors(where: Path, expected: str) -> Any:
    """What the system or the format has to say, as a `CheckpointError`."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise CheckpointError(str(where), f"not usable ({error})"[:300], expected) from error


def _create(path: Path) -> int:
    """Make an empty file; the permissions that this process gives to any new one."""
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    try:
        return stat.S_IMODE(os.fstat(descriptor).st_mode)
    finally:
        os.close(descriptor)


def _put_in_order(path: Path) -> None:
    """Sort the texts of the header, which safetensors writes in a random order.

    So equal runs have equal files, byte for byte.
    """
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        file.seek(8)
        # The same content in the same form has the same length; spaces are the format's own end.
        file.write(json.dumps(header, separators=(",", ":")).encode("ascii").ljust(size))


def _remove_leftovers(where: Path) -> None:
    """What writers left that were killed."""
    shape = re.compile(re.escape(f".{where.name}.") + r"[0-9a-f]{16}\.tmp")
    for path in where.parent.iterdir():
        if shape.fullmatch(path.name):
            path.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Have the system write a file, or the entries of a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
