"""What the reports say, and that none of them can make anything but a pass look like one."""

from __future__ import annotations

import io
import json
import math
import os
import re
import stat
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import matplotlib
import pytest
from mlm_conformance.outcomes import BadCallError, Outcome, combine, exit_status
from mlm_conformance.reports import html_report, json_report, junit, plot, summary, terminal
from mlm_conformance.reports.files import require_writable, write_atomically
from mlm_conformance.results import CheckResult, Progress, RequirementResult, RunReport, Worst
from rich.console import Console
from rich.text import Text

from mlm_spec.text import load

HOSTILE = "</script><script>alert('x')</script> & \"q\" \x00\x1b[31m"


def a_worst(ratio: float, what: str = "sum") -> Worst:
    return Worst(ratio, ratio * 4e-7, 4e-7, what, "B=2 T=8 V=31 float32")


def a_check(
    requirement: str,
    outcome: Outcome = Outcome.PASS,
    message: str = "",
    worst: Worst | None = None,
    consequence_of: str | None = None,
    name: str = "value_is_within_the_bound",
) -> CheckResult:
    failed = outcome is Outcome.FAIL
    return CheckResult(
        requirement=requirement,
        name=name,
        port="score",
        theorem=False,
        outcome=outcome,
        examples=100 if outcome in (Outcome.PASS, Outcome.FAIL) else 0,
        saw={"selected": 812, "improbable": 9} if outcome is Outcome.PASS else {},
        worst=worst,
        message=message,
        seconds=0.25,
        failure_file=f"mlm-spec-failures/{requirement}.json" if failed else None,
        reproduction="logits = np.zeros((1, 1, 2), np.float32)\nport.score(logits)"
        if failed
        else None,
        consequence_of=consequence_of,
    )


def a_requirement(id: str, *checks: CheckResult) -> RequirementResult:
    return RequirementResult(
        id=id,
        chapter=id.split("-")[1],
        level="MUST",
        title=f"The title of {id}",
        statement=f"The statement of {id} holds for every batch, whatever it contains.",
        checks=checks,
    )


def with_outcome(id: str, outcome: Outcome, message: str = "") -> RequirementResult:
    return a_requirement(id, a_check(id, outcome, message))


def a_report(*requirements: RequirementResult, **changes: object) -> RunReport:
    report = RunReport(
        target="torch",
        device="cpu",
        profile="ci",
        seed=2**64 - 1,
        spec_version="0.1",
        versions={"python": "3.11.9", "numpy": "2.4.0", "torch": "2.13.0"},
        platform="Linux x86_64",
        started="2025-11-23T11:02:00+00:00",
        seconds=61.5,
        requirements=requirements,
    )
    return replace(report, **changes)  # type: ignore[arg-type]


def a_passing_report() -> RunReport:
    chapters = {"OBJ": 12, "RNG": 6, "SEL": 12, "COR": 9, "LIK": 10, "GRA": 7}
    requirements = [
        a_requirement(
            f"MLM-{chapter}-{n}",
            a_check(
                f"MLM-{chapter}-{n}",
                worst=a_worst(10 ** (-n / 2)) if chapter in ("OBJ", "LIK", "GRA") else None,
            ),
        )
        for chapter, total in chapters.items()
        for n in range(1, total + 1)
    ]
    reason = "the target has no method head"
    requirements += [
        with_outcome(f"MLM-HED-{n}", Outcome.NOT_CLAIMED, reason) for n in range(1, 10)
    ]
    return a_report(*requirements)


def a_failing_report() -> RunReport:
    """Every outcome, a first divergence, consequences, exact and infinite ratios."""
    message = "sum is 2.31, should be 2.29 ± 4e-7 [B=2 T=8 N=3 float32, any-order bound]"
    first = a_requirement(
        "MLM-LIK-4",
        a_check("MLM-LIK-4", Outcome.FAIL, message, a_worst(5e4, "log_likelihood")),
    )
    follows = a_requirement(
        "MLM-OBJ-2",
        a_check("MLM-OBJ-2", Outcome.FAIL, message, a_worst(math.inf), "MLM-LIK-4"),
    )
    alone = a_requirement(
        "MLM-COR-1",
        a_check("MLM-COR-1", Outcome.FAIL, "inputs[0, 3] is 7 and the position is not selected"),
    )
    return a_report(
        follows,
        a_requirement("MLM-OBJ-3", a_check("MLM-OBJ-3", worst=a_worst(0.0))),
        a_requirement("MLM-OBJ-5", a_check("MLM-OBJ-5", worst=a_worst(0.03))),
        a_requirement("MLM-OBJ-6", a_check("MLM-OBJ-6", worst=a_worst(0.4))),
        alone,
        a_requirement("MLM-LIK-1", a_check("MLM-LIK-1", worst=a_worst(0.1))),
        first,
        a_requirement("MLM-GRA-1", a_check("MLM-GRA-1", worst=a_worst(1.0))),
        with_outcome("MLM-HED-1", Outcome.NOT_CLAIMED, "the target has no method head"),
        with_outcome("MLM-HED-2", Outcome.NOT_CLAIMED, "the target has no method head"),
        with_outcome("MLM-HED-8", Outcome.NOT_RUN, "peak memory cannot be read on cpu"),
        with_outcome("MLM-ERR-7", Outcome.WAIVED, "reason and link of the waiver"),
        with_outcome("MLM-ERR-8", Outcome.ERROR, "the worker died: signal 11"),
        first_failure="MLM-LIK-4",
        first_stage="likelihood",
    )


REPORTS = (a_passing_report, a_failing_report, a_report)


def shown(report: RunReport, width: int = 100) -> str:
    out = io.StringIO()
    terminal.print_report(report, Console(file=out, width=width, force_terminal=False))
    return out.getvalue()


# --- outcomes


@pytest.mark.parametrize(
    ("outcomes", "whole"),
    [
        ("pass", "pass"),
        ("pass, not claimed", "pass"),
        ("pass, not run", "not run"),
        ("pass, waived, not run", "waived"),
        ("pass, waived, error", "error"),
        ("pass, waived, error, not run, fail", "fail"),
        ("not claimed", "not claimed"),
        ("not claimed, not run", "not run"),
        ("", "not run"),
    ],
)
def test_no_outcome_hides_behind_a_pass(outcomes: str, whole: str) -> None:
    assert combine(Outcome(o) for o in outcomes.split(", ") if o) is Outcome(whole)


@pytest.mark.parametrize(
    ("outcomes", "status"),
    [
        ("pass", 0),
        ("pass, not claimed, not run, waived", 0),
        ("pass, error", 2),
        ("pass, error, fail", 1),
        ("fail", 1),
        ("error, not claimed", 2),
        ("not claimed", 3),
        ("not run", 3),
        ("waived", 3),
        ("not claimed, not run, waived", 3),
        ("", 3),
    ],
)
def test_exit_status_is_0_only_if_something_passed_and_nothing_failed(
    outcomes: str, status: int
) -> None:
    found = [o for o in outcomes.split(", ") if o]
    report = a_report(*(with_outcome(f"MLM-OBJ-{i}", Outcome(o)) for i, o in enumerate(found, 1)))
    assert exit_status(report) == report.exit_status == status


def test_an_interrupted_run_never_exits_0() -> None:
    assert replace(a_passing_report(), interrupted=True).exit_status == 130
    assert replace(a_passing_report(), interrupted=True).verdict.startswith("INTERRUPTED")


@pytest.mark.parametrize(
    ("report", "word"),
    [
        (a_report(with_outcome("MLM-OBJ-1", Outcome.PASS)), "CONFORMS: "),
        (a_passing_report(), "CONFORMS IN ALL THAT IT CLAIMS: "),
        (replace(a_passing_report(), only=("MLM-OBJ",)), "PASSES (only MLM-OBJ): "),
        (
            a_report(
                with_outcome("MLM-OBJ-1", Outcome.PASS), with_outcome("MLM-OBJ-2", Outcome.NOT_RUN)
            ),
            "PASSES IN WHAT RAN: ",
        ),
        (a_failing_report(), "FAILS: "),
        (a_report(with_outcome("MLM-OBJ-1", Outcome.ERROR)), "ERROR: "),
        (a_report(with_outcome("MLM-OBJ-1", Outcome.NOT_RUN)), "NOTHING PASSED: "),
        (a_report(), "NOTHING PASSED: "),
    ],
)
def test_only_a_whole_pass_conforms(report: RunReport, word: str) -> None:
    assert report.verdict.startswith(word)


def test_every_number_of_the_verdict_has_its_denominator() -> None:
    for outcome, number in a_failing_report().counts.items():
        assert f"{number} of 13" in a_failing_report().verdict, outcome


def test_nothing_ran_is_said_as_0_of_all() -> None:
    assert "0 of 1 pass" in a_report(with_outcome("MLM-OBJ-1", Outcome.NOT_RUN)).verdict


@pytest.mark.parametrize("ratio", [1.0000001, math.inf, math.nan])
def test_a_pass_beyond_its_bound_cannot_be_written_down(ratio: float) -> None:
    with pytest.raises(ValueError, match="passes beyond its bound"):
        a_check("MLM-OBJ-1", worst=a_worst(ratio))


def test_a_pass_on_no_example_cannot_be_written_down() -> None:
    with pytest.raises(ValueError, match="passes on no example"):
        replace(a_check("MLM-OBJ-1"), examples=0)


# --- JSON


@pytest.mark.parametrize("make", REPORTS)
def test_a_report_comes_back_from_json_unchanged(make: Callable[[], RunReport]) -> None:
    report = make()
    assert json_report.load(json_report.render(report)) == report


@pytest.mark.parametrize("make", REPORTS)
def test_json_follows_the_published_schema(make: Callable[[], RunReport]) -> None:
    schema = json_report.schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(json.loads(json_report.render(make())))


def test_json_holds_no_number_that_json_lacks() -> None:
    def refuse(name: str) -> None:
        raise AssertionError(name)

    json.loads(json_report.render(a_failing_report()), parse_constant=refuse)


def objects(schema: object) -> list[dict[str, Any]]:
    """Every schema of an object inside a schema."""
    if isinstance(schema, list):
        return [found for part in schema for found in objects(part)]
    if not isinstance(schema, dict):
        return []
    own = [schema] if schema.get("type") == "object" else []
    return own + [found for part in schema.values() for found in objects(part)]


def test_every_object_of_the_schema_is_closed_and_whole() -> None:
    found = objects(json_report.schema())
    assert len(found) >= 6
    for one in found:
        assert one["additionalProperties"] is not True
        assert sorted(one.get("required", ())) == sorted(one.get("properties", ()))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data.update(more=1),
        lambda data: data.pop("seed"),
        lambda data: data["counts"].update({"skipped": 0}),
        lambda data: data["requirements"][0].update(outcome="skipped"),
        lambda data: data["requirements"][0]["checks"][0].update(examples=-1),
        lambda data: data.update(exit_status=4),
    ],
)
def test_the_schema_refuses_what_is_no_report(spoil: Callable[[dict[str, Any]], object]) -> None:
    data = a_failing_report().to_json()
    spoil(data)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(json_report.schema()).validate(data)


def test_a_file_that_calls_a_failure_a_pass_is_refused() -> None:
    data = a_failing_report().to_json()
    failed = next(r for r in data["requirements"] if r["outcome"] == "fail")
    failed["outcome"] = "pass"
    with pytest.raises(ValueError, match="its checks say fail"):
        RunReport.from_json(data)


def test_another_format_is_refused() -> None:
    with pytest.raises(ValueError, match="mlm-spec-report/3"):
        RunReport.from_json({**a_report().to_json(), "format": "mlm-spec-report/3"})


# --- JUnit


def test_only_a_pass_is_a_passed_test_case() -> None:
    report = a_failing_report()
    outcomes = {r.id: r.outcome for r in report.requirements}
    children = {"fail": "failure", "error": "error"}
    cases = list(ElementTree.fromstring(junit.render(report)).iter("testcase"))
    assert len(cases) == len(report.requirements)
    for case in cases:
        told = {child.tag for child in case} - {"system-out"}
        outcome = outcomes[case.attrib["classname"]]
        wanted = set() if outcome is Outcome.PASS else {children.get(outcome.value, "skipped")}
        assert told == wanted, case.attrib


def test_junit_counts_are_those_of_its_test_cases() -> None:
    root = ElementTree.fromstring(junit.render(a_failing_report()))
    for element in (root, *root.findall("testsuite")):
        for attribute, tag in (
            ("tests", "testcase"),
            ("failures", "failure"),
            ("errors", "error"),
            ("skipped", "skipped"),
        ):
            assert element.attrib[attribute] == str(len(list(element.iter(tag)))), attribute


def test_junit_says_loudly_why_a_check_did_not_run() -> None:
    root = ElementTree.fromstring(junit.render(a_failing_report()))
    messages = {element.attrib["message"] for element in root.iter("skipped")}
    assert "NOT CLAIMED: the target has no method head" in messages
    assert "NOT RUN: peak memory cannot be read on cpu" in messages
    assert "WAIVED: reason and link of the waiver" in messages


def test_a_requirement_without_a_check_is_skipped_in_junit() -> None:
    root = ElementTree.fromstring(junit.render(a_report(a_requirement("MLM-OBJ-1"))))
    assert root.attrib["skipped"] == root.attrib["tests"] == "1"


def test_junit_stays_xml_whatever_a_target_says() -> None:
    report = a_report(with_outcome("MLM-OBJ-1", Outcome.FAIL, HOSTILE), note=HOSTILE)
    failure = next(ElementTree.fromstring(junit.render(report)).iter("failure"))
    assert "</script><script>alert('x')</script> & \"q\" \ufffd\ufffd[31m" in str(failure.text)


# --- HTML


class Page(HTMLParser):
    """What a page holds: its tags, each closed in order, its links and its text."""

    VOID = frozenset({"meta", "br", "path", "use", "rect"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


@pytest.mark.parametrize("make", REPORTS)
def test_the_page_needs_nothing_from_elsewhere(make: Callable[[], RunReport]) -> None:
    text = html_report.render(make())
    for tag, attributes in Page(text).tags:
        assert tag not in ("script", "link", "img", "iframe", "object", "embed", "base")
        for name in ("src", "href", "xlink:href", "action"):
            assert (attributes.get(name) or "#").startswith("#"), (tag, attributes)
        assert not any(name.startswith("on") for name in attributes)
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)


@pytest.mark.parametrize("make", REPORTS)
def test_the_page_is_the_same_for_the_same_report(make: Callable[[], RunReport]) -> None:
    first = html_report.render(make())
    with matplotlib.rc_context({"font.size": 31, "lines.markersize": 1}):
        assert html_report.render(make()) == first


def test_the_page_puts_the_verdict_first_and_the_first_divergence_before_other_failures() -> None:
    words = Page(html_report.render(a_failing_report())).words
    places = [
        words.index(part)
        for part in (
            a_failing_report().verdict,
            "3 of 13",
            "The first stage that diverged",
            "sum is 2.31, should be 2.29",
            "mlm-spec replay mlm-spec-failures/MLM-LIK-4.json",
            "MLM-COR-1 ·",
            "MLM-OBJ-2 ·",
            "may follow from MLM-LIK-4",
            "the worker died: signal 11",
            "the target has no method head",
            "All requirements",
        )
    ]
    assert places == sorted(places)


def test_every_requirement_stands_in_the_page_under_its_id() -> None:
    report = a_failing_report()
    tags = Page(html_report.render(report)).tags
    anchors = [
        attributes["id"] for tag, attributes in tags if tag == "details" and "id" in attributes
    ]
    assert anchors == [r.id for r in report.requirements]


def test_the_page_shows_what_a_target_says_and_never_runs_it() -> None:
    report = a_report(with_outcome("MLM-OBJ-1", Outcome.FAIL, HOSTILE), note=HOSTILE)
    page = Page(html_report.render(replace(report, target=HOSTILE)))
    assert "script" not in {tag for tag, _ in page.tags}
    assert "<script>alert('x')</script>" in page.words


def test_the_page_carries_formula_and_reason_where_it_is_given_the_text() -> None:
    texts = {requirement.id: requirement for requirement in load()}
    page = Page(html_report.render(a_failing_report(), texts))
    assert texts["MLM-LIK-4"].formula in page.words
    assert texts["MLM-LIK-4"].why in page.words


# --- the picture


def test_the_picture_is_well_formed_and_named() -> None:
    svg = plot.worst_svg(plot.points(a_failing_report()))
    assert svg is not None
    root = ElementTree.fromstring(svg)
    assert root.attrib["aria-labelledby"] == "plot-caption"
    assert "width" not in root.attrib
    assert "LIK-4" in "".join(root.itertext())


def test_a_report_without_bounds_has_no_picture() -> None:
    report = a_report(with_outcome("MLM-RNG-1", Outcome.PASS))
    assert plot.worst_svg(plot.points(report)) is None
    assert "<svg" not in html_report.render(report)


def test_ratios_that_a_logarithmic_axis_lacks_stand_at_its_edges() -> None:
    ratios = [0.0, 1e-300, math.inf, math.nan, 0.5, 3.0]
    low, high = plot.limits(ratios)
    assert low < 0.5 < 1 < 3.0 < high
    assert [plot.place(ratio, low, high) for ratio in ratios] == [
        (low, "<"),
        (low, "<"),
        (high, ">"),
        (high, ">"),
        (0.5, "o"),
        (3.0, "o"),
    ]


# --- the terminal


@pytest.mark.parametrize("make", REPORTS)
def test_the_last_line_on_the_terminal_is_the_verdict(make: Callable[[], RunReport]) -> None:
    assert shown(make()).splitlines()[-1] == make().verdict


def test_the_first_divergence_is_told_whole_and_before_the_rest() -> None:
    text = shown(a_failing_report())
    places = [
        text.index(part)
        for part in (
            "FIRST DIVERGENCE, seen in: likelihood (of 3 failed requirements)",
            "MLM-LIK-4",
            "The statement of MLM-LIK-4",
            "sum is 2.31, should be 2.29 ± 4e-7",
            "logits = np.zeros((1, 1, 2), np.float32)",
            "replay: mlm-spec replay mlm-spec-failures/MLM-LIK-4.json",
            "MLM-COR-1",
            "MLM-OBJ-2",
            "may follow from MLM-LIK-4",
            "ERRORS (1)",
            "NOT CLAIMED: 15.3% (2 of 13)",
            "NOT RUN: 7.6% (1 of 13)",
            "WAIVED: 7.6% (1 of 13)",
        )
    ]
    assert places == sorted(places)


@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_id_message_or_command_is_cut_on_a_narrow_terminal(width: int) -> None:
    # Text that is longer than a line is broken by the terminal, so line ends do not matter.
    text = "".join(shown(a_failing_report(), width).split())
    for part in ("MLM-HED-1,MLM-HED-2", "any-orderbound]", "mlm-spec-failures/MLM-LIK-4.json"):
        assert part in text


def test_the_table_counts_each_chapter_with_its_total() -> None:
    rows = [line.split() for line in shown(a_failing_report()).splitlines()]
    assert ["OBJ", "objective", "3", "1", "·", "·", "·", "·", "4"] in rows
    assert ["all", "5", "3", "1", "2", "1", "1", "13"] in rows


def test_a_target_cannot_steer_the_terminal_or_the_markup() -> None:
    said = "\x1b[2J\x07[bold]not markup[/bold]"
    text = shown(a_report(with_outcome("MLM-OBJ-1", Outcome.FAIL, said), note=said))
    assert "\x1b" not in text
    assert "\x07" not in text
    assert text.count("[bold]not markup[/bold]") == 2


def test_progress_in_a_log_is_one_plain_line_for_each_requirement() -> None:
    out = io.StringIO()
    with terminal.watching(Console(file=out, force_terminal=False)) as show:
        show(Progress(0, 12, "MLM-OBJ-1", None, 0.0))
        show(Progress(1, 12, "MLM-OBJ-1", Outcome.NOT_RUN, 0.25))
    assert out.getvalue() == "[ 1/12] not run     MLM-OBJ-1  0.2 s\n"


def test_progress_on_a_terminal_shows_count_id_and_time() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=120)
    with terminal.watching(console) as show:
        show(Progress(4, 12, "MLM-OBJ-5", Outcome.FAIL, 61.0))
        show(Progress(5, 12, "MLM-OBJ-6", None, 62.0))
    text = Text.from_ansi(out.getvalue()).plain
    for part in ("5 of 12", "MLM-OBJ-6", "1:02", "1 not passing, first MLM-OBJ-5"):
        assert part in text


@pytest.mark.parametrize(("part", "whole"), [(2999, 3000), (10**9 - 1, 10**9)])
def test_a_share_is_never_rounded_up_to_all(part: int, whole: int) -> None:
    assert summary.percent(part, whole).startswith("99.9%")
    assert summary.percent(whole, whole) == f"100% ({whole} of {whole})"


# --- files


def test_a_text_that_utf8_has_not_is_written_as_its_escape(tmp_path: Path) -> None:
    target = tmp_path / "report.json"
    write_atomically(target, json.dumps("odd \ud800", ensure_ascii=False))
    assert json.loads(target.read_text("utf-8")) == "odd \ud800"


def test_a_report_replaces_the_old_one_whole(tmp_path: Path) -> None:
    target = tmp_path / "report.json"
    target.write_text("old")
    target.chmod(0o640)
    write_atomically(target, "new ±")
    assert target.read_text(encoding="utf-8") == "new ±"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert list(tmp_path.iterdir()) == [target]


def test_a_link_stays_a_link_and_a_pipe_a_pipe(tmp_path: Path) -> None:
    real, link, pipe = tmp_path / "real.json", tmp_path / "link.json", tmp_path / "pipe"
    real.write_text("old")
    link.symlink_to(real)
    write_atomically(link, "new")
    assert link.is_symlink()
    assert real.read_text() == "new"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_atomically(pipe, "through")
    assert os.read(reader, 100) == b"through"
    os.close(reader)
    assert pipe.is_fifo()


def test_a_report_that_cannot_be_written_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: str, target: Path) -> None:
        raise OSError("no space")

    target = tmp_path / "report.json"
    target.write_text("old")
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="no space"):
        write_atomically(target, "new")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_path_that_cannot_be_written_is_a_bad_call(tmp_path: Path) -> None:
    with pytest.raises(BadCallError, match="does not exist"):
        require_writable(tmp_path / "missing" / "report.json")
    with pytest.raises(BadCallError, match="is a folder"):
        require_writable(tmp_path)
    require_writable(tmp_path / "report.json")
    assert list(tmp_path.iterdir()) == []
