"""The text of a run: which documents there are, in which order, and which are held out."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from mlm_conformance.outcomes import BadCallError
from mlm_conformance.train import documents
from mlm_conformance.train.documents import given_text, is_held_out, python_prose

PARAGRAPH = "word " * 100  # 500 characters


def test_one_document_in_twenty_is_held_out_and_one_of_fewer() -> None:
    assert [n for n in range(61) if is_held_out(n, 61)] == [19, 39, 59]
    assert [n for n in range(5) if is_held_out(n, 5)] == [4]
    assert [n for n in range(20) if is_held_out(n, 20)] == [19]


def test_files_are_taken_in_the_order_given(tmp_path: Path) -> None:
    for name in "ba":
        (tmp_path / name).write_text(f"text of {name}\n", encoding="utf-8")
    paths = [str(tmp_path / name) for name in "ba"]
    found = given_text(paths)
    assert [d.text for d in found] == ["text of b\n", "text of a\n"]
    assert [d.name for d in found] == [f"{path}#0" for path in paths]


def test_a_long_file_is_several_documents_with_all_of_its_text(tmp_path: Path) -> None:
    path = tmp_path / "long"
    path.write_text("\n\n".join(f"{n} {PARAGRAPH}" for n in range(50)), encoding="utf-8")
    found = given_text([str(path)])
    assert len(found) > 4
    assert "\n\n".join(d.text for d in found) == path.read_text(encoding="utf-8")
    assert all(len(d.text) >= documents.PIECE for d in found[:-1])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file"),
        (b"", "is empty; expected a text file"),
        (b" \n\n \n", "is empty; expected a text file"),
        (b"abc\xff", "is no UTF-8 at byte 3; expected"),
    ],
    ids=["missing", "empty", "blank", "binary"],
)
def test_a_file_that_is_no_text_is_refused(
    content: bytes | None, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "x"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadCallError, match=message):
        given_text([str(path)])


def library(folder: Path) -> Path:
    """A standard library in small, in which everything that runs would be noticed."""
    files = {
        "pydoc_data/topics.py": "raise SystemExit\n"
        "topics = {'assert': 'One' ' topic', 'if': 'Two'}",
        "b.py": "'''Of b.'''\nraise SystemExit\nclass C:\n    '''Of C.'''\n    def f(self):\n"
        "        '''Of f.'''\ndef g():\n    '''Of g.'''",
        "a/__init__.py": "'''Of a.'''",
        "a/test/x.py": "'''A test.'''",
        "a/silent.py": "x = 1",
        "a/broken.py": "'''Broken.'''\ndef (",
        "a/binary.py": "'''\0'''",
        "site-packages/z.py": "'''Of somebody else.'''",
    }
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def test_python_has_prose_which_is_read_and_not_run(tmp_path: Path) -> None:
    found = {d.name: d.text for d in python_prose(library(tmp_path))}
    assert found == {
        "topic assert": "One topic",
        "topic if": "Two",
        "a/__init__.py": "Of a.",
        "b.py": "Of b.\n\nOf C.\n\nOf f.\n\nOf g.",
    }
    assert list(found)[-2:] == ["a/__init__.py", "b.py"]
    assert "b" not in sys.modules


def test_an_installation_without_sources_says_so(tmp_path: Path) -> None:
    with pytest.raises(BadCallError, match="no Python sources to take prose from; give text"):
        python_prose(tmp_path)


def test_the_language_reference_of_this_installation_is_there() -> None:
    import pydoc_data

    folder = Path(next(iter(pydoc_data.__path__)))
    found = list(documents._topics(folder / "topics.py"))
    assert len(found) > 50
    assert any("assert" in d.name and "assertion" in d.text for d in found)
