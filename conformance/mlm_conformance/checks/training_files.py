"""Sessions: what a checkpoint's file holds, read here by its bytes."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from mlm_conformance.cases.checkpoint_files import File, canonical, parsed, reordered
from mlm_conformance.cases.training import SIZES, TrainingCase, training_recipes
from mlm_conformance.check import Context, Violation
from mlm_conformance.checks.training_common import equal_names, opened, same_run
from mlm_conformance.checks.training_ready import Ready
from mlm_spec import Bernoulli, Corruption, MaskingPolicy

__all__ = ["READY", "policy_of", "read_file", "sequences_in", "tensors_are_those_of"]

_DTYPES = {"F64": "<f8", "F32": "<f4"}
_FIELDS = {"dtype", "shape", "data_offsets"}


def a_checkpoint_has_the_documented_form(context: Context, case: TrainingCase) -> None:
    """One file of tensors, and its texts, for anybody to read."""
    with TemporaryDirectory(prefix="mlm-spec-") as name, opened(context, case) as session:
        for batches in case.updates:
            session.step(batches)
        path = Path(name) / "one.safetensors"
        session.save(path)
        names = sorted(other.name for other in path.parent.iterdir())
        context.require(names == [path.name], f"a checkpoint is {', '.join(names)}, not one file")
        file, state = read_file(path.read_bytes()), session.state()
        tensors_are_those_of(context, file, session.parameters(), state)
        seen = (b for update in case.updates for b in update)
        _texts_are_right(context, case, file, {**state, "position": sum(map(sequences_in, seen))})
        context.saw("files")


def a_checkpoint_says_how_it_is_masked(context: Context, case: TrainingCase) -> None:
    """A policy is there in canonical JSON, as are the configurations; before any update."""
    policy = policy_of(case)
    with (
        TemporaryDirectory(prefix="mlm-spec-") as name,
        opened(context, case, policy) as session,
    ):
        path = Path(name) / "one.safetensors"
        session.save(path)
        file, state = read_file(path.read_bytes()), session.state()
        text = canonical(policy.to_mapping())
        _texts_are_right(context, case, file, {**state, "position": 0}, text)
        context.saw("policies")


def the_checksum_is_that_of_everything_else(context: Context, case: TrainingCase) -> None:
    """Of the texts, and of the names, dtypes, shapes and bytes of the tensors."""
    with TemporaryDirectory(prefix="mlm-spec-") as name, opened(context, case) as session:
        path = Path(name) / "one.safetensors"
        for batches in case.updates:
            session.step(batches)
            session.save(path)
            file = read_file(path.read_bytes())
            found, said = file.sealed().texts["sha256"], file.texts.get("sha256")
            context.require(said == found, f"sha256 of a checkpoint is {said}, should be {found}")
            context.saw("files")


def the_order_in_a_file_does_not_matter(context: Context, case: TrainingCase) -> None:
    """The checksum goes by name: the same tensors from last to first are the same checkpoint."""
    with TemporaryDirectory(prefix="mlm-spec-") as name, opened(context, case) as session:
        path = Path(name) / "one.safetensors"
        session.save(path)
        session.step(case.updates[0])
        session.load(path)
        kept = session.parameters(), session.state()
        session.step(case.updates[0])
        path.write_bytes(reordered(read_file(path.read_bytes())))
        session.load(path)
        same_run(context, session, kept, "from a checkpoint in another order")
        context.saw("orders")


def tensors_are_those_of(context: Context, file: File, parameters: Any, state: Any) -> None:
    """The tensors in a file are these, to the bit."""
    groups = {"parameters": parameters} | {g: state[g] for g in ("exp_avg", "exp_avg_sq")}
    wanted = {f"{g}/{n}": array for g, arrays in groups.items() for n, array in arrays.items()}
    equal_names(context, "the tensors of a checkpoint", file.entries, wanted)
    for tensor, array in wanted.items():
        entry = file.entries[tensor]
        start, end = entry["data_offsets"]
        seen = np.frombuffer(file.data[start:end], _DTYPES[entry["dtype"]]).reshape(entry["shape"])
        if seen.dtype != array.dtype:
            said = f"{tensor} in the file has dtype {seen.dtype}, should be {array.dtype}"
            raise Violation(said)
        context.equal(f"{tensor} in the file", seen, array)
        same = seen.tobytes() == np.ascontiguousarray(array).tobytes()
        context.require(same, f"{tensor} in the file has other bits of equal numbers")


def _texts_are_right(
    context: Context, case: TrainingCase, file: File, state: Mapping[str, Any], policy: str = ""
) -> None:
    wanted = {
        "format": "mlm-spec-checkpoint/1",
        "update": str(int(state["update"])),
        "loss_scale": repr(float(state["loss_scale"])),
        "position": str(int(state["position"])),
        "encoder": canonical(case.encoder),
        "training": canonical(case.training),
        "policy": policy,
    }
    equal_names(context, "the texts of a checkpoint", file.texts, {**wanted, "sha256": ""})
    for name, text in wanted.items():
        said = file.texts[name]
        context.require(said == text, f"{name} of a checkpoint is {said!r}, should be {text!r}")


def sequences_in(batch: dict[str, Any]) -> int:
    """How many a micro-batch shows; one in two rows counts twice."""
    real, ids = batch["attention_mask"], batch["sequence_id"]
    return sum(len(np.unique(ids[row][real[row]], axis=0)) for row in range(len(real)))


def policy_of(case: TrainingCase, rate: str = "1/4") -> MaskingPolicy:
    """One for the vocabulary of a case."""
    shown = Corruption("4/5", "1/10", "1/10")
    size = case.config.vocab_size
    return MaskingPolicy(Bernoulli(rate), shown, vocab_size=size, mask_id=4, special_ids=(0, 4))


def read_file(content: bytes) -> File:
    """A checkpoint in its parts.

    Raises
    ------
    Violation : it is no file of tensors.
    """
    try:
        file = parsed(content)
        ends = [entry["data_offsets"][1] for entry in file.entries.values()]
        odd = [
            name
            for name, entry in file.entries.items()
            if set(entry) != _FIELDS or entry["dtype"] not in _DTYPES
        ]
    except (ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise Violation(f"a checkpoint is no file of tensors: {error!r}") from None
    if odd or max(ends, default=0) != len(file.data):
        told = f"a checkpoint with {len(file.data)} bytes of tensors, odd: {', '.join(odd)}"
        raise Violation(told)
    return file


_RUNS = training_recipes(sizes=SIZES[:2], dropouts=("none", "hidden"), updates=2)

READY = (
    Ready(a_checkpoint_has_the_documented_form, _RUNS, ("files",), "save", theorem=True),
    Ready(a_checkpoint_says_how_it_is_masked, _RUNS, ("policies",), "save", theorem=True),
    Ready(the_checksum_is_that_of_everything_else, _RUNS, ("files",), "save", theorem=True),
    Ready(the_order_in_a_file_does_not_matter, _RUNS, ("orders",), "load", theorem=True),
)
