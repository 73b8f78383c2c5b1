"""The documentation tells the truth: its examples run, its commands parse, its links lead
somewhere, and its figures were measured.  Each reader is shown to be able to find a fault.
"""

from __future__ import annotations

import argparse
import contextlib
import doctest
import io
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import pytest
from checkout import ROOT, name, project_files

SPECIFICATION = sorted((ROOT / "docs" / "spec").glob("*.md"))
GUIDES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
EVERY_PAGE = [ROOT / "CHANGELOG.md", *GUIDES, *SPECIFICATION]
SHELL = {"sh", "bash", "console", "shell"}


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    language: str
    text: str
    line: int  # of its first line of text, from 1


def blocks(page: str) -> Iterator[Block]:
    """The fenced blocks of a page, in order; an unclosed one is an error."""
    fence, language, start, lines = "", "", 0, list[str]()
    for number, line in enumerate(page.splitlines(), 1):
        mark = re.match(r" {0,3}(`{3,}|~{3,})\s*(\w*)", line)
        if not fence and mark:
            fence, language, start, lines = mark[1], mark[2], number + 1, []
        elif fence and re.fullmatch(rf" {{0,3}}{re.escape(fence)}\s*", line):
            yield Block(language, "\n".join(lines) + "\n", start)
            fence = ""
        elif fence:
            lines.append(line)
    assert not fence, f"the block at line {start - 1} is not closed"


def prose(page: str) -> str:
    """The page with its fenced blocks blanked, line for line."""
    lines = page.splitlines()
    for block in blocks(page):
        for at in range(block.line - 2, block.line - 1 + len(block.text.splitlines()) + 1):
            if at < len(lines):
                lines[at] = ""
    return "\n".join(lines)


# Python -----------------------------------------------------------------------------------------


def failed_doctests(text: str, label: str, line: int = 1) -> str:
    """What doctest prints of the examples that fail; empty if all hold."""
    test = doctest.DocTestParser().get_doctest(text, {}, label, label, line - 1)
    printed = io.StringIO()
    runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS)
    with contextlib.redirect_stdout(printed):
        runner.run(test, out=printed.write, clear_globs=False)
    return printed.getvalue()


def failed_script(text: str, folder: Path) -> str:
    """What a whole program, given in a block, wrote before it failed; empty if it ends well."""
    path = folder / "block.py"
    path.write_text(text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(path)], cwd=folder, capture_output=True, text=True, timeout=300
    )
    return "" if done.returncode == 0 else done.stderr or f"exit status {done.returncode}"


@pytest.mark.parametrize("path", GUIDES, ids=name)
def test_the_python_examples_of_a_guide_run(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [b for b in blocks(path.read_text(encoding="utf-8")) if b.language == "python"]
    monkeypatch.chdir(tmp_path)
    sessions = [b for b in found if ">>>" in b.text]
    # The sessions of a page are one session: a later block uses the names of an earlier one.
    joined = "\n".join(b.text for b in sessions)
    assert failed_doctests(joined, name(path)) == ""
    for block in found:
        if block not in sessions:
            assert failed_script(block.text, tmp_path) == "", f"{name(path)}:{block.line}"


def test_a_false_example_is_found(tmp_path: Path) -> None:
    assert "Expected:" in failed_doctests(">>> 1 + 1\n3\n", "page")
    assert "NameError" in failed_doctests(">>> nowhere\n", "page")
    assert failed_doctests(">>> 1 + 1\n2\n", "page") == ""
    assert "ImportError" in failed_script("from mlm_spec import nothing_of_this_name", tmp_path)
    assert failed_script("import mlm_spec", tmp_path) == ""


# Commands ---------------------------------------------------------------------------------------


def commands(block: Block) -> Iterator[list[str]]:
    """The simple commands of a shell block, split into words, without prompts and comments."""
    text = block.text.replace("\\\n", " ")
    for line in text.splitlines():
        if block.language == "console" and not line.startswith("$ "):
            continue  # output
        words = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars=";&|<>")
        words.whitespace_split = True
        command: list[str] = []
        for word in words:
            if set(word) <= set(";&|"):
                yield command
                command = []
            elif set(word) <= set("<>"):
                break  # a redirection ends what concerns us
            else:
                command.append(word)
        yield command


def shell_commands(page: str) -> list[list[str]]:
    found = []
    for block in blocks(page):
        if block.language in SHELL:
            for words in commands(block):
                # Assignments before a command set its environment.
                while words and re.match(r"[A-Z_]+=", words[0]):
                    words = words[1:]
                if words:
                    found.append(words)
    return found


def refusal(parser: argparse.ArgumentParser, words: list[str]) -> str:
    """Why the real parser refuses a command; empty if it takes it."""
    printed = io.StringIO()
    with contextlib.redirect_stderr(printed), contextlib.redirect_stdout(printed):
        try:
            parser.parse_args(words[1:])
        except SystemExit as stop:
            return "" if stop.code == 0 else printed.getvalue() or str(stop.code)
    return ""


def make_targets() -> set[str]:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    return set(re.findall(r"^([a-z]+):", text, re.MULTILINE))


def unknown_targets(words: list[str]) -> list[str]:
    """The words of a ``make`` command that are neither targets nor settings."""
    known = make_targets()
    return [w for w in words[1:] if "=" not in w and w not in known]


def unknown_extras(words: list[str]) -> list[str]:
    """The extras of this project that a ``pip install`` names and pyproject.toml lacks."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    known = tomllib.loads(text)["project"]["optional-dependencies"]
    named = re.findall(r"(?:^|\s)(?:mlm-spec|\.)\[([^]]*)\]", " ".join(words))
    return [extra for group in named for extra in group.split(",") if extra not in known]


@pytest.mark.parametrize("path", EVERY_PAGE, ids=name)
def test_the_commands_of_a_page_are_ones_the_program_takes(path: Path) -> None:
    from mlm_conformance.cli import parser

    for words in shell_commands(path.read_text(encoding="utf-8")):
        if words[0] == "mlm-spec":
            assert refusal(parser(), words) == "", words
        elif words[0] == "make":
            assert unknown_targets(words) == [], words
        elif "install" in words:
            assert unknown_extras(words) == [], words


def test_the_readme_shows_the_main_job() -> None:
    found = shell_commands((ROOT / "README.md").read_text(encoding="utf-8"))
    assert ["make", "check"] in found
    assert ["make", "test"] in found
    assert any(words[:2] == ["mlm-spec", "check"] for words in found)


def test_a_command_that_the_program_refuses_is_found() -> None:
    from mlm_conformance.cli import parser

    assert "profile" in refusal(parser(), ["mlm-spec", "check", "numpy", "--profile", "slow"])
    assert refusal(parser(), ["mlm-spec", "chekc", "numpy"]) != ""
    assert refusal(parser(), ["mlm-spec", "check", "numpy", "--profile", "quick"]) == ""
    assert unknown_targets(["make", "chekc", "PYTHON=python3"]) == ["chekc"]
    assert unknown_extras(["pip", "install", "mlm-spec[conformence,torch]"]) == ["conformence"]


def test_shell_blocks_are_split_into_commands() -> None:
    page = (
        "```sh\nA=1 mlm-spec list  # all\nmlm-spec check x \\\n  -n 2 && make test | cat > f\n```\n"
    )
    found = [["mlm-spec", "list"], ["mlm-spec", "check", "x", "-n", "2"], ["make", "test"], ["cat"]]
    assert shell_commands(page) == found
    assert shell_commands("```console\n$ mlm-spec cite\nmlm-spec 0.1\n```\n") == [
        ["mlm-spec", "cite"]
    ]


# Links ------------------------------------------------------------------------------------------


def anchor(heading: str) -> str:
    """The anchor that a heading gets where these pages are shown."""
    plain = re.sub(r"\[([^]]*)\]\([^)]*\)|[`*]", lambda m: m[1] or "", heading)
    kept = re.sub(r"[^\w\- ]", "", plain.strip().lower())
    return kept.replace(" ", "-")


def anchors(page: str) -> set[str]:
    """All anchors of a page; a repeated heading gets -1, -2, ..."""
    seen: dict[str, int] = {}
    found = set()
    for heading in re.findall(r"^#{1,6} +(.+?)\s*#*$", prose(page), re.MULTILINE):
        slug = anchor(heading)
        found.add(f"{slug}-{seen[slug]}" if slug in seen else slug)
        seen[slug] = seen.get(slug, 0) + 1
    return found


def internal_links(page: str) -> list[str]:
    """The targets of links and images that stay in the project."""
    text = re.sub(r"`[^`\n]*`", "", prose(page))
    found = re.findall(r"\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)", text)
    found += re.findall(r"^\[[^]]+\]:\s*(\S+)", text, re.MULTILINE)
    found += re.findall(r"<(?:img|a)\s[^>]*(?:src|href)=\"([^\"]+)\"", text)
    return [link for link in found if not re.match(r"[a-z][a-z0-9+.-]*:", link)]


def broken_links(page: str, folder: Path) -> list[str]:
    """The internal links of a page in ``folder`` that lead nowhere."""
    broken = []
    for link in internal_links(page):
        file, _, fragment = link.partition("#")
        path = folder / file if file else None
        if path is not None and not path.exists():
            broken.append(link)
        elif fragment:
            there = page if path is None else path.read_text(encoding="utf-8")
            if fragment not in anchors(there):
                broken.append(link)
    return broken


@pytest.mark.parametrize("path", EVERY_PAGE, ids=name)
def test_the_links_of_a_page_lead_somewhere(path: Path) -> None:
    assert broken_links(path.read_text(encoding="utf-8"), path.parent) == []


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("# One *two*, `three`\n\n# Same\n\n# Same\n", encoding="utf-8")
    good = "[x](a.md) [y](a.md#one-two-three) ![z](a.md#same-1) [w](https://example.org/none)"
    assert broken_links(good, tmp_path) == []
    bad = "[x](b.md) [y](a.md#two) [z](#here)\n[k]: gone.md\n"
    assert broken_links(bad, tmp_path) == ["b.md", "a.md#two", "#here", "gone.md"]
    assert broken_links("```\n[x](b.md)\n```\nand `[y](c.md)`", tmp_path) == []


# Figures ----------------------------------------------------------------------------------------

NUMBER = re.compile(r"(?<![\w.,/-])\d[\d,]*(?:\.\d+)?(?![\w/]|\.\d)")
MARK = re.compile(r"<!--\s*measured:\s*(\S+)\s*-->")


def figures(text: str) -> list[Decimal]:
    """The numbers in running text; those in code, in links and in names (``float32``) are not."""
    bare = re.sub(r"`[^`]*`|\]\([^)]*\)|<!--.*?-->", " ", text)
    return [Decimal(found.rstrip(",").replace(",", "")) for found in NUMBER.findall(bare)]


def measured_claims(page: str) -> list[tuple[str, list[Decimal]]]:
    """Each mark's file and the numbers it vouches for.

    A mark covers the paragraph, list or table it stands in, or the next one if it stands alone.
    """
    claims, waiting = [], list[str]()
    for paragraph in re.split(r"\n[ \t]*\n", prose(page)):
        files = [*waiting, *MARK.findall(paragraph)]
        if files and not MARK.sub("", paragraph).strip():
            waiting = files
            continue
        claims += [(file, figures(paragraph)) for file in files]
        waiting = []
    assert not waiting, f"the mark for {waiting} covers nothing"
    return claims


def unmeasured(claimed: list[Decimal], record: str) -> list[Decimal]:
    """The numbers that no number of the record rounds to."""
    pattern = r"\d+(?:\.\d+)?(?:[eE][+-]?\d+)?"
    known = [Decimal(found) for found in re.findall(pattern, record.replace(",", ""))]
    return [n for n in claimed if not any(rounded(k, n) == n for k in known)]


def rounded(value: Decimal, like: Decimal) -> Decimal:
    """``value`` with as many decimals as ``like`` is written with."""
    places = -int(like.as_tuple().exponent)
    return round(value, places) if places >= 0 else value


@pytest.mark.parametrize("path", GUIDES, ids=name)
def test_the_figures_marked_measured_are_in_the_record(path: Path) -> None:
    for file, claimed in measured_claims(path.read_text(encoding="utf-8")):
        record = (ROOT / file).read_text(encoding="utf-8")
        assert claimed, f"{name(path)}: nothing is claimed where {file} is cited"
        assert unmeasured(claimed, record) == [], f"{name(path)}: not in {file}"


def test_a_figure_that_was_not_measured_is_found() -> None:
    record = '{"median": 2.3481, "tokens": 131072, "many": 1,234}'
    assert unmeasured([Decimal("2.35"), Decimal("2.3"), Decimal("131072")], record) == []
    assert unmeasured([Decimal("2.34"), Decimal("7")], record) == [Decimal("2.34"), Decimal("7")]


def test_the_numbers_of_a_marked_paragraph_are_read() -> None:
    page = (
        "Made in 1999.\n\n<!-- measured: a.txt -->\n\n| x | 1.5 |\n| y | 2,000 |\n\n"
        "It took 3 s with `float64` and 16 on an H200. <!-- measured: b.txt -->\n\nNot 4.\n"
    )
    assert measured_claims(page) == [
        ("a.txt", [Decimal("1.5"), Decimal(2000)]),
        ("b.txt", [Decimal(3), Decimal(16)]),
    ]


def test_no_page_is_left_out() -> None:
    assert set(project_files(".md")) == set(EVERY_PAGE)
