"""The PyTorch backend: masks bit by bit, numbers within derived bounds, steps, errors, devices.

Masks are compared with the scalar transcription of the rules, numbers with the reference, whose
own proofs lie elsewhere in these tests.
"""

from __future__ import annotations

import dataclasses
import doctest
import importlib
import math
import pkgutil
from types import SimpleNamespace
from typing import Any

import ml_dtypes
import mlm_torch
import numpy as np
import pytest
import torch
from mlm_conformance import transcription
from mlm_conformance.bounds import (
    arithmetic,
    gradient_bound,
    head_bounds,
    sum_bound,
    value_bound,
)
from mlm_torch import gathering, places, precision, spans
from mlm_torch.port import TorchPort
from mlm_torch.random_words import below, first_word, words
from torch.utils._python_dispatch import TorchDispatchMode

import mlm_spec
from mlm_spec.batch import Status
from mlm_spec.errors import (
    CapacityError,
    DeviceError,
    DTypeError,
    EmptySelectionError,
    IdRangeError,
    ImpossibleTargetError,
    NoSupportError,
    NotFiniteError,
    PolicyError,
    SeedError,
    ShapeError,
    WordError,
)
from mlm_spec.policy import Bernoulli, Corruption, FixedCount, MaskingPolicy, Span, WholeWord

PORT = TorchPort()
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
DTYPES = [np.dtype(np.float64), np.dtype(np.float32), BFLOAT16, np.dtype(np.float16)]
BERT = MaskingPolicy(
    Bernoulli("3/20"),
    Corruption("4/5", "1/10", "1/10"),
    vocab_size=30522,
    mask_id=103,
    pad_id=0,
    special_ids=(101, 102, 103),
)


class Watch(TorchDispatchMode):
    """Notes the name of every operation, and the size of the largest tensor it makes."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.names.add(str(func.overloadpacket).removeprefix("aten."))
        for part in result if isinstance(result, tuple | list) else (result,):
            if isinstance(part, torch.Tensor):
                self.largest = max(self.largest, part.untyped_storage().nbytes())
        return result


# --------------------------------------------------------------------------------- masking


def batch_of(seed: int, vocab_size: int = 40, rows: int = 3, columns: int = 23) -> tuple[Any, ...]:
    """Packed rows: three sequences in arbitrary columns, positions in arbitrary order."""
    rng = np.random.default_rng(seed)
    shape = (rows, columns)
    tokens = rng.integers(0, min(vocab_size, 60), shape).astype((np.int32, np.int64)[seed % 2])
    sequence_id = rng.integers(0, 2**32, (3, 2), dtype=np.uint32)[rng.integers(0, 3, shape)]
    start = (0, 5, 2**32 - 40)[seed % 3]
    position = (np.argsort(rng.random(shape), axis=1) + start).astype(np.uint32)
    if seed % 4 == 0:  # one sequence a row, in order
        sequence_id[:] = sequence_id[:, :1]
        position.sort(axis=1)
    word_id = rng.integers(-3, 4, shape).astype(np.int32)
    return tokens, sequence_id, position, word_id, rng.random(shape) < 0.85


LAWS = [
    Bernoulli("2/5"),
    Bernoulli(0),
    Bernoulli(1),
    FixedCount("1/3"),
    FixedCount("1/2", rounding="half_even", base="all"),
    FixedCount("1/5", floor=2, cap=3, rounding="ceiling"),
    FixedCount("123456789/987654321987654321", floor=1),
    WholeWord("1/2"),
    Span("1/6", ("1/2", "1/4", "1/4")),
    Span("1/9", ("1/10",) * 10),
]
UNITS = [(law, "token") for law in LAWS] + [(law, "word") for law in LAWS]
UNITS += [(law, "span") for law in LAWS if isinstance(law, Span)]
POOLS: list[Any] = ["regular", "all", (1, 3, 5)]


@pytest.mark.parametrize(("law", "unit"), UNITS)
def test_masks_are_those_of_the_transcription_bit_by_bit(law: Any, unit: str) -> None:
    selected = changed = 0
    for seed in range(6):
        special = range(0, 30, 2) if seed == 5 else (0, 7)  # few are compared, many searched
        policy = MaskingPolicy(
            law,
            Corruption("1/3", "1/3", "1/3", unit),
            vocab_size=40,
            mask_id=7,
            pad_id=0 if seed % 2 else None,
            special_ids=tuple(special),
            pool=POOLS[seed % 3],
        )
        call = (*batch_of(seed), policy, 2**64 - 1 - seed, 2**40 + seed)
        want = transcription.mask(*call)
        for got in (PORT.mask(*call), PORT.mask_step(*call)):
            for name in ("inputs", "targets", "selected"):
                np.testing.assert_array_equal(getattr(got, name), getattr(want, name), name)
            assert got.inputs.dtype == call[0].dtype
        selected += int(want.selected.sum())
        changed += int((want.inputs != want.targets).sum())
    assert (selected > 0) == (getattr(law, "rate", 1) != 0)
    assert changed > 0 or selected == 0


def test_random_words_are_the_published_known_answers() -> None:
    pi = ("a4093822 299f31d0 082efa98 ec4e6c89", "243f6a88 85a308d3 13198a2e 03707344")
    vectors = (
        ("00000000 " * 4, "00000000 " * 4, "9c6ca96a e17eae66 fc10ecd4 5256a7d8"),
        ("ffffffff " * 4, "ffffffff " * 4, "2a881696 57012287 f6c7446e a16a6732"),
        (*pi, "59cd1dbb b8879579 86b5d00c ac8b6d84"),
    )
    for key, counter, answer in vectors:
        words = [
            np.array([[int(w, 16) for w in text.split()]], np.uint32)
            for text in (key, counter, answer)
        ]
        np.testing.assert_array_equal(PORT.random_words(*words[:2]), words[2])


def test_the_first_word_alone_is_the_first_of_all_four() -> None:
    key = mlm_torch.make_key(2**64 - 5, 7)
    counters = [torch.randint(-(2**31), 2**31, (999,), dtype=torch.int32) for _ in range(3)]
    alone = first_word(key, 2, *counters)
    assert torch.equal(alone, words(key, 2, *counters)[0])


def test_selection_decides_on_both_sides_of_its_threshold() -> None:
    # Found by search: w0 = T − 1 and w0 = T for the rate 3/20, seed and epoch 0.
    sequence = np.array([[[2579409, 0], [1271431, 0]]], np.uint32)
    position = np.array([[129, 440]], np.uint32)
    tokens, able = np.array([[999, 999]]), np.ones((1, 2), bool)
    batch = PORT.mask(tokens, sequence, position, None, able, BERT, 0, 0)
    assert batch.selected.tolist() == [[True, False]]


def test_thresholds_compare_as_unsigned_integers() -> None:
    bits = torch.tensor([0, 1, 2**31 - 1, -(2**31), -2, -1], dtype=torch.int32)
    unsigned = [0, 1, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1]
    for threshold in (0, 1, 2**31 - 1, 2**31, 2**31 + 1, 2**32 - 1, 2**32):
        got = below(bits, threshold).tolist()
        assert got == [word < threshold for word in unsigned]


def test_a_word_of_the_incomplete_last_stretch_is_drawn_again() -> None:
    size = 250002
    policy = MaskingPolicy(
        Bernoulli(1), Corruption(0, 1, 0), vocab_size=size, mask_id=4, pool="all"
    )
    rows, columns = 64, 2048
    position = np.broadcast_to(np.arange(columns, dtype=np.uint32), (rows, columns))
    ids = np.zeros((rows, columns, 2), np.uint32)
    ids[..., 0] = np.arange(rows)[:, None]
    tokens, able = np.zeros((rows, columns), np.int32), np.ones((rows, columns), bool)
    got = PORT.mask(tokens, ids, position, None, able, policy, 3, 4).inputs
    key = np.broadcast_to(np.array([3, 0, 4, 0], np.uint32), (rows * columns, 4))
    counter = np.zeros((rows * columns, 4), np.uint32)
    counter[:, 0], counter[:, 1], counter[:, 2] = position.ravel(), 0x4D4C4D00, ids[..., 0].ravel()
    words = PORT.random_words(key, counter).astype(np.int64)
    again = words[:, 2] > 2**32 // size * size - 1
    assert again.sum() > 0
    want = np.where(again, words[:, 3], words[:, 2]) % size
    np.testing.assert_array_equal(got.ravel(), want)


def test_large_batches_agree_with_the_reference_across_row_blocks() -> None:
    rng = np.random.default_rng(0)
    rows, columns = 300, 512
    tokens = rng.integers(0, 30522, (rows, columns))
    ids = rng.integers(0, 2**32, (rows, 1, 2), dtype=np.uint32).repeat(columns, axis=1)
    position = np.arange(columns, dtype=np.uint32)[None].repeat(rows, axis=0)
    call = (tokens, ids, position, None, rng.random(tokens.shape) < 0.9, BERT, 11, 12)
    want, got = mlm_spec.mask(*call), PORT.mask(*call)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_largest_vocabulary_needs_no_table_of_its_size() -> None:
    policy = dataclasses.replace(
        BERT, selection=Bernoulli(1), corruption=Corruption(0, 1, 0), vocab_size=2**31 - 1
    )
    call = (*batch_of(1, 2**31 - 1), policy, 1, 2)
    with Watch() as watch:
        batch = PORT.mask(*call)
    assert watch.largest < 2**20
    assert batch.inputs[batch.selected].max() > 2**30


def test_spans_are_the_same_read_from_the_row_or_computed_anew() -> None:
    law = Span("1/7", ("1/4",) * 4)
    _, ids, position, _, able = (torch.from_numpy(x) for x in batch_of(4, columns=50))
    where = places.find_places(ids, position)
    key = mlm_torch.make_key(1, 2)
    anew = spans.cover(able, where, law, key, static=True)
    read = spans.cover(able, where, law, key, static=False)
    assert torch.equal(anew[able], read[able])
    assert set(anew[able].tolist()) == {-1, 0, 1, 2, 3}


def test_masking_neither_reads_nor_advances_the_global_random_state() -> None:
    call = (*batch_of(1), dataclasses.replace(BERT, selection=Bernoulli("1/2")), 1, 2)
    before = torch.random.get_rng_state()
    first = PORT.mask(*call)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(999)
    np.testing.assert_array_equal(PORT.mask(*call).inputs, first.inputs)


def test_results_share_no_memory_with_the_arguments() -> None:
    batch = [torch.from_numpy(x) for x in batch_of(1)]
    kept = [x.clone() for x in batch]
    result = mlm_torch.mask(*batch, BERT, 1, 2)
    result.inputs.fill_(-1), result.targets.fill_(-2), result.selected.fill_(True)
    assert all(torch.equal(a, b) for a, b in zip(batch, kept, strict=True))
    assert (result.inputs == -1).all()


def test_masked_inputs_can_go_through_an_embedding_and_back() -> None:
    batch = mlm_torch.mask(*(torch.from_numpy(x) for x in batch_of(1)), BERT, 1, 2)
    table = torch.ones(30522, 1, requires_grad=True)
    torch.nn.functional.embedding(batch.inputs, table).sum().backward()
    assert table.grad.sum() == batch.inputs.numel()


def test_sequence_words_split_any_64_bit_id() -> None:
    ids = torch.tensor([5, 2**33 + 1, -1])
    assert mlm_torch.sequence_words(ids, 1)[:, 0].tolist() == [[5, 0], [1, 2], [2**32 - 1] * 2]
    assert torch.equal(mlm_torch.sequence_words(ids[:, None]), mlm_torch.sequence_words(ids, 1))


COMPILED = [
    (Bernoulli("1/2"), "token"),
    (FixedCount("1/3", floor=1), "token"),
    (WholeWord("1/2"), "word"),
    (Span("1/6", ("1/2", "1/4", "1/4")), "span"),
]


@pytest.mark.parametrize(("law", "unit"), COMPILED)
def test_a_compiled_masker_is_one_graph_and_a_new_epoch_compiles_nothing(
    law: Any, unit: str
) -> None:
    graphs = []

    def backend(graph: torch.fx.GraphModule, _: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    policy = dataclasses.replace(
        BERT, selection=law, corruption=Corruption("1/2", "1/4", "1/4", unit), vocab_size=104
    )
    batch = [torch.from_numpy(x) for x in batch_of(1)]
    masker = mlm_torch.compile_mask(policy, backend=backend)
    for epoch in (1, 2, 2**64 - 1):
        got = masker(*batch, mlm_torch.make_key(7, epoch))
        want = mlm_torch.mask(*batch, policy, 7, epoch)
        assert all(torch.equal(a, b) for a, b in zip(got, want, strict=False))
        assert int(got.status) == Status.OK
    assert len(graphs) == 1


@pytest.mark.parametrize("law", [law for law, _ in COMPILED])
def test_tensors_of_any_strides_are_masked_alike(law: Any) -> None:
    policy = dataclasses.replace(BERT, selection=law)
    batch = [torch.from_numpy(x) for x in batch_of(1)]
    turned = [x.transpose(0, 1).contiguous().transpose(0, 1) for x in batch]
    assert not turned[0].is_contiguous()
    for a, b in zip(
        mlm_torch.mask(*turned, policy, 1, 2), mlm_torch.mask(*batch, policy, 1, 2), strict=True
    ):
        assert torch.equal(a, b)


# ----------------------------------------------------------------------- likelihood and score


def logits_of(
    dtype: np.dtype[Any], vocab_size: int, scale: float, seed: int = 0
) -> SimpleNamespace:
    """A scored batch with NaN logits, impossible targets and NaN weights where not selected."""
    rng = np.random.default_rng(seed)
    selected = np.array([[True, False, True], [False, True, True]])
    logits = (rng.standard_normal((2, 3, vocab_size)) * scale).astype(dtype)
    logits[~selected] = np.nan
    targets = np.where(selected, rng.integers(0, vocab_size, (2, 3)), -100)
    weights = np.where(selected, rng.random((2, 3)), np.nan)
    return SimpleNamespace(logits=logits, targets=targets, selected=selected, weights=weights)


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


# -------------------------------------------------------------------------------------- head


def layer_of(dtype: np.dtype[Any], bias: bool, seed: int = 0) -> SimpleNamespace:
    """A head's arguments with NaN hidden states where not selected."""
    rng = np.random.default_rng(seed)
    selected = rng.random((2, 5)) < 0.6
    hidden = rng.standard_normal((2, 5, 16)).astype(dtype)
    hidden[~selected] = np.nan
    weight = (rng.standard_normal((50, 16)) / 2).astype(dtype)
    offset = rng.standard_normal(50).astype(dtype) if bias else None
    targets = np.where(selected, rng.integers(0, 50, (2, 5)), -1)
    weights = np.where(selected, rng.random((2, 5)), np.nan)
    return SimpleNamespace(
        at=selected, call=(hidden, weight, offset, targets, selected, weights), bias=offset
    )


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


# -------------------------------------------------------------------------------------- loss


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


# ------------------------------------------------------------------------------------- steps

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


# ------------------------------------------------------------------------------------ errors


def edited(**changes: Any) -> dict[str, Any]:
    """Good arguments of all ports, but for the changes."""
    tokens, ids, position, words, able = batch_of(1)
    case, layer = logits_of(np.dtype(np.float32), 9, 1), layer_of(np.dtype(np.float32), True)
    hidden, weight, bias, targets, selected, weights = layer.call
    good: dict[str, dict[str, Any]] = {
        "mask": {
            "tokens": tokens,
            "sequence_id": ids,
            "position": position,
            "word_id": words,
            "eligible": able,
            "policy": BERT,
            "seed": 1,
            "epoch": 2,
        },
        "score": dict(vars(case)),
        "head": {
            "hidden": hidden,
            "weight": weight,
            "bias": bias,
            "targets": targets,
            "selected": selected,
            "weights": weights,
        },
        "loss": {
            "logits": np.zeros((1, 2, 4), np.float32),
            "labels": np.array([[1, -100]]),
            "ignore_index": -100,
            "num_items": None,
        },
        "random_words": {
            "key": np.zeros((2, 4), np.uint32),
            "counter": np.zeros((2, 4), np.uint32),
        },
    }
    for place, change in changes.items():
        port, name = place.split("__")
        value = good[port][name]
        good[port][name] = change(value.copy()) if callable(change) else change
        return {"port": port, "arguments": good[port]}
    raise AssertionError


def put(index: tuple[int, ...], value: Any) -> Any:
    """A change: one element (or row) of an array."""

    def change(array: Any) -> Any:
        array[index] = value
        return array

    return change


WORDS = dataclasses.replace(BERT, selection=WholeWord("1/2"))
FIRST = tuple(int(i) for i in np.argwhere(layer_of(np.dtype(np.float32), True).at)[0])
AT = f"[{FIRST[0]}, {FIRST[1]}"
ERRORS: list[tuple[dict[str, Any], type, str]] = [
    ({"mask__tokens": lambda a: a[0]}, ShapeError, "tokens is of shape (23,)"),
    ({"mask__sequence_id": lambda a: a[..., :1]}, ShapeError, "sequence_id"),
    ({"mask__position": lambda a: a.astype(np.int64)}, DTypeError, "position is of dtype int64"),
    ({"mask__tokens": lambda a: a.astype(np.float32)}, DTypeError, "int32 or int64"),
    ({"mask__eligible": lambda a: a.astype(np.int8)}, DTypeError, "eligible is of dtype int8"),
    ({"mask__tokens": lambda a: a.tolist()}, DTypeError, "tokens is a list"),
    ({"mask__tokens": lambda a: a.astype(object)}, DTypeError, "of dtype object"),
    ({"mask__tokens": put((2, 4), 30522)}, IdRangeError, "tokens[2, 4] is 30522; expected"),
    ({"mask__tokens": put((0, 1), -1)}, IdRangeError, "tokens[0, 1] is -1"),
    ({"mask__policy": "bert"}, PolicyError, "policy is a str"),
    ({"mask__seed": 2**64}, SeedError, "seed is 18446744073709551616"),
    ({"mask__seed": True}, SeedError, "seed is True"),
    ({"mask__epoch": -1}, SeedError, "epoch is -1"),
    ({"mask__epoch": 1.0}, SeedError, "epoch is 1.0 (float)"),
    ({"score__logits": lambda a: a[0]}, ShapeError, "logits is of shape (3, 9)"),
    ({"score__logits": lambda a: a[..., :0]}, ShapeError, "logits is of shape (2, 3, 0)"),
    ({"score__logits": lambda a: a.view(np.int32)}, DTypeError, "logits is of dtype int32"),
    ({"score__weights": lambda a: a.astype(np.float16)}, DTypeError, "weights is of dtype float16"),
    ({"score__selected": lambda a: a.astype(np.uint8)}, DTypeError, "selected is of dtype uint8"),
    ({"score__targets": put((1, 2), 9)}, IdRangeError, "targets[1, 2] is 9; expected an id"),
    ({"score__logits": put((0, 2, 3), np.nan)}, NotFiniteError, "logits[0, 2, 3] is nan"),
    ({"score__logits": put((1, 1, 8), np.inf)}, NotFiniteError, "logits[1, 1, 8] is inf"),
    ({"score__weights": put((1, 1), np.inf)}, NotFiniteError, "weights[1, 1] is inf"),
    ({"score__logits": put((1, 2), -np.inf)}, NoSupportError, "logits[1, 2] is all -inf"),
    ({"head__weight": lambda a: a[:, 1:]}, ShapeError, "weight is of shape (50, 15)"),
    ({"head__bias": lambda a: a.astype(np.float64)}, DTypeError, "bias is of dtype float64"),
    ({"head__hidden": put((*FIRST, 2), np.nan)}, NotFiniteError, f"{AT}, 2] is nan"),
    ({"head__weight": put((7, 1), -np.inf)}, NotFiniteError, "weight[7, 1] is -inf"),
    ({"head__bias": put((4,), np.nan)}, NotFiniteError, f"{AT}, 4] is nan"),
    ({"head__bias": lambda a: np.full_like(a, -np.inf)}, NoSupportError, "all -inf"),
    ({"head__targets": put(FIRST, 50)}, IdRangeError, "is 50; expected an id in 0..49"),
    ({"loss__labels": put((0, 0), 4)}, IdRangeError, "labels[0, 0] is 4"),
    ({"loss__labels": lambda a: a[:, :1]}, ShapeError, "labels is of shape (1, 1)"),
    ({"random_words__key": lambda a: a[:1]}, ShapeError, "counter is of shape (2, 4)"),
    ({"random_words__key": lambda a: a.astype(np.int32)}, DTypeError, "key is of dtype int32"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "error", "message"), ERRORS, ids=[e[2] for e in ERRORS])
def test_bad_input_is_refused_with_its_place_and_changes_nothing(
    changes: dict[str, Any], error: type, message: str
) -> None:
    call = edited(**changes)
    kept = {k: v.copy() for k, v in call["arguments"].items() if isinstance(v, np.ndarray)}
    with pytest.raises(error) as caught:
        getattr(PORT, call["port"])(**call["arguments"])
    assert type(caught.value) is error
    assert message in str(caught.value)
    for part in (caught.value.got, caught.value.expected, caught.value.where):
        assert part in str(caught.value)
    for name, array in kept.items():
        assert array.tobytes() == call["arguments"][name].tobytes()


def test_an_impossible_target_is_named() -> None:
    case = logits_of(np.dtype(np.float32), 9, 1)
    target = case.targets[1, 1]
    case.logits[1, 1, target] = -np.inf
    with pytest.raises(ImpossibleTargetError, match=rf"logits\[1, 1, {target}\] is -inf"):
        PORT.score(case.logits, case.targets, case.selected, case.weights)


@pytest.mark.parametrize(
    "policy", [WORDS, dataclasses.replace(BERT, corruption=Corruption(1, 0, 0, "word"))]
)
def test_a_policy_of_words_without_words_is_refused_in_both_maskers(policy: Any) -> None:
    tokens, ids, position, _, able = batch_of(1)
    for masker in (PORT.mask, PORT.mask_step):
        with pytest.raises(WordError, match="word_id is None"):
            masker(tokens, ids, position, None, able, policy, 1, 2)


def test_steps_refuse_shapes_and_dtypes_before_they_run() -> None:
    case = logits_of(np.dtype(np.float32), 9, 1)
    with pytest.raises(ShapeError):
        PORT.score_step(case.logits, case.targets[:1], case.selected, None, 4)
    with pytest.raises(DTypeError):
        PORT.score_step(case.logits.view(np.int32), case.targets, case.selected, None, 4)
    with pytest.raises(ShapeError, match="capacity is -1"):
        PORT.score_step(case.logits, case.targets, case.selected, None, -1)


# ------------------------------------------------------------------------- devices and package


@pytest.mark.parametrize("name", ["cuda:99", "gpu", "meta", "", "mps"])
def test_an_absent_device_is_an_error_and_never_another_device(name: str) -> None:
    with pytest.raises(DeviceError, match="cpu"):
        TorchPort(device=name)


def test_cuda_without_a_driver_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match="'cuda'"):
        TorchPort(device="cuda")


def test_arrays_that_are_not_contiguous_not_native_or_read_only_are_taken() -> None:
    case = logits_of(np.dtype(np.float32), 9, 1)
    want = PORT.score(case.logits, case.targets, case.selected)
    wide = np.zeros((2, 3, 18), np.float32)
    wide[..., ::2] = case.logits
    targets = case.targets.astype(np.int32)
    targets.flags.writeable = False
    got = PORT.score(wide[..., ::2], targets, case.selected)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_package_exports_what_it_says() -> None:
    assert sorted(mlm_torch.__all__) == mlm_torch.__all__
    assert all(getattr(mlm_torch, name) is not None for name in mlm_torch.__all__)
    assert PORT.versions["torch"] == torch.__version__


def test_the_examples_in_the_docstrings_run() -> None:
    ran = 0
    for module in pkgutil.iter_modules(mlm_torch.__path__):
        result = doctest.testmod(importlib.import_module(f"mlm_torch.{module.name}"))
        assert result.failed == 0, module.name
        ran += result.attempted
    assert ran > 0
