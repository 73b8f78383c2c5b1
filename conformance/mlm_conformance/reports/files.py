"""Reports go to disk whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from mlm_conformance.outcomes import BadCallError

__all__ = ["is_leftover", "remove_leftovers", "require_writable", "write_atomically"]

_ESCAPED = "backslashreplace"


def require_writable(path: str | os.PathLike[str]) -> None:
    """Refuse a path that a report cannot be written to, before the run rather than after it.

    Raises
    ------
    BadCallError : the folder is missing, or takes no file of ours, or the path is itself a folder.
    """
    target = Path(path)
    folder = target.parent
    if not folder.is_dir():
        raise BadCallError(f"cannot write {target}: the folder {folder} does not exist")
    if target.is_dir():
        raise BadCallError(f"cannot write {target}: it is a folder")
    if target.exists() and not target.is_file():
        return  # a device or a pipe
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        reason = error.strerror or error
        raise BadCallError(
            f"cannot write {target}: the folder {folder} is not writable: {reason}"
        ) from None


def write_atomically(path: str | os.PathLike[str], text: str) -> None:
    """Write ``text`` (as UTF-8) to ``path``: a reader sees the old file or the whole new one.

    The text goes to a new file in the same folder, which then takes the place of ``path``.  A link
    stays a link: what it points to is replaced.  A device or a pipe is written to.  A surrogate,
    which a target's message may have and UTF-8 has not, is written as its escape.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        target.write_text(text, encoding="utf-8", errors=_ESCAPED, newline="\n")
        return
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", errors=_ESCAPED, newline="\n") as file:
            file.write(text)
        os.chmod(name, _mode(target))
        os.replace(name, target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def is_leftover(name: str, names: Iterable[str]) -> bool:
    """Whether a file was on its way to one of these names: ``.NAME.`` and something more.

    >>> is_leftover(".run.json.x1", ["run.json"]), is_leftover(".run.js", ["run.json"])
    (True, False)
    """
    return name.startswith(tuple(f".{known}." for known in names))


def remove_leftovers(folder: Path, names: Iterable[str]) -> None:
    """Remove what a process that was killed left beside these files, or folders."""
    known = list(names)
    for path in list(folder.iterdir()):
        if is_leftover(path.name, known):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _mode(target: Path) -> int:
    """The permissions of the file that is replaced, or those of any new file."""
    if target.exists():
        return target.stat().st_mode & 0o777
    # mkstemp makes private files; only setting the umask tells what it is.
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
