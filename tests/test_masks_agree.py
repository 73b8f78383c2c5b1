"""NumPy, PyTorch, JAX and the scalar transcription make the same masks."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from mlm_conformance import transcription
from mlm_conformance.resolve import resolve

import mlm_spec
from mlm_spec import (
    Bernoulli,
    Corruption,
    FixedCount,
    MaskingPolicy,
    Span,
    Stream,
    WholeWord,
    random_words,
    split_words,
    threshold,
)

ROWS, COLUMNS, VOCAB = 2048, 512, 30522
BY_TOKEN = Corruption("4/5", "1/10", "1/10")
BY_WORD = Corruption("4/5", "1/10", "1/10", unit="word")
BY_SPAN = Corruption("4/5", "1/10", "1/10", unit="span")
SPANS = Span.with_rate("3/20", ("1/2", "1/4", "1/4"))
POLICIES = {
    "bernoulli": (Bernoulli("3/20"), BY_TOKEN),
    "bernoulli, kinds by word": (Bernoulli("3/20"), BY_WORD),
    "fixed count": (FixedCount("3/20", 1, 20, "all", "half_even"), BY_TOKEN),
    "fixed count of candidates": (FixedCount("3/20", rounding="ceiling"), BY_TOKEN),
    "whole word": (WholeWord("3/20"), BY_WORD),
    "span": (SPANS, BY_TOKEN),
    "span, kinds by span": (SPANS, BY_SPAN),
}


def policy_of(name: str) -> MaskingPolicy:
    selection, corruption = POLICIES[name]
    return MaskingPolicy(selection, corruption, VOCAB, 103, 0, (100, 101, 102, 103))


def batch(rows: int, columns: int, seed: int) -> dict[str, Any]:
    """Rows of two packed sequences, special ids, padding and 64-bit sequence ids."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, VOCAB, size=(rows, columns)).astype(np.int32)
    cut = rng.integers(columns // 4, columns, size=(rows, 1))
    place = np.arange(columns)[None]
    second = place >= cut
    ids = rng.integers(0, 2**64, size=(rows, 2), dtype=np.uint64)
    sequence = np.where(second, ids[:, 1:], ids[:, :1])
    position = np.where(second, place - cut, place).astype(np.uint32)
    end = columns - rng.integers(0, columns // 8, size=(rows, 1))
    tokens[place >= end] = 0
    word_id = np.cumsum(rng.random((rows, columns)) < 0.7, axis=1).astype(np.int32)
    eligible = (place < end) & (rng.random((rows, columns)) < 0.97)
    return {
        "tokens": tokens,
        "sequence_id": split_words(sequence),
        "position": position,
        "word_id": word_id,
        "eligible": eligible,
        "seed": int(rng.integers(2**63)) * 2 + 1,
        "epoch": 2**32 + 5,
    }


@pytest.mark.parametrize("name", POLICIES)
def test_three_frameworks_make_the_same_masks_of_a_million_tokens(name: str) -> None:
    call = {**batch(ROWS, COLUMNS, seed=1), "policy": policy_of(name)}
    assert call["tokens"].size >= 1_000_000
    want = mlm_spec.mask(**call)
    assert 0.05 < want.selected.mean() < 0.5
    for backend in ("torch", "jax"):
        found = resolve(backend, "cpu").mask(**call)
        for part in ("inputs", "targets", "selected"):
            seen = found[part] if isinstance(found, dict) else getattr(found, part)
            assert np.array_equal(seen, getattr(want, part)), f"{backend}: {part}"


@pytest.mark.parametrize("name", POLICIES)
def test_the_reference_agrees_with_the_scalar_transcription(name: str) -> None:
    tokens = 0
    for seed in range(12):
        call = {**batch(8, 256, seed), "policy": policy_of(name)}
        want, seen = transcription.mask(**call), mlm_spec.mask(**call)
        for part in ("inputs", "targets", "selected"):
            assert np.array_equal(getattr(seen, part), getattr(want, part)), part
        tokens += call["tokens"].size
    assert tokens >= 20_000


def test_words_on_both_sides_of_the_threshold_are_where_the_text_says() -> None:
    for sequence, position, above in ((2579409, 129, -1), (1271431, 440, 0)):
        place = np.array([position], np.uint32)
        w0, _, _, _ = random_words(0, 0, split_words([sequence]), place, Stream.TOKEN)
        assert int(w0[0]) - threshold(Fraction(3, 20)) == above


def test_the_second_try_is_really_taken_and_agrees() -> None:
    """p = 1, all random, K = 250,002: about one word in 23,000 is refused."""
    call = batch(ROWS, COLUMNS, seed=3)
    call["tokens"] = np.full(call["tokens"].shape, 9, np.int32)
    call["eligible"] = np.ones(call["tokens"].shape, np.bool_)
    policy = MaskingPolicy(Bernoulli(1), Corruption(0, 1, 0), 250_006, 3, 0, (0, 1, 2, 3))
    assert policy.pool_size == 250_002
    _, _, w2, w3 = random_words(
        call["seed"], call["epoch"], call["sequence_id"], call["position"], Stream.TOKEN
    )
    refused = w2 >= 2**32 // 250_002 * 250_002
    assert refused.sum() > 10
    want = mlm_spec.mask(**call, policy=policy)
    assert np.array_equal(want.inputs[refused], 4 + w3[refused] % 250_002)
    for backend in ("torch", "jax"):
        found = resolve(backend, "cpu").mask(**call, policy=policy)
        seen = found["inputs"] if isinstance(found, dict) else found.inputs
        assert np.array_equal(seen, want.inputs), backend
