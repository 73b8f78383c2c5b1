"""Updates in PyTorch: when nothing is changed, masks made inside, and no waiting."""

from __future__ import annotations

from typing import Any

import mlm_torch
import numpy as np
import pytest
import torch
from mlm_torch.encoder import MaskedLanguageModel, layout_of
from mlm_torch.port import as_tensor
from mlm_torch.update import MicroBatch, Updater
from torch_cases import Watch
from torch_training_cases import (
    ENCODER,
    POLICY,
    TRAINING,
    assert_same,
    batch_of,
    everything,
    parameters_of,
    session_of,
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


def empty_batch() -> dict[str, np.ndarray]:
    batch = batch_of(2)
    return batch | {"selected": np.zeros_like(batch["selected"])}


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

    def roomy(*rooms: int) -> Any:
        session, left = session_of(), iter(rooms)
        place = session._place
        session._place = lambda given: place(given)._replace(capacity=next(left))
        return session

    # In the same room at last: how threads cut a sum depends on its shape.
    assert roomy(1, 2, 30).step([batch_of(1)]) == roomy(30).step([batch_of(1)])
