"""The runner: what becomes of a check, and of targets that go wrong."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlm_conformance import check as check_module
from mlm_conformance.cases.codec import CaseError, decode_case, encode_case
from mlm_conformance.cases.masks import MaskRecipe
from mlm_conformance.cases.model import LossCase, WordsCase
from mlm_conformance.cases.numbers import HeadRecipe, LossRecipe, ScoreRecipe
from mlm_conformance.check import Check, Context, NotClaimed, Unmeasurable, Violation
from mlm_conformance.checks import CHECKS
from mlm_conformance.failure import read_failure
from mlm_conformance.outcomes import Outcome
from mlm_conformance.ports import OPENS
from mlm_conformance.profiles import PROFILES
from mlm_conformance.replay import replay
from mlm_conformance.resolve import TargetError
from mlm_conformance.results import CheckResult, RunReport
from mlm_conformance.runner import open_session, plan, planned, run, run_check
from mlm_conformance.simplify import reductions, simplify

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def _from_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Targets named ``targets.unruly:…`` are found beside the tests."""
    monkeypatch.chdir(HERE)
    monkeypatch.syspath_prepend(str(HERE))


def report_of(name: str, tmp_path: Path, *only: str, **options: Any) -> RunReport:
    return run(f"targets.unruly:{name}", profile="quick", only=only, failures=tmp_path, **options)


def results(report: RunReport) -> dict[str, CheckResult]:
    return {c.name: c for r in report.requirements for c in r.checks}


SUM = "sum_is_that_of_the_selected_log_likelihoods"


@pytest.mark.parametrize(
    ("name", "outcome", "said"),
    [
        ("sleeps", Outcome.ERROR, "no answer within 2 s"),
        ("leaves", Outcome.ERROR, "7"),
        ("babbles", Outcome.ERROR, "babble"),
        ("raises", Outcome.FAIL, "RuntimeError: no score today"),
        ("wrong_shape", Outcome.FAIL, "log_likelihood has shape (1, 1, 1), should be (1, 1)"),
        ("not_an_array", Outcome.FAIL, "log_likelihood"),
    ],
)
def test_a_target_that_goes_wrong_is_reported_as_what_it_is(
    name: str, outcome: Outcome, said: str, tmp_path: Path
) -> None:
    report = report_of(name, tmp_path, "MLM-LIK-1", "MLM-OBJ-3", time_limit=2.0)
    found = results(report)["ordinary_logits_give_their_log_likelihood"]
    assert found.outcome is outcome, found.message
    assert said in found.message
    assert len(report.requirements) == 2  # the run went on
    assert report.exit_status == (1 if outcome is Outcome.FAIL else 2)


def test_a_narrow_sum_fails_where_its_dtype_is_asked_for(tmp_path: Path) -> None:
    found = results(report_of("wrong_dtype", tmp_path, "MLM-OBJ-12"))
    assert found["sums_are_at_least_float32"].outcome is Outcome.FAIL
    assert "float16" in found["sums_are_at_least_float32"].message


def test_an_answer_kept_forever_is_found_out(tmp_path: Path) -> None:
    report = report_of("first_answer_forever", tmp_path, "MLM-OBJ", "MLM-LIK")
    failed = [r.id for r in report.requirements if r.outcome is Outcome.FAIL]
    assert len(failed) > 10


def test_an_adapter_that_always_raises_is_an_error_and_no_failure(tmp_path: Path) -> None:
    report = report_of("always_raises", tmp_path, "MLM-OBJ", "MLM-SEL-1")
    found = results(report)
    assert found[SUM].outcome is Outcome.ERROR
    assert found["only_candidates_are_selected"].outcome is Outcome.NOT_CLAIMED
    assert report.exit_status == 2


@pytest.mark.parametrize(
    ("name", "of_gradients"),
    [
        ("loss_of_a_layer_alone", Outcome.NOT_CLAIMED),
        ("loss_of_a_layer_and_one_gradient", Outcome.PASS),
    ],
)
def test_gradients_that_a_loss_does_not_return_are_not_claimed(
    name: str, of_gradients: Outcome, tmp_path: Path
) -> None:
    found = results(report_of(name, tmp_path, "MLM-OBJ-8", "MLM-HED-9", in_process=True))
    assert found["mean_of_a_layer_divides_by_the_selected_positions"].outcome is Outcome.PASS
    assert found["gradients_of_a_layers_loss_are_like_their_inputs"].outcome is of_gradients


def test_an_answer_that_changes_by_itself_is_a_failure(tmp_path: Path) -> None:
    report = report_of("moody", tmp_path, "MLM-OBJ-2")
    assert results(report)[SUM].outcome is Outcome.FAIL


def test_a_target_without_ports_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="mask"):
        report_of("no_ports", tmp_path)


def test_a_missing_device_is_not_run_and_never_passes(tmp_path: Path) -> None:
    report = run("torch", device="cuda:9", profile="quick", only=["MLM-OBJ-2"], failures=tmp_path)
    assert {r.outcome for r in report.requirements} == {Outcome.NOT_RUN}
    assert report.exit_status == 3
    assert "cuda:9" in report.note


def made_up(judge: Any, needs: tuple[str, ...] = ()) -> Check:
    base = next(c for c in CHECKS if c.name == SUM)
    return Check(
        base.requirement, "made_up", base.port, False, base.strategy, base.always, needs, None, (),
        1.0, judge,
    )  # fmt: skip


def outcome_of(judge: Any, needs: tuple[str, ...] = ()) -> CheckResult:
    session = open_session("numpy", profile="quick", in_process=True)
    return run_check(session, made_up(judge, needs))


def test_a_check_that_never_saw_its_subject_is_an_error() -> None:
    found = outcome_of(lambda context, case: None, needs=("selected",))
    assert found.outcome is Outcome.ERROR
    assert "never saw selected" in found.message


def test_what_cannot_be_measured_is_not_run() -> None:
    def judge(context: Context, case: Any) -> None:
        raise Unmeasurable("no memory to be seen")

    found = outcome_of(judge)
    assert (found.outcome, found.message) == (Outcome.NOT_RUN, "no memory to be seen")


def refusing(number: int, then: Any = None) -> Any:
    """A judgement that the first cases are refused to, and that ``then`` follows."""
    cases: list[Any] = []

    def judge(context: Context, case: Any) -> None:
        cases.append(case)
        if len(cases) <= number:
            raise NotClaimed(f"no option for case {len(cases)}")
        context.saw("selected")
        if then is not None:
            raise then

    return judge


def test_a_refused_case_hides_no_violation_of_a_later_one() -> None:
    found = outcome_of(refusing(1, Violation("wrong after all")), needs=("selected",))
    assert found.outcome is Outcome.FAIL
    assert "wrong after all" in found.message


def test_a_refused_case_hides_no_violation_that_is_drawn() -> None:
    listed = len(next(c for c in CHECKS if c.name == SUM).always)
    found = outcome_of(refusing(listed + 1, Violation("wrong after all")))
    assert found.outcome is Outcome.FAIL


def test_a_check_is_not_claimed_where_some_cases_are_refused() -> None:
    found = outcome_of(refusing(2), needs=("selected",))
    assert found.outcome is Outcome.NOT_CLAIMED
    assert found.examples > 2
    assert found.message == f"no option for case 1 (2 of {found.examples} cases refused)"


def test_a_check_whose_cases_are_all_refused_needs_nothing() -> None:
    found = outcome_of(refusing(10**6), needs=("selected",))
    assert found.outcome is Outcome.NOT_CLAIMED
    assert found.message == "no option for case 1"


def test_a_check_that_breaks_is_an_error_and_no_verdict() -> None:
    found = outcome_of(lambda context, case: 1 / 0)
    assert found.outcome is Outcome.ERROR
    assert "ZeroDivisionError" in found.message


def test_two_seeds_draw_different_examples_and_one_seed_the_same() -> None:
    def drawn(seed: int) -> list[str]:
        seen: list[str] = []
        session = open_session("numpy", profile="quick", in_process=True, run_seed=seed)
        run_check(session, made_up(lambda context, case: seen.append(encode_text(case))))
        return seen

    first, again, other = drawn(1), drawn(1), drawn(2)
    assert first == again
    assert len(first) == len(other) > 4
    assert not set(first) & set(other)


def encode_text(case: Any) -> str:
    return str(encode_case(case))


CASES = [
    MaskRecipe("span", "1/2", "1/3 1/3 1/3", "span", 32, 1, (4, 16), 7).build(0),
    ScoreRecipe((2, 8, 64), "bfloat16", "impossible ids", "some", True, 3).build(0),
    HeadRecipe((2, 8, 16, 64), "float16", 1.0, "some", True, True, 3).build(0),
    WordsCase(np.zeros((1, 4), np.uint32), np.ones((1, 4), np.uint32)),
    LossCase(np.zeros((1, 1, 2), np.float32), np.array([[1]])),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: type(case).__name__)
def test_a_case_comes_back_from_json_bit_for_bit(case: Any) -> None:
    back = decode_case(encode_case(case))
    assert encode_case(back) == encode_case(case)
    for name in case.__slots__:
        old, new = getattr(case, name), getattr(back, name)
        if isinstance(old, np.ndarray):
            assert (old.dtype, old.tobytes()) == (new.dtype, new.tobytes())
        else:
            assert old == new


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "Elsewhere"},
        {"unknown": 1},
        {"key": {"dtype": "object", "shape": [1], "values": [1]}},
        {"key": {"dtype": "uint32", "shape": [3], "values": [1]}},
        {"key": {"strange": 1}},
    ],
)
def test_a_file_that_is_no_case_is_refused(change: dict[str, Any]) -> None:
    good = encode_case(CASES[3])
    with pytest.raises(CaseError):
        decode_case({**good, **change})


def test_a_failure_is_simplified_to_what_matters() -> None:
    case = ScoreRecipe((2, 8, 64), "float32", "normal", "some", True, 5).build(0)

    def violates(candidate: Any) -> str | None:
        return "id 0 of the first row" if candidate.logits[0, 0, 0] > 0.1 else None

    large = case.logits.copy()
    large[0, 0, 0] = 3.0
    case = type(case)(large, case.targets, case.selected, case.weights)
    small, message = simplify(case, "id 0 of the first row", violates, 5.0)
    assert message == "id 0 of the first row"
    assert small.logits.shape[:2] == (1, 1)
    assert small.logits[0, 0, 0] > 0.1
    assert np.count_nonzero(small.logits) == 1
    assert small.weights is None


@pytest.mark.parametrize("case", CASES[:3], ids=lambda case: type(case).__name__)
def test_every_reduction_is_a_case_of_the_same_kind_and_shape_rules(case: Any) -> None:
    count = 0
    for smaller in reductions(case):
        decode_case(encode_case(smaller))
        count += 1
    assert count > 4


def test_a_failure_is_written_and_replayed(tmp_path: Path) -> None:
    report = report_of("first_answer_forever", tmp_path, "MLM-OBJ-2")
    found = results(report)[SUM]
    assert found.failure_file is not None
    path = Path(found.failure_file)
    failure = read_failure(path)
    assert (failure.requirement, failure.check) == ("MLM-OBJ-2", SUM)
    assert found.reproduction is not None
    status, text = replay(path, target="targets.unruly:wrong_shape")
    assert status in (0, 1)
    status, text = replay(path, target="numpy")
    assert (status, "PASS" in text) == (0, True)


def test_a_failure_file_that_cannot_be_written_costs_no_verdict(tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("a file where the folder should be")
    report = report_of("wrong_dtype", taken, "MLM-OBJ-12", in_process=True)
    (found,) = [c for r in report.requirements for c in r.checks if c.outcome is Outcome.FAIL]
    assert "its failure file is lost" in found.message
    assert (report.first_failure, report.first_stage) == ("MLM-OBJ-12", "sum")


def test_a_replay_that_cannot_be_judged_is_no_verdict(tmp_path: Path) -> None:
    """Exit status 2: one that `git bisect` does not take for a failure."""
    report = report_of("first_answer_forever", tmp_path, "MLM-OBJ-2")
    path = Path(results(report)[SUM].failure_file or "")
    status, text = replay(path, target="mlm_conformance.mutants.words:words_backwards")
    assert (status, "has no score" in text) == (2, True)
    data = json.loads(path.read_text())
    for change in ({"shape": [2, 2]}, {"values": "nan"}, {"shape": [1]}):
        edited = json.loads(path.read_text())
        edited["case"]["logits"].update(change)
        path.write_text(json.dumps(edited))
        with contextlib.suppress(CaseError):  # refused even earlier
            assert replay(path, target="numpy")[0] == 2
        path.write_text(json.dumps(data))


def test_a_foreign_file_is_no_failure_file(tmp_path: Path) -> None:
    for name, content in (("a.json", "{}"), ("b.json", "not json"), ("c.json", "[1]")):
        (tmp_path / name).write_text(content)
        with pytest.raises(CaseError):
            read_failure(tmp_path / name)
    with pytest.raises(CaseError):
        read_failure(tmp_path / "absent.json")


def test_a_loss_case_ignores_no_target_of_its_own() -> None:
    """Of this one the only selected target is the id that is ignored."""
    case = LossRecipe((4, 8, 64), "float32", "equal", "one", 85216682, 63).build(162)
    assert (case.labels != 63).sum() == 1


def test_only_names_requirements_and_chapters() -> None:
    assert {c.requirement for c in plan(["MLM-LIK-1"])} == {"MLM-LIK-1"}
    assert all(c.requirement.startswith("MLM-SEL-") for c in plan(["MLM-SEL"]))
    assert [c.requirement for c in plan()] == sorted(
        (c.requirement for c in plan()), key=[c.requirement for c in plan()].index
    )


def test_a_quick_run_asks_no_session_and_says_what_it_leaves_out() -> None:
    every, quick = ({c.port for c in planned((), profile)} for profile in ("ci", "quick"))
    assert every - quick == {"order", *OPENS}
    (asked,) = {c.requirement for c in planned(("MLM-ERR-19",), "quick")}
    assert asked == "MLM-ERR-19"
    report = run("numpy", profile="quick", only=["MLM-ERR-8"], in_process=True)
    whole = replace(report, only=())
    assert whole.left_out == PROFILES["quick"].left_out
    said = "which leaves out the chapters ENC, OPT, TRN, CKP and what else needs a session"
    assert said in whole.verdict


def test_a_value_that_is_nan_is_never_within_a_bound() -> None:
    context = Context(None, None, frozenset(), None)  # type: ignore[arg-type]  # not called here
    for observed in (np.nan, np.inf):
        with pytest.raises(Violation):
            context.within("x", np.array([observed]), np.array([0.0]), np.array([np.inf]))
        with pytest.raises(Violation):
            context.within("x", np.array([observed]), np.array([0.0]), np.array([1.0]))
    with pytest.raises(Violation):
        context.within("x", np.array([1e-300]), np.array([0.0]), np.array([0.0]))
    context.within("x", np.array([1.0]), np.array([1.0]), np.array([0.0]))


@pytest.mark.parametrize(
    ("observed", "said"),
    [
        (np.nan, "x is nan, should be a number: the target's answer that it should agree with"),
        (-0.5, "x is -0.5, and the target's answer that it should agree with is nan, not a number"),
    ],
)
def test_what_should_agree_with_nan_is_told_that_nan_is_no_number(
    observed: float, said: str
) -> None:
    context = Context(None, None, frozenset(), None)  # type: ignore[arg-type]  # not called here
    with pytest.raises(Violation, match=f"^{said}"):
        context.within("x", np.array(observed), np.array(np.nan), 1.0)
    if observed == observed:  # that two answers agree is one fact, that they are numbers another
        with pytest.raises(Violation, match=f"^{said}$"):
            context.equal("x", np.array(observed), np.array(np.nan))


def test_the_registry_is_the_checks_and_nothing_twice() -> None:
    assert check_module.CHECKS is CHECKS
    names = [c.id for c in CHECKS]
    assert len(set(names)) == len(names)
