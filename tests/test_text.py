"""The parser of the specification: it reads the one form, and names the line of any other."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import mlm_spec.text as text_module
from mlm_spec import MlmSpecError
from mlm_spec.text import CHAPTERS, SPEC_VERSION, Requirement, TextError, load, parse

ROOT = Path(__file__).resolve().parents[1]
SPEC = ROOT / "docs" / "spec"

# Ids are never renumbered and never reused: these numbers only grow.
PUBLISHED = {
    "OBJ": 13,
    "RNG": 6,
    "SEL": 12,
    "COR": 9,
    "DST": 20,
    "LIK": 11,
    "GRA": 7,
    "HED": 9,
    "ERR": 15,
}


def section(number: int = 1, chapter: str = "OBJ") -> str:
    return f"""## MLM-{chapter}-{number} · A title

**MUST** One sentence that
runs over two lines.

**Formula.** a = b

```text
## MLM-LIK-1 · inside a fence this is no heading
```

**Why.** Because.

**Example.** Some words.

```python
>>> 1 + 1
2

```
"""


GOOD = "# OBJ · The objective\n\nAn introduction.\n\n## Notes\n\nFree text.\n\n" + section()


def line_of(text: str, part: str) -> int:
    return text[: text.index(part)].count("\n") + 1


def test_a_section_is_read_into_its_parts() -> None:
    (requirement,) = parse("OBJ.md", GOOD)
    assert requirement.id == "MLM-OBJ-1"
    assert (requirement.chapter, requirement.number) == ("OBJ", 1)
    assert (requirement.level, requirement.title) == ("MUST", "A title")
    assert requirement.statement == "One sentence that runs over two lines."
    assert requirement.formula.startswith("a = b\n\n```text\n")
    assert requirement.why == "Because."
    assert requirement.example == ">>> 1 + 1\n2\n\n"
    assert requirement.text == section()


def test_a_should_is_a_level_too() -> None:
    (requirement,) = parse("OBJ.md", GOOD.replace("**MUST**", "**SHOULD**"))
    assert requirement.level == "SHOULD"


def test_a_free_section_ends_a_requirement() -> None:
    text = GOOD + "\n## Afterwards\n\nMore free text.\n\n" + section(2)
    assert [r.id for r in parse("OBJ.md", text)] == ["MLM-OBJ-1", "MLM-OBJ-2"]
    assert "Afterwards" not in parse("OBJ.md", text)[0].text


def without(part: str) -> Callable[[str], str]:
    return lambda text: text.replace(part, "")


def replacing(old: str, new: str) -> Callable[[str], str]:
    return lambda text: text.replace(old, new)


DEPARTURES: list[tuple[str, Callable[[str], str], str]] = [
    # name, what is done to the good text, the part of the new text whose line is named
    ("a duplicate id", lambda t: t + section(1), "## MLM-OBJ-1 · A title\n\n**MUST** again"),
    ("a gap in the numbers", lambda t: t + section(3), "## MLM-OBJ-3"),
    ("a first number that is not 1", replacing("OBJ-1", "OBJ-2"), "## MLM-OBJ-2"),
    ("another chapter's id", replacing("MLM-OBJ-1", "MLM-LIK-1"), "## MLM-LIK-1"),
    ("a number with a leading zero", replacing("OBJ-1", "OBJ-01"), "## MLM-OBJ-01"),
    ("a heading of the wrong rank", replacing("## MLM-OBJ-1", "### MLM-OBJ-1"), "### MLM-OBJ-1"),
    ("a heading without a title", replacing(" · A title", ""), "## MLM-OBJ-1"),
    ("no statement", without("**MUST** One sentence that\nruns over two lines."), "## MLM-OBJ-1"),
    ("no level", replacing("**MUST** One", "One"), "One sentence that"),
    ("a level that is not one", replacing("**MUST**", "**MUST NOT**"), "**MUST NOT**"),
    ("a second sentence", replacing("two lines.", "two lines. And on."), "**MUST**"),
    ("no full stop", replacing("two lines.", "two lines"), "**MUST**"),
    ("a second paragraph", replacing("two lines.", "two lines.\n\nAnd."), "**MUST**"),
    ("a level in the why", replacing("Because.", "It MUST."), "**Why.** It MUST."),
    ("no formula", without("**Formula.** a = b\n"), "**Why.**"),
    ("no why", without("**Why.** Because.\n"), "**Example.**"),
    ("an empty why", without(" Because."), "**Why.**"),
    ("no example", lambda t: t[: t.index("**Example.**")], "## MLM-OBJ-1"),
    ("two formulas", replacing("**Why.**", "**Formula.** c\n\n**Why.**"), "**Formula.** c"),
    ("parts out of order", replacing("**Formula.** a", "**Why.** a"), "**Why.** a"),
    (
        "an example without a fence",
        replacing("```python\n>>> 1 + 1\n2\n\n```\n", "x"),
        "**Example.**",
    ),
    ("an example in another language", replacing("```python", "```text"), "**Example.**"),
    ("an example that is no doctest", replacing(">>> 1 + 1\n2", "1 + 1"), "**Example.**"),
    ("text after the example", lambda t: t + "\nA word more.\n", "A word more."),
    ("a heading inside", replacing("**Why.**", "### Sub\n\n**Why.**"), "### Sub"),
    ("a fence that never closes", lambda t: t + "```python\n", "```python\n\x00"),
]


@pytest.mark.parametrize(
    ("damage", "part"), [d[1:] for d in DEPARTURES], ids=[d[0] for d in DEPARTURES]
)
def test_a_departure_is_refused_with_file_and_line(damage: Callable[[str], str], part: str) -> None:
    text = damage(GOOD)
    assert text != GOOD
    if part.endswith("again"):  # the second of two equal headings
        line = text[: text.rindex("## MLM-OBJ-1")].count("\n") + 1
    elif part.endswith("\x00"):  # the last line
        line = text.count("\n")
    else:
        line = line_of(text, part)
    with pytest.raises(TextError) as caught:
        parse("OBJ.md", text)
    assert caught.value.where == f"OBJ.md:{line}"
    assert caught.value.where in str(caught.value)
    assert isinstance(caught.value, MlmSpecError)


@pytest.mark.parametrize("name", ["XYZ.md", "OBJ.txt", "OBJ", "00-conventions.md"])
def test_a_file_that_is_no_chapter_is_refused(name: str) -> None:
    with pytest.raises(TextError, match=re.escape(f"{name}:1")):
        parse(name, GOOD)


def test_a_chapter_without_requirements_is_refused() -> None:
    with pytest.raises(TextError, match="without a requirement"):
        parse("OBJ.md", "# OBJ\n\nNothing yet.\n")


def test_the_chapters_come_in_their_order_and_the_numbers_without_gaps() -> None:
    ids = [requirement.id for requirement in load()]
    assert tuple(PUBLISHED) == CHAPTERS
    assert ids == [f"MLM-{c}-{n}" for c, count in PUBLISHED.items() for n in range(1, count + 1)]


def test_requirements_are_frozen() -> None:
    with pytest.raises(AttributeError):
        load()[0].title = "another"  # type: ignore[misc]
    assert Requirement.__slots__


def write_chapters(folder: Path) -> None:
    folder.mkdir(parents=True)
    for chapter in CHAPTERS:
        (folder / f"{chapter}.md").write_text(section(1, chapter), encoding="utf-8")
    (folder / "00-conventions.md").write_text("# Conventions\n", encoding="utf-8")


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A wheel's copy of the text, one requirement a chapter."""
    folder = tmp_path / "mlm_spec" / "_text"
    write_chapters(folder)
    monkeypatch.setattr(text_module, "files", lambda package: tmp_path / package)
    load.cache_clear()
    yield folder
    load.cache_clear()


def test_a_wheel_s_copy_is_read_before_the_checkout_s(installed: Path) -> None:
    assert [r.id for r in load()] == [f"MLM-{chapter}-1" for chapter in CHAPTERS]


def test_a_missing_chapter_is_an_error(installed: Path) -> None:
    (installed / "HED.md").unlink()
    with pytest.raises(TextError, match=r"HED\.md missing or unknown"):
        load()


def test_an_unknown_chapter_is_an_error(installed: Path) -> None:
    (installed / "ENC.md").write_text(section(1, "ENC"), encoding="utf-8")
    with pytest.raises(TextError, match=r"ENC\.md missing or unknown"):
        load()


def test_the_version_of_the_text_is_the_one_it_prints() -> None:
    for name in ["00-conventions.md", *(f"{chapter}.md" for chapter in CHAPTERS)]:
        text = (SPEC / name).read_text(encoding="utf-8")
        assert f"Version {SPEC_VERSION}" in text, name
        assert "CC-BY-4.0" in text, name


def test_every_link_inside_the_text_leads_somewhere() -> None:
    for path in SPEC.glob("*.md"):
        for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_every_id_that_the_text_mentions_exists() -> None:
    ids = {requirement.id for requirement in load()}
    for path in SPEC.glob("*.md"):
        mentioned = set(re.findall(r"MLM-[A-Z]{3}-[0-9]+", path.read_text(encoding="utf-8")))
        assert mentioned <= ids, f"{path.name}: {mentioned - ids}"
