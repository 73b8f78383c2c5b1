"""Sessions across the boundary: objects that live between calls, in a process that may not."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from mlm_conformance.check import Broken, Context, NotClaimed, Violation
from mlm_conformance.in_process import InProcessTarget
from mlm_conformance.oracle import reference_oracle
from mlm_conformance.ports import PORTS, SESSION, MalformedAnswer, normalise
from mlm_conformance.process import TargetProcess
from mlm_conformance.resolve import claims, resolve
from mlm_conformance.sessions import METHODS
from mlm_conformance.training_session import TrainingSession, training_session

TARGETS = Path(__file__).parent / "targets"
START = {"line": np.array([0.0, 1.0, 2.0])}


@pytest.fixture(autouse=True)
def in_the_targets_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(TARGETS)
    monkeypatch.setattr(sys, "path", [str(TARGETS), *sys.path])


@pytest.fixture(scope="module")
def child() -> Iterator[TargetProcess]:
    with TargetProcess("keeping:Target", cwd=TARGETS, limit=2.0, first_limit=20.0) as target:
        yield target


@pytest.fixture(params=["child", "in process"])
def context(request: pytest.FixtureRequest, child: TargetProcess) -> Context:
    return context_of(child if request.param == "child" else InProcessTarget("keeping:Target"))


def context_of(target: Any) -> Context:
    return Context(target, reference_oracle(), frozenset(target.hello().claims), None)


def opened(context: Context, kind: str = "line") -> Any:
    return training_session(context, {"kind": kind}, {}, START)


def batch(first: int = 0, selected: int = 1) -> dict[str, Any]:
    inputs = np.full((1, 4), first, np.int32)
    return {"inputs": inputs, "targets": inputs, "selected": np.arange(4)[None] < selected}


def test_a_target_claims_sessions_by_its_method() -> None:
    assert claims(resolve("keeping:Target")) == ("session",)


def test_a_session_lives_between_calls(context: Context) -> None:
    with opened(context) as session:
        assert session.has == set(METHODS)
        for n in (1, 2, 3):
            found = session.step([batch(), batch(selected=2)])
            assert {k: v.item() for k, v in found.items()} == {
                "loss": 0.5, "count": 3, "norm": 2.0, "learning_rate": 0.1, "status": 0,
                "update": n,
            }  # fmt: skip
        assert session.parameters()["line"].tolist() == [3.0, 4.0, 5.0]
        assert session.gradients([batch()])["gradients"]["line"].tolist() == [3.0, 3.0, 3.0]
        assert session.evaluate([batch(selected=4)])["count"] == 4
        state = session.state()
        assert state["update"] == 3
        assert state["exp_avg_sq"].keys() == {"line"}


def test_sessions_do_not_share_their_state(context: Context) -> None:
    with opened(context) as one, opened(context) as other:
        one.step([batch()])
        assert one.number != other.number
        assert other.parameters()["line"].tolist() == START["line"].tolist()


def test_what_a_session_saves_another_loads(context: Context, tmp_path: Path) -> None:
    with opened(context) as one, opened(context) as other:
        one.step([batch()])
        one.save(tmp_path / "kept.npz")
        other.load(tmp_path / "kept.npz")
        assert other.state()["update"] == 1
        assert np.array_equal(other.parameters()["line"], one.parameters()["line"])


def test_a_closed_session_is_gone(context: Context) -> None:
    with opened(context) as session:
        assert session.parameters()
    with pytest.raises(Violation, match=f"no session {session.number} in this process"):
        session.parameters()


def test_an_absent_method_is_not_claimed(context: Context) -> None:
    with opened(context, "evaluating") as session:
        assert session.evaluate([batch(), batch()])["count"] == 2
        with pytest.raises(NotClaimed, match="its sessions have no step"):
            session.step([batch()])


def test_a_configuration_that_is_not_implemented_is_not_claimed(context: Context) -> None:
    with pytest.raises(NotClaimed, match="no such precision"), opened(context, "refused"):
        pass


def test_an_object_without_a_method_of_a_session_is_none(context: Context) -> None:
    with pytest.raises(Violation, match="none of the methods evaluate"), opened(context, "nothing"):
        pass


@pytest.mark.parametrize(
    ("mode", "text"),
    [(0, "gradients is None"), (1, "gradients is a list"), (2, "gradients['line'] is missing"),
     (3, "names something 3"), (4, "gradients['line'] is an object")],
)  # fmt: skip
def test_malformed_gradients_are_named(context: Context, mode: int, text: str) -> None:
    with (
        opened(context, "misbehaving") as session,
        pytest.raises(Violation) as caught,
    ):
        session.gradients([batch(mode)])
    assert text in str(caught.value)


def test_other_malformed_answers(context: Context) -> None:
    with opened(context, "misbehaving") as session:
        with pytest.raises(Violation, match="count is missing"):
            session.step([batch(2)])
        with pytest.raises(Violation, match="expected a mapping of names to arrays"):
            session.parameters()
        with pytest.raises(Violation, match="RuntimeError: a step that fails"):
            session.step([batch(4)])


def test_a_changed_batch_is_noticed(context: Context) -> None:
    with opened(context, "misbehaving") as session:
        assert session.answer("step", batches=[batch(3)]).mutated == ("batches",)
        assert session.answer("step", batches=[batch(4)]).mutated == ()


@pytest.mark.parametrize(("mode", "text"), [(0, "gave no answer"), (1, "ended with status 7")])
def test_a_dead_process_takes_its_sessions_along(
    child: TargetProcess, mode: int, text: str
) -> None:
    context = context_of(child)
    with opened(context) as kept, opened(context, "misbehaving") as session:
        kept.step([batch()])  # the first call of a port may take longer than the others
        before = child.restarts
        with pytest.raises(Broken, match=text):
            session.step([batch(mode)])
        with pytest.raises(Violation, match="no session"):
            kept.parameters()
        assert child.restarts == before + 1
        with opened(context) as again:
            assert again.step([batch()])["update"] == 1


def test_a_session_that_broke_is_not_asked_to_close(child: TargetProcess) -> None:
    before = child.restarts
    with pytest.raises(Broken), opened(context_of(child), "misbehaving") as session:
        session.step([batch(1)])
    assert child.restarts == before


def test_a_program_of_its_own_has_sessions() -> None:
    name = f"exec:{sys.executable} counting_program.py"
    with TargetProcess(name, cwd=TARGETS) as target, opened(context_of(target)) as session:
        assert session.has == {"step"}
        assert [int(session.step([batch()])["update"]) for _ in range(3)] == [1, 2, 3]


def test_a_call_of_a_session_needs_the_claim_and_its_arguments() -> None:
    target = InProcessTarget("keeping:Target")
    with pytest.raises(ValueError, match="missing"):
        target.call("session.step", session=1)
    with pytest.raises(ValueError, match="does not claim session"):
        InProcessTarget(SimpleNamespace(policy=dict)).call("session.parameters", session=1)


def test_reading_an_answer_twice_changes_nothing() -> None:
    """The target's side and the suite's read it both."""
    state = {"update": 1, "exp_avg": {"a": 1.0}, "exp_avg_sq": {"a": 2.0}, "loss_scale": 1.0}
    for port, answer in (("session.state", state), ("session.parameters", {"update": 1.0})):
        once = normalise(port, answer)
        assert normalise(port, once) == once
    with pytest.raises(MalformedAnswer, match="unknown field momentum"):
        normalise("session.state", {**state, "momentum": {}})


def test_the_wire_knows_sessions_by_names_that_no_port_has() -> None:
    assert not set(PORTS) & set(SESSION)
    assert all(name in TrainingSession.__dict__ for name in METHODS)
