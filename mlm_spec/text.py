"""The specification's text, parsed: one `Requirement` for each numbered section.

The text lives in ``docs/spec`` and only there; a wheel carries it as ``mlm_spec/_text``.
A chapter is one Markdown file, ``<CHAPTER>.md``.  A requirement has one fixed form::

    ## MLM-OBJ-1 · Title

    **MUST** One sentence.

    **Formula.** ...

    **Why.** ...

    **Example.** ... one fenced ``python`` block with a doctest, and nothing after it.

Sections whose heading does not begin with ``MLM`` are free text.  Anything that departs from
the form is a `TextError`, which names the file and the line.

>>> first = load()[0]
>>> first.id, first.level
('MLM-OBJ-1', 'MUST')
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from mlm_spec.errors import MlmSpecError

__all__ = ["CHAPTERS", "SPEC_VERSION", "Requirement", "TextError", "load", "parse"]

SPEC_VERSION = "0.1"

CHAPTERS = (
    "OBJ",
    "RNG",
    "SEL",
    "COR",
    "DST",
    "LIK",
    "GRA",
    "HED",
    "ENC",
    "OPT",
    "TRN",
    "CKP",
    "ERR",
)
"""The chapters in the order of the text."""

_HEADING = re.compile(r"## MLM-([A-Z]{3})-([1-9][0-9]*) · (\S.*)")
_LEVEL = re.compile(r"\*\*(MUST|SHOULD)\*\* (\S.*)", re.DOTALL)
_LEVEL_WORD = re.compile(r"\b(?:MUST|SHOULD)\b")
_CHAPTER_FILE = re.compile(r"[A-Z]{3}\.md")
_PARTS = ("**Formula.**", "**Why.**", "**Example.**")


class TextError(MlmSpecError):
    """The text departs from its form.  ``where`` is the file and the line: ``OBJ.md:12``."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """One numbered section of the specification.

    Attributes
    ----------
    id : ``MLM-<chapter>-<number>``; never renumbered, never reused.
    chapter, number : the two parts of the id.
    level : ``"MUST"`` or ``"SHOULD"``.
    title : the heading's words.
    statement : the normative sentence, on one line, without the level.
    formula, why : the paragraphs under these names, as Markdown.
    example : the doctest inside the example's fence.
    text : the whole section as Markdown, from its heading on.
    """

    id: str
    chapter: str
    number: int
    level: str
    title: str
    statement: str
    formula: str
    why: str
    example: str
    text: str


@dataclass(frozen=True, slots=True)
class _Line:
    number: int  # from 1, as editors count
    text: str
    fenced: bool  # inside a code fence, or one of its two marks


@cache
def load() -> tuple[Requirement, ...]:
    """Every requirement, in the order of the chapters and of the numbers.

    Raises
    ------
    TextError : a chapter is missing or unknown, or departs from the form.
    """
    folder = _folder()
    names = {entry.name for entry in folder.iterdir() if _CHAPTER_FILE.fullmatch(entry.name)}
    wanted = {f"{chapter}.md" for chapter in CHAPTERS}
    if names != wanted:
        odd = ", ".join(sorted(names ^ wanted))
        raise TextError(f"{folder}", f"with {odd} missing or unknown", "one file for each chapter")
    found: list[Requirement] = []
    for chapter in CHAPTERS:
        name = f"{chapter}.md"
        found += parse(name, (folder / name).read_text(encoding="utf-8"))
    return tuple(found)


def parse(name: str, text: str) -> tuple[Requirement, ...]:
    """The requirements of one chapter.

    Parameters
    ----------
    name : the file's name, ``<CHAPTER>.md``; it decides which ids may stand in it.
    text : the file's contents.

    Raises
    ------
    TextError : an id that is not the chapter's next one, a part that is missing, doubled or out
        of order, a statement that is not one sentence, an example that is not one doctest.
    """
    chapter = name.removesuffix(".md")
    if chapter not in CHAPTERS or name == chapter:
        raise TextError(f"{name}:1", "not a chapter's file", "one of " + ", ".join(CHAPTERS))
    lines = _lines(name, text)
    found = [
        _requirement(name, chapter, number, section)
        for number, section in enumerate(_sections(name, lines), start=1)
    ]
    if not found:
        raise TextError(f"{name}:1", "without a requirement", f"## MLM-{chapter}-1 · ...")
    return tuple(found)


def _folder() -> Traversable:
    """The wheel's copy of the text, or the checkout's own."""
    installed = files("mlm_spec") / "_text"
    if installed.is_dir():
        return installed
    checkout = Path(__file__).resolve().parents[1] / "docs" / "spec"
    if checkout.is_dir():
        return checkout
    raise TextError("the specification's text", "not there", f"{installed} or {checkout}")


def _lines(name: str, text: str) -> list[_Line]:
    lines: list[_Line] = []
    opened = 0  # the line of the fence that is open, or 0
    for number, line in enumerate(text.splitlines(), start=1):
        mark = line.startswith("```")
        lines.append(_Line(number, line.rstrip(), bool(opened) or mark))
        if mark:
            opened = 0 if opened else number
    if opened:
        raise TextError(f"{name}:{opened}", "a fence that never closes", "a closing ``` line")
    return lines


def _sections(name: str, lines: Sequence[_Line]) -> Iterator[list[_Line]]:
    """The lines of each requirement.  Free sections, and what precedes the first, are dropped."""
    section: list[_Line] = []
    for line in lines:
        heading = not line.fenced and line.text.startswith("#")
        if heading and section and line.text.startswith("###"):
            raise TextError(f"{name}:{line.number}", repr(line.text), "no heading in a requirement")
        if heading:
            if section:
                yield section
            section = [line] if _is_requirement(name, line) else []
        elif section:
            section.append(line)
    if section:
        yield section


def _is_requirement(name: str, line: _Line) -> bool:
    if _HEADING.fullmatch(line.text):
        return True
    if line.text.lstrip("# ").startswith("MLM"):
        where, form = f"{name}:{line.number}", "## MLM-<CHAPTER>-<n> · <title>"
        raise TextError(where, repr(line.text), form)
    return False


def _requirement(name: str, chapter: str, number: int, section: list[_Line]) -> Requirement:
    head = section[0]
    match = _HEADING.fullmatch(head.text)
    assert match is not None  # _sections starts a section with a heading, and with nothing else
    wanted = f"MLM-{chapter}-{number}"
    got = f"MLM-{match[1]}-{match[2]}"
    if got != wanted:
        raise TextError(f"{name}:{head.number}", got, f"{wanted}, the next id of this chapter")
    parts = _split(name, section)
    level, statement = _statement(name, head, parts[0])
    _check_level_once(name, section)
    return Requirement(
        id=got,
        chapter=chapter,
        number=number,
        level=level,
        title=match[3],
        statement=statement,
        formula=_paragraphs(name, parts[1], _PARTS[0]),
        why=_paragraphs(name, parts[2], _PARTS[1]),
        example=_example(name, parts[3]),
        text="\n".join(line.text for line in section).strip() + "\n",
    )


def _split(name: str, section: list[_Line]) -> list[list[_Line]]:
    """The statement, the formula, the why and the example: four runs of lines, in this order."""
    parts: list[list[_Line]] = [[]]
    for line in section[1:]:
        mark = next((m for m in _PARTS if not line.fenced and line.text.startswith(m)), None)
        if mark is not None:
            _check_order(name, line, mark, len(parts))
            parts.append([])
        parts[-1].append(line)
    if len(parts) <= len(_PARTS):
        where = f"{name}:{section[0].number}"
        raise TextError(
            where, f"without {_PARTS[len(parts) - 1]}", "statement, " + ", ".join(_PARTS)
        )
    return parts


def _check_order(name: str, line: _Line, mark: str, seen: int) -> None:
    if seen > len(_PARTS) or mark != _PARTS[seen - 1]:
        wanted = _PARTS[seen - 1] if seen <= len(_PARTS) else "the next requirement"
        raise TextError(f"{name}:{line.number}", mark, wanted)


def _statement(name: str, head: _Line, lines: list[_Line]) -> tuple[str, str]:
    first = next((line for line in lines if line.text), head)
    where = f"{name}:{first.number}"
    match = _LEVEL.fullmatch("\n".join(line.text for line in lines).strip())
    if match is None:
        raise TextError(where, "without its statement", "**MUST** or **SHOULD**, and one sentence")
    statement = match[2]
    if "\n\n" in statement or not statement.endswith(".") or re.search(r"[.!?]\s", statement):
        raise TextError(where, f"{statement!r}", "one sentence, ended by a full stop")
    return match[1], " ".join(statement.split())


def _check_level_once(name: str, section: list[_Line]) -> None:
    seen = 0
    for line in section:
        seen += len(_LEVEL_WORD.findall(line.text))
        if seen > 1:
            where = f"{name}:{line.number}"
            raise TextError(where, "a second MUST or SHOULD", "one level in a requirement")


def _paragraphs(name: str, lines: list[_Line], mark: str) -> str:
    text = "\n".join(line.text for line in lines).strip().removeprefix(mark).strip()
    if not text:
        raise TextError(f"{name}:{lines[0].number}", f"an empty {mark}", "some text")
    return text


def _example(name: str, lines: list[_Line]) -> str:
    where = f"{name}:{lines[0].number}"
    fences = [i for i, line in enumerate(lines) if line.text.startswith("```")]
    if len(fences) != 2 or lines[fences[0]].text != "```python":
        raise TextError(where, "not one ```python block", "exactly one in an example")
    after = next((line for line in lines[fences[1] + 1 :] if line.text), None)
    if after is not None:
        raise TextError(f"{name}:{after.number}", repr(after.text), "nothing after the example")
    code = "\n".join(line.text for line in lines[fences[0] + 1 : fences[1]])
    if not code.lstrip().startswith(">>> "):
        raise TextError(where, "an example that is no doctest", "a line that begins with >>>")
    return code + "\n"
