"""The PyTorch backend's masks are the transcription's bit by bit, and a masker is one graph."""

from __future__ import annotations

import dataclasses
from typing import Any

import mlm_torch
import numpy as np
import pytest
import torch
from mlm_conformance import transcription
from mlm_torch import places, spans
from mlm_torch.random_words import below, first_word, words
from torch_cases import BERT, PORT, UNITS, Watch, batch_of

import mlm_spec
from mlm_spec.batch import Status
from mlm_spec.policy import Bernoulli, Corruption, FixedCount, MaskingPolicy, Span, WholeWord

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
