"""The kill matrix: what it takes for a fault, and that what is committed has none."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from checkout import ROOT
from mlm_conformance.cli import main
from mlm_conformance.matrix import reasons, table
from mlm_conformance.matrix.measure import Fate, Kill, fate
from mlm_conformance.matrix.table import Matrix, as_json, markdown
from mlm_conformance.mutants.library import MUTANTS, Mutant
from mlm_conformance.mutants.wrapping import around, is_portable, portable_mutants
from mlm_conformance.outcomes import BadCallError
from mlm_conformance.pools import side_by_side

from mlm_spec import text

MUSTS = [requirement.id for requirement in text.load() if requirement.level == "MUST"]
RECORD = json.loads((ROOT / "benchmarks/results/mutants.json").read_text("utf-8"))
COMMITTED = [Matrix.from_json(data) for data in RECORD["profiles"]]


def kill(requirement: str, committed: bool = True) -> Kill:
    return Kill(requirement, "a_check", 3, committed, 0.1, "it is 2, should be 1")


def a_fate(requirement: str, *kills: Kill, first: str | None = None) -> Fate:
    first = first or (kills[0].requirement if kills else None)
    return Fate(f"wrong_{requirement}", requirement, kills, first, (), 0.2)


def good() -> list[Fate]:
    """One mutant for each requirement, rejected by it; none for those that are never first.

    Where a requirement rejects none alone, MLM-ERR-18 does so too.
    """
    return [
        a_fate(id, kill(id), *([kill("MLM-ERR-18")] if id in reasons.NEVER_ALONE else []))
        for id in MUSTS
        if id not in reasons.NEVER_FIRST
    ]


def changed(requirement: str, fate: Fate) -> Matrix:
    fates = [fate if one.requirement == requirement else one for one in good()]
    return Matrix("ci", tuple(fates))


def test_a_matrix_in_which_all_is_well_has_no_fault() -> None:
    assert Matrix("ci", tuple(good())).faults == []


def test_a_survivor_is_a_fault() -> None:
    matrix = changed("MLM-SEL-1", a_fate("MLM-SEL-1"))
    assert "survivors: wrong_MLM-SEL-1" in matrix.faults
    assert [one.mutant for one in matrix.survivors] == ["wrong_MLM-SEL-1"]


def test_a_mutant_that_another_requirement_rejects_survives() -> None:
    matrix = changed("MLM-SEL-1", a_fate("MLM-SEL-1", kill("MLM-SEL-2")))
    assert "survivors: wrong_MLM-SEL-1" in matrix.faults


def test_quick_may_miss_one_in_twenty_and_ci_none() -> None:
    fates = good() * 2
    missed = [*fates, a_fate("MLM-SEL-1", first="MLM-SEL-1")]
    assert Matrix("quick", tuple(missed)).faults == []
    assert Matrix("ci", tuple(missed)).faults != []
    many = [replace(one, kills=()) for one in fates[: len(fates) // 10]]
    assert Matrix("quick", (*fates, *many)).faults != []


def test_a_requirement_that_is_never_first_is_a_fault() -> None:
    late = a_fate("MLM-SEL-1", kill("MLM-SEL-1"), first="MLM-SEL-2")
    said = "MLM-SEL-1: the first divergence of no mutant, and no reason"
    assert changed("MLM-SEL-1", late).faults == [said]


def test_a_reason_that_is_not_needed_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "NEVER_FIRST", {**reasons.NEVER_FIRST, "MLM-SEL-1": "it is so"})
    said = "MLM-SEL-1: the first divergence of a mutant, and a reason why of none"
    assert Matrix("ci", tuple(good())).faults == [said]


def test_a_requirement_that_rejects_no_mutant_alone_is_a_fault() -> None:
    among = a_fate("MLM-SEL-1", kill("MLM-SEL-1"), kill("MLM-SEL-2"))
    said = "MLM-SEL-1: rejects no mutant alone, and no reason"
    assert changed("MLM-SEL-1", among).faults == [said]


def test_a_mutant_that_only_another_requirement_rejects_is_none_that_its_own_rejects_alone() -> (
    None
):
    elsewhere = a_fate("MLM-SEL-1", kill("MLM-SEL-2"), first="MLM-SEL-1")
    said = "MLM-SEL-1: rejects no mutant alone, and no reason"
    assert said in changed("MLM-SEL-1", elsewhere).faults


@pytest.mark.parametrize("requirement", sorted(reasons.NEVER_ALONE.keys() - reasons.NEVER_FIRST))
def test_a_reason_why_none_is_rejected_alone_is_a_fault_beside_one_that_is(
    requirement: str,
) -> None:
    said = f"{requirement}: rejects a mutant alone, and a reason why none"
    assert changed(requirement, a_fate(requirement, kill(requirement))).faults == [said]


def test_a_first_divergence_in_another_stage_is_counted() -> None:
    fates = good()
    wrong = [replace(one, first="MLM-ERR-1") for one in fates if "SEL" in one.requirement]
    matrix = Matrix("ci", (*fates, *wrong))
    assert len(matrix.misplaced) == len(wrong)
    assert any("first divergence right for" in fault for fault in matrix.faults)


def test_a_check_that_breaks_is_a_fault() -> None:
    broken = replace(a_fate("MLM-SEL-1", kill("MLM-SEL-1")), broken=("a_check: ValueError: 3",))
    said = "wrong_MLM-SEL-1: a_check: ValueError: 3"
    assert changed("MLM-SEL-1", broken).faults == [said]


@pytest.mark.parametrize("profile", ["quick", "ci"])
def test_a_mutant_that_another_check_catches_is_a_fault(profile: str) -> None:
    known = next(mutant for mutant in MUTANTS if mutant.profile == "quick")
    found = replace(a_fate(known.requirement, kill(known.requirement)), mutant=known.name)
    assert changed(known.requirement, found).faults == []
    missed = replace(changed(known.requirement, replace(found, missed=("score",))), profile=profile)
    said = f"{known.name}: the check that is there for it misses it on score"
    assert missed.faults == [said]


def test_what_takes_longer_than_quick_may_be_missed_there() -> None:
    known = next(mutant for mutant in MUTANTS if mutant.profile == "ci")
    found = replace(a_fate(known.requirement), mutant=known.name, missed=("score",))
    more = replace(found, kills=(kill(known.requirement),), first=known.requirement)
    assert Matrix("quick", (*good(), more)).faults == []
    assert Matrix("ci", (*good(), more)).faults != []


def test_a_matrix_of_no_mutants_is_a_fault() -> None:
    assert Matrix("ci", (), own=True, around="torch").faults == ["no mutant was measured"]


SAID = [
    ("score raised AttributeError: no attribute 'size'", "AttributeError"),
    (
        "tokens with an axis too few: raised numpy.exceptions.AxisError (2)",
        "numpy.exceptions.AxisError",
    ),
    ("valid policy: a: refused: Raised(type='TypeError', classes=()", "TypeError"),
    ("score raised NotFiniteError: logits[0] is nan", None),
    ("logits is NaN: score raised nothing", None),
    ("it is 2, should be 1", None),
]


@pytest.mark.parametrize(("said", "name"), SAID)
def test_a_kill_names_the_exception_that_is_none_of_ours(said: str, name: str | None) -> None:
    assert replace(kill("MLM-SEL-1"), said=said).raised == name


def test_a_kill_by_an_exception_is_a_fault() -> None:
    found = replace(kill("MLM-SEL-1"), said="mask raised IndexError: 3")
    said = "wrong_MLM-SEL-1 is killed by an accident: MLM-SEL-1, mask raised IndexError: 3"
    assert changed("MLM-SEL-1", a_fate("MLM-SEL-1", found)).faults == [said]


@pytest.mark.parametrize(("name", "faults"), [("RuntimeError", 0), ("IndexError", 1)])
def test_a_kill_by_the_exception_that_a_mutant_declares_is_none(name: str, faults: int) -> None:
    (mutant,) = [m for m in MUTANTS if m.name == "a_product_without_rows_fails"]
    found = replace(kill(mutant.requirement), said=f"head raised {name}: invalid")
    fate = replace(a_fate(mutant.requirement, found), mutant=mutant.name)
    assert len(changed(mutant.requirement, fate).accidents) == faults


@pytest.mark.parametrize("mutant", [m for m in MUTANTS if m.raises], ids=lambda m: m.name)
def test_a_mutant_raises_what_it_declares(mutant: Mutant) -> None:
    assert mutant.raises in {kill.raised for kill in fate(mutant, "quick", own=True).kills}


@pytest.mark.parametrize("requirement", table.BY_COMMITTED_CASES)
def test_luck_is_a_fault_where_committed_cases_should_decide(requirement: str) -> None:
    lucky = a_fate(requirement, kill(requirement, committed=False))
    said = f"wrong_{requirement} is killed by a drawn case only"
    assert changed(requirement, lucky).faults == [said]


def test_luck_is_none_elsewhere() -> None:
    assert changed("MLM-SEL-1", a_fate("MLM-SEL-1", kill("MLM-SEL-1", False))).faults == []


def test_a_matrix_of_own_requirements_says_nothing_of_order() -> None:
    late = a_fate("MLM-SEL-1", kill("MLM-SEL-1"), first="MLM-ERR-1")
    assert replace(changed("MLM-SEL-1", late), own=True).faults == []


def test_a_matrix_of_own_requirements_says_nothing_of_company() -> None:
    among = a_fate("MLM-SEL-1", kill("MLM-SEL-1"), kill("MLM-SEL-2"))
    assert replace(changed("MLM-SEL-1", among), own=True).faults == []


def test_a_mutant_is_measured() -> None:
    mutant = next(m for m in MUTANTS if m.name == "weights_do_nothing")
    found = fate(mutant, "quick", own=True)
    assert found.is_killed
    assert found.first == "MLM-OBJ-2"
    assert [kill.committed for kill in found.kills] == [True]
    whole = fate(mutant, "quick")
    assert {kill.requirement for kill in whole.kills} > {"MLM-OBJ-2"}


# Wrong at some sizes, words and lengths: what kills them is drawn by the run's seed.
ELSEWHERE = [m for m in MUTANTS if m.profile == "ci" and ".elsewhere" in m.target]


@pytest.mark.parametrize("mutant", ELSEWHERE, ids=lambda mutant: mutant.name)
@pytest.mark.parametrize("seed", [2, 4])
def test_a_mutant_that_takes_a_size_dies_whatever_the_seed(mutant: Mutant, seed: int) -> None:
    assert fate(mutant, "ci", own=True, seed=seed).is_killed


def test_the_committed_matrices_have_every_mutant_and_no_fault() -> None:
    names = [(one.profile, one.own, one.around) for one in COMMITTED]
    assert names[:2] == [("quick", False, None), ("ci", True, None)]
    assert {one.around for one in COMMITTED if one.around} == {"torch", "jax"}
    for matrix in COMMITTED:
        assert matrix.faults == [], matrix.name
        if matrix.around is None:
            assert [fate.mutant for fate in matrix.fates] == [m.name for m in MUTANTS]


def test_the_committed_page_is_that_of_the_matrices() -> None:
    assert (ROOT / "docs/mutants.md").read_text("utf-8") == markdown(COMMITTED)


def test_the_page_says_why_a_requirement_rejects_none_alone_and_where_it_does_not_know() -> None:
    whole = [fate for fate in COMMITTED[0].fates if fate.requirement != "MLM-ERR-18"]
    last = a_fate("MLM-ERR-18", kill("MLM-ERR-18"), kill("MLM-ERR-17"))
    named = replace(last, mutant=COMMITTED[0].fates[-1].mutant)
    page = markdown([Matrix("quick", (*whole, named))])
    said = page.partition("## Requirements that never reject a mutant alone")[2]
    listed = said.partition("\n## ")[0]
    assert f"- MLM-SEL-6: {reasons.NEVER_ALONE['MLM-SEL-6']}\n" in listed
    assert "- MLM-ERR-18: NO REASON\n" in listed
    assert "MLM-ERR-16" not in listed  # it rejects eight alone


def test_a_row_has_as_many_cells_as_its_head() -> None:
    survivor = replace(a_fate("MLM-OBJ-3"), mutant="count_skips_an_id")
    page = markdown([Matrix("quick", (*COMMITTED[0].fates, survivor))])
    assert "| `count_skips_an_id` | OBJ-3 | - | - | Positions whose" in page
    tables = [part.splitlines() for part in page.split("\n\n") if part.startswith("|")]
    assert len(tables) == 2
    for rows in tables:
        assert len({len(re.split(r"(?<!\\)\|", row)) for row in rows}) == 1


def test_a_matrix_goes_to_json_and_back() -> None:
    read = json.loads(as_json(COMMITTED))
    assert {**read, "profiles": None} == {**RECORD, "profiles": None}
    assert [Matrix.from_json(data) for data in read["profiles"]] == COMMITTED


def test_a_matrix_has_one_fate_a_line() -> None:
    lines = as_json(COMMITTED).splitlines()
    fates = sum(len(matrix.fates) for matrix in COMMITTED)
    assert sum(line.startswith('{"mutant":') for line in lines) == fates
    assert len(lines) == fates + 2 * (1 + len(COMMITTED))


# --- around other backends


def test_what_reaches_into_the_reference_is_not_portable() -> None:
    portable = {mutant.name for mutant in MUTANTS if is_portable(mutant)}
    assert {"gradient_of_the_loss", "targets_are_the_inputs"} <= portable
    inside = {"seed_cut_to_32_bits", "log_of_the_softmax", "special_ids_are_selected"}
    assert not inside & portable
    with_helpers = {"a_masker_seeds_itself_in_every_call", "neighbours_show_one_kind"}
    assert not with_helpers & portable


def test_the_smaller_set_has_one_mutant_for_a_requirement_and_its_ports() -> None:
    chosen = portable_mutants("numpy")
    assert len({(mutant.requirement, mutant.ports) for mutant in chosen}) == len(chosen)
    assert {mutant.requirement for mutant in chosen} >= {"MLM-OBJ-2", "MLM-COR-1", "MLM-HED-3"}


def test_a_mutant_around_another_backend_is_that_backend_made_wrong() -> None:
    wrong = around.torch.gradient_of_the_loss
    assert set(vars(wrong)) == {"score", "loss_reduction"}
    mutant = next(m for m in portable_mutants("torch") if m.name == "gradient_of_the_loss")
    assert fate(mutant, "quick", own=True).is_killed


@pytest.mark.parametrize("name", ["seed_cut_to_32_bits", "no_such_mutant"])
def test_what_is_not_portable_is_no_target(name: str) -> None:
    assert not hasattr(around.numpy, name)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--own", "ci", "--markdown", "page.md"], "--own measures none"),
        (["--around", "no_such_backend"], "no backend is called 'no_such_backend'"),
    ],
)
def test_a_bad_call_measures_nothing(
    arguments: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["mutants", *arguments]) == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def ended_by_the_system() -> None:
    with side_by_side(1, os._exit, [(9,)]) as running:
        next(running).result()


def test_a_worker_that_the_system_ends_is_said_in_words() -> None:
    with pytest.raises(BadCallError, match="a worker process was ended by the system"):
        ended_by_the_system()


@pytest.fixture
def mutants_command(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "mlm_conformance", "mutants", "-n", "2"]
    # A job in the background is started with Ctrl-C ignored; this one heeds it.
    heeding = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    about = {"cwd": tmp_path, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    with subprocess.Popen(command, preexec_fn=heeding, **about) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize("seconds", [1, 2, 4])  # imports; workers start; workers are at work
def test_ctrl_c_ends_the_command_at_once_and_leaves_nothing(
    seconds: int, mutants_command: subprocess.Popen[str]
) -> None:
    time.sleep(seconds)
    os.killpg(mutants_command.pid, signal.SIGINT)  # as a terminal does: to workers too
    _, said = mutants_command.communicate(timeout=10)
    # Python may end itself by the signal, and a shell says 130 of both.
    assert mutants_command.returncode in (130, -signal.SIGINT)
    assert said.endswith("mlm-spec: interrupted\n")
    assert "Traceback" not in said
    wait_until_dead(mutants_command.pid)


def test_a_command_that_is_killed_leaves_nothing(mutants_command: subprocess.Popen[str]) -> None:
    assert mutants_command.stderr is not None
    assert "killed" in mutants_command.stderr.readline()  # the workers are at work
    mutants_command.kill()
    wait_until_dead(mutants_command.pid)


def wait_until_dead(group: int) -> None:
    deadline = time.monotonic() + 10
    while any_alive(group):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def any_alive(group: int) -> bool:
    """Whether a process of the group lives, and is more than an entry of a table (Linux)."""
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, its, *_ = status.read_text().rpartition(")")[2].split()
            if int(its) == group and state != "Z":
                return True
    return False
