"""From the text to the checks to the mutants, and back: nothing hangs in the air.

Every requirement is exercised by a check and broken by a mutant; every check, every mutant and
every id that is mentioned anywhere leads to a requirement.  Each rule is shown to be able to fail.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest
from checkout import ROOT
from mlm_conformance.check import Check
from mlm_conformance.checks import CHECKS
from mlm_conformance.mutants.library import MUTANTS, Mutant

from mlm_spec import text

IDS = tuple(requirement.id for requirement in text.load())
FOLDERS = ("docs", "conformance", "mlm_spec", "backends", "tests", "benchmarks")
KINDS = {".py", ".md", ".json", ".jinja", ".css", ".toml", ".yml", ".yaml", ".txt"}
MENTION = re.compile(r"MLM-[A-Z]{3}-\d+")

# Ids that tests make up, to see that something refuses them.
MADE_UP = {
    "tests/test_cli.py": {"MLM-OBJ-111", "MLM-XXX-1"},
    "tests/test_text.py": {"MLM-OBJ-01"},
    "tests/test_traceability.py": {
        "MLM-OBJ-01",
        "MLM-OBJ-111",
        "MLM-XXX-1",
        "MLM-OBJ-99",
        "MLM-SEL-77",
    },
}


OBSERVED = re.compile(r"`(\w+)` \(([\d …,]+)\)")


def a_check(requirement: str, name: str = "holds", port: str = "score") -> Check:
    return Check(requirement, name, port, True, None, (), (), None, (), 1.0, lambda c, x: None)


def a_mutant(requirement: str, *ports: str, check: str | None = None) -> Mutant:
    about = "Something is wrong."
    return Mutant("wrong", "module:wrong", requirement, ports or ("score",), about, (), check)


def unexercised(ids: Iterable[str], checks: Iterable[Check]) -> set[str]:
    """Requirements that no check tests."""
    return set(ids) - {check.requirement for check in checks}


def unbroken(ids: Iterable[str], mutants: Iterable[Mutant]) -> set[str]:
    """Requirements that no mutant breaks."""
    return set(ids) - {mutant.requirement for mutant in mutants}


def aimless(ids: Iterable[str], things: Iterable[Check | Mutant]) -> set[str]:
    """Checks or mutants whose requirement does not exist."""
    known = set(ids)
    return {thing.name for thing in things if thing.requirement not in known}


def repeated(names: Iterable[str]) -> set[str]:
    return {name for name, count in Counter(names).items() if count > 1}


def uncaught(checks: Iterable[Check], mutants: Iterable[Mutant]) -> set[str]:
    """Checks that no mutant is there to fail: by name, or as the only one on a port."""
    checks, mutants = list(checks), list(mutants)
    siblings = Counter((check.requirement, check.port) for check in checks)
    found = set()
    for check in checks:
        on_port = [
            m for m in mutants if m.requirement == check.requirement and check.port in m.ports
        ]
        alone = siblings[check.requirement, check.port] == 1
        named = {m.check.format(check.port) for m in on_port if m.check is not None}
        if check.name not in named and not (alone and any(m.check is None for m in on_port)):
            found.add(f"{check.id} on {check.port}")
    return found


def misdirected(checks: Iterable[Check], mutants: Iterable[Mutant]) -> set[str]:
    """Mutants with a port, or the name of a check, that their requirement has not."""
    known = {(check.requirement, check.port, check.name) for check in checks}
    ports = {(requirement, port) for requirement, port, _ in known}
    found = set()
    for mutant in mutants:
        for port in mutant.ports:
            name = None if mutant.check is None else mutant.check.format(port)
            fits = (mutant.requirement, port) in ports
            fits = fits and (name is None or (mutant.requirement, port, name) in known)
            if not fits:
                found.add(f"{mutant.name} on {port}")
    return found


def mentions(folders: Iterable[Path]) -> dict[str, set[str]]:
    """The ids that each file mentions."""
    found = {}
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.suffix in KINDS:
                ids = set(MENTION.findall(path.read_text(encoding="utf-8")))
                found[path.relative_to(folder.parent).as_posix()] = ids
    return found


def dangling(
    ids: Iterable[str], mentioned: dict[str, set[str]], made_up: dict[str, set[str]]
) -> set[str]:
    """``file: id`` for every id that no requirement has and no test has made up on purpose."""
    known = set(ids)
    return {
        f"{file}: {name}"
        for file, names in mentioned.items()
        for name in names - known - made_up.get(file, set())
    }


def test_every_requirement_is_exercised_by_a_check() -> None:
    assert len(IDS) > 0
    assert unexercised(IDS, CHECKS) == set()


def test_every_requirement_is_broken_by_a_mutant() -> None:
    assert unbroken(IDS, MUTANTS) == set()


def test_every_check_and_every_mutant_names_a_requirement() -> None:
    assert aimless(IDS, CHECKS) == set()
    assert aimless(IDS, MUTANTS) == set()


def test_a_check_names_exactly_one_requirement() -> None:
    for check in CHECKS:
        assert MENTION.fullmatch(check.requirement), check.name
        assert MENTION.findall(check.id) == [check.requirement], check.id


def test_every_check_has_an_id_of_its_own() -> None:
    assert repeated(check.id for check in CHECKS) == set()


def test_every_check_has_a_mutant_that_it_is_there_to_catch() -> None:
    assert uncaught(CHECKS, MUTANTS) == set()


def test_every_mutant_points_at_checks_that_exist() -> None:
    assert misdirected(CHECKS, MUTANTS) == set()


def test_every_id_that_is_mentioned_exists() -> None:
    found = mentions(ROOT / folder for folder in FOLDERS)
    assert set().union(*found.values()) >= set(IDS)
    assert dangling(IDS, found, MADE_UP) == set()


def test_ids_in_the_readme_exist() -> None:
    found = {path.name: set(MENTION.findall(path.read_text("utf-8"))) for path in ROOT.glob("*.md")}
    assert found
    assert dangling(IDS, found, {}) == set()


def test_every_made_up_id_is_still_in_use() -> None:
    found = mentions([ROOT / "tests"])
    assert {(f, i) for f, ids in MADE_UP.items() for i in ids - found[f]} == set()
    assert set().union(*MADE_UP.values()) & set(IDS) == set()


def test_a_requirement_without_a_check_is_found() -> None:
    assert unexercised(["MLM-OBJ-1", "MLM-OBJ-2"], [a_check("MLM-OBJ-1")]) == {"MLM-OBJ-2"}


def test_a_requirement_without_a_mutant_is_found() -> None:
    assert unbroken(["MLM-OBJ-1", "MLM-OBJ-2"], [a_mutant("MLM-OBJ-2")]) == {"MLM-OBJ-1"}


@pytest.mark.parametrize("requirement", ["MLM-OBJ-99", "MLM-OBJ-1, MLM-OBJ-2", ""])
def test_a_check_or_a_mutant_of_no_requirement_is_found(requirement: str) -> None:
    assert aimless(IDS, [a_check("MLM-OBJ-1"), a_check(requirement, "lost")]) == {"lost"}
    assert aimless(IDS, [a_mutant(requirement)]) == {"wrong"}


def test_a_repeated_id_is_found() -> None:
    checks = [a_check("MLM-OBJ-1"), a_check("MLM-OBJ-2"), a_check("MLM-OBJ-1", port="loss")]
    assert repeated(check.id for check in checks) == {"MLM-OBJ-1/holds"}


@pytest.mark.parametrize(
    ("mutants", "left"),
    [
        ([], {"MLM-OBJ-1/a on score", "MLM-OBJ-1/b on score", "MLM-OBJ-1/c on loss"}),
        ([a_mutant("MLM-OBJ-1")], {"MLM-OBJ-1/a on score", "MLM-OBJ-1/b on score"}),
        ([a_mutant("MLM-OBJ-1", check="a")], {"MLM-OBJ-1/b on score", "MLM-OBJ-1/c on loss"}),
        ([a_mutant("MLM-OBJ-1", "loss", check="d")], {"MLM-OBJ-1/c on loss"}),
        ([a_mutant("MLM-OBJ-2", "loss")], {"MLM-OBJ-1/c on loss"}),
    ],
)
def test_a_check_that_no_mutant_is_there_to_fail_is_found(
    mutants: list[Mutant], left: set[str]
) -> None:
    checks = [
        a_check("MLM-OBJ-1", "a"),
        a_check("MLM-OBJ-1", "b"),
        a_check("MLM-OBJ-1", "c", "loss"),
    ]
    assert left <= uncaught(checks, mutants)


def test_a_caught_check_is_not_reported() -> None:
    checks = [a_check("MLM-OBJ-1", "a"), a_check("MLM-OBJ-1", "loss_c", "loss")]
    assert uncaught(checks, [a_mutant("MLM-OBJ-1", "score", "loss")]) == set()
    named = [a_mutant("MLM-OBJ-1", check="a"), a_mutant("MLM-OBJ-1", "loss", check="{}_c")]
    assert uncaught(checks, named) == set()


@pytest.mark.parametrize(
    "mutant",
    [
        a_mutant("MLM-OBJ-1", "loss"),
        a_mutant("MLM-OBJ-2"),
        a_mutant("MLM-OBJ-1", check="another"),
        a_mutant("MLM-OBJ-1", "score", "mask"),
    ],
)
def test_a_mutant_that_points_at_nothing_is_found(mutant: Mutant) -> None:
    assert len(misdirected([a_check("MLM-OBJ-1")], [mutant])) == 1


def test_a_mention_of_what_does_not_exist_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "a.md").write_text("MLM-OBJ-1, MLM-SEL-77 and MLM-OBJ-1", encoding="utf-8")
    (folder / "b.py").write_text("# MLM-SEL-77\n", encoding="utf-8")
    (folder / "c.bin").write_text("MLM-SEL-77", encoding="utf-8")
    found = mentions([folder])
    assert dangling(IDS, found, {}) == {"docs/a.md: MLM-SEL-77", "docs/b.py: MLM-SEL-77"}
    allowed = {"docs/a.md": {"MLM-SEL-77"}}
    assert dangling(IDS, found, allowed) == {"docs/b.py: MLM-SEL-77"}


def ports_of(chapter: str) -> dict[str, set[int]]:
    """By port, the numbers of the requirements that the chapter says it shows."""
    page = (ROOT / "docs" / "spec" / f"{chapter}.md").read_text(encoding="utf-8")
    paragraph = page.split("**Observed by** ")[1].split("\n\n")[0].replace("\n", " ")
    found = {}
    for port, numbers in OBSERVED.findall(paragraph):
        ends = [part.split(" … ") for part in numbers.split(", ")]
        found[port] = {n for end in ends for n in range(int(end[0]), int(end[-1]) + 1)}
    return found


@pytest.mark.parametrize("chapter", sorted({id.split("-")[1] for id in IDS}))
def test_a_chapter_names_the_ports_it_is_checked_on(chapter: str) -> None:
    checked: dict[str, set[int]] = {}
    for check in CHECKS:
        _, own, number = check.requirement.split("-")
        if own == chapter:
            checked.setdefault(check.port, set()).add(int(number))
    assert ports_of(chapter) == checked
