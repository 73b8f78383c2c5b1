"""The PyTorch backend's head and its losses: bounds, gradients, precision, true means."""

from __future__ import annotations

import math
from typing import Any

import mlm_torch
import numpy as np
import pytest
import torch
from mlm_conformance.bounds import head_bounds
from mlm_torch import precision
from mlm_torch.port import TorchPort
from torch_cases import DTYPES, PORT, Watch, layer_of

import mlm_spec
from mlm_spec.errors import EmptySelectionError

# The head


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("bias", [True, False])
def test_the_head_and_its_step_lie_within_the_bounds_and_leak_no_nan(
    dtype: np.dtype[Any], bias: bool
) -> None:
    case = layer_of(dtype, bias)
    hidden, weight, offset, targets, at, weights = case.call
    want = mlm_spec.head(*case.call)
    rows, matrix = hidden[at].astype(np.float64), weight.astype(np.float64)
    wide = None if offset is None else offset.astype(np.float64)
    logits = rows @ matrix.T + (0.0 if wide is None else wide)
    signal = weights[at][:, None] * mlm_spec.logit_gradient(logits, targets[at])
    bounds = head_bounds(rows, matrix, wide, targets[at], weights[at], signal, dtype.name)
    for got in (PORT.head(*case.call), PORT.head_step(*case.call, 10)):
        assert abs(float(got.sum) - float(want.sum)) <= bounds.sum
        assert got.count == want.count
        pairs = [
            (got.grad_hidden[at], (signal @ matrix), bounds.grad_hidden),
            (got.grad_weight, (signal.T @ rows), bounds.grad_weight),
        ]
        if bias:
            pairs.append((got.grad_bias, signal.sum(axis=0), bounds.grad_bias))
        for have, true, bound in pairs:
            assert (np.abs(have.astype(np.float64) - true) <= bound).all()
            assert have.dtype == dtype
        assert not got.grad_hidden[~at].astype(np.float64).any()
        assert (got.grad_bias is None) == (not bias)


def test_unselected_logits_never_exist() -> None:
    rows, columns, width, vocab_size = 4, 50, 4, 64
    hidden, weight = torch.randn(rows, columns, width), torch.randn(vocab_size, width)
    selected = torch.zeros(rows, columns, dtype=torch.bool)
    selected[1, 3] = selected[2, 40] = True
    targets = torch.zeros(rows, columns, dtype=torch.int64)
    with Watch() as watch:
        mlm_torch.head(hidden, weight, None, targets, selected)
        mlm_torch.head_step(hidden, weight, None, targets, selected, None, 3)
    assert watch.largest <= hidden.nbytes
    assert watch.largest < 4 * rows * columns * vocab_size


def test_training_through_the_head_has_the_gradients_that_head_reports() -> None:
    case = layer_of(np.dtype(np.float32), True)
    tensors = [torch.from_numpy(x) for x in case.call]
    leaves = [x.requires_grad_() for x in tensors[:3]]
    total, count = mlm_torch.head_log_likelihood_sum(*tensors)
    total.backward()
    want = PORT.head(*case.call)
    assert (total.item(), count.item()) == (want.sum, want.count)
    for leaf, gradient in zip(leaves, want[2:], strict=True):
        np.testing.assert_array_equal(leaf.grad.numpy(), gradient)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_logits_on_a_cpu_are_formed_and_kept_in_float32(dtype: torch.dtype) -> None:
    rows, weight = torch.tensor([[1.0, 2.0**-13]], dtype=dtype), torch.ones(1, 2, dtype=dtype)
    assert precision.project(rows, weight, None).item() == 1.0 + 2.0**-13


def test_full_precision_sets_the_flags_and_gives_them_back() -> None:
    cuda, cpu = torch.backends.cuda.matmul, torch.backends.mkldnn.matmul
    before = (cuda.fp32_precision, cpu.fp32_precision)
    try:
        cuda.fp32_precision, cpu.fp32_precision = "tf32", "bf16"
        with precision.full_precision():
            assert (cuda.fp32_precision, cpu.fp32_precision) == ("ieee", "ieee")
            assert not cuda.allow_bf16_reduced_precision_reduction
            assert not cuda.allow_fp16_reduced_precision_reduction
        assert (cuda.fp32_precision, cpu.fp32_precision) == ("tf32", "bf16")
    finally:
        cuda.fp32_precision, cpu.fp32_precision = before
    assert cuda.allow_bf16_reduced_precision_reduction


# The loss


def test_the_mean_loss_is_minus_sum_over_count() -> None:
    logits, labels = np.zeros((2, 2, 8), np.float32), np.array([[3, -100], [-100, 0]])
    got = PORT.loss(logits, labels, -100, None)
    assert got["loss"] == np.float32(math.log(8))
    assert got["grad_logits"][0, 0].tolist() == [0.0625] * 3 + [-0.4375] + [0.0625] * 4
    assert not got["grad_logits"][0, 1].any()


def test_micro_batches_with_num_items_add_up_to_the_mean_loss() -> None:
    # Powers of two throughout, so the parts add up exactly.
    logits = torch.zeros(4, 2, 2, dtype=torch.float64)
    labels = torch.tensor([[0, 1], [-100, 1], [-100, -100], [1, -100]])
    parts = [mlm_torch.loss(z[None], y[None], num_items=4, reduction="sum/num_items")
             for z, y in zip(logits, labels, strict=True)]  # fmt: skip
    assert sum(part.item() for part in parts) == mlm_torch.mean_loss(logits, labels).item()
    assert parts[2].item() == 0.0


def test_a_mean_over_nothing_is_an_error_and_a_sum_is_zero() -> None:
    logits, labels = np.zeros((1, 2, 4), np.float32), np.full((1, 2), -100)
    with pytest.raises(EmptySelectionError):
        PORT.loss(logits, labels, -100, None)
    with pytest.raises(EmptySelectionError):
        mlm_torch.mean(torch.tensor(0.0), 0)
    with pytest.raises(EmptySelectionError):
        TorchPort(loss_reduction="sum/num_items").loss(logits, labels, -100, None)
    for reduction in ("sum", "sum/num_items"):
        got = TorchPort(loss_reduction=reduction).loss(logits, labels, -100, 3)
        assert got["loss"].tobytes() == np.float32(0.0).tobytes()
        assert not got["grad_logits"].any()
