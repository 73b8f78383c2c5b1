"""The PyTorch backend's likelihoods and gradients lie within derived bounds, extremes too."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import mlm_torch
import numpy as np
import pytest
import torch
from mlm_conformance.bounds import arithmetic, gradient_bound, sum_bound, value_bound
from torch_cases import BERT, DTYPES, PORT, layer_of, logits_of

import mlm_spec
from mlm_spec.batch import Status


def assert_score_within_bounds(case: SimpleNamespace) -> None:
    """The derived any-order bounds, entry by entry, against the reference."""
    call = (case.logits, case.targets, case.selected, case.weights)
    got, want = PORT.score(*call), mlm_spec.score(*call)
    at, name = case.selected, case.logits.dtype.name
    rows, ids, weights = case.logits[at], case.targets[at], case.weights[at]
    bounds = value_bound(rows, ids, arithmetic(name))
    error = np.abs(got.log_likelihood[at].astype(np.float64) - want.log_likelihood[at])
    assert (error <= bounds).all(), (error, bounds)
    limit = sum_bound(want.log_likelihood[at], bounds, weights, arithmetic(name))
    assert abs(float(got.sum) - float(want.sum)) <= limit
    true = weights[:, None] * mlm_spec.logit_gradient(rows, ids)
    error = np.abs(got.grad_logits[at].astype(np.float64) - true)
    allowed = gradient_bound(rows, true, weights, arithmetic(name, name))
    assert (error <= allowed).all()
    assert int(got.count) == int(at.sum())
    assert not got.log_likelihood[~at].any()
    assert not got.grad_logits[~at].astype(np.float64).any()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("vocab_size", "scale"), [(1, 1), (2, 1), (64, 3), (1000, 10)])
def test_scores_and_gradients_lie_within_the_any_order_bounds(
    dtype: np.dtype[Any], vocab_size: int, scale: float
) -> None:
    assert_score_within_bounds(logits_of(dtype, vocab_size, scale))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("offset", [200.0, -1e4])
def test_offset_logits_lie_within_the_any_order_bounds(dtype: type, offset: float) -> None:
    case = logits_of(np.dtype(dtype), 64, 3)
    case.logits += dtype(offset)
    assert_score_within_bounds(case)


def test_low_precision_results_are_float32_and_gradients_keep_the_dtype() -> None:
    for dtype in DTYPES:
        case = logits_of(dtype, 5, 1)
        got = PORT.score(case.logits, case.targets, case.selected, case.weights)
        wide = np.float64 if dtype == np.float64 else np.float32
        assert got.sum.dtype == got.log_likelihood.dtype == wide
        assert got.grad_logits.dtype == dtype
        assert got.grad_logits.shape == case.logits.shape


def test_equal_float16_logits_over_a_large_vocabulary_are_finite_and_exact() -> None:
    logits = np.zeros((1, 1, 65536), np.float16)
    got = PORT.score(logits, np.array([[7]]), np.array([[True]]))
    assert got.log_likelihood[0, 0] == np.float32(-math.log(65536))


def test_a_probability_near_one_keeps_its_relative_accuracy() -> None:
    logits = np.array([[[0.0, 40.0]]], np.float32)
    got = PORT.score(logits, np.array([[1]]), np.array([[True]]))
    # log1p(e^−40) and e^−40 are one number in float32.  The exponential may be off by 4 ulps, which
    # is 8 u, and is rounded once: 9 u, relative.
    true, unit = math.exp(-40.0), 2.0**-24
    assert abs(-float(got.log_likelihood[0, 0]) - true) <= 9 * unit * true
    assert abs(float(got.grad_logits[0, 0, 1]) - true) <= 9 * unit * true


def test_an_id_with_logit_minus_infinity_has_probability_and_gradient_zero() -> None:
    logits = np.array([[[1.0, -np.inf, 2.0]]], np.float32)
    got = PORT.score(logits, np.array([[0]]), np.array([[True]]))
    without = PORT.score(logits[..., [0, 2]], np.array([[0]]), np.array([[True]]))
    assert got.log_likelihood == without.log_likelihood
    assert got.grad_logits[0, 0].tolist() == [
        without.grad_logits[0, 0, 0],
        0.0,
        without.grad_logits[0, 0, 1],
    ]


def test_a_vocabulary_of_one_id_has_likelihood_and_gradient_zero() -> None:
    got = PORT.score(
        np.full((1, 2, 1), 7.0, np.float32), np.zeros((1, 2), int), np.ones((1, 2), bool)
    )
    assert not got.log_likelihood.any()
    assert not got.grad_logits.any()


@pytest.mark.parametrize("weighted", [False, True])
def test_nothing_selected_is_zero_and_never_nan(weighted: bool) -> None:
    logits, none = np.full((2, 3, 5), np.nan, np.float32), np.zeros((2, 3), bool)
    weights = np.full((2, 3), np.nan) if weighted else None
    targets = np.full((2, 3), -100)
    got = PORT.score(logits, targets, none, weights)
    step = PORT.score_step(logits, targets, none, weights, 4)
    for result in (got, step):
        assert result.sum.tobytes() == np.float32(0.0).tobytes()
        assert result.count == 0
        assert not result.grad_logits.any()
    assert step.status == Status.EMPTY
    hidden, weight = np.full((2, 3, 4), np.nan, np.float32), np.ones((5, 4), np.float32)
    layer = (hidden, weight, np.ones(5, np.float32), targets, none, weights)
    for result in (PORT.head(*layer), PORT.head_step(*layer, 4)):
        assert result.sum.tobytes() == np.float32(0.0).tobytes()
        assert not any(g.any() for g in (result.grad_hidden, result.grad_weight, result.grad_bias))


def test_batches_without_positions_are_empty_and_not_an_error() -> None:
    tokens = np.zeros((2, 0), np.int64)
    ids, position = np.zeros((2, 0, 2), np.uint32), np.zeros((2, 0), np.uint32)
    none = np.zeros((2, 0), bool)
    call = (tokens, ids, position, None, none, BERT, 1, 2)
    assert PORT.mask(*call).inputs.shape == (2, 0)
    assert PORT.mask_step(*call).status == Status.EMPTY
    logits = np.zeros((2, 0, 5), np.float32)
    assert PORT.score(logits, tokens, none).count == 0
    assert PORT.score_step(logits, tokens, none, None, 3).status == Status.EMPTY


def test_the_differentiable_sum_has_the_gradient_that_score_reports() -> None:
    case = logits_of(np.dtype(np.float32), 33, 3)
    tensors = [
        torch.from_numpy(x) for x in (case.logits, case.targets, case.selected, case.weights)
    ]
    tensors[0].requires_grad_()
    total, count = mlm_torch.log_likelihood_sum(*tensors)
    total.backward()
    want = PORT.score(case.logits, case.targets, case.selected, case.weights)
    assert total.item() == want.sum
    assert count.item() == want.count
    np.testing.assert_array_equal(tensors[0].grad.numpy(), want.grad_logits)


def test_score_and_head_work_without_autograd_and_in_inference_mode() -> None:
    case, layer = logits_of(np.dtype(np.float32), 9, 1), layer_of(np.dtype(np.float32), True)
    for run, arguments in ((mlm_torch.score, vars(case).values()), (mlm_torch.head, layer.call)):
        want = run(*(torch.from_numpy(x) for x in arguments))
        for mode in (torch.no_grad, torch.inference_mode):
            with mode():
                got = run(*(torch.from_numpy(x.copy()) for x in arguments))
            assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))


def test_the_gradient_can_be_differentiated_again() -> None:
    logits = torch.zeros(1, 1, 2, requires_grad=True)
    at = torch.ones(1, 1, dtype=torch.bool)
    total, _ = mlm_torch.log_likelihood_sum(logits, torch.zeros(1, 1, dtype=torch.int64), at)
    (gradient,) = torch.autograd.grad(total, logits, create_graph=True)
    for column, row in enumerate(([-0.25, 0.25], [0.25, -0.25])):  # −(diag p − p pᵀ)
        (second,) = torch.autograd.grad(gradient[0, 0, column], logits, retain_graph=True)
        assert second[0, 0].tolist() == row
