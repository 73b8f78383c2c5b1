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
    "OBJ": 14,
    "RNG": 6,
    "SEL": 12,
    "COR": 10,
    "DST": 30,
    "LIK": 11,
    "GRA": 7,
    "HED": 9,
    "ENC": 17,
    "OPT": 10,
    "TRN": 12,
    "CKP": 8,
    "ERR": 23,
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
    ("a statement in two paragraphs", replacing("that\nruns", "that\n\nruns"), "**MUST**"),
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
    ("text next to the example", lambda t: t + "A word more.\n", "A word more."),
    (
        "an empty formula",
        lambda t: t.replace(
            " a = b\n\n```text\n## MLM-LIK-1 · inside a fence this is no heading\n```", ""
        ),
        "**Formula.**",
    ),
    ("two whys", replacing("**Example.**", "**Why.** More.\n\n**Example.**"), "**Why.** More."),
    ("two examples", lambda t: t + "\n**Example.** More.\n", "**Example.** More."),
    (
        "an example in two blocks",
        lambda t: t + "\n```python\n>>> 2\n2\n```\n",
        "**Example.**",
    ),
    ("a heading inside", replacing("**Why.**", "### Sub\n\n**Why.**"), "### Sub"),
    ("a fence that never closes", lambda t: t + "```python\n", "```python\n\x00"),
]


ONE_LEVEL = "without its statement; expected **MUST** or **SHOULD**, and one sentence"
ONE_BLOCK = "not one ```python block; expected exactly one in an example"
FULL_STOP = "expected one sentence, ended by a full stop"
HEADING = "expected ## MLM-<CHAPTER>-<n> · <title>"
SAID = {  # what is said of each departure, behind the file and the line
    "a duplicate id": "MLM-OBJ-1; expected MLM-OBJ-2, the next id of this chapter",
    "a gap in the numbers": "MLM-OBJ-3; expected MLM-OBJ-2, the next id of this chapter",
    "a first number that is not 1": "MLM-OBJ-2; expected MLM-OBJ-1, the next id of this chapter",
    "another chapter's id": "MLM-LIK-1; expected MLM-OBJ-1, the next id of this chapter",
    "a number with a leading zero": f"'## MLM-OBJ-01 · A title'; {HEADING}",
    "a heading of the wrong rank": f"'### MLM-OBJ-1 · A title'; {HEADING}",
    "a heading without a title": f"'## MLM-OBJ-1'; {HEADING}",
    "no statement": ONE_LEVEL,
    "no level": ONE_LEVEL,
    "a level that is not one": ONE_LEVEL,
    "a second sentence": f"'One sentence that\\nruns over two lines. And on.'; {FULL_STOP}",
    "no full stop": f"'One sentence that\\nruns over two lines'; {FULL_STOP}",
    "a second paragraph": f"'One sentence that\\nruns over two lines.\\n\\nAnd.'; {FULL_STOP}",
    "a statement in two paragraphs": (
        f"'One sentence that\\n\\nruns over two lines.'; {FULL_STOP}"
    ),
    "a level in the why": "a second MUST or SHOULD; expected one level in a requirement",
    "no formula": "**Why.**; expected **Formula.**",
    "no why": "**Example.**; expected **Why.**",
    "an empty formula": "an empty **Formula.**; expected some text",
    "two whys": "**Why.**; expected **Example.**",
    "an empty why": "an empty **Why.**; expected some text",
    "no example": (
        "without **Example.**; expected statement, **Formula.**, **Why.**, **Example.**"
    ),
    "two formulas": "**Formula.**; expected **Why.**",
    "two examples": "**Example.**; expected the next requirement",
    "parts out of order": "**Why.**; expected **Formula.**",
    "an example without a fence": ONE_BLOCK,
    "an example in another language": ONE_BLOCK,
    "an example in two blocks": ONE_BLOCK,
    "an example that is no doctest": (
        "an example that is no doctest; expected a line that begins with >>>"
    ),
    "text after the example": "'A word more.'; expected nothing after the example",
    "text next to the example": "'A word more.'; expected nothing after the example",
    "a heading inside": "'### Sub'; expected no heading in a requirement",
    "a fence that never closes": "a fence that never closes; expected a closing ``` line",
}


@pytest.mark.parametrize(("name", "damage", "part"), DEPARTURES, ids=[d[0] for d in DEPARTURES])
def test_a_departure_is_refused_with_file_and_line(
    name: str, damage: Callable[[str], str], part: str
) -> None:
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
    assert str(caught.value) == f"OBJ.md:{line} is {SAID[name]}"
    assert isinstance(caught.value, MlmSpecError)


@pytest.mark.parametrize("name", ["XYZ.md", "OBJ.txt", "OBJ", "00-conventions.md"])
def test_a_file_that_is_no_chapter_is_refused(name: str) -> None:
    with pytest.raises(TextError) as caught:
        parse(name, GOOD)
    chapters = "OBJ, RNG, SEL, COR, DST, LIK, GRA, HED, ENC, OPT, TRN, CKP, ERR"
    assert str(caught.value) == f"{name}:1 is not a chapter's file; expected one of {chapters}"


def test_a_chapter_without_requirements_is_refused() -> None:
    with pytest.raises(TextError) as caught:
        parse("OBJ.md", "# OBJ\n\nNothing yet.\n")
    assert str(caught.value) == ("OBJ.md:1 is without a requirement; expected ## MLM-OBJ-1 · ...")


def test_blank_lines_are_free() -> None:
    tight = section().replace("A title\n\n", "A title\n").replace("python\n", "python\n\n")
    (requirement,) = parse("OBJ.md", tight)
    assert requirement.statement == "One sentence that runs over two lines."
    assert requirement.example == "\n>>> 1 + 1\n2\n\n"


def test_lines_keep_their_indentation_and_lose_blanks_at_their_ends() -> None:
    (requirement,) = parse("OBJ.md", section().replace("Because.", "Because.  \n\n    Indented. "))
    assert requirement.why == "Because.\n\n    Indented."


def test_a_heading_with_another_word_in_front_is_free_text() -> None:
    assert len(parse("OBJ.md", section() + "\n## XMLM\n\nFree text.\n")) == 1


def test_a_heading_in_a_fence_is_none() -> None:
    fenced = section().replace("Some words.", "Some words.\n\n# in words")
    with pytest.raises(TextError):
        parse("OBJ.md", fenced)
    inside = section().replace("2\n\n```", "2\n\n# in the example\n\n```")
    assert parse("OBJ.md", inside)[0].example == ">>> 1 + 1\n2\n\n# in the example\n\n"


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
    (installed / "XYZ.md").write_text(section(1, "XYZ"), encoding="utf-8")
    with pytest.raises(TextError) as caught:
        load()
    assert str(caught.value) == (
        f"{installed} is with HED.md, XYZ.md missing or unknown; expected one file for each chapter"
    )


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package without a copy of the text, in a folder where a checkout may be."""
    monkeypatch.setattr(text_module, "files", lambda package: tmp_path / "wheel" / package)
    monkeypatch.setattr(text_module, "__file__", str(tmp_path / "mlm_spec" / "text.py"))
    load.cache_clear()
    yield tmp_path
    load.cache_clear()


def test_a_checkout_s_copy_is_read_where_there_is_no_wheel_s(alone: Path) -> None:
    write_chapters(alone / "docs" / "spec")
    assert [r.id for r in load()] == [f"MLM-{chapter}-1" for chapter in CHAPTERS]


def test_a_text_that_is_nowhere_is_an_error(alone: Path) -> None:
    with pytest.raises(TextError) as caught:
        load()
    assert str(caught.value) == (
        "the specification's text is not there; expected "
        f"{alone / 'wheel' / 'mlm_spec' / '_text'} or {alone / 'docs' / 'spec'}"
    )


def test_an_unknown_chapter_is_an_error(installed: Path) -> None:
    (installed / "XYZ.md").write_text(section(1, "XYZ"), encoding="utf-8")
    with pytest.raises(TextError, match=r"XYZ\.md missing or unknown"):
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
