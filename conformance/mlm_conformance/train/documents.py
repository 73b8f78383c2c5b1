"""What is trained on: text files, or the prose that comes with every Python installation.

A document is the unit that is held out.  The order of documents is that of the files given, or of
names, so that the same text gives the same run.
"""

from __future__ import annotations

import ast
import sysconfig
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlm_conformance.outcomes import BadCallError

__all__ = ["PIECE", "Document", "given_text", "is_held_out", "python_prose"]

#: A file is cut between paragraphs into documents of at least so many characters.
PIECE = 4000

#: One document in so many is held out.
SHARE = 20

_LEFT_OUT = {"site-packages", "dist-packages", "test", "tests", "idle_test", "lib2to3", "ensurepip"}
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True, slots=True)
class Document:
    """A text, and what it is called in messages."""

    name: str
    text: str


def is_held_out(number: int, count: int) -> bool:
    """Whether a document, one of ``count``, is kept for evaluation: the last of every twenty.

    Of fewer than twenty, the very last.

    >>> [n for n in range(45) if is_held_out(n, 45)], is_held_out(2, 3)
    ([19, 39], True)
    """
    every = min(SHARE, count)
    return number % every == every - 1


def given_text(paths: Sequence[str]) -> list[Document]:
    """The documents of text files (UTF-8), in the order given.

    A file that is long is several documents, so that one file alone has a part to hold out.

    Raises
    ------
    BadCallError : a file that is not there, is no text, or is empty.
    """
    found = []
    for path in paths:
        pieces = list(_pieces(_read(path)))
        if not pieces:
            raise BadCallError(f"--text {path} is empty; expected a text file")
        found += [Document(f"{path}#{n}", piece) for n, piece in enumerate(pieces)]
    return found


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise BadCallError(f"--text {path} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        message = f"--text {path} is no UTF-8 at byte {error.start}; expected a text file in UTF-8"
        raise BadCallError(message) from None


def _pieces(text: str) -> Iterator[str]:
    """Paragraphs together, until there are `PIECE` characters; what is left belongs to the last."""
    gathered: list[str] = []
    size = 0
    left = len(text)
    for paragraph in text.split("\n\n"):
        gathered.append(paragraph)
        size += len(paragraph) + 2
        left -= len(paragraph) + 2
        if size >= PIECE and left >= PIECE:
            yield "\n\n".join(gathered)
            gathered, size = [], 0
    if "".join(gathered).strip():
        yield "\n\n".join(gathered)


def python_prose(library: Path | None = None) -> list[Document]:
    """The language reference and the docstrings of the standard library; nothing is imported.

    Parameters
    ----------
    library : the folder of the standard library; None: that of this interpreter.

    Returns
    -------
    One document for each topic of ``pydoc_data.topics``, then one for each module, by name.

    Raises
    ------
    BadCallError : this installation has no sources.
    """
    folder = library or Path(sysconfig.get_paths()["stdlib"])
    found = [*_topics(folder / "pydoc_data" / "topics.py"), *_docstrings(folder)]
    if not found:
        raise BadCallError(
            f"{folder} has no Python sources to take prose from; give text files with --text"
        )
    return found


def _topics(path: Path) -> Iterator[Document]:
    """The values of the one dictionary in that file, which are text."""
    tree = _parsed(path)
    for table in (node for node in ast.walk(tree) if isinstance(node, ast.Dict)) if tree else ():
        for key, value in zip(table.keys, table.values, strict=True):
            match key, value:
                case ast.Constant(value=str(name)), ast.Constant(value=str(text)):
                    yield Document(f"topic {name}", text)


def _docstrings(folder: Path) -> Iterator[Document]:
    for path in sorted(folder.rglob("*.py")):
        inside = path.relative_to(folder)
        if _LEFT_OUT.isdisjoint(inside.parts) and (tree := _parsed(path)):
            text = "\n\n".join(_texts(ast.walk(tree)))
            if text:
                yield Document(inside.as_posix(), text)


def _texts(nodes: Iterable[ast.AST]) -> list[str]:
    """Docstrings in the order of the source."""
    found = [
        (getattr(node, "lineno", 0), text)
        for node in nodes
        if isinstance(node, _DOCUMENTED) and (text := ast.get_docstring(node))
    ]
    return [text for _, text in sorted(found)]


def _parsed(path: Path) -> ast.Module | None:
    """The syntax tree of a source; None of what is no source, which a library may contain."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of invalid escapes in sources that are not ours
            return ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return None
