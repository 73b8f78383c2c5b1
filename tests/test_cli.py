"""The command line: what it asks of the runner, what it writes, and how it ends."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import distribution
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy
import pytest
from checkout import ROOT
from mlm_conformance import check_command, cli, parallel, replay, runner
from mlm_conformance.outcomes import BadCallError, Outcome
from mlm_conformance.profiles import PROFILES
from mlm_conformance.reports import json_report
from mlm_conformance.resolve import DeviceMissing, FrameworkMissing, TargetError
from mlm_conformance.results import CheckResult, Progress, RequirementResult, RunReport
from mlm_conformance.text_commands import expand

from mlm_spec.text import SPEC_VERSION, load

IDS = [requirement.id for requirement in load()]

TARGETS = '''
import os

class OnlyPolicy:
    """Claims one port, and answers nothing that a requirement asks for."""

    def policy(self, fields):
        return fields


class WrongWords:
    def random_words(self, key, counter):
        return counter


class RightWords:
    def random_words(self, key, counter):
        import mlm_spec
        return mlm_spec.threefry4x32(key, counter)


class Dies:
    def random_words(self, key, counter):
        os._exit(7)


def without_framework():
    import a_framework_that_nobody_has
'''


def a_report(**outcomes: str) -> RunReport:
    """A report with one requirement for each outcome: ``a_report(MLM_OBJ_1="pass")``."""
    requirements = tuple(
        a_requirement(id.replace("_", "-"), Outcome(outcome)) for id, outcome in outcomes.items()
    )
    return RunReport(
        target="fake",
        device="cpu",
        profile="ci",
        seed=0,
        spec_version=SPEC_VERSION,
        versions={},
        platform="a machine",
        started="2025-01-01T00:00:00+00:00",
        seconds=1.0,
        requirements=requirements,
    )


def a_requirement(id: str, outcome: Outcome) -> RequirementResult:
    check = CheckResult(id, "a_check", "score", True, outcome, 1, {}, None, "what is said", 0.1)
    return RequirementResult(id, id.split("-")[1], "MUST", "A title", "A statement.", (check,))


@dataclass
class FakeRunner:
    """Stands for `runner.run`: remembers how it was called, gives a report or raises."""

    result: RunReport | BaseException = field(default_factory=lambda: a_report(MLM_OBJ_1="pass"))
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def __call__(self, target: str, **options: Any) -> RunReport:
        self.calls.append((target, options))
        options["progress"](Progress(0, 2, "MLM-OBJ-1", None, 0.0))
        options["progress"](Progress(1, 2, "MLM-OBJ-1", Outcome.FAIL, 0.1))
        if isinstance(self.result, BaseException):
            raise self.result
        return self.result


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeRunner:
    made = FakeRunner()
    monkeypatch.setattr(runner, "run", made)
    monkeypatch.chdir(tmp_path)
    return made


@pytest.fixture
def targets(tmp_path: Path) -> Path:
    """A folder with targets, to stand in while a command runs."""
    (tmp_path / "made_up.py").write_text(TARGETS)
    return tmp_path


def run(
    folder: Path, *command: str, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """A command, to its end."""
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def mlm_spec_command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run(folder, "-m", "mlm_conformance", *arguments)


# --- check: what is asked of the runner


def test_check_asks_for_a_whole_run_at_the_ci_profile_on_the_cpu(fake: FakeRunner) -> None:
    assert cli.main(["check", "fake"]) == 0
    [(target, options)] = fake.calls
    del options["progress"]
    assert target == "fake"
    assert options == {
        "device": "cpu",
        "profile": "ci",
        "seed": None,
        "only": [],
        "in_process": False,
        "time_limit": None,
    }


def test_check_passes_on_what_it_is_told(fake: FakeRunner) -> None:
    told = "--device gpu:1 --profile nightly --seed 18446744073709551615 --time-limit 2.5"
    cli.main(["check", "fake", *told.split(), "--only", "MLM-OBJ-1"])
    cli.main(["check", "fake", "--in-process"])
    assert fake.calls.pop()[1]["in_process"] is True
    [(_, options)] = fake.calls
    assert options["device"] == "gpu:1"
    assert options["profile"] == "nightly"
    assert options["seed"] == 2**64 - 1
    assert options["time_limit"] == 2.5
    assert options["only"] == ["MLM-OBJ-1"]


def test_only_names_ids_and_chapters_in_the_order_of_the_specification(fake: FakeRunner) -> None:
    cli.main(["check", "fake", "--only", "MLM-RNG", "mlm-obj-1", "--only", "MLM-OBJ-1"])
    [(_, options)] = fake.calls
    assert options["only"] == ["MLM-OBJ-1", *(id for id in IDS if id.startswith("MLM-RNG-"))]


def test_an_id_is_no_prefix_of_a_longer_number() -> None:
    assert expand(["MLM-OBJ-1"], IDS) == ["MLM-OBJ-1"]
    assert "MLM-OBJ-10" in IDS


def test_a_partial_run_says_that_it_is_one(
    fake: FakeRunner, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.main(["check", "fake", "--only", "MLM-OBJ-1"])
    assert capsys.readouterr().out.splitlines()[-1].startswith("PASSES (only MLM-OBJ-1)")


# --- check: how it ends


@pytest.mark.parametrize(
    ("outcome", "status"),
    [("pass", 0), ("fail", 1), ("error", 2), ("not claimed", 3), ("not run", 3), ("waived", 3)],
)
def test_the_exit_status_is_that_of_the_report(fake: FakeRunner, outcome: str, status: int) -> None:
    fake.result = a_report(MLM_OBJ_1=outcome)
    assert cli.main(["check", "fake"]) == status


@pytest.mark.parametrize(
    ("raised", "status"),
    [
        (TargetError("no such target"), 2),
        (FrameworkMissing("no framework"), 3),
        (DeviceMissing("no device"), 3),
        (KeyboardInterrupt(), 130),
    ],
)
def test_a_run_that_cannot_be_never_exits_0(
    fake: FakeRunner, raised: BaseException, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.result = raised
    assert cli.main(["check", "fake"]) == status
    assert f"mlm-spec: {'' if status == 2 else 'NOT RUN: '}{raised}" in (
        capsys.readouterr().err if status != 130 else f"mlm-spec: NOT RUN: {raised}"
    )


def test_ctrl_c_tells_what_was_reached(
    fake: FakeRunner, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.result = KeyboardInterrupt()
    assert cli.main(["check", "fake"]) == 130
    assert "1 of 2 requirements were reached: 1 fail" in capsys.readouterr().err


def test_an_interrupted_report_is_printed_and_written_and_exits_130(fake: FakeRunner) -> None:
    fake.result = replace(a_report(MLM_OBJ_1="pass", MLM_OBJ_2="not run"), interrupted=True)
    assert cli.main(["check", "fake", "--json", "r.json"]) == 130
    assert json.loads(Path("r.json").read_text())["exit_status"] == 130


def test_every_report_that_was_asked_for_is_written(fake: FakeRunner) -> None:
    cli.main(["check", "fake", "--json", "r.json", "--junit", "r.xml", "--html", "r.html"])
    assert json_report.load(Path("r.json").read_text()) == fake.result
    assert Path("r.xml").read_text().startswith("<?xml")
    assert Path("r.html").read_text().startswith("<!DOCTYPE html>")


def test_a_failing_run_writes_its_reports_too(fake: FakeRunner) -> None:
    fake.result = a_report(MLM_OBJ_1="fail")
    assert cli.main(["check", "fake", "--json", "r.json"]) == 1
    assert json.loads(Path("r.json").read_text())["counts"]["fail"] == 1


@pytest.mark.parametrize("form", ["json", "junit", "html"])
def test_a_missing_folder_is_a_bad_call_before_the_run(fake: FakeRunner, form: str) -> None:
    assert cli.main(["check", "fake", f"--{form}", "missing/report"]) == 2
    assert fake.calls == []


def test_two_reports_do_not_go_to_one_file(fake: FakeRunner) -> None:
    assert cli.main(["check", "fake", "--json", "report", "--html", "./report"]) == 2
    assert fake.calls == []


def test_a_report_that_is_lost_at_the_end_turns_0_into_2_and_keeps_1(
    fake: FakeRunner, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(path: str, text: str) -> None:
        raise OSError("no space")

    monkeypatch.setattr(check_command, "write_atomically", full)
    assert cli.main(["check", "fake", "--json", "r.json"]) == 2
    fake.result = a_report(MLM_OBJ_1="fail")
    assert cli.main(["check", "fake", "--json", "r.json"]) == 1
    captured = capsys.readouterr()
    assert "the json report is lost: no space" in captured.err
    assert captured.out.splitlines()[-1].startswith("FAILS: fake")


def test_an_unknown_id_is_a_bad_call_that_names_near_ones(
    fake: FakeRunner, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["check", "fake", "--only", "MLM-OBJ-111"]) == 2
    assert "near it: MLM-OBJ-1" in capsys.readouterr().err
    assert fake.calls == []


@pytest.mark.parametrize(
    "arguments",
    [
        "",
        "chek numpy",
        "check",
        "check numpy --profile slow",
        "check numpy --seed -1",
        "check numpy --seed 18446744073709551616",
        "check numpy --seed 1.5",
        "check numpy -n 0",
        "check numpy -n many",
        "check numpy --time-limit 0",
        "check numpy --time-limit inf",
        "check numpy --time-limit nan",
        "check numpy --prof quick",
        "check numpy --only",
        "show",
        "replay",
    ],
)
def test_a_command_line_that_means_nothing_exits_2(fake: FakeRunner, arguments: str) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments.split())
    assert caught.value.code == 2
    assert fake.calls == []


@pytest.mark.parametrize(
    "command",
    [
        *(f"check numpy --{form}" for form in ("json", "junit", "html")),
        *(f"field --{form}" for form in ("json", "markdown")),
        *(f"detection --{form}" for form in ("json", "markdown")),
        *(f"mutants --{form}" for form in ("json", "markdown")),
        *(f"{name} --json" for name in ("verify-reference", "soak", "identify numpy")),
        "train --backend numpy --out",
    ],
)
def test_an_empty_path_is_refused_before_anything_runs(
    command: str, fake: FakeRunner, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main([*command.split(), ""])
    assert caught.value.code == 2
    assert fake.calls == []
    option = command.split()[-1]
    assert re.search(f"argument {option}: ''.*; expected .*(file|folder)", capsys.readouterr().err)


def test_a_target_behind_only_is_refused_with_what_to_write(
    fake: FakeRunner, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["check", "--profile", "quick", "--only", "MLM-SEL-1", "MLM-LIK", "numpy"])
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert "'numpy' is no id" in said
    assert "mlm-spec check numpy --only MLM-SEL-1 MLM-LIK\n" in said


def test_a_time_limit_in_process_is_refused(fake: FakeRunner) -> None:
    assert cli.main(["check", "fake", "--in-process", "--time-limit", "5"]) == 2
    assert fake.calls == []


@pytest.mark.parametrize("command", ["check", "replay", "list", "show", "cite", "field"])
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main([command, "--help"])
    assert caught.value.code == 0
    assert f"mlm-spec {command}" in capsys.readouterr().out


# --- replay and field


@pytest.mark.parametrize("status", [0, 1, 2])
def test_replay_ends_as_the_case_does(
    status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: dict[str, Any] = {}

    def fake_replay(path: Path, **options: Any) -> tuple[int, str]:
        asked.update(path=path, **options)
        return status, "what became of it"

    monkeypatch.setattr(replay, "replay", fake_replay)
    assert cli.main(["replay", "f.json", "--target", "t", "--in-process"]) == status
    assert asked == {"path": Path("f.json"), "target": "t", "device": None, "in_process": True}
    assert capsys.readouterr().out == "what became of it\n"


def test_replay_of_no_file_is_a_bad_call(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["replay", str(tmp_path / "none.json")]) == 2
    assert "none.json" in capsys.readouterr().err


def test_field_is_asked_for_the_names_and_files_of_the_command_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[object] = []
    module = ModuleType("mlm_conformance.field.run")
    module.__dict__["run_field"] = lambda *arguments: asked.extend(arguments) or 1
    monkeypatch.setitem(sys.modules, "mlm_conformance.field.run", module)
    file = str(tmp_path / "field.json")
    assert cli.main(["field", "--only", "a", "b", "--json", file]) == 1
    assert asked == [["a", "b"], file, None]
    assert cli.main(["field", "--markdown", str(tmp_path / "missing" / "f.md")]) == 2


# --- list, show, cite


def test_list_has_one_line_for_each_requirement(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == IDS


def test_list_json_carries_the_whole_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["spec_version"] == SPEC_VERSION
    assert [r["text"] for r in data["requirements"]] == [r.text for r in load()]


def test_show_prints_a_requirement_or_a_chapter(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["show", "MLM-OBJ-1"]) == 0
    assert capsys.readouterr().out.rstrip() == load()[0].text.rstrip()
    assert cli.main(["show", "MLM-RNG"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("\n## MLM-RNG-") + 1 == sum(id.startswith("MLM-RNG-") for id in IDS)
    assert cli.main(["show", "MLM-XXX-1"]) == 2


def test_cite_names_version_and_the_form_of_an_id(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["cite"]) == 0
    text = capsys.readouterr().out
    assert f"Version {SPEC_VERSION}" in text
    assert "@misc{" in text
    assert IDS[0] in text
    assert text.count("{") == text.count("}")


def base_install(folder: Path) -> dict[str, str]:
    """An environment in which Python finds NumPy and this project, and nothing else."""
    for name in ("numpy", "numpy.libs"):
        source = Path(numpy.__file__).parent.parent / name
        if source.exists():
            (folder / name).symlink_to(source)
    (folder / "mlm_spec").symlink_to(ROOT / "mlm_spec")
    (folder / "docs").symlink_to(ROOT / "docs")
    (folder / "mlm_conformance").symlink_to(ROOT / "conformance" / "mlm_conformance")
    return {"PYTHONPATH": str(folder)}


@pytest.mark.parametrize("command", ["list", "list --json", "show MLM-LIK-1", "cite", "--version"])
def test_the_text_needs_nothing_but_numpy(tmp_path: Path, command: str) -> None:
    # -S: no site-packages.
    arguments = ("-S", "-m", "mlm_conformance", *command.split())
    ended = run(tmp_path, *arguments, environment=base_install(tmp_path))
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout


@pytest.mark.parametrize("command", ["check numpy", "replay a.json", "field"])
def test_without_the_extra_a_check_says_how_to_install_it(tmp_path: Path, command: str) -> None:
    arguments = ("-S", "-m", "mlm_conformance", *command.split())
    ended = run(tmp_path, *arguments, environment=base_install(tmp_path))
    assert ended.returncode == 2
    assert "pip install 'mlm-spec[conformance]'" in ended.stderr
    assert "hypothesis" in ended.stderr


def test_what_the_command_needs_is_what_the_extra_installs() -> None:
    extra = {
        line.partition(";")[0].partition(">")[0].strip().replace("_", "-")
        for line in distribution("mlm-spec").requires or ()
        if 'extra == "conformance"' in line.replace("'", '"')
    }
    names = {"flint": "python-flint", "ml_dtypes": "ml-dtypes"}
    assert {names.get(name, name) for name in cli.EXTRA} <= extra


def test_a_reader_that_goes_away_is_no_error() -> None:
    command = f"{sys.executable} -m mlm_conformance list --json | head -c 1"
    ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert ended.stdout == "{"
    assert ended.stderr == ""


def test_a_reader_that_goes_does_not_change_what_a_check_found() -> None:
    check = f"{sys.executable} -m mlm_conformance check numpy --profile quick --only MLM-OBJ-2"
    for command, status in ((check, 0), (f"{check} --device cuda", 2)):
        script = f"{command} 2>/dev/null | true; exit ${{PIPESTATUS[0]}}"
        assert subprocess.run(["bash", "-c", script], timeout=120).returncode == status


# --- the whole command, on targets of its own


@pytest.mark.parametrize("more", [(), ("-n", "2")])
@pytest.mark.parametrize(
    ("target", "status", "said"),
    [
        ("made_up:RightWords", 0, "PASSES (only MLM-RNG-1, MLM-OBJ-3)"),
        ("made_up:WrongWords", 1, "FIRST DIVERGENCE, seen in: words"),
        ("made_up:OnlyPolicy", 3, "NOTHING PASSED"),
        ("made_up:Dies", 2, "ERROR"),
        ("made_up:without_framework", 3, "a_framework_that_nobody_has"),
        ("made_up:Nothing", 2, "has no attribute"),
        ("no-such-backend", 2, "no backend is called"),
    ],
)
def test_check_ends_as_it_should_in_one_piece_and_in_shares(
    targets: Path, target: str, status: int, said: str, more: tuple[str, ...]
) -> None:
    only = ("--only", "MLM-RNG-1", "MLM-OBJ-3")
    ended = mlm_spec_command(targets, "check", target, "--profile", "quick", *only, *more)
    assert ended.returncode == status, ended.stderr
    assert said in ended.stdout + ended.stderr


def test_a_failing_case_is_replayed_from_the_file_that_its_report_names(targets: Path) -> None:
    check = ("check", "made_up:WrongWords", "--profile", "quick", "--only", "MLM-RNG-1")
    mlm_spec_command(targets, *check, "--json", "r.json")
    report = json_report.load((targets / "r.json").read_text())
    file = next(c.failure_file for r in report.requirements for c in r.checks if c.failure_file)
    assert mlm_spec_command(targets, "replay", file).returncode == 1
    ended = mlm_spec_command(targets, "replay", file, "--target", "made_up:RightWords")
    assert ended.returncode == 0, ended.stderr


# --- in shares


def facts(report: RunReport) -> list[object]:
    """What two runs of the same seed must agree in: everything but times."""
    checks = [replace(c, seconds=0.0) for r in report.requirements for c in r.checks]
    return [report.target, report.seed, report.versions, report.first_failure, checks]


def test_a_run_in_shares_finds_exactly_what_a_run_in_one_piece_finds(tmp_path: Path) -> None:
    command = ("check", "numpy", "--profile", "quick", "--seed", "5")
    only = ("--only", "MLM-RNG-1", "MLM-OBJ-2", "MLM-OBJ-3", "MLM-GRA-2")
    for workers in ("1", "3"):
        file = f"{workers}.json"
        ended = mlm_spec_command(tmp_path, *command, *only, "-n", workers, "--json", file)
        assert ended.returncode == 0, ended.stderr
    one, three = (json_report.load((tmp_path / f"{n}.json").read_text()) for n in (1, 3))
    assert facts(one) == facts(three)


@pytest.mark.parametrize("workers", [1, 2, 3, 7, 500])
def test_each_requirement_is_in_exactly_one_share(workers: int) -> None:
    requirements = {check.requirement for check in runner.plan()}
    shares = parallel.shared_out(runner.plan(), workers, PROFILES["quick"])
    assert sorted(id for share in shares for id in share) == sorted(requirements)
    assert len(shares) == min(workers, len(requirements))


def test_two_shares_split_no_family_of_ports() -> None:
    shares = parallel.shared_out(runner.plan(), 2, PROFILES["quick"])
    ports: dict[str, set[str]] = {}
    for check in runner.plan():
        ports.setdefault(check.requirement, set()).add(check.port)
    for family in parallel.FAMILIES:
        own = {requirement for requirement, names in ports.items() if names <= set(family)}
        assert sum(bool(own & set(share)) for share in shares) == 1


def planned(*ids: str) -> list[Any]:
    return [check for id in ids for check in runner.plan([id])]


def merged(reports: list[Any], *ids: str) -> RunReport:
    about = {"target": "t", "device": "cpu", "profile": "ci", "seed": 0}
    times = {"started": "2025-01-01T00:00:00+00:00", "seconds": 1.0}
    return parallel.merge(reports, planned(*ids), {**about, **times})


def test_shares_are_merged_in_the_order_of_the_specification() -> None:
    reports = [a_report(MLM_OBJ_2="pass"), a_report(MLM_OBJ_1="pass", MLM_OBJ_3="not run")]
    whole = merged(reports, "MLM-OBJ-1", "MLM-OBJ-2", "MLM-OBJ-3")
    assert [r.id for r in whole.requirements] == ["MLM-OBJ-1", "MLM-OBJ-2", "MLM-OBJ-3"]
    assert whole.counts[Outcome.NOT_RUN] == 1


def test_the_first_divergence_is_found_across_shares() -> None:
    reports = [a_report(MLM_GRA_1="fail"), a_report(MLM_LIK_1="fail")]
    whole = merged(reports, "MLM-LIK-1", "MLM-GRA-1")
    assert whole.first_failure == "MLM-LIK-1"
    assert [r.consequence_of for r in whole.requirements] == [None, "MLM-LIK-1"]


def test_an_interrupted_share_makes_an_interrupted_run() -> None:
    reports = [a_report(MLM_OBJ_1="pass"), replace(a_report(MLM_OBJ_2="pass"), interrupted=True)]
    assert merged(reports, "MLM-OBJ-1", "MLM-OBJ-2").exit_status == 130


def test_a_share_that_dies_is_an_error_of_each_of_its_requirements(targets: Path) -> None:
    # In the share's own process the target's death is the share's.
    command = ("check", "made_up:Dies", "--profile", "quick", "--in-process", "-n", "2")
    ended = mlm_spec_command(targets, *command, "--only", "MLM-RNG-1", "MLM-OBJ-3")
    assert ended.returncode == 2, ended.stderr
    assert "its process ended with 7, and left no report" in ended.stdout
    assert "1 of 2 ended in an error, 1 of 2 NOT CLAIMED" in ended.stdout


def test_a_step_of_progress_crosses_between_processes_unchanged() -> None:
    for outcome in (None, Outcome.NOT_CLAIMED):
        step = Progress(3, 9, "MLM-OBJ-4", outcome, 1.25)
        data = json.loads(json.dumps(parallel.step_to_json(step)))
        assert parallel.step_from_json(data) == step


def test_an_unusable_target_is_refused_by_name_in_shares_too() -> None:
    with pytest.raises(BadCallError, match="no backend is called 'nonesuch'"):
        parallel.run(
            "nonesuch",
            workers=2,
            device="cpu",
            profile="quick",
            seed=None,
            only=["MLM-RNG-1", "MLM-OBJ-3"],
            in_process=False,
            time_limit=None,
            progress=None,
        )


def heed_ctrl_c() -> None:
    """Whatever the tests themselves do: those of a job in the background are to ignore it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_ctrl_c_ends_a_run_with_130_and_leaves_no_process(tmp_path: Path, workers: str) -> None:
    command = [sys.executable, "-m", "mlm_conformance", "check", "numpy", "-n", workers]
    process = subprocess.Popen(
        [*command, "--profile", "ci"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_ctrl_c,
    )
    assert process.stderr is not None
    assert "MLM-" in process.stderr.readline()  # the first requirement is done
    children = descendants(process.pid)
    assert len(children) >= int(workers)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "reached: " in err or out.splitlines()[-1].startswith("INTERRUPTED")
    wait_until(lambda: not any(Path(f"/proc/{child}").exists() for child in children))


def test_ctrl_c_while_the_command_loads_is_an_interruption_too(tmp_path: Path) -> None:
    (tmp_path / "numpy.py").write_text("raise KeyboardInterrupt\n")
    process = mlm_spec_command(tmp_path, "list")
    assert (process.returncode, process.stderr) == (130, "mlm-spec: interrupted\n")


def descendants(pid: int) -> list[int]:
    """The processes that a process has started, and theirs (Linux)."""
    found = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        found += [int(child), *descendants(int(child))]
    return found


def wait_until(holds: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


# --- inside pytest


def suite(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    quiet = ("-q", "-p", "no:cacheprovider", "--pyargs", "mlm_conformance.suite")
    profile = ("--mlm-profile", "quick", "-k", "MLM-RNG-1 or MLM-OBJ-3")
    return run(folder, "-m", "pytest", *quiet, *profile, *arguments)


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ("", 4, "the mlm-spec suite needs a target: --mlm-backend TARGET"),
        ("--mlm-backend made_up:RightWords", 0, "NOT CLAIMED: made_up:RightWords has no score"),
        ("--mlm-backend made_up:WrongWords", 1, "mlm-spec replay mlm-spec-failures/"),
        ("--mlm-backend made_up:OnlyPolicy", 3, "NOTHING PASSED"),
        ("--mlm-backend made_up:without_framework", 3, "NOT RUN: "),
        ("--mlm-backend no-such-backend", 2, "no backend is called"),
        ("--mlm-backend numpy --mlm-seed -1", 4, "expected an integer in 0..2^64-1"),
    ],
)
def test_the_suite_inside_pytest_ends_as_the_command_does(
    targets: Path, arguments: str, status: int, said: str
) -> None:
    ended = suite(targets, *arguments.split())
    assert ended.returncode == status, ended.stdout + ended.stderr
    assert said in ended.stdout + ended.stderr


def test_an_item_of_the_suite_is_called_by_its_requirement_and_its_check(targets: Path) -> None:
    ended = suite(targets, "--mlm-backend", "made_up:RightWords", "--collect-only")
    named = {line.partition("[")[2].removesuffix("]") for line in ended.stdout.splitlines()}
    assert {check.id for check in planned("MLM-RNG-1", "MLM-OBJ-3")} <= named


def test_a_backend_that_no_suite_was_run_for_is_no_success(tmp_path: Path) -> None:
    (tmp_path / "test_one.py").write_text("def test_one():\n    pass\n")
    ended = run(tmp_path, "-m", "pytest", "-q", "--mlm-backend", "numpy", "test_one.py")
    assert ended.returncode == 3, ended.stdout
    assert run(tmp_path, "-m", "pytest", "-q", "test_one.py").returncode == 0


def test_the_plugin_that_every_pytest_loads_imports_nothing_heavy() -> None:
    program = "import sys, mlm_conformance.pytest_plugin; print(*sys.modules)"
    ended = run(ROOT, "-c", program)
    loaded = {module.partition(".")[0] for module in ended.stdout.split()}
    assert "mlm_conformance" in loaded
    assert loaded.isdisjoint({"hypothesis", "numpy", "matplotlib", "rich", "jinja2", "flint"})
