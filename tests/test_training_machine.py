"""Runs in random order: right sessions come through, and each rule finds who breaks it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis.stateful import run_state_machine_as_test
from mlm_conformance.check import Violation
from mlm_conformance.mutants.training_library import (
    correct_trainer,
    training_averages,
    training_dropout,
    training_state,
    training_updates,
)
from mlm_torch.port import TorchPort
from training_machine import Run, how

from mlm_spec.training.session import session

#: What finds them: a part of the message of the rule.
WRONG = {
    "update 1 of": training_updates.everything_decays,
    "of all replicas is": training_dropout.dropout_by_the_row,
    "status of nothing": training_updates.nothing_counts_as_an_update,
    "after an update of nothing": training_updates.nothing_moves_parameters,
    "gradient of": training_averages.a_mean_of_micro_batch_means,
    "after gradients": training_state.the_first_session_remembers_gradients,
    "sum of an evaluation": training_dropout.dropout_in_evaluation,
    "exp_avg after loading": training_state.a_checkpoint_without_moments,
    "update after loading": training_state.a_checkpoint_without_the_update,
    "after loading": training_state.checkpoints_are_never_replaced,
    "after a file with": training_state.a_broken_checkpoint_starts_anew,
    "is taken": training_state.the_checksum_is_not_read,
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


@pytest.mark.parametrize("message", WRONG)
def test_a_wrong_trainer_is_found(message: str) -> None:
    with pytest.raises(Violation, match=message):
        run_state_machine_as_test(lambda: Run(WRONG[message].session), settings=how(30))


def test_only_another_runner_sees_that_moments_are_exchanged_in_the_file() -> None:
    wrong = training_state.moments_are_exchanged_in_the_file.session
    runs(wrong)
    with pytest.raises(Violation, match="after loading"):
        runs(wrong, correct_trainer.session)
