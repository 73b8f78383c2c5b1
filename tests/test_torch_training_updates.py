"""Updates in PyTorch: the rule, number by number, and when nothing is changed."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import mlm_torch
import numpy as np
import pytest
import torch
from mlm_torch.encoder import MaskedLanguageModel, layout_of
from mlm_torch.optimizer import clip, learning_rate, mean_gradients
from mlm_torch.port import as_tensor
from mlm_torch.update import MicroBatch, Updater
from torch_cases import Watch
from torch_training_cases import (
    ENCODER,
    POLICY,
    TRAINING,
    batch_of,
    parameters_of,
    session_of,
    split_rows,
    tokens_of,
)

from mlm_spec.errors import (
    DTypeError,
    IdRangeError,
    InputError,
    NotFiniteError,
    PolicyError,
    ShapeError,
)
from mlm_spec.training.batch import TrainingBatch, UpdateStatus
from mlm_spec.training.config import EncoderConfig, TrainingConfig

U = {np.dtype(np.float64): 2.0**-53, np.dtype(np.float32): 2.0**-24}


def everything(session: Any) -> dict[str, Any]:
    """All of a run's state, flat."""
    state = session.state()
    found = {f"parameters/{name}": x for name, x in session.parameters().items()}
    for group in ("exp_avg", "exp_avg_sq"):
        found |= {f"{group}/{name}": x for name, x in state.pop(group).items()}
    return found | state


def assert_same(before: dict[str, Any], after: dict[str, Any], but: tuple[str, ...] = ()) -> None:
    assert before.keys() == after.keys()
    for name in before.keys() - set(but):
        np.testing.assert_array_equal(after[name], before[name], err_msg=name)


def empty_batch() -> dict[str, np.ndarray]:
    batch = batch_of(2)
    return batch | {"selected": np.zeros_like(batch["selected"])}


# The rule


def moved(before: dict[str, Any], name: str, g: np.ndarray, n: int, rate: float) -> Any:
    """θ, m, v after update n, and the magnitudes of their terms, in float64."""
    theta, m, v = (
        before[f"{p}/{name}"].astype(float) for p in ("parameters", "exp_avg", "exp_avg_sq")
    )
    beta1, beta2, epsilon, decay = 0.9, 0.999, 1e-6, 0.01 if theta.ndim == 2 else 0.0
    m, size = beta1 * m + (1 - beta1) * g, beta1 * np.abs(m) + (1 - beta1) * np.abs(g)
    v = beta2 * v + (1 - beta2) * g * g
    first, second = (float(1 - Fraction(b) ** n) for b in (beta1, beta2))
    step = np.sqrt(v / second) + epsilon
    new = theta - rate * (m / first / step + decay * theta)
    return (new, m, v), (
        np.abs(theta) + rate * (size / first / step + decay * np.abs(theta)),
        size,
        v,
    )


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_an_update_is_clipping_adamw_decoupled_decay_and_the_schedule(precision: str) -> None:
    session = session_of(precision=precision)
    u = U[np.dtype(precision)]
    # 40 operations at most; 1 − β₂ⁿ is computed in float64 and loses 1 / (1 − β₂) of its digits.
    bound = 40 * u + 4 * 2.0**-53 / (1 - 0.999)
    for n in range(1, 6):
        batches, before = [batch_of(n), batch_of(n + 50, rows=2)], everything(session)
        gradients = session.gradients(batches)["gradients"]
        report = session.step(batches)
        after = everything(session)
        wide = {name: g.astype(float) for name, g in gradients.items()}
        entries = sum(g.size for g in wide.values())
        norm = math.sqrt(math.fsum(float((g * g).sum()) for g in wide.values()))
        assert abs(report["norm"] - norm) <= (entries + 8) * u * norm
        assert norm > 0.5  # so that it is clipped
        rate = 0.01 * n / 2 if n <= 2 else 0.01 * (10 - n) / 8
        assert report["update"] == n
        assert abs(report["learning_rate"] - rate) <= 4 * U[np.dtype(float)] * rate
        for name, g in wide.items():
            g = g * (0.5 / report["norm"])
            wanted, sizes = moved(before, name, g, n, rate)
            for part, want, size in zip(
                ("parameters", "exp_avg", "exp_avg_sq"), wanted, sizes, strict=True
            ):
                error = np.abs(after[f"{part}/{name}"] - want)
                assert (error <= bound * size).all(), (n, part, name)


def test_layer_norms_and_biases_do_not_decay_and_embeddings_do() -> None:
    session = session_of(weight_decay=0.5, max_grad_norm=None, learning_rate=0.5, warmup_updates=0)
    before, batch = session.parameters(), batch_of(1)
    gradients = session.gradients([batch])["gradients"]
    rate = session.step([batch])["learning_rate"]
    after = session.parameters()
    table = "bert.embeddings.position_embeddings.weight"
    still = ~gradients[table].any(axis=1)
    assert still.any()
    want = before[table][still] * (1 - rate * 0.5)
    assert (np.abs(after[table][still] - want) <= 2.0**-52 * np.abs(want)).all()
    norm = "bert.embeddings.LayerNorm.weight"
    # The first step is about η·sign(g): a decay would add ηλθ to it.
    assert (np.abs(after[norm] - before[norm]) <= rate * (1 + 2.0**-50)).all()


def test_below_the_clipping_norm_gradients_stay_as_they_are_to_the_bit() -> None:
    start = torch.tensor([3.0, -4.0, 1e-30, 2.0**-120])
    for limit, factor in ((None, 1.0), (5.0, 1.0), (4.0, 0.8)):
        g = [start.clone()]
        mean = mean_gradients(g, torch.tensor(-2.0, dtype=torch.float64))
        assert mean.norm.item() == 2.5
        clip(g, mean._replace(norm=mean.norm * 2), limit)
        assert torch.equal(g[0], start / -2 * factor)


@pytest.mark.parametrize("peak", [1e-30, 1e-4, 3e38])
def test_no_square_in_the_norm_overflows_or_vanishes(peak: float) -> None:
    g = [torch.full((4,), peak), torch.zeros(2, 2)]
    mean = mean_gradients(g, torch.tensor(-1.0, dtype=torch.float64))
    assert mean.norm.item() == 2 * torch.tensor(peak).item()
    assert bool(mean.finite)


@pytest.mark.parametrize("schedule", ["linear", "constant"])
@pytest.mark.parametrize("warmup", [0, 3, 7])
def test_the_rate_is_that_of_the_schedule_for_every_update(schedule: str, warmup: int) -> None:
    config = TrainingConfig(0.3, warmup_updates=warmup, total_updates=7, schedule=schedule)
    for n in range(1, 8):
        want = Fraction(0.3)
        if n <= warmup:
            want *= Fraction(n, warmup)
        elif schedule == "linear":
            want *= Fraction(8 - n, 8 - warmup)
        got = Fraction(learning_rate(torch.tensor(n), config).item())
        assert abs(got - want) <= 2 * Fraction(2) ** -53 * want


def test_the_mean_is_over_all_positions_of_all_micro_batches() -> None:
    batch, session = batch_of(5), session_of()
    counts = batch["selected"].sum(axis=1)
    assert len(set(counts)) > 1  # a mean of means would be another number
    whole, parts = session.evaluate([batch]), [session.evaluate([x]) for x in split_rows(batch)]
    report = session_of().step(split_rows(batch))
    assert report["count"] == whole["count"] == sum(part["count"] for part in parts)
    dropped = session.gradients(split_rows(batch))
    assert report["loss"] == -dropped["sum"] / dropped["count"]


# Nothing is changed


def test_an_update_of_nothing_changes_nothing_and_says_so() -> None:
    session = session_of()
    session.step([batch_of(1)])
    before = everything(session)
    report = session.step([empty_batch(), empty_batch()])
    assert report == {
        "loss": 0.0, "count": 0, "norm": 0.0, "learning_rate": 0.0,
        "status": UpdateStatus.EMPTY, "update": 1,
    }  # fmt: skip
    assert_same(before, everything(session), but=("position",))
    assert session.state()["position"] == before["position"] + 12
    assert all(not g.any() for g in session.gradients([empty_batch()])["gradients"].values())
    assert session.step([])["status"] == UpdateStatus.EMPTY


def test_one_micro_batch_may_have_nothing() -> None:
    batch = batch_of(1)
    alone, with_empty = session_of().step([batch]), session_of().step([batch, empty_batch()])
    assert alone == with_empty


def test_a_gradient_that_float16_cannot_hold_halves_the_scale_and_changes_nothing_else() -> None:
    session, batch = session_of(precision="float16"), batch_of(1)
    assert session.state()["loss_scale"] == 2.0**16
    session._updater.loss_scale.fill_(2.0**32)
    before = everything(session)
    report = session.step([batch])
    assert report["status"] == UpdateStatus.NOT_FINITE
    assert (report["norm"], report["learning_rate"], report["update"]) == (0.0, 0.0, 0)
    after = everything(session)
    assert_same(before, after, but=("loss_scale", "position"))
    assert after["loss_scale"] == 2.0**31
    while session.step([batch])["status"]:
        pass
    assert session.state()["update"] == 1


@pytest.mark.parametrize(("made", "scale"), [(1998, 8.0), (1999, 16.0), (2000, 8.0)])
def test_the_scale_doubles_after_each_2000_updates(made: int, scale: float) -> None:
    session = session_of(precision="float16", total_updates=5000)
    session._updater.loss_scale.fill_(8.0)
    session._updater.update_count.fill_(made)
    assert session.step([batch_of(1)])["status"] == UpdateStatus.OK
    assert session.state()["loss_scale"] == scale


def test_the_scale_of_the_loss_changes_no_gradient_that_float16_holds() -> None:
    session, batch = session_of(precision="float16"), batch_of(1)
    found = []
    for scale in (2.0**10, 2.0**11):
        session._updater.loss_scale.fill_(scale)
        found.append(session.gradients([batch])["gradients"]["cls.predictions.bias"])
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_below_float32_parameters_moments_and_gradients_are_kept_in_float32(precision: str) -> None:
    session = session_of(precision=precision)
    first = session.step([batch_of(1)])
    assert first["status"] == UpdateStatus.OK
    for name, value in everything(session).items():
        if isinstance(value, np.ndarray):
            assert value.dtype == np.float32, name
    gradients = session.gradients([batch_of(1)])["gradients"]
    assert {g.dtype for g in gradients.values()} == {np.dtype(np.float32)}


def test_a_run_that_is_over_is_an_error_and_changes_nothing() -> None:
    session, batch = session_of(total_updates=2), batch_of(1)
    session.step([batch])
    session.step([batch])
    before = everything(session)
    with pytest.raises(InputError, match=r"update is 3; expected in 1\.\.2"):
        session.step([batch])
    assert_same(before, everything(session))


BAD: list[tuple[str, Any, type[Exception]]] = [
    ("inputs", 53, IdRangeError),
    ("position_ids", 32, IdRangeError),
    ("token_type_ids", -1, IdRangeError),
    ("targets", 53, IdRangeError),
    ("position", np.zeros((3, 14), np.int64), DTypeError),
    ("sequence_id", np.zeros((3, 14), np.uint32), ShapeError),
    ("selected", np.ones((3, 13), bool), ShapeError),
    ("selected", np.ones((3, 14), bool), InputError),
    ("attention_mask", None, InputError),
    ("tokens_too", np.zeros((3, 14), np.int64), InputError),
]


@pytest.mark.parametrize(
    ("name", "value", "error"), BAD, ids=[f"{b[0]}-{b[2].__name__}" for b in BAD]
)
def test_a_bad_batch_is_refused_before_anything_is_changed(
    name: str, value: Any, error: type[Exception]
) -> None:
    session, bad = session_of(), batch_of(1)
    if isinstance(value, int):
        bad[name][tuple(np.argwhere(bad["selected"])[0])] = value
    else:
        bad[name] = value
    before = everything(session)
    for call in (session.step, session.gradients, session.evaluate):
        with pytest.raises(error):
            call([batch_of(2), bad])
    assert_same(before, everything(session))


def test_parameters_that_are_not_the_encoders_are_refused() -> None:
    known = parameters_of()
    name = "cls.predictions.bias"
    for change, error in (
        ({name: known[name][:-1]}, ShapeError),
        ({name: known[name].astype(int)}, DTypeError),
        ({name: np.full(53, np.nan)}, NotFiniteError),
        ({"cls.predictions.decoder.bias": known[name]}, InputError),
    ):
        with pytest.raises(error):
            session_of(parameters=known | change)
    with pytest.raises(InputError, match="without"):
        session_of(parameters={n: x for n, x in known.items() if n != name})


# Masking inside, and no waiting


def test_tokens_are_masked_inside_as_the_masker_does_outside() -> None:
    tokens = tokens_of(7)
    names = ("tokens", "sequence_id", "position")
    given = [as_tensor(name, tokens[name]) for name in names]
    able = as_tensor("eligible", tokens["eligible"])
    masked = mlm_torch.mask(*given, None, able, POLICY, TRAINING["seed"], 3)
    rest = {n: tokens[n] for n in TrainingBatch._fields[3:]}
    outside = dict(zip(masked._fields, (x.numpy() for x in masked), strict=True)) | rest
    one, other = session_of(), session_of()
    assert one.step([tokens]) == other.step([TrainingBatch(**outside)])
    assert_same(everything(one), everything(other))
    assert one.step([tokens | {"epoch": 4}]) != other.step([outside])


def test_tokens_without_a_policy_or_an_epoch_are_refused() -> None:
    tokens = tokens_of(7)
    with pytest.raises(InputError, match="epoch"):
        session_of().step([{name: x for name, x in tokens.items() if name != "epoch"}])
    session = session_of()
    session._told = session._told._replace(policy=None)
    with pytest.raises(PolicyError):
        session.step([tokens])


def updater_of() -> Updater:
    model = MaskedLanguageModel(EncoderConfig.from_mapping(ENCODER | {"attention_dropout": 0}))
    return Updater(model, TrainingConfig.from_mapping(TRAINING | {"precision": "float32"}))


def test_an_update_never_waits_for_the_device() -> None:
    updater = updater_of()
    batch = TrainingBatch(**{name: as_tensor(name, x) for name, x in batch_of(1).items()})
    micro_batch = MicroBatch(batch, layout_of(batch), 20)
    with Watch() as watch:
        updater.update([micro_batch, micro_batch])
    waiting = {"_local_scalar_dense", "item", "nonzero", "is_nonzero", "masked_select", "equal"}
    assert not watch.names & waiting
    assert "_fused_adamw_" in watch.names


def test_too_little_room_changes_nothing_and_the_session_makes_more() -> None:
    updater = updater_of()
    batch = TrainingBatch(**{name: as_tensor(name, x) for name, x in batch_of(1).items()})
    before = [x.detach().clone() for x in updater.model.parameters()]
    report = updater.update([MicroBatch(batch, layout_of(batch), 2)])
    assert bool(report.overflow)
    assert int(report.update) == 0
    assert all(torch.equal(a, b) for a, b in zip(before, updater.model.parameters(), strict=True))

    session, rooms = session_of(), iter([1, 2, 30])
    place = session._place
    session._place = lambda given: place(given)._replace(capacity=next(rooms))
    assert session.step([batch_of(1)]) == session_of().step([batch_of(1)])
    assert next(rooms, None) is None
