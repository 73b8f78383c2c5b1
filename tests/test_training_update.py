"""One update on the global batch: what is added up, divided, clipped and applied."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from training_cases import (
    ENCODER,
    POLICY,
    TRAINING,
    batch_of,
    corpus_batches,
    rows,
    same,
    tokens_of,
    trained,
)

from mlm_spec.errors import (
    DTypeError,
    IdRangeError,
    InputError,
    NotFiniteError,
    PolicyError,
    ShapeError,
)
from mlm_spec.masking import mask
from mlm_spec.training.batch import TrainingBatch, UpdateStatus
from mlm_spec.training.dropout import Dropout
from mlm_spec.training.gradients import Gradients, objective, objective_and_gradients
from mlm_spec.training.inputs import training_batch
from mlm_spec.training.optimizer import adamw, clipped, global_norm
from mlm_spec.training.parameters import initial_parameters, shapes
from mlm_spec.training.precision import next_loss_scale
from mlm_spec.training.state import TrainingState, initial_state
from mlm_spec.training.update import evaluate, mean_gradients, update

U = Fraction(1, 2**53)


def start(**changes: Any) -> tuple[TrainingState, Any]:
    training = replace(TRAINING, **changes)
    return initial_state(initial_parameters(ENCODER, 1), ENCODER, training), training


def unselected(batch: TrainingBatch) -> TrainingBatch:
    return batch._replace(selected=np.zeros_like(batch.selected), inputs=batch.targets)


def whole_numbers(
    parameters: Mapping[str, np.ndarray], batch: TrainingBatch, config: Any, **_: Any
) -> Gradients:
    """An objective whose sums are exact in any order: all of its numbers are small integers."""
    total = int(batch.targets[batch.selected].sum())
    found = {
        name: np.full(p.shape, float((i + 1) * total))
        for i, (name, p) in enumerate(parameters.items())
    }
    return Gradients(np.float64(-total), np.int64(batch.selected.sum()), found)


SPLITS: list[list[list[int]]] = [
    [[0, 1, 2, 3, 4]],
    [[0], [1], [2], [3], [4]],
    [[4, 2], [], [0, 1, 3]],
    [[3, 0, 1], [2, 4]],
]


@pytest.mark.parametrize("split", SPLITS)
def test_an_update_does_not_depend_on_how_its_rows_are_split(
    split: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlm_spec.training.update.objective_and_gradients", whole_numbers)
    state, training = start()
    batch = batch_of(3)
    counts = {int(rows(batch, [r]).selected.sum()) for r in range(5)}
    assert len(counts) > 2  # else a mean of means would be the mean
    whole, report = update(state, [batch], ENCODER, training)
    parts, same_report = update(state, [rows(batch, part) for part in split], ENCODER, training)
    assert same_report == report
    assert same(parts, whole)


@pytest.mark.parametrize("split", SPLITS)
def test_gradients_are_divided_once_by_the_count_of_all(split: list[list[int]]) -> None:
    """Against exact sums of what each micro-batch gives, within the roundings of adding them up."""
    state, training = start()
    parts = [rows(batch_of(3), part) for part in split]
    dropout = Dropout(training.seed, 1)
    each = [objective_and_gradients(state.parameters, p, ENCODER, dropout=dropout) for p in parts]
    found = mean_gradients(state, parts, ENCODER, training)
    count = sum(int(part.count) for part in each)
    assert int(found.count) == count > 0
    assert Fraction(float(found.sum)) - sum(Fraction(float(p.sum)) for p in each) <= U * 100
    for name, gradient in found.gradients.items():
        for index in np.ndindex(gradient.shape):
            terms = [Fraction(float(part.gradients[name][index])) for part in each]
            bound = (len(terms) + 1) * U * sum(map(abs, terms)) / count
            assert abs(Fraction(float(gradient[index])) + sum(terms) / count) <= bound


def test_an_update_divides_then_clips_then_moves() -> None:
    state, training = start(max_grad_norm=0.125, precision="float64")
    batches = [batch_of(3), batch_of(4)]
    for _ in range(3):
        g = mean_gradients(state, batches, ENCODER, training)
        norm = global_norm(g.gradients)
        assert norm > 0.125
        n = state.update + 1
        direction = clipped(g.gradients, norm, 0.125)
        moved = adamw(state.parameters, direction, state.exp_avg, state.exp_avg_sq, n, training)
        state, report = update(state, batches, ENCODER, training)
        assert same(state, TrainingState(*moved, n, 1.0, 10 * n))
        assert (report.update, report.norm, report.count) == (n, norm, int(g.count))
        assert report.loss == -float(g.sum) / int(g.count)
        assert report.status is UpdateStatus.OK


def test_an_update_changes_none_of_its_arguments() -> None:
    state = trained().state
    before = trained().state
    update(state, corpus_batches(12), ENCODER, TRAINING, POLICY)
    assert same(state, before)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_below_float64_parameters_and_moments_are_kept_in_float32(precision: str) -> None:
    state, training = start(precision=precision)
    state = replace(state, loss_scale=1.0)
    moved, report = update(state, [batch_of(3)], ENCODER, training)
    assert report.status is UpdateStatus.OK
    for group in (moved.parameters, moved.exp_avg, moved.exp_avg_sq):
        assert {p.dtype for p in group.values()} == {np.dtype(np.float32)}


def test_dropout_follows_the_number_of_the_update() -> None:
    state, training = start()
    batch = [batch_of(3)]
    first = mean_gradients(state, batch, ENCODER, training).sum
    assert mean_gradients(replace(state, position=99), batch, ENCODER, training).sum == first
    assert mean_gradients(replace(state, update=1), batch, ENCODER, training).sum != first
    assert mean_gradients(state, batch, ENCODER, replace(training, seed=6)).sum != first


# Nothing to learn from, and too much --------------------------------------------------------------


@pytest.mark.parametrize("batches", [[], [unselected(batch_of(3)), unselected(batch_of(4))]])
def test_an_update_of_nothing_changes_nothing_and_says_so(batches: list[TrainingBatch]) -> None:
    state = trained().state
    after, report = update(state, batches, ENCODER, TRAINING)
    assert same(after, replace(state, position=12 + 5 * len(batches)))
    assert report == (0.0, 0, 0.0, 0.0, UpdateStatus.EMPTY, 3)
    again, report = update(after, [batch_of(3)], ENCODER, TRAINING)
    assert (report.status, report.update, again.update) == (UpdateStatus.OK, 4, 4)


def test_a_micro_batch_of_nothing_among_others_adds_nothing() -> None:
    state, training = start()
    with_it = update(state, [batch_of(3), unselected(batch_of(4))], ENCODER, training)
    without = update(state, [batch_of(3)], ENCODER, training, sequences=10)
    assert same(with_it[0], without[0])
    assert with_it[1] == without[1]


def test_gradients_of_nothing_are_zeros() -> None:
    state, training = start()
    found = mean_gradients(state, [unselected(batch_of(3))], ENCODER, training)
    assert (float(found.sum), int(found.count)) == (0.0, 0)
    assert not any(g.any() for g in found.gradients.values())
    assert found.gradients.keys() == shapes(ENCODER).keys()


def test_float16_finds_its_loss_scale_and_skips_until_it_has() -> None:
    state, training = start(precision="float16", max_grad_norm=None)
    assert state.loss_scale == 2.0**16
    largest = max(
        np.abs(g).max()
        for g in mean_gradients(state, [batch_of(3)], ENCODER, training).gradients.values()
    )
    attempts = 0
    while True:
        after, report = update(state, [batch_of(3)], ENCODER, training)
        attempts += 1
        assert (report.status is UpdateStatus.OK) == bool(largest * state.loss_scale < 65520)
        if report.status is UpdateStatus.OK:
            break
        assert report[1:] == (report.count, 0.0, 0.0, UpdateStatus.NOT_FINITE, 0)
        assert report.loss > 0
        half = replace(state, loss_scale=state.loss_scale / 2, position=5 * attempts)
        assert same(after, half)
        state = after
    assert attempts > 1
    assert (after.loss_scale, after.update) == (state.loss_scale, 1)


@pytest.mark.parametrize(
    ("scale", "n", "finite", "precision", "wanted"),
    [
        (64.0, 2000, True, "float16", 128.0),
        (64.0, 4000, True, "float16", 128.0),
        (64.0, 1999, True, "float16", 64.0),
        (64.0, 2001, True, "float16", 64.0),
        (64.0, 2000, False, "float16", 32.0),
        (1.0, 5, False, "float16", 1.0),
        (2.0**32, 2000, True, "float16", 2.0**32),
        (1.0, 2000, True, "bfloat16", 1.0),
        (1.0, 5, False, "float32", 1.0),
    ],
)
def test_the_loss_scale_halves_and_doubles(
    scale: float, n: int, finite: bool, precision: Any, wanted: float
) -> None:
    assert next_loss_scale(scale, n, finite, precision) == wanted


def test_after_2000_updates_the_loss_scale_has_doubled() -> None:
    state, training = start(precision="float16", schedule="constant")
    state = replace(state, update=1998, loss_scale=8.0)
    seen = []
    for _ in range(3):
        state, report = update(state, [batch_of(3)], ENCODER, training)
        seen.append((report.update, state.loss_scale))
    assert seen == [(1999, 8.0), (2000, 16.0), (2001, 16.0)]


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_an_update_that_is_not_finite_changes_nothing_at_any_precision(precision: str) -> None:
    state, training = start(precision=precision)
    name = "cls.predictions.transform.LayerNorm.weight"
    broken = {**state.parameters, name: state.parameters[name] * np.inf}
    state = replace(state, parameters=broken)
    after, report = update(state, [batch_of(3)], ENCODER, training)
    assert report == (0.0, 0, 0.0, 0.0, UpdateStatus.NOT_FINITE, 0)
    assert same(after, replace(state, position=5))


def test_gradients_beyond_float32_are_not_finite_in_float32(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def huge(parameters: Any, batch: TrainingBatch, config: Any, **_: Any) -> Gradients:
        found = whole_numbers(parameters, batch, config)
        return found._replace(gradients={n: g * 1e39 for n, g in found.gradients.items()})

    monkeypatch.setattr("mlm_spec.training.update.objective_and_gradients", huge)
    for precision, status in (("float32", UpdateStatus.NOT_FINITE), ("float64", UpdateStatus.OK)):
        state, training = start(precision=precision)
        assert update(state, [batch_of(3)], ENCODER, training)[1].status is status


# Evaluation, tokens -----------------------------------------------------------------------------


def test_an_evaluation_is_the_objective_without_dropout_over_all_batches() -> None:
    state = trained().state
    batches = [batch_of(3), unselected(batch_of(5)), batch_of(4)]
    found = evaluate(state.parameters, batches, ENCODER, TRAINING)
    each = [objective(state.parameters, batch, ENCODER) for batch in batches]
    wanted = sum(Fraction(float(part.sum)) for part in each)
    assert abs(Fraction(float(found.sum)) - wanted) <= U * abs(wanted)
    assert int(found.count) == sum(int(part.count) for part in each)
    assert evaluate(state.parameters, [], ENCODER, TRAINING) == (0.0, 0)


def test_tokens_are_masked_inside_as_outside() -> None:
    state, training = start()
    tokens = [tokens_of(np.array([3, 8, 9]), 2), tokens_of(np.array([1]), 3)]
    masked = []
    for fields in tokens:
        rest = dict(fields)
        given = [rest.pop(name) for name in ("tokens", "word_id", "eligible", "epoch")]
        three = mask(
            given[0], rest["sequence_id"], rest["position"], given[1], given[2], POLICY,
            training.seed, given[3],
        )  # fmt: skip
        masked.append({**three._asdict(), **rest})
    inside = update(state, tokens, ENCODER, training, POLICY)
    outside = update(state, masked, ENCODER, training)
    assert inside[1] == outside[1]
    assert inside[1].count > 0
    assert same(inside[0], outside[0])
    assert inside[0].position == 4


def test_masks_follow_the_epoch_of_the_tokens_and_the_seed_of_the_run() -> None:
    numbers = np.arange(8)
    found = [
        training_batch(tokens_of(numbers, epoch), ENCODER, POLICY, seed).selected
        for epoch, seed in ((0, 5), (1, 5), (0, 6))
    ]
    assert not any(np.array_equal(found[0], other) for other in found[1:])


def without(fields: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in names}


TOKENS = tokens_of(np.arange(3), 0)
MASKED = batch_of(3)._asdict()
BAD: dict[str, tuple[Any, type[Exception], str]] = {
    "no mapping": ([1], InputError, "batch is a list; expected a mapping of fields"),
    "no epoch": (without(TOKENS, "epoch"), InputError, "batch is without epoch; expected all of"),
    "no inputs": (without(MASKED, "inputs"), InputError, "batch is without inputs; expected all"),
    "more": ({**MASKED, "labels": 1}, InputError, "batch is with labels; expected only inputs, ta"),
    "both": ({**TOKENS, "inputs": 1}, InputError, "batch is with inputs; expected only tokens, el"),
    "negative epoch": ({**TOKENS, "epoch": -1}, ValueError, "epoch is -1"),
    "short mask": (
        {**MASKED, "attention_mask": np.ones((5, 8), bool)}, ShapeError, "attention_mask is of",
    ),
    "floats": ({**MASKED, "inputs": np.ones((5, 9))}, DTypeError, "inputs is of dtype float64"),
    "an id beyond": ({**MASKED, "inputs": np.full((5, 9), 17)}, IdRangeError, "inputs[0, 0] is 17"),
    "padding selected": (
        {**MASKED, "attention_mask": np.zeros((5, 9), bool)}, InputError, "true at padding",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_batch_is_refused_wherever_it_stands(kind: str) -> None:
    given, error, message = BAD[kind]
    state, training = start()
    for batches in ([given], [batch_of(3), given]):
        for call in (update, mean_gradients):
            with pytest.raises(error, match=re.escape(message)):
                call(state, batches, ENCODER, training, POLICY)  # type: ignore[operator]
        with pytest.raises(error, match=re.escape(message)):
            evaluate(state.parameters, batches, ENCODER, training, POLICY)


def test_tokens_without_a_policy_are_refused() -> None:
    state, training = start()
    with pytest.raises(PolicyError, match="policy is None; expected a MaskingPolicy, since the ba"):
        update(state, [TOKENS], ENCODER, training)


def test_after_the_last_update_there_is_none() -> None:
    state, training = start(total_updates=2, warmup_updates=1)
    for _ in range(2):
        state, _ = update(state, [batch_of(3)], ENCODER, training)
    with pytest.raises(InputError, match=re.escape("update is 3; expected in 1..2, the total_upd")):
        update(state, [batch_of(3)], ENCODER, training)
    constant = replace(training, schedule="constant")
    assert update(state, [batch_of(3)], ENCODER, constant)[0].update == 3


def test_a_run_does_not_start_from_parameters_that_cannot_be_kept() -> None:
    _, training = start(precision="float32")
    parameters = initial_parameters(ENCODER, 1)
    parameters["cls.predictions.bias"][3] = 1e39
    with pytest.raises(NotFiniteError, match=re.escape("cls.predictions.bias'][3] is inf; expec")):
        initial_state(parameters, ENCODER, training)
    assert initial_state(parameters, ENCODER, TRAINING).update == 0


def test_a_small_model_learns() -> None:
    state, training = start(total_updates=60, learning_rate=3e-2)
    held = list(corpus_batches(10**6, number=11))
    before = evaluate(state.parameters, held, ENCODER, training, POLICY)
    while state.update < 60:
        state, _ = update(state, corpus_batches(state.position, 8), ENCODER, training, POLICY)
    after = evaluate(state.parameters, held, ENCODER, training, POLICY)
    assert after.count == before.count
    assert after.sum > before.sum
