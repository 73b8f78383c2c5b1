"""Updates of training in JAX: the rule, what changes nothing, and how few programs there are."""

from __future__ import annotations

import warnings
from dataclasses import replace
from fractions import Fraction
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from jax_cases import PORT, compiled
from jax_training_cases import (
    ENCODER,
    POLICY,
    TRAINING,
    assert_same_state,
    batch,
    open_session,
    parameters,
    tokens,
)
from mlm_jax.training.optimizer import clipped, global_norm, learning_rate, make_rule

import mlm_spec
from mlm_spec.batch import Status
from mlm_spec.errors import InputError, PolicyError
from mlm_spec.policy import WholeWord
from mlm_spec.training.batch import UpdateStatus
from mlm_spec.training.config import TrainingConfig

UNIT = float(np.finfo(np.float64).eps) / 2


def moment(session: Any) -> Any:
    return session.parameters(), session.state()


def nothing(seed: int) -> dict[str, Any]:
    held = batch(2, seed)
    held["selected"][:] = False
    return held


def exact_step(session: Any, gradients: dict[str, np.ndarray], n: int) -> dict[str, np.ndarray]:
    """The parameters after an update, by the formulas of the text, in NumPy."""
    held, state, c = session.parameters(), session.state(), TRAINING
    norm = np.sqrt(sum(float((g**2).sum()) for g in gradients.values()))
    rate = c.learning_rate * n / c.warmup_updates
    moved = {}
    for name, g in gradients.items():
        g = g * min(1.0, c.max_grad_norm / norm)
        m = c.beta1 * state["exp_avg"][name] + (1 - c.beta1) * g
        v = c.beta2 * state["exp_avg_sq"][name] + (1 - c.beta2) * g**2
        direction = m / (1 - c.beta1**n) / (np.sqrt(v / (1 - c.beta2**n)) + c.epsilon)
        decay = c.weight_decay * held[name] if g.ndim == 2 else 0
        moved[name] = held[name] - rate * (direction + decay)
    return moved


def test_an_update_is_that_of_the_text() -> None:
    session = open_session()
    for n in (1, 2):
        batches = [batch(3, seed=n), batch(1, seed=n + 10)]
        seen = session.gradients(batches)
        want = exact_step(session, seen["gradients"], n)
        report = session.step(batches)
        assert report["status"] == UpdateStatus.OK
        assert (report["update"], report["count"]) == (n, seen["count"])
        assert report["loss"] == -float(seen["sum"]) / seen["count"]
        # 1 − β₂ⁿ loses up to 1/(1 − β₂) in the text's own form; a step is at most η·(1/ε' + λ|θ|).
        lost = 16 / (1 - TRAINING.beta2) * UNIT
        for name, wanted in want.items():
            off = np.abs(session.parameters()[name] - wanted)
            limit = lost * (np.abs(wanted) + TRAINING.learning_rate / (1 - TRAINING.beta1))
            assert (off <= limit).all(), name


def test_an_update_of_nothing_changes_nothing() -> None:
    session = open_session()
    session.step([batch(3, seed=1)])
    before = moment(session)
    for batches in ([nothing(2), nothing(3)], []):
        report = session.step(batches)
        assert report == {"loss": 0.0, "count": 0, "norm": 0.0, "learning_rate": 0.0,
                          "status": UpdateStatus.EMPTY, "update": 1}  # fmt: skip
        assert_same_state(moment(session), before)


def test_a_gradient_that_is_not_finite_changes_nothing() -> None:
    huge = {name: x * 1e200 for name, x in parameters().items()}
    session = open_session(given=huge)
    before = moment(session)
    report = session.step([batch(3, seed=1)])
    assert report["status"] == UpdateStatus.NOT_FINITE
    assert (report["update"], report["norm"], report["learning_rate"]) == (0, 0.0, 0.0)
    assert_same_state(moment(session), before)


def test_float16_halves_its_loss_scale_and_goes_on() -> None:
    wild = parameters(scale=0.3)
    wild["cls.predictions.transform.LayerNorm.weight"] *= 2e4
    session = open_session(given=wild, precision="float16")
    before = moment(session)
    report = session.step([batch(3, seed=1)])
    assert report["status"] == UpdateStatus.NOT_FINITE
    after = moment(session)
    assert after[1].pop("loss_scale") == before[1].pop("loss_scale") / 2 == 2.0**15
    assert_same_state(
        (after[0], {**after[1], "loss_scale": 0}), (before[0], {**before[1], "loss_scale": 0})
    )
    calm = open_session(precision="float16")
    report = calm.step([batch(3, seed=1)])
    assert report["status"] == UpdateStatus.OK
    assert calm.state()["loss_scale"] == 2.0**16
    assert calm.parameters()["cls.predictions.bias"].dtype == np.float32


@pytest.mark.parametrize("schedule", ["linear", "constant"])
@pytest.mark.parametrize("warmup", [0, 4])
def test_learning_rates_are_those_of_the_text(schedule: str, warmup: int) -> None:
    config = TrainingConfig(0.5, warmup, 9, schedule)  # type: ignore[arg-type]
    rule = make_rule(config, np.float32)
    for n in range(1, 10):
        exact = Fraction(1, 2)
        if n <= warmup:
            exact = exact * n / warmup
        elif schedule == "linear":
            exact = exact * (10 - n) / (10 - warmup)
        seen = float(learning_rate(jnp.int32(n), rule))
        assert abs(seen - float(exact)) <= 2 * np.finfo(np.float32).eps * float(exact)


def test_the_norm_neither_overflows_nor_vanishes() -> None:
    for size in (1e30, 1.0, 1e-30):
        gradients = {"a": jnp.full((3, 3), size, jnp.float32), "b": jnp.full(7, size, jnp.float32)}
        norm = float(global_norm(gradients))
        assert abs(norm - 4 * size) <= 16 * np.finfo(np.float32).eps * 4 * size
    assert not np.isfinite(float(global_norm({"a": jnp.array([1.0, jnp.nan])})))


def test_clipping_adds_nothing_to_the_norm() -> None:
    gradients = {"a": jnp.array([3.0, 4.0])}
    norm = jnp.float32(5)
    assert clipped(gradients, norm, np.float32(5))["a"].tolist() == [3.0, 4.0]
    assert clipped(gradients, norm, np.float32(2.5))["a"].tolist() == [1.5, 2.0]
    assert clipped(gradients, norm, np.float32(np.inf))["a"].tolist() == [3.0, 4.0]


def test_the_schedule_ends() -> None:
    session = open_session(total_updates=2)
    for _ in range(2):
        session.step([batch(3, seed=1)])
    before = moment(session)
    with pytest.raises(InputError, match="update is 3"):
        session.step([batch(3, seed=1)])
    assert_same_state(moment(session), before)
    endless = open_session(total_updates=2, schedule="constant")
    assert [endless.step([batch(3, seed=1)])["update"] for _ in range(3)] == [1, 2, 3]


def test_an_update_need_not_be_waited_for() -> None:
    waited, submitted = open_session(), open_session()
    for seed in range(3):
        report = waited.step([batch(3, seed)])
        later = submitted.submit([batch(3, seed)])
        assert {n: float(x) for n, x in later._asdict().items()} == report
    assert_same_state(moment(waited), moment(submitted))


def test_many_updates_compile_few_programs() -> None:
    """One for gradients, one for the update, one for evaluation, and a few that are tiny."""
    session = open_session()
    held = [batch(rows, seed=rows) for rows in (1, 2, 3, 4)]
    session.step(held[:1])
    session.evaluate(held[:1])
    session.gradients(held[:1])
    before = len(compiled)
    again = open_session(seed=3, learning_rate=1e-3, weight_decay=0.5, max_grad_norm=None)
    for batches in (held, held[1:], [held[0], nothing(4)]):
        again.step(batches)
        again.evaluate(batches)
        again.gradients(batches)
    assert len(compiled) == before


def test_the_buffers_of_the_state_are_used_again() -> None:
    session = open_session()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        session.step([batch(3, seed=1)])
        held = session._state.moments.parameters["cls.predictions.bias"]
        session.step([batch(3, seed=2)])
    assert held.is_deleted()


def test_what_was_handed_out_does_not_change() -> None:
    session = open_session()
    before = moment(session)
    copies = {name: x.copy() for name, x in before[0].items()}
    session.step([batch(3, seed=1)])
    for name, array in before[0].items():
        np.testing.assert_array_equal(array, copies[name])


def test_more_selected_positions_than_expected_are_no_fewer() -> None:
    """Whole rows as words: one of four, at a rate of 1/10, is beyond the room that was made."""
    policy = replace(POLICY, selection=WholeWord("1/10"))
    held = {n: np.repeat(x, 30, axis=1) for n, x in tokens(4, seed=1).items() if np.ndim(x)}
    held["tokens"][:] = 9
    held["eligible"][:] = held["attention_mask"][:] = True
    held["position"][:] = np.arange(300)
    held["word_id"] = np.zeros((4, 300), np.int32)
    fields = [held[n] for n in ("tokens", "sequence_id", "position", "word_id", "eligible")]
    masked = (mlm_spec.mask(*fields, policy, TRAINING.seed, epoch) for epoch in range(20))
    held["epoch"] = [int(batch.selected.sum()) for batch in masked].index(300)
    mappings = ENCODER.to_mapping(), TRAINING.to_mapping()
    session = PORT.session(*mappings, parameters(), policy)
    assert int(session.submit([held]).status) == Status.OVERFLOW
    report = session.step([held])
    assert (report["status"], report["count"], report["update"]) == (Status.OK, 300, 1)
    assert session.gradients([held])["count"] == 300


def test_tokens_need_a_policy_and_an_epoch() -> None:
    bare = ENCODER.to_mapping(), TRAINING.to_mapping(), parameters()
    from_port = type(open_session())(*bare)
    with pytest.raises(PolicyError, match="tokens"):
        from_port.step([tokens(2, seed=1)])
    held = tokens(2, seed=1)
    del held["epoch"]
    with pytest.raises(InputError, match="without 'epoch'"):
        open_session().step([held])
