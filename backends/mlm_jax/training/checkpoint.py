"""Checkpoints: one safetensors file that is whole, or is refused (chapter CKP).

A checkpoint is plain data: names, arrays, text.  It is written beside its place and moved there
when it is on the disk, so a crash leaves the older one; it carries a checksum of all of it, so one
that is damaged is never loaded.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from mlm_spec.errors import CheckpointError

__all__ = ["GROUPS", "Checkpoint", "canonical", "read_checkpoint", "write_checkpoint"]

GROUPS = ("parameters", "exp_avg", "exp_avg_sq")
_FORMAT = "mlm-spec-checkpoint/1"
_FIELDS = ("update", "loss_scale", "position", "encoder", "training", "policy")
_CODES = {"float64": "F64", "float32": "F32"}

Array = np.ndarray


class Checkpoint(NamedTuple):
    """What a checkpoint holds.

    Attributes
    ----------
    tensors : for each of `GROUPS`, arrays float64 or float32 by name.
    update : n, the number of the last update that was made.
    loss_scale : 1.0 but for float16.
    position : how many sequences have been consumed.
    encoder, training, policy : canonical JSON of the configurations; policy "" for none.
    """

    tensors: dict[str, dict[str, Array]]
    update: int
    loss_scale: float
    position: int
    encoder: str
    training: str
    policy: str


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: one text for equal values."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def write_checkpoint(path: str | os.PathLike[str], checkpoint: Checkpoint) -> None:
    """Write a checkpoint, all of it or nothing.

    Raises
    ------
    CheckpointError : it cannot be written; what was at ``path`` is still there.
    """
    place = Path(path)
    arrays = {
        f"{group}/{name}": np.ascontiguousarray(array)
        for group, named in checkpoint.tensors.items()
        for name, array in named.items()
    }
    metadata = _metadata(checkpoint)
    metadata["sha256"] = _checksum(metadata, arrays)
    temporary = place.with_name(f".{place.name}.{secrets.token_hex(8)}.tmp")
    try:
        _remove_leftovers(place)
        _write(temporary, save(arrays, metadata))
        os.replace(temporary, place)
        _flush_folder(place.parent)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        got = f"not writable ({error.strerror or error})"
        raise CheckpointError(str(place), got, "a place for a checkpoint") from error


def read_checkpoint(
    path: str | os.PathLike[str], wanted: Mapping[str, tuple[int, ...]], dtype: Any
) -> Checkpoint:
    """Read a checkpoint, all of it or nothing.

    Parameters
    ----------
    path : the file.
    wanted : the shape of each parameter, by name.
    dtype : float64 or float32, of all tensors.

    Raises
    ------
    CheckpointError : no such file, another kind of file, a newer format, a checksum that is not
        that of the contents, or other tensors than those of ``wanted``.
    """
    place = str(path)
    metadata, arrays = _opened(place)
    _check_format(place, metadata)
    _check_tensors(place, arrays, wanted, np.dtype(dtype))
    checksum = _checksum({n: v for n, v in metadata.items() if n != "sha256"}, arrays)
    if checksum != metadata["sha256"]:
        raise CheckpointError(f"{place}: sha256", metadata["sha256"], checksum)
    tensors = {g: {name: arrays[f"{g}/{name}"] for name in wanted} for g in GROUPS}
    update = _count(place, metadata, "update", np.iinfo(np.int32).max)
    position = _count(place, metadata, "position", np.iinfo(np.int64).max)
    texts = (metadata[field] for field in _FIELDS[3:])
    return Checkpoint(tensors, update, _scale(place, metadata), position, *texts)


def _metadata(checkpoint: Checkpoint) -> dict[str, str]:
    return {
        "format": _FORMAT,
        "update": str(checkpoint.update),
        "loss_scale": repr(checkpoint.loss_scale),
        "position": str(checkpoint.position),
        "encoder": checkpoint.encoder,
        "training": checkpoint.training,
        "policy": checkpoint.policy,
    }


def _checksum(metadata: Mapping[str, str], arrays: Mapping[str, Array]) -> str:
    """SHA-256 of what the file says of itself, then of the tensors' bytes in order of name."""
    names = sorted(arrays)
    kinds = [[n, _CODES[arrays[n].dtype.name], list(arrays[n].shape)] for n in names]
    digest = hashlib.sha256(canonical([dict(metadata), kinds]).encode("ascii"))
    for name in names:
        array = np.ascontiguousarray(arrays[name])
        digest.update(array.astype(array.dtype.newbyteorder("<"), copy=False).data)
    return digest.hexdigest()


def _opened(place: str) -> tuple[dict[str, str], dict[str, Array]]:
    try:
        with safe_open(place, framework="numpy") as file:
            _refuse_repetitions(place)
            names = list(file.keys())
            return dict(file.metadata() or {}), {name: file.get_tensor(name) for name in names}
    except OSError as error:
        got = f"not readable ({error.strerror or error})"
        raise CheckpointError(place, got, "a checkpoint") from error
    except (SafetensorError, TypeError, ValueError, AttributeError, KeyError) as error:
        got = f"no whole safetensors file ({error})"
        raise CheckpointError(place, got, "a checkpoint") from error


def _refuse_repetitions(place: str) -> None:
    """Safetensors, which has found the header to be one, takes the last of two equal names."""

    def unrepeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names: set[str] = set()
        for name, _ in pairs:
            if name in names:
                raise CheckpointError(f"{place}: header", f"{name!r} twice", "each name once")
            names.add(name)
        return dict(pairs)

    with open(place, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        json.loads(file.read(length), object_pairs_hook=unrepeated)


def _check_format(place: str, metadata: Mapping[str, str]) -> None:
    found = metadata.get("format")
    if found != _FORMAT:
        got = "missing" if found is None else repr(found)
        raise CheckpointError(f"{place}: format", got, repr(_FORMAT))
    wanted = {"format", "sha256", *_FIELDS}
    if set(metadata) != wanted:
        got = f"with the fields {', '.join(sorted(metadata))}"
        raise CheckpointError(f"{place}: metadata", got, ", ".join(sorted(wanted)))


def _check_tensors(
    place: str,
    arrays: Mapping[str, Array],
    shapes: Mapping[str, tuple[int, ...]],
    dtype: np.dtype[Any],
) -> None:
    wanted = {f"{group}/{name}": shape for group in GROUPS for name, shape in shapes.items()}
    for name in sorted(wanted.keys() ^ arrays.keys()):
        got = "missing" if name in wanted else "there"
        expected = "there" if name in wanted else "no tensor that the encoder does not have"
        raise CheckpointError(f"{place}: {name}", got, expected)
    for name, array in arrays.items():
        if array.shape != wanted[name]:
            raise CheckpointError(f"{place}: {name}", f"of shape {array.shape}", str(wanted[name]))
        if array.dtype != dtype:
            raise CheckpointError(f"{place}: {name}", f"of {array.dtype.name}", dtype.name)


def _count(place: str, metadata: Mapping[str, str], field: str, most: int) -> int:
    text = metadata[field]
    digits = len(str(most))
    if re.fullmatch(rf"0|[1-9][0-9]{{0,{digits - 1}}}", text) and int(text) <= most:
        return int(text)
    raise CheckpointError(f"{place}: {field}", repr(text)[:80], f"digits of a number up to {most}")


def _scale(place: str, metadata: Mapping[str, str]) -> float:
    text = metadata["loss_scale"]
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?(e[+-]?[0-9]+)?", text) and 0.0 < float(text) < np.inf:
        return float(text)
    raise CheckpointError(f"{place}: loss_scale", repr(text)[:80], "a finite number above 0")


def _write(path: Path, contents: bytes) -> None:
    with open(path, "xb") as file:
        file.write(contents)
        file.flush()
        os.fsync(file.fileno())


def _remove_leftovers(place: Path) -> None:
    """What writers that were killed left beside the place."""
    shape = re.compile(rf"\.{re.escape(place.name)}\.[0-9a-f]{{16}}\.tmp")
    for path in place.parent.iterdir():
        if shape.fullmatch(path.name):
            path.unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    """The new name is on the disk as well."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
