"""Sessions: what a checkpoint keeps, who can read it, and what is refused."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mlm_conformance.cases.training import SIZES, TrainingCase, training_recipes
from mlm_conformance.check import Context
from mlm_conformance.checks.training_common import opened, same_state
from mlm_conformance.checks.training_ready import Ready
from mlm_conformance.checks.training_updates import judged_step
from mlm_conformance.training_session import TrainingSession
from mlm_spec.errors import CheckpointError
from mlm_spec.training.session import session as reference_session

__all__ = ["READY", "broken"]


@contextmanager
def _folder() -> Iterator[Path]:
    with TemporaryDirectory(prefix="mlm-spec-") as name:
        yield Path(name)


def a_checkpoint_brings_everything_back(context: Context, case: TrainingCase) -> None:
    """To the bit: into the same session later, and into a new one."""
    with _folder() as folder, opened(context, case) as session, opened(context, case) as other:
        session.step(case.updates[0])
        session.save(folder / "one.safetensors")
        kept = session.parameters(), session.state()
        for batches in case.updates[1:]:
            session.step(batches)
        for each in (session, other):
            each.load(folder / "one.safetensors")
            same_state(context, each, kept, "after loading")
            judged_step(context, case, each, case.updates[1])
        context.saw("loaded", 2)


def a_resumed_run_is_the_uninterrupted_one(context: Context, case: TrainingCase) -> None:
    """Bit for bit, on one device, where a target says that it computes alike each time."""
    with _folder() as folder, opened(context, case) as session, opened(context, case) as other:
        session.step(case.updates[0])
        session.save(folder / "run.safetensors")
        other.load(folder / "run.safetensors")
        for batches in case.updates[1:]:
            session.step(batches)
            other.step(batches)
        same_state(context, other, (session.parameters(), session.state()), "of the resumed run")
        context.saw("resumed")


def the_relay_goes_on_from_others(context: Context, case: TrainingCase) -> None:
    """The reference's checkpoint is read here to the bit, and ours by the reference."""
    with _folder() as folder, opened(context, case) as session:
        first = _reference(case)
        first.step(case.updates[0])
        first.save(folder / "first.safetensors")
        session.load(folder / "first.safetensors")
        same_state(context, session, (first.parameters(), first.state()), "from the reference")
        judged_step(context, case, session, case.updates[1])
        session.save(folder / "second.safetensors")
        last = _reference(case)
        try:
            last.load(folder / "second.safetensors")
        except CheckpointError as error:
            context.require(False, f"the reference refuses its checkpoint: {error}")
        same_state(context, session, (last.parameters(), last.state()), "read by the reference")
        context.saw("handed on", 2)


def _reference(case: TrainingCase) -> Any:
    return reference_session(case.encoder, case.training, case.parameters, None)


def a_broken_checkpoint_is_refused(context: Context, case: TrainingCase) -> None:
    """With `CheckpointError`, and nothing of it is taken over."""
    with _folder() as folder, opened(context, case) as session:
        session.step(case.updates[0])
        session.save(folder / "good.safetensors")
        good = (folder / "good.safetensors").read_bytes()
        session.step(case.updates[1])
        before = session.parameters(), session.state()
        for name, data in broken(good):
            path = folder / "broken.safetensors"
            path.write_bytes(data)
            _refuses(context, session, path, name)
            same_state(context, session, before, f"after loading one with {name}")
            context.saw("broken files")
        _refuses(context, session, folder / "absent.safetensors", "no file")
        judged_step(context, case, session, case.updates[1])


def a_checkpoint_of_another_run_is_refused(context: Context, case: TrainingCase) -> None:
    """Of another encoder, or another plan."""
    e = {**case.encoder, "layer_norm_eps": 1e-5}
    t = {**case.training, "beta2": 0.99}
    with _folder() as folder, opened(context, case) as session:
        for other in (replace(case, encoder=e), replace(case, training=t)):
            with opened(context, other) as foreign:
                foreign.save(folder / "other.safetensors")
            before = session.parameters(), session.state()
            _refuses(context, session, folder / "other.safetensors", "another configuration")
            same_state(context, session, before, "after loading that of another run")
            context.saw("other runs")


def a_checkpoint_that_cannot_be_written_is_an_error(context: Context, case: TrainingCase) -> None:
    """The one that was there is still there, to the byte, and no other file."""
    with _folder() as folder, opened(context, case) as session:
        path = folder / "kept.safetensors"
        session.save(path)
        kept = path.read_bytes()
        answer = session.answer("save", path=str(folder / "absent" / "kept.safetensors"))
        _require_error(context, answer, "saving into a folder that is not there")
        session.step(case.updates[0])
        session.save(path)
        context.require(path.read_bytes() != kept, "a checkpoint is not replaced by the next")
        names = sorted(p.name for p in folder.iterdir())
        context.require(names == [path.name], f"beside a checkpoint lie {', '.join(names)}")
        context.saw("written", 2)


def _refuses(context: Context, session: TrainingSession, path: Path, what: str) -> None:
    _require_error(context, session.answer("load", path=str(path)), f"loading {what}")


def _require_error(context: Context, answer: Any, what: str) -> None:
    context.require(answer.raised is not None, f"{what} raised nothing")
    known = answer.raised is not None and "CheckpointError" in answer.raised.classes
    got = answer.raised.type if answer.raised is not None else ""
    context.require(known, f"{what} raised {got}, should be CheckpointError")


def broken(good: bytes) -> Iterator[tuple[str, bytes]]:
    """Files that are no checkpoints any more, by what is wrong with them."""
    (size,) = struct.unpack("<Q", good[:8])
    header, data = json.loads(good[8 : 8 + size]), good[8 + size :]
    yield "nothing in it", b""
    yield "its header cut off", good[: 8 + size // 2]
    yield "its last byte cut off", good[:-1]
    yield "a byte more", good + b"\0"
    yield "text", b"# A page of text, and no tensors.\n" * 40
    for place in (0, len(data) // 2, len(data) - 1):
        flipped = bytearray(data)
        flipped[place] ^= 1
        yield f"a bit of byte {place} flipped", good[: 8 + size] + bytes(flipped)
    meta = header["__metadata__"]
    for what, change in {
        "a newer version": {"format": "mlm-spec-checkpoint/2"},
        "another update": {"update": str(int(meta["update"]) + 1)},
        "another scale": {"loss_scale": "2.0"},
        "another position": {"position": str(int(meta["position"]) + 1)},
    }.items():
        yield what, _file({**header, "__metadata__": {**meta, **change}}, data)
    yield "no metadata", _file({n: t for n, t in header.items() if n != "__metadata__"}, data)
    yield from _without_a_tensor(header, data)


def _without_a_tensor(header: dict[str, Any], data: bytes) -> Iterator[tuple[str, bytes]]:
    """Its last tensor is gone, has another name, or another shape."""
    names = [name for name in header if name != "__metadata__"]
    last = max(names, key=lambda name: int(header[name]["data_offsets"][0]))
    rest = {name: entry for name, entry in header.items() if name != last}
    yield "a tensor missing", _file(rest, data[: header[last]["data_offsets"][0]])
    yield "an unknown tensor", _file({**rest, "parameters/other": header[last]}, data)
    shape = [1, *header[last]["shape"]]
    yield "a tensor of another shape", _file({**rest, last: {**header[last], "shape": shape}}, data)


def _file(header: dict[str, Any], data: bytes) -> bytes:
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


_RUNS = training_recipes(dropouts=("none", "hidden"), sizes=SIZES[:3], updates=3)
_ONE = (None, training_recipes(dropouts=("none",), sizes=SIZES[1:2], updates=2)[1][:2])
_LOADED = ("loaded",)

READY = (
    Ready(a_checkpoint_brings_everything_back, _RUNS, _LOADED, "save", theorem=True),
    Ready(a_resumed_run_is_the_uninterrupted_one, _RUNS, ("resumed",), "save", theorem=True),
    Ready(the_relay_goes_on_from_others, _RUNS, ("handed on",), "load"),
    Ready(a_broken_checkpoint_is_refused, _ONE, ("broken files",), "load", theorem=True),
    Ready(a_checkpoint_of_another_run_is_refused, _ONE, ("other runs",), "load", theorem=True),
    Ready(
        a_checkpoint_that_cannot_be_written_is_an_error, _ONE, ("written",), "save", theorem=True
    ),
)
