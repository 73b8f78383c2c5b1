"""Runs in random order: right sessions come through, and each rule finds who breaks it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis.stateful import run_state_machine_as_test
from mlm_conformance.check import Violation
from mlm_conformance.mutants import (
    training_dropout,
    training_saving,
    training_state,
    training_updates,
)
from mlm_conformance.mutants.trainer import CORRECT_PARTS, Parts, backend, correct_trainer
from mlm_torch.port import TorchPort
from training_machine import CASE, Run, how

from mlm_spec.training.session import session


def an_idle_replica_empties_the_update(parts: Parts) -> Parts:
    """The gradient is 0 where one micro-batch has nothing selected."""

    def mean(found: Any) -> Any:
        idle = not all(int(part.count) for part in found)
        return {n: 0.0 * g if idle else g for n, g in parts.mean(found).items()}

    return replace(parts, mean=mean)


LEAST = min(sum(int(b["selected"].sum()) for b in update) for update in CASE.updates)


def few_are_taken_for_more(parts: Parts) -> Parts:
    """No gradient is divided by less than the smallest update has."""

    def mean(found: Any) -> Any:
        count = max(1, sum(int(part.count) for part in found))
        return {n: g * min(1.0, count / LEAST) for n, g in parts.mean(found).items()}

    return replace(parts, mean=mean)


#: What finds whom: rules, and a trainer that the first of them to come to it finds.
WRONG: dict[tuple[str, ...], Any] = {
    ("step_in_any_split", "step_of_replicas"): training_updates.everything_decays,
    ("step_of_replicas",): backend(an_idle_replica_empties_the_update(CORRECT_PARTS)),
    ("replicas_add_up",): backend(few_are_taken_for_more(CORRECT_PARTS)),
    ("step_of_nothing",): training_updates.nothing_moves_parameters,
    ("gradients", "replicas_add_up"): training_state.the_first_session_remembers_gradients,
    ("evaluate",): training_dropout.dropout_in_evaluation,
    ("hand_over", "load"): training_state.a_checkpoint_without_the_update,
    ("hand_over", "load", "later"): training_saving.checkpoints_are_never_replaced,
    ("load_what_is_broken",): training_state.the_checksum_is_not_read,
    ("load_what_is_broken", "later"): training_state.a_failed_load_has_taken_the_parameters,
}


def runs(*runners: Callable[..., Any]) -> None:
    run_state_machine_as_test(lambda: Run(*runners), settings=how())


@pytest.mark.parametrize(
    "runners",
    [(session,), (TorchPort().session, session)],
    ids=["reference", "torch and the reference"],
)
def test_a_right_session_comes_through(runners: tuple[Callable[..., Any], ...]) -> None:
    runs(*runners)


RULES = {rule.function.__name__ for rule in Run(session).rules}


@pytest.mark.parametrize("rules", WRONG)
def test_a_wrong_trainer_is_found(rules: tuple[str, ...]) -> None:
    with pytest.raises(Violation) as found:
        run_state_machine_as_test(lambda: Run(WRONG[rules].session), settings=how(30))
    finders = {entry.name for entry in found.traceback} & RULES
    assert finders
    assert finders <= set(rules)


def test_only_another_runner_sees_that_moments_are_exchanged_in_the_file() -> None:
    wrong = training_state.moments_are_exchanged_in_the_file.session
    runs(wrong)
    with pytest.raises(Violation, match="after loading"):
        run_state_machine_as_test(lambda: Run(wrong, correct_trainer.session), settings=how(30))


def test_every_rule_is_one_that_finds_somebody() -> None:
    assert {name for names in WRONG for name in names} >= RULES
