"""The folder of a run, and what is kept in it.

run.json                 the settings, the fingerprint of text, tokenizer and ids, the rhythm
store/                   token ids and tokenizer (`store`)
checkpoint.safetensors   the last checkpoint
metrics.jsonl            one line for each update and each evaluation; "inf" and "nan" are texts
curve.png                the same as a picture
model/                   the model, in the layout of a checkpoint of BERT
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from mlm_conformance.outcomes import BadCallError
from mlm_conformance.reports.files import is_leftover, remove_leftovers, write_atomically
from mlm_conformance.train.settings import (
    Rhythm,
    Settings,
    recorded_rhythm,
    recorded_settings,
    usual_rhythm,
)

__all__ = ["Metrics", "RefusedRun", "RunFolder", "keep_metrics", "read_metrics"]

_FORMAT = "mlm-spec-run/1"


class RefusedRun(BadCallError):
    """The backend cannot train what it is told to."""


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Where things of a run lie."""

    path: Path

    @property
    def about(self) -> Path:
        return self.path / "run.json"

    @property
    def store(self) -> Path:
        return self.path / "store"

    @property
    def checkpoint(self) -> Path:
        return self.path / "checkpoint.safetensors"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def curve(self) -> Path:
        return self.path / "curve.png"

    @property
    def model(self) -> Path:
        return self.path / "model"

    def require_free(self) -> None:
        """Refuse what a new run cannot be made in, before the work rather than after it.

        Raises
        ------
        BadCallError : there is a run in it, or something that is none of ours; or it cannot be
            made or written to.
        """
        if self.about.exists():
            raise BadCallError(
                f"{self.path} holds a run already; continue it with --resume, "
                "or name another folder with --out"
            )
        if self.path.exists() and not self.path.is_dir():
            raise BadCallError(f"--out {self.path} is a file; expected a folder, or a new name")
        self._require_room()
        foreign = [p.name for p in self.path.iterdir()] if self.path.exists() else []
        # A run that was ended while it prepared its text leaves that behind, and nothing else.
        ours = (self.store.name, self.about.name)
        foreign = [n for n in foreign if n != self.store.name and not is_leftover(n, ours)]
        if foreign:
            raise BadCallError(
                f"--out {self.path} has {min(foreign)} in it; expected an empty folder, or none"
            )

    def _require_room(self) -> None:
        """The folder takes files, or else the nearest that is there, in which it would be made."""
        nearest = next(p for p in (self.path, *self.path.absolute().parents) if p.exists())
        try:
            tempfile.TemporaryFile(dir=nearest).close()
        except OSError as error:
            what = "made" if nearest != self.path else "written to"
            raise BadCallError(
                f"--out {self.path} cannot be {what}: {nearest}: {error.strerror or error}"
            ) from None

    @contextmanager
    def begun(self) -> Iterator[None]:
        """Make the folder for a new run, and hold it.

        If the backend refuses the run before it made an update, all is as it was before.

        Raises
        ------
        BadCallError : as `require_free` and `held`.
        """
        self.require_free()
        made = [path for path in (self.path, *self.path.parents) if not path.exists()]
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = error.strerror or error
            raise BadCallError(f"--out {self.path} cannot be made: {reason}") from None
        with self.held():
            self.require_free()  # of what another process did before this one held it
            self.sweep()
            try:
                yield
            except RefusedRun:
                self._discard(made)
                raise

    def _discard(self, made: Iterable[Path]) -> None:
        """Remove a run that nothing was trained in, and the folders that were made for it."""
        trained = any(entry["kind"] == "update" for entry in read_metrics(self.metrics))
        if trained or self.checkpoint.exists():
            return
        shutil.rmtree(self.store, ignore_errors=True)
        for path in (self.about, self.metrics):
            path.unlink(missing_ok=True)
        with suppress(OSError):  # somebody else put something there meanwhile
            for path in made:
                path.rmdir()

    @contextmanager
    def held(self) -> Iterator[None]:
        """No other process trains in this folder meanwhile; a lock of the system, and no file.

        Raises
        ------
        BadCallError : one does.
        """
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise BadCallError(
                f"another process trains in {self.path}; expected one at a time"
            ) from None
        except OSError:
            pass  # a file system that locks no folders, as some networks' do
        try:
            yield
        finally:
            os.close(descriptor)

    def sweep(self) -> None:
        """Remove what was being written when an earlier process of this run was killed."""
        kept = (self.about, self.store, self.checkpoint, self.metrics, self.curve)
        remove_leftovers(self.path, [path.name for path in kept])

    def record(self, settings: Settings, fingerprint: str, rhythm: Rhythm) -> None:
        """Write down what this run is; from here on it can be resumed."""
        about = {
            "format": _FORMAT,
            "fingerprint": fingerprint,
            "settings": settings.to_mapping(),
            "every": rhythm.to_mapping(),
        }
        write_atomically(self.about, json.dumps(about, indent=2) + "\n")

    def recorded(self) -> tuple[Settings, str, Rhythm]:
        """What was written down of the run that is here.

        Earlier versions did not write down the rhythm; then it is the usual one.

        Raises
        ------
        BadCallError : there is none, or another program's.
        """
        try:
            about = json.loads(self.about.read_text(encoding="utf-8"))
            form, fingerprint = about["format"], str(about["fingerprint"])
            settings, every = about["settings"], about.get("every")
        except FileNotFoundError:
            raise BadCallError(
                f"{self.path} holds no run to resume: no {self.about.name}; a run that was ended "
                "while it prepared its text is begun again, without --resume"
            ) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadCallError(f"{self.about} is unreadable ({error}); expected a run") from None
        if form != _FORMAT:
            raise BadCallError(f"{self.about} is of format {form!r}; expected {_FORMAT!r}")
        found = recorded_settings(settings)
        rhythm = usual_rhythm(found) if every is None else recorded_rhythm(every)
        return found, fingerprint, rhythm


@dataclass(frozen=True, slots=True)
class Metrics:
    """The lines of ``metrics.jsonl``, written one by one."""

    file: TextIO

    def write(self, kind: str, update: int, **values: Any) -> None:
        self.file.write(_line({"kind": kind, "update": update, **values}))
        self.file.flush()


def _line(entry: Mapping[str, Any]) -> str:
    """JSON has no number that is not finite: it is a text, "inf" or "nan"."""
    plain = {
        name: repr(value) if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in entry.items()
    }
    return json.dumps(plain, allow_nan=False) + "\n"


def read_metrics(path: Path, until: int | None = None) -> list[Mapping[str, Any]]:
    """The lines up to an update; a last line that was cut off is none."""
    found = []
    for line in _lines(path):
        try:
            entry = json.loads(line)
        except ValueError:
            break  # the process ended while it wrote
        if until is None or entry["update"] <= until:
            found.append(entry)
    return found


def _lines(path: Path) -> Iterator[str]:
    if path.exists():
        with open(path, encoding="utf-8") as file:
            yield from file


def keep_metrics(path: Path, until: int) -> None:
    """Drop the lines beyond an update: they will be written again."""
    kept = read_metrics(path, until)
    write_atomically(path, "".join(map(_line, kept)))
