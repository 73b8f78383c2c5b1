"""The PyTorch backend's steps: a status and no effect for a fault, no waiting, one graph."""

from __future__ import annotations

import dataclasses
from typing import Any

import mlm_torch
import numpy as np
import pytest
import torch
from mlm_torch import gathering
from torch_cases import BERT, PORT, UNITS, Watch, batch_of, layer_of, logits_of

from mlm_spec.batch import Status
from mlm_spec.errors import CapacityError, EmptySelectionError, IdRangeError, NotFiniteError
from mlm_spec.policy import Bernoulli, Corruption

FAULTS: list[tuple[str, Any, Status]] = [
    ("nan", np.nan, Status.NOT_FINITE),
    ("+inf", np.inf, Status.NOT_FINITE),
    ("no support", "all", Status.NOT_FINITE),
    ("impossible target", "target", Status.NOT_FINITE),
    ("bad weight", "weight", Status.NOT_FINITE),
    ("id too large", 64, Status.ID_RANGE),
    ("id below 0", -1, Status.ID_RANGE),
    ("overflow", None, Status.OVERFLOW),
]


@pytest.mark.parametrize(("name", "fault", "status"), FAULTS, ids=[f[0] for f in FAULTS])
def test_a_score_step_reports_the_fault_and_has_no_effect(
    name: str, fault: Any, status: Status
) -> None:
    case = logits_of(np.dtype(np.float32), 64, 2)
    capacity = 3 if status == Status.OVERFLOW else 4
    at = (1, 1)
    if fault == "all":
        case.logits[at] = -np.inf
    elif fault == "target":
        case.logits[at][case.targets[at]] = -np.inf
    elif fault == "weight":
        case.weights[at] = np.nan
    elif status == Status.ID_RANGE:
        case.targets[at] = fault
    elif fault is not None:
        case.logits[at][5] = fault
    step = PORT.score_step(case.logits, case.targets, case.selected, case.weights, capacity)
    assert step.status == status
    assert (float(step.sum), int(step.count)) == (0.0, 0)
    assert not step.grad_logits.any()


HEAD_FAULTS = [("hidden", np.nan), ("weight", np.inf), ("bias", np.nan), ("hidden", 3e38)]


@pytest.mark.parametrize(("place", "value"), HEAD_FAULTS)
def test_a_head_step_with_a_number_that_is_none_has_no_effect(place: str, value: float) -> None:
    case = layer_of(np.dtype(np.float32), True)
    hidden, weight, bias, *rest = case.call
    if place == "hidden":
        hidden[tuple(np.argwhere(case.at)[0])] = value
    elif place == "weight":
        weight[3, 4] = value
    else:
        bias[2] = value
    step = PORT.head_step(hidden, weight, bias, *rest, 10)
    assert step.status == Status.NOT_FINITE
    assert (float(step.sum), int(step.count)) == (0.0, 0)
    assert not any(g.any() for g in (step.grad_hidden, step.grad_weight, step.grad_bias))


def test_a_mask_step_with_a_bad_token_has_no_effect() -> None:
    tokens, *rest = batch_of(1)
    tokens[2, 5] = -4
    policy = dataclasses.replace(BERT, selection=Bernoulli(1))
    step = PORT.mask_step(tokens, *rest, policy, 1, 2)
    assert step.status & Status.ID_RANGE
    np.testing.assert_array_equal(step.inputs, tokens)
    assert not step.selected.any()


def test_steps_never_wait_for_the_device() -> None:
    case, layer = logits_of(np.dtype(np.float32), 9, 1), layer_of(np.dtype(np.float32), True)
    score = [torch.from_numpy(x) for x in vars(case).values()]
    head = [torch.from_numpy(x) for x in layer.call]
    batch = [torch.from_numpy(x) for x in batch_of(1)]
    key = mlm_torch.make_key(1, 2)
    with Watch() as watch:
        mlm_torch.score_step(*score, 4)
        mlm_torch.head_step(*head, 9)
        for law, unit in UNITS:
            policy = dataclasses.replace(
                BERT, selection=law, corruption=Corruption("1/2", "1/2", 0, unit)
            )
            mlm_torch.mask_step(*batch, policy, key)
    waiting = {"_local_scalar_dense", "item", "nonzero", "is_nonzero", "masked_select", "equal"}
    assert not watch.names & waiting


def test_steps_trace_as_one_graph_and_train() -> None:
    torch._dynamo.reset()
    case = layer_of(np.dtype(np.float32), True)
    tensors = [torch.from_numpy(x) for x in case.call]
    for capacity, status in ((10, Status.OK), (1, Status.OVERFLOW)):
        compiled = torch.compile(mlm_torch.head_step, fullgraph=True, backend="eager")
        got = compiled(*tensors, capacity)
        want = mlm_torch.head_step(*tensors, capacity)
        assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))
        assert int(got.status) == status
    leaves = [x.requires_grad_() for x in tensors[:3]]
    train = torch.compile(
        mlm_torch.step_head_log_likelihood_sum, fullgraph=True, backend="aot_eager"
    )
    train(*tensors, 10).sum.backward()
    want = mlm_torch.head_step(*(x.detach() for x in tensors), 10)
    for leaf, gradient in zip(leaves, want[2:5], strict=True):
        assert torch.equal(leaf.grad, gradient)


@pytest.mark.parametrize("capacity", [0, 1, 3, 4, 99])
def test_slots_hold_the_first_selected_positions(capacity: int) -> None:
    selected = torch.tensor([[False, True, True], [False, False, True]])
    slots = gathering.find_slots(selected, capacity)
    assert slots.index[slots.used].tolist() == [1, 2, 5][:capacity]
    assert int(slots.count) == 3


def test_raise_for_status_raises_the_class_of_the_first_bit() -> None:
    every = Status.OVERFLOW | Status.ID_RANGE | Status.NOT_FINITE | Status.EMPTY
    ladder = [(CapacityError, every), (IdRangeError, every & ~Status.OVERFLOW)]
    ladder += [(NotFiniteError, Status.NOT_FINITE | Status.EMPTY)]
    for error, word in ladder:
        with pytest.raises(error):
            PORT.raise_for_status(int(word))
    with pytest.raises(EmptySelectionError):
        PORT.raise_for_status(int(Status.EMPTY), mean=True)
    PORT.raise_for_status(int(Status.EMPTY))
    PORT.raise_for_status(0, mean=True)
