"""Checkpoints: all that a run needs to go on, in one file (chapter CKP).

The file is a safetensors file; `mlm_spec.training.tensor_file` reads and writes the format.  What
it holds here is said by its "__metadata__" and guarded by a checksum over everything.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from mlm_spec.errors import CheckpointError, InputError
from mlm_spec.policy import MaskingPolicy
from mlm_spec.training.config import EncoderConfig, TrainingConfig
from mlm_spec.training.parameters import shapes
from mlm_spec.training.precision import kept_dtype
from mlm_spec.training.state import TrainingState
from mlm_spec.training.tensor_file import (
    DTYPE_NAMES,
    little_endian,
    read_tensors,
    strict_json,
    write_tensors,
)

__all__ = ["Checkpoint", "checksum", "read_checkpoint", "write_checkpoint"]

Path = str | os.PathLike[str]

_FORMAT = "mlm-spec-checkpoint/1"
_KEYS = ("encoder", "format", "loss_scale", "policy", "position", "sha256", "training", "update")
_GROUPS = ("parameters", "exp_avg", "exp_avg_sq")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A state, and the configurations it belongs to.

    Attributes
    ----------
    state : parameters, moments, the number of updates, the loss scale and the position.
    encoder, training : the configurations.
    policy : how tokens are masked inside the update; None where batches come masked.
    """

    state: TrainingState
    encoder: EncoderConfig
    training: TrainingConfig
    policy: MaskingPolicy | None = None


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, whole or not at all (MLM-CKP-1 … 4).

    Parameters
    ----------
    path : in a folder that exists; what is there is replaced in one step.
    checkpoint : what to write.

    Raises
    ------
    CheckpointError : it cannot be written; what was there is intact.

    Source: chapter CKP.  Bound: exact; the same checkpoint gives the same bytes.
    """
    state, policy = checkpoint.state, checkpoint.policy
    tensors = {f"{g}/{n}": t for g in _GROUPS for n, t in getattr(state, g).items()}
    metadata = {
        "format": _FORMAT,
        "update": str(state.update),
        "loss_scale": repr(float(state.loss_scale)),
        "position": str(state.position),
        "encoder": _canonical(checkpoint.encoder.to_mapping()),
        "training": _canonical(checkpoint.training.to_mapping()),
        "policy": "" if policy is None else _canonical(policy.to_mapping()),
    }
    metadata["sha256"] = checksum(metadata, tensors)
    write_tensors(path, tensors, metadata)


def read_checkpoint(path: Path) -> Checkpoint:
    """What `write_checkpoint` wrote, to the bit; anything else is refused (MLM-CKP-5, 6).

    Parameters
    ----------
    path : of a checkpoint.

    Raises
    ------
    CheckpointError : cut off, changed, of a newer version or another program, or with tensors that
        its configurations do not have.

    Source: chapter CKP.  Bound: exact.
    """
    tensors, metadata = read_tensors(path)
    name = str(os.fspath(path))
    _check_kind(name, metadata)
    encoder = _configuration(f"{name}: encoder", EncoderConfig, metadata["encoder"])
    training = _configuration(f"{name}: training", TrainingConfig, metadata["training"])
    policy = metadata["policy"] and _configuration(
        f"{name}: policy", MaskingPolicy, metadata["policy"]
    )
    _check_tensors(name, tensors, encoder, training)
    found = checksum({k: v for k, v in metadata.items() if k != "sha256"}, tensors)
    if found != metadata["sha256"]:
        raise CheckpointError(f"{name}: sha256", found, f"{metadata['sha256']!r}, that of the file")
    groups = {g: {n: tensors[f"{g}/{n}"] for n in shapes(encoder)} for g in _GROUPS}
    state = TrainingState(
        parameters=groups["parameters"],
        exp_avg=groups["exp_avg"],
        exp_avg_sq=groups["exp_avg_sq"],
        update=_natural(f"{name}: update", metadata["update"]),
        loss_scale=_scale(f"{name}: loss_scale", metadata["loss_scale"]),
        position=_natural(f"{name}: position", metadata["position"]),
    )
    return Checkpoint(state, encoder, training, policy or None)


def checksum(metadata: Mapping[str, str], tensors: Mapping[str, NDArray[Any]]) -> str:
    """SHA-256 of all a checkpoint says: texts, names, dtypes, shapes and bytes (MLM-CKP-3).

    Parameters
    ----------
    metadata : the texts, without the checksum.
    tensors : float64 or float32 arrays by name.

    Returns
    -------
    64 hexadecimal digits.

    Source: chapter CKP.  Bound: exact.

    >>> checksum({}, {})[:16]
    'd9bd7dcf2e1d5ba0'
    """
    names = sorted(tensors)
    table = [[n, DTYPE_NAMES[tensors[n].dtype.name], list(tensors[n].shape)] for n in names]
    digest = hashlib.sha256(_canonical([dict(metadata), table]).encode("ascii"))
    for name in names:
        digest.update(little_endian(tensors[name]))
    return digest.hexdigest()


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _check_kind(name: str, metadata: Mapping[str, str]) -> None:
    kind = metadata.get("format", "missing")
    if kind != _FORMAT:
        newer = kind.startswith(_FORMAT.rpartition("/")[0] + "/")
        who = "which this version reads; a newer one wrote it" if newer else "a checkpoint"
        raise CheckpointError(f"{name}: format", repr(kind)[:80], f"{_FORMAT!r}, {who}")
    if sorted(metadata) != list(_KEYS):
        got = "with " + ", ".join(sorted(metadata))[:200]
        raise CheckpointError(f"{name}: __metadata__", got, "exactly " + ", ".join(_KEYS))


def _configuration(where: str, kind: Any, text: str) -> Any:
    try:
        return kind.from_mapping(strict_json(where, text))
    except (InputError, TypeError) as error:
        raise CheckpointError(where, f"no configuration ({error})"[:300], "a valid one") from error


def _check_tensors(
    name: str,
    tensors: Mapping[str, NDArray[Any]],
    encoder: EncoderConfig,
    training: TrainingConfig,
) -> None:
    """The tensors are those that the configurations have, no more and no fewer."""
    if encoder.num_hidden_layers > len(tensors):  # before a name is made for each of them
        got = f"of {encoder.num_hidden_layers} layers, with {len(tensors)} tensors"
        raise CheckpointError(name, got, "all tensors of all layers")
    wanted = {f"{group}/{n}": shape for group in _GROUPS for n, shape in shapes(encoder).items()}
    for names, fault in ((wanted.keys() - tensors.keys(), "missing"),
                         (tensors.keys() - wanted.keys(), "unknown")):  # fmt: skip
        if names:
            more = f", with {len(names) - 1} others" if len(names) > 1 else ""
            got = f"{fault}{more}"
            raise CheckpointError(f"{name}: {min(names)}", got, "the tensors of its configuration")
    dtype = kept_dtype(training.precision)
    for tensor, shape in wanted.items():
        found = tensors[tensor]
        if found.shape != tuple(shape) or found.dtype != dtype:
            got = f"{found.dtype} of shape {found.shape}"
            raise CheckpointError(f"{name}: {tensor}", got, f"{dtype} of shape {tuple(shape)}")


def _natural(where: str, text: str) -> int:
    if not re.fullmatch(r"0|[1-9][0-9]{0,18}", text, re.ASCII):
        raise CheckpointError(where, repr(text)[:80], "an integer from 0 on, in digits")
    return int(text)


def _scale(where: str, text: str) -> float:
    try:
        scale = float(text)
    except ValueError:
        scale = math.nan
    if not 0.0 < scale < math.inf:
        raise CheckpointError(where, repr(text)[:80], "a finite number above 0")
    return scale
