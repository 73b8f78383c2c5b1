"""Sessions: a save replaces the checkpoint before it in one step, or leaves it alone."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mlm_conformance.cases.training import SIZES, TrainingCase, TrainingRecipe
from mlm_conformance.check import Context, Unmeasurable
from mlm_conformance.checks.training_common import opened, same_run
from mlm_conformance.checks.training_files import read_file
from mlm_conformance.checks.training_ready import Ready
from mlm_conformance.checks.training_refusals import require_error
from mlm_conformance.training_session import TrainingSession
from mlm_conformance.watched import Unwatchable, moments_without, watching

__all__ = ["READY"]


def a_save_leaves_the_file_before_it_alone(context: Context, case: TrainingCase) -> None:
    """Another file takes its name: under a second name, the old one keeps every byte."""
    with TemporaryDirectory(prefix="mlm-spec-") as name, opened(context, case) as session:
        path, second = Path(name) / "run.safetensors", Path(name) / "second-name"
        session.save(path)
        for batches in case.updates:
            before = path.read_bytes()
            _link(path, second)
            session.step(batches)
            session.save(path)
            context.require(second.read_bytes() == before, "a checkpoint was written over")
            read_file(path.read_bytes())
            context.require(path.read_bytes() != before, "a checkpoint was not replaced")
            second.unlink()
            context.saw("replaced")
        kept = session.parameters(), session.state()
        session.load(path)
        same_run(context, session, kept, "after loading the last save")


def _link(path: Path, second: Path) -> None:
    try:
        os.link(path, second)
    except OSError as error:
        raise Unmeasurable(f"no file has two names here ({error.strerror})") from None


def no_moment_is_without_a_checkpoint(context: Context, case: TrainingCase) -> None:
    """Of all that happens to the name, nothing but that another file takes it in one step."""
    with TemporaryDirectory(prefix="mlm-spec-") as name, opened(context, case) as session:
        path = Path(name) / "run.safetensors"
        session.save(path)
        try:
            with watching(path.parent) as happened:
                for batches in case.updates:
                    session.step(batches)
                    happened()
                    session.save(path)
                    found = moments_without(path.name, happened())
                    said = f"while it was saved over, a checkpoint was {', then '.join(found)}"
                    context.require(not found, said)
                    context.saw("watched saves")
        except Unwatchable as error:
            raise Unmeasurable(str(error)) from None


def a_checkpoint_that_cannot_be_written_is_an_error(context: Context, case: TrainingCase) -> None:
    """What was there is still there, to the byte, and nothing else; and so is the run."""
    with TemporaryDirectory(prefix="mlm-spec-") as name, opened(context, case) as session:
        path, full = Path(name) / "kept.safetensors", Path(name) / "folder"
        session.save(path)
        full.mkdir()
        (full / "something").write_bytes(b"in it")
        session.step(case.updates[0])
        for place, what in {
            Path(name) / "absent" / path.name: "into a folder that is not there",
            path / path.name: "into a file as if it were a folder",
            full: "in the place of a folder",
            Path(name) / ("n" * 300): "under a name that is too long",
        }.items():
            _fails(context, session, place, Path(name), f"saving {what}")
        _saved_after_all(context, session, path)


def a_disk_that_is_full_is_an_error(context: Context, case: TrainingCase) -> None:
    """As above, where half of the bytes find room."""
    with TemporaryDirectory(prefix="mlm-spec-") as name, opened(context, case) as session:
        path = Path(name) / "kept.safetensors"
        session.save(path)
        session.step(case.updates[0])
        with _room_for(context.target.pid, len(path.read_bytes()) // 2):
            _fails(context, session, path, Path(name), "saving where half of it has room")
        _saved_after_all(context, session, path)


@contextmanager
def _room_for(process: int | None, size: int) -> Iterator[None]:
    """No file of the process may be longer (Linux).  Where it tries, `write` is an error."""
    if process is None or not hasattr(resource, "prlimit"):
        raise Unmeasurable("the files of the target's process cannot be kept short from outside")
    kind = resource.RLIMIT_FSIZE
    usual = resource.prlimit(process, kind)
    resource.prlimit(process, kind, (size, usual[1]))
    try:
        yield
    finally:
        resource.prlimit(process, kind, usual)


def _fails(
    context: Context, session: TrainingSession, place: Path, folder: Path, what: str
) -> None:
    files, before = _contents(folder), (session.parameters(), session.state())
    require_error(context, session.answer("save", path=str(place)), what)
    now = _contents(folder)
    more, less = sorted(now.keys() - files.keys()), sorted(files.keys() - now.keys())
    context.require(not more, f"{what} left {', '.join(more)}")
    context.require(not less, f"{what} removed {', '.join(less)}")
    changed = sorted(n for n in now if now[n] != files[n])
    context.require(not changed, f"{what} changed {', '.join(changed)}")
    same_run(context, session, before, f"after {what}")
    context.saw("failed saves")


def _saved_after_all(context: Context, session: TrainingSession, path: Path) -> None:
    kept = session.parameters(), session.state()
    session.save(path)
    session.load(path)
    same_run(context, session, kept, "saved in the end")


def _contents(folder: Path) -> dict[str, Any]:
    """The bytes of all files, and None for each folder."""
    return {
        str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None
        for p in folder.rglob("*")
    }


_ONE = (None, (TrainingRecipe(SIZES[1], "packed", "one", "none", 1, updates=2),))
_FAILED = ("failed saves",)

READY = (
    Ready(a_save_leaves_the_file_before_it_alone, _ONE, ("replaced",), "save", theorem=True),
    Ready(no_moment_is_without_a_checkpoint, _ONE, ("watched saves",), "save", theorem=True),
    Ready(a_checkpoint_that_cannot_be_written_is_an_error, _ONE, _FAILED, "save", theorem=True),
    Ready(a_disk_that_is_full_is_an_error, _ONE, _FAILED, "save", theorem=True),
)
