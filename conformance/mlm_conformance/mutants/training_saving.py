"""Trainers whose saves are not whole at every moment, or go wrong where they fail."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from mlm_conformance.mutants.trainer import Parts, wrong
from mlm_spec.errors import CheckpointError
from mlm_spec.training.checkpoint import Checkpoint

__all__ = [
    "a_checkpoint_is_moved_away_first",
    "a_checkpoint_is_removed_before_it_is_written",
    "a_checkpoint_is_written_over",
    "a_failed_save_forgets_the_moments",
    "a_failed_save_is_an_error_of_the_system",
    "a_failed_save_leaves_a_file",
    "a_failed_save_says_nothing",
    "a_full_disk_costs_the_checkpoint",
    "a_full_disk_leaves_half_a_file",
    "a_save_leaves_its_temporary_file",
    "checkpoints_are_never_replaced",
    "the_last_byte_follows_the_name",
]

_ALONE, _MOMENT = "a_save_leaves_the_file_before_it_alone", "no_moment_is_without_a_checkpoint"
_FAILS, _FULL = "a_checkpoint_that_cannot_be_written_is_an_error", "a_disk_that_is_full_is_an_error"


@wrong("MLM-CKP-2", "a_checkpoint_has_the_documented_form")
def a_save_leaves_its_temporary_file(parts: Parts) -> Parts:
    """Beside each checkpoint lies the file that it was before."""

    def save(session: Any, path: str, checkpoint: Checkpoint) -> None:
        parts.save(session, path, checkpoint)
        Path(f"{path}.part").write_bytes(b"")

    return replace(parts, save=save)


@wrong("MLM-CKP-4", _ALONE)
def checkpoints_are_never_replaced(parts: Parts) -> Parts:
    """Where a checkpoint lies already, nothing is written."""

    def save(session: Any, path: str, checkpoint: Checkpoint) -> None:
        if not Path(path).exists():
            parts.save(session, path, checkpoint)

    return replace(parts, save=save)


@wrong("MLM-CKP-4", _ALONE)
def a_checkpoint_is_written_over(parts: Parts) -> Parts:
    """The file that is there is opened, emptied and written anew."""

    def save(session: Any, path: str, checkpoint: Checkpoint) -> None:
        beside = Path(f"{path}.new")
        parts.save(session, str(beside), checkpoint)
        try:
            Path(path).write_bytes(beside.read_bytes())
        except OSError as error:
            raise CheckpointError(path, str(error), "a file that can be written") from error
        finally:
            beside.unlink()

    return replace(parts, save=save)


def _before(parts: Parts, how: Callable[[Path], None], after: Callable[[Path], None]) -> Parts:
    """Something happens to the file that is there before a save, and after it."""

    def save(session: Any, path: str, checkpoint: Checkpoint) -> None:
        if os.path.isfile(path):  # and not Path's, to which a name may be too long
            how(Path(path))
        parts.save(session, path, checkpoint)
        after(Path(path))

    return replace(parts, save=save)


@wrong("MLM-CKP-4", _MOMENT)
def a_checkpoint_is_removed_before_it_is_written(parts: Parts) -> Parts:
    """Room is made for the new checkpoint first."""
    return _before(parts, Path.unlink, lambda path: None)


@wrong("MLM-CKP-4", _MOMENT)
def a_checkpoint_is_moved_away_first(parts: Parts) -> Parts:
    """The old checkpoint has another name until the new one is there."""

    def away(path: Path) -> None:
        os.replace(path, f"{path}.old")

    return _before(parts, away, lambda path: Path(f"{path}.old").unlink(missing_ok=True))


@wrong("MLM-CKP-4", _MOMENT)
def the_last_byte_follows_the_name(parts: Parts) -> Parts:
    """A checkpoint has its name before it has all of its contents."""

    def finish(path: Path) -> None:
        with path.open("r+b") as file:
            file.seek(-1, os.SEEK_END)
            last = file.read(1)
            file.seek(-1, os.SEEK_END)
            file.write(last)

    return _before(parts, lambda path: None, finish)


def _failing(parts: Parts, then: Callable[[str, Checkpoint, CheckpointError], None]) -> Parts:
    """A save that fails does something more."""

    def save(session: Any, path: str, checkpoint: Checkpoint) -> None:
        try:
            parts.save(session, path, checkpoint)
        except CheckpointError as error:
            then(path, checkpoint, error)
            raise

    return replace(parts, save=save)


@wrong("MLM-CKP-5", _FAILS)
def a_failed_save_says_nothing(parts: Parts) -> Parts:
    """A checkpoint that cannot be written is no error."""

    def save(*given: Any) -> None:
        try:
            parts.save(*given)
        except CheckpointError:
            return

    return replace(parts, save=save)


@wrong("MLM-CKP-5", _FAILS, raises="FileNotFoundError")
def a_failed_save_is_an_error_of_the_system(parts: Parts) -> Parts:
    """What the system says is passed on as it is."""

    def then(path: str, checkpoint: Checkpoint, error: CheckpointError) -> None:
        if error.__cause__ is not None:
            raise error.__cause__

    return _failing(parts, then)


@wrong("MLM-CKP-5", _FAILS)
def a_failed_save_leaves_a_file(parts: Parts) -> Parts:
    """What was written elsewhere stays there if it cannot be given its name."""

    def then(path: str, checkpoint: Checkpoint, error: CheckpointError) -> None:
        if Path(path).is_dir():
            Path(f"{path}.part").write_bytes(b"")

    return _failing(parts, then)


@wrong("MLM-CKP-5", _FAILS)
def a_failed_save_forgets_the_moments(parts: Parts) -> Parts:
    """The state is given away to be written, and not all of it comes back."""

    def then(path: str, checkpoint: Checkpoint, error: CheckpointError) -> None:
        for moment in checkpoint.state.exp_avg.values():
            moment[...] = 0.0

    return _failing(parts, then)


@wrong("MLM-CKP-5", _FULL)
def a_full_disk_costs_the_checkpoint(parts: Parts) -> Parts:
    """Where there is no room, the old checkpoint is removed, in vain."""

    def then(path: str, checkpoint: Checkpoint, error: CheckpointError) -> None:
        if os.path.isfile(path):
            os.unlink(path)

    return _failing(parts, then)


@wrong("MLM-CKP-5", _FULL)
def a_full_disk_leaves_half_a_file(parts: Parts) -> Parts:
    """What found room stays where it is."""

    def then(path: str, checkpoint: Checkpoint, error: CheckpointError) -> None:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in _NO_ROOM:
            Path(f"{path}.part").write_bytes(b"half")

    return _failing(parts, then)


_NO_ROOM = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
