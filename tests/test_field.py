"""The field, without any of its packages: the registry, the run, the reports."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from mlm_conformance import runner
from mlm_conformance.field.accuracy.league import not_reached
from mlm_conformance.field.registry import PEERS, REQUIREMENTS, Peer, chosen
from mlm_conformance.field.report import COMMAND, markdown, print_field
from mlm_conformance.field.results import FieldReport, PeerResult, Verdict
from mlm_conformance.field.run import asked, check_field, check_peer, run_field
from mlm_conformance.field.sampling import require, seed_of, why_not
from mlm_conformance.outcomes import BadCallError, Outcome
from mlm_conformance.resolve import TargetError
from mlm_conformance.results import CheckResult, RequirementResult, RunReport, Worst
from rich.console import Console

from mlm_spec import Bernoulli, Corruption, FixedCount, MaskingPolicy, Span, WholeWord, text

ROOT = Path(__file__).resolve().parents[1]
ADAPTERS = ROOT / "conformance" / "mlm_conformance" / "field"
OWN = {"json": "the standard library"}  # a package that is always there
HERE = Peer("here", "Here", "a.b:c", OWN, "How it is called.", {"MLM-OBJ-10": "https://x.y/1"})
TEXT = {requirement.id: requirement for requirement in text.load()}
ABSENT = Peer("absent", "Absent", "d.e:f", {"no_such_package_at_all": "no-such"}, "Never.")


def _requirement(
    name: str, outcome: Outcome, message: str = "", ratio: float = 0.5
) -> RequirementResult:
    words = TEXT[name]
    worst = Worst(ratio, ratio * 1e-6, 1e-6, "loss", "B=2 T=1 V=2")
    check = CheckResult(name, "a_check", "loss", False, outcome, 3, {}, worst, message, 0.1)
    return RequirementResult(
        name, words.chapter, words.level, words.title, words.statement, (check,)
    )


def _report(*requirements: RequirementResult, interrupted: bool = False) -> RunReport:
    return RunReport(
        "a.b:c", "cpu", "ci", 0, "0.1", {}, "a machine", "2026-01-01T00:00:00+00:00", 1.0,
        requirements, interrupted=interrupted,
    )  # fmt: skip


PASSES = _report(_requirement("MLM-OBJ-9", Outcome.PASS))
FAILS = _report(
    _requirement("MLM-OBJ-9", Outcome.PASS),
    _requirement("MLM-OBJ-10", Outcome.FAIL, "loss is 4, should be 1 ± 1e-06 [B=4 T=1 V=2]", 3e6),
    _requirement("MLM-OBJ-11", Outcome.FAIL, "loss is nan, should be 0.0 [B=1 T=1 V=1]"),
)
BREAKS = _report(_requirement("MLM-OBJ-9", Outcome.ERROR, "the process died"))
SILENT = _report(_requirement("MLM-OBJ-9", Outcome.NOT_CLAIMED, "no loss"))


def _field(*reports: RunReport) -> FieldReport:
    found = iter(reports)
    return check_field([HERE] * len(reports), judge=lambda target, only: next(found))


def _printed(found: FieldReport) -> str:
    screen = Console(file=StringIO(), width=120)
    print_field(found, screen)
    return screen.file.getvalue()  # type: ignore[attr-defined]


def test_names_titles_and_targets_are_unique() -> None:
    for part in ("name", "title", "target"):
        values = [getattr(peer, part) for peer in PEERS]
        assert len(set(values)) == len(values)


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_each_target_is_a_function_of_its_module_that_takes_nothing(peer: Peer) -> None:
    module, _, attribute = peer.target.partition(":")
    tree = ast.parse((ADAPTERS / f"{module.rpartition('.')[2]}.py").read_text())
    makers = {n.name: n.args for n in tree.body if isinstance(n, ast.FunctionDef)}
    assert module.startswith("mlm_conformance.field.")
    assert not [*makers[attribute].args, *makers[attribute].kwonlyargs]


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_each_package_that_an_adapter_imports_is_among_its_packages(peer: Peer) -> None:
    """Otherwise a missing one would be an error and not "not run"."""
    own = {"mlm_conformance", "mlm_spec", "numpy", "ml_dtypes", "__future__"}
    module = peer.target.partition(":")[0].rpartition(".")[2]
    tree = ast.parse((ADAPTERS / f"{module}.py").read_text())
    imported = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    imported |= {str(n.module) for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    roots = {name.partition(".")[0] for name in imported} - own - sys.stdlib_module_names
    assert roots <= set(peer.packages)


def test_the_registry_and_the_run_import_no_framework() -> None:
    frameworks = {module for peer in PEERS for module in peer.packages}
    code = (
        "import sys; import mlm_conformance.field.run, mlm_conformance.field.sampling; "
        f"print(*sorted(set(sys.modules) & {frameworks!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_upstream_links_belong_to_requirements_that_exist() -> None:
    for peer in PEERS:
        assert set(peer.upstream) <= set(TEXT)
        for link in peer.upstream.values():
            assert re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+/(issues|pull)/\d+", link)


def test_each_requirement_that_is_asked_for_exists_and_has_a_check() -> None:
    assert runner.unresolved(REQUIREMENTS) == []
    for prefix in REQUIREMENTS:
        assert runner.plan([prefix])


def test_what_is_not_asked_is_known_left_out_and_said_with_its_reason() -> None:
    spared = replace(HERE, not_asked={"MLM-COR-5": "it has no weights"})
    assert set(asked(HERE)) - set(asked(spared)) == {"MLM-COR-5"}
    page = markdown(check_field([spared], judge=lambda target, only: PASSES))
    assert "- Here: MLM-COR-5; it has no weights." in page
    for peer in PEERS:
        assert set(peer.not_asked) <= set(asked(HERE))


def test_every_package_of_the_field_is_pinned_exactly() -> None:
    lines = (ROOT / "conformance" / "field-constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", pin) for pin in pins)
    pinned = {pin.partition("==")[0].lower().replace("_", "-") for pin in pins}
    assert {package for peer in PEERS for package in peer.packages.values()} <= pinned


def test_names_choose_in_the_order_of_the_registry() -> None:
    assert [p.name for p in chosen(["hf-bert", "torch-mean"])] == ["torch-mean", "hf-bert"]
    assert chosen() == list(PEERS)


def test_an_unknown_name_is_a_bad_call_that_lists_the_known_ones() -> None:
    with pytest.raises(BadCallError, match=r"called hf-brt; there are: .*hf-bert"):
        run_field(["hf-brt"])


def test_a_missing_package_is_not_run_and_said_loudly() -> None:
    found = check_field([ABSENT, HERE], judge=lambda target, only: PASSES)
    assert [r.verdict for r in found.results] == [Verdict.NOT_RUN, Verdict.CONFORMS]
    assert found.exit_status == 3
    page = markdown(found)
    assert page.index("## Not run: 1 of 2") < page.index("## Verdicts")
    for said in (page, _printed(found)):
        assert "not installed: no-such" in said
    assert "NOT RUN absent" in _printed(found)


def test_a_missing_package_is_found_without_asking_the_suite() -> None:
    assert find_spec("no_such_package_at_all") is None
    assert check_peer(ABSENT, judge=None).report is None


@pytest.mark.parametrize("beside", [PASSES, SILENT, BREAKS])
def test_a_failure_is_hidden_by_nothing_beside_it(beside: RunReport) -> None:
    found = _field(beside, FAILS)
    assert found.results[1].verdict is Verdict.FAILS
    assert found.exit_status == 1


@pytest.mark.parametrize(
    ("reports", "status"),
    [((PASSES, PASSES), 0), ((BREAKS, SILENT), 2), ((SILENT, PASSES), 3), ((), 3)],
)
def test_no_verdict_is_never_a_success(reports: tuple[RunReport, ...], status: int) -> None:
    assert _field(*reports).exit_status == status


def test_an_error_hides_a_failure() -> None:
    both = _report(*BREAKS.requirements, *FAILS.requirements[1:])
    (result,) = _field(both).results
    assert result.verdict is Verdict.ERROR
    assert "MLM-OBJ-9: the process died" in result.reason


def test_an_implementation_that_no_check_looks_at_has_no_verdict() -> None:
    (result,) = _field(SILENT).results
    assert (result.verdict, result.judged) == (Verdict.NOT_RUN, 0)
    assert result.reason == "the suite has no check for what it offers"


@pytest.mark.parametrize("error", [TargetError("it cannot be loaded"), ZeroDivisionError("oh")])
def test_what_breaks_is_an_error_and_the_rest_goes_on(error: Exception) -> None:
    def judge(target: str, only: Sequence[str]) -> RunReport:
        if target == "x:y":
            raise error
        return PASSES

    found = check_field([replace(HERE, target="x:y"), HERE], judge=judge)
    assert [r.verdict for r in found.results] == [Verdict.ERROR, Verdict.CONFORMS]
    assert str(error) in found.results[0].reason
    assert found.exit_status == 2


@pytest.mark.parametrize("how", ["raised", "reported"])
def test_an_interrupted_run_says_what_it_did_not_reach(how: str) -> None:
    def judge(target: str, only: Sequence[str]) -> RunReport:
        if how == "raised":
            raise KeyboardInterrupt
        return replace(PASSES, interrupted=True)

    found = check_field([HERE, HERE], judge=judge)
    assert found.exit_status == 130
    assert [r.reason for r in found.results] == ["interrupted", "interrupted"]


def test_the_first_line_of_the_report_is_the_command_that_makes_it() -> None:
    assert COMMAND in markdown(_field(PASSES)).splitlines()[0]
    assert COMMAND in (ROOT / "Makefile").read_text()


def test_a_finding_has_its_statement_the_case_the_error_and_the_link() -> None:
    page = markdown(_field(FAILS))
    finding = page[page.index("**MLM-OBJ-10**") : page.index("**MLM-OBJ-11**")]
    assert TEXT["MLM-OBJ-10"].statement in finding
    assert "loss is 4, should be 1 ± 1e-06 [B=4 T=1 V=2]" in finding
    assert "error 3, bound 1e-06" in finding
    assert "Upstream: <https://x.y/1>." in finding


def test_a_finding_without_a_known_report_says_so() -> None:
    page = markdown(_field(FAILS))
    assert page[page.index("**MLM-OBJ-11**") :].rstrip().endswith("no report known to us.")


def test_an_error_within_its_bound_is_not_called_the_largest() -> None:
    assert "Largest error" not in markdown(_field(FAILS)).partition("**MLM-OBJ-11**")[2]


def test_the_table_counts_only_what_was_judged() -> None:
    assert "| Here | fails | 1 of 3 | MLM-OBJ-10, MLM-OBJ-11 |" in markdown(_field(FAILS))
    assert "1 of 3" in _printed(_field(FAILS))


def test_the_json_carries_the_whole_report_back() -> None:
    data = json.loads(json.dumps(_field(FAILS).to_json(), allow_nan=False))
    (entry,) = data["results"]
    assert (entry["verdict"], data["exit_status"]) == ("fails", 1)
    assert RunReport.from_json(entry["report"]) == FAILS


def test_a_run_writes_what_it_is_asked_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("mlm_conformance.field.run.chosen", lambda only: [HERE])
    monkeypatch.setattr("mlm_conformance.field.run.run", lambda target, **options: FAILS)
    assert run_field(["here"], tmp_path / "r.json", tmp_path / "r.md") == 1
    data = json.loads((tmp_path / "r.json").read_text())
    assert (data["format"], data["accuracy"]) == ("mlm-spec-field/2", None)
    assert (tmp_path / "r.md").read_text().startswith("<!-- Generated by `mlm-spec field")
    assert "(1 of 1) here: fails" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("only", "results", "has_league"), [([], 1, True), (["accuracy"], 0, True), (["x"], 1, False)]
)
def test_the_accuracy_league_runs_with_everything_and_by_its_name(
    only: list[str], results: int, has_league: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    peers = [HERE] * results
    monkeypatch.setattr("mlm_conformance.field.run.chosen", lambda names: peers)
    monkeypatch.setattr("mlm_conformance.field.run.run", lambda target, **options: PASSES)
    league = replace(not_reached(), interrupted=False)
    monkeypatch.setattr("mlm_conformance.field.run.run_league", lambda say: league)
    status = run_field(only, tmp_path / "r.json", tmp_path / "r.md")
    data = json.loads((tmp_path / "r.json").read_text())
    assert len(data["results"]) == results
    assert (data["accuracy"] is not None) == has_league
    assert ("## The accuracy league" in (tmp_path / "r.md").read_text()) == has_league
    assert status == (3 if has_league else 0)


def test_an_interrupted_run_does_not_begin_the_league(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = replace(PASSES, interrupted=True)
    monkeypatch.setattr("mlm_conformance.field.run.chosen", lambda names: [HERE])
    monkeypatch.setattr("mlm_conformance.field.run.run", lambda target, **options: stopped)
    assert run_field([], tmp_path / "r.json") == 130
    entries = json.loads((tmp_path / "r.json").read_text())["accuracy"]["entries"]
    assert {entry["problem"] for entry in entries} == {"interrupted"}


def test_the_name_of_the_league_is_no_peer() -> None:
    assert chosen(["accuracy"]) == []
    assert [peer.name for peer in chosen(["accuracy", "torch-sum"])] == ["torch-sum"]


def test_the_committed_report_covers_every_implementation() -> None:
    page = (ROOT / "docs" / "field-report.md").read_text()
    assert COMMAND in page.splitlines()[0]
    for peer in PEERS:
        assert f"| {peer.title} | " in page


def _policy(law: object, *shown: object, **rest: object) -> MaskingPolicy:
    rest = {"vocab_size": 9, "special_ids": (3,), **rest}
    return MaskingPolicy(law, Corruption(*shown), mask_id=3, **rest)  # type: ignore[arg-type]


BERT = ("4/5", "1/10", "1/10")


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        (_policy(Bernoulli("1/2"), *BERT), None),
        (_policy(Bernoulli("1/2"), *BERT, pool="all"), None),
        (_policy(WholeWord("1/2"), 1, 0, 0, "word"), "whole words"),
        (_policy(FixedCount("1/2"), 1, 0, 0), "a fixed count"),
        (_policy(Span("1/2", ("1",)), 1, 0, 0), "spans"),
        (_policy(Bernoulli("1/2"), *BERT, "word"), "on its own"),
        (_policy(Bernoulli("1/2"), 1, 0, 0, "word"), None),
        (_policy(Bernoulli("1/2"), *BERT, pool=(4, 5)), "random replacements"),
        (_policy(Bernoulli("1/2"), "1/2", 0, "1/2", pool=(4, 5)), None),
        (_policy(Bernoulli("1/2"), *BERT, special_ids=()), "the mask token is special"),
        (_policy(Bernoulli("1/2"), *BERT, vocab_size=2**20), None),
        (_policy(Bernoulli("1/2"), *BERT, vocab_size=2**20 + 1), "tokenizer"),
    ],
)
def test_what_a_masker_has_no_option_for_is_refused_with_the_reason(
    policy: MaskingPolicy, reason: str | None
) -> None:
    found = why_not(policy, (Bernoulli,))
    if reason is None:
        assert found is None
        require(found)
    else:
        assert found is not None
        assert reason in found
        with pytest.raises(NotImplementedError, match=reason):
            require(found)


def test_the_seed_of_a_call_depends_on_all_of_it_and_on_nothing_else() -> None:
    policy = _policy(Bernoulli("1/2"), 1, 0, 0)
    tokens, eligible = np.arange(6).reshape(2, 3), np.ones((2, 3), np.bool_)
    other = eligible.copy()
    other[1, 2] = False
    calls = [
        (tokens, eligible, policy, 4),
        (tokens + 1, eligible, policy, 4),
        (tokens.reshape(3, 2), eligible.reshape(3, 2), policy, 4),
        (tokens, other, policy, 4),
        (tokens, eligible, replace(policy, mask_id=4), 4),
        (tokens, eligible, policy, 5),
    ]
    seeds = [seed_of(*call) for call in calls]
    assert len(set(seeds)) == len(calls)
    assert seeds == [seed_of(*call) for call in calls]
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_each_problem_has_a_word_of_its_own() -> None:
    results = [PeerResult(HERE, None, "gone"), PeerResult(HERE, None, "broke", broken=True)]
    assert [r.verdict for r in results] == [Verdict.NOT_RUN, Verdict.ERROR]
    assert [r.reason for r in results] == ["gone", "broke"]
