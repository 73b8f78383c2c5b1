"""Presets: each that bears a model's name is its source's rule as a law; the others say how not.

The transcriptions below are written from the sources named in `SOURCES`, one sequence and one
draw at a time, and share no code with the package.
"""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest

import mlm_spec
from mlm_spec import Bernoulli, FixedCount, MaskedBatch, MaskingPolicy, PolicyError, Span
from mlm_spec.corruption import pool_ids
from mlm_spec.presets import (
    DIFFERENCES,
    PRESETS,
    SOURCES,
    bert,
    modernbert_like,
    roberta_like,
    spanbert_like,
)
from mlm_spec.selection import fixed_count

PAD, UNK, CLS, SEP, MASK, FIRST_WORD = 0, 1, 2, 3, 4, 5
VOCAB = 40
IDS = {"vocab_size": VOCAB, "mask_id": MASK, "pad_id": PAD, "cls_id": CLS, "sep_id": SEP}


def whole_pool(policy: MaskingPolicy) -> np.ndarray:
    """All ids that a random replacement is drawn from."""
    return pool_ids(policy, np.arange(policy.pool_size, dtype=np.uint32))


def bert_count(length: int, max_predictions: int) -> int:
    """create_pretraining_data.py: the number of predictions of a sequence, specials counted."""
    rounded = round(length * 0.15)  # Python 3's round, on the source's float
    return min(max_predictions, max(1, rounded))


def bert_kind(first: float, second: float) -> str:
    """create_pretraining_data.py: what a selected token shows, by two uniform draws."""
    if first < 0.8:
        return "mask"
    return "keep" if second < 0.5 else "random"


def modernbert_kind(uniform: float, rate: float) -> str | None:
    """sequence_packer.py: one uniform draw selects a position and decides its kind."""
    if uniform < rate * 0.8:
        return "mask"
    if uniform < rate * 0.9:
        return "random"
    return "keep" if uniform < rate else None


def fractions_of(kinds: list[str | None]) -> dict[str | None, Fraction]:
    return {kind: Fraction(kinds.count(kind), len(kinds)) for kind in kinds}


def run(policy: MaskingPolicy, tokens: list[int], sequences: int = 1) -> MaskedBatch:
    """The same tokens under many sequence ids, one a row; everything is eligible."""
    shape = (sequences, len(tokens))
    ids = np.broadcast_to(np.arange(sequences, dtype=np.uint64)[:, None], shape)
    position = np.broadcast_to(np.arange(shape[1], dtype=np.uint32), shape)
    return mlm_spec.mask(
        np.broadcast_to(np.array(tokens, np.int32), shape).copy(),
        mlm_spec.split_words(ids),
        position.copy(),
        None,
        np.ones(shape, bool),
        policy,
        seed=7,
        epoch=3,
    )


def hoeffding(trials: int, alpha: float = 1e-11) -> float:
    """How far a count of ``trials`` may lie from its mean, but for probability alpha."""
    return math.sqrt(trials * math.log(2 / alpha) / 2)


@pytest.mark.parametrize("max_predictions", [1, 20, 76, 600])
def test_bert_selects_as_many_as_its_source_at_every_length(max_predictions: int) -> None:
    policy = bert(**IDS, max_predictions=max_predictions)
    assert isinstance(policy.selection, FixedCount)
    for length in range(1, 601):
        expected = bert_count(length, max_predictions)
        assert fixed_count(policy.selection, length, length) == expected, length


@pytest.mark.parametrize("length", [3, 4, 10, 29, 30, 31, 50, 70, 133, 134, 200])
def test_bert_counts_cls_and_sep_and_not_padding(length: int) -> None:
    words = [FIRST_WORD + i % 30 for i in range(length - 3)]
    tokens = [CLS, *words[: length // 2], SEP, *words[length // 2 :], SEP, *[PAD] * 9]
    selected = run(bert(**IDS), tokens, sequences=5).selected
    expected = min(bert_count(length, 20), len(words))
    assert selected.sum(axis=1).tolist() == [expected] * 5


def test_bert_never_selects_cls_or_sep_and_does_select_unk_and_mask() -> None:
    policy = bert(**IDS, max_predictions=600)
    tokens = [CLS, UNK, MASK, FIRST_WORD, SEP, FIRST_WORD, SEP, PAD]
    seen = run(policy, tokens, sequences=400).selected.any(axis=0)
    assert seen.tolist() == [False, True, True, True, False, True, False, False]


def test_bert_weights_are_those_of_its_two_draws() -> None:
    tenths = [i / 10 for i in range(10)]  # both thresholds lie on this grid, so cells are exact
    law = fractions_of([bert_kind(first, second) for first in tenths for second in tenths])
    weights = bert(**IDS).corruption
    assert (weights.mask, weights.random, weights.keep) == (law["mask"], law["random"], law["keep"])
    assert weights.unit == "token"


def test_bert_draws_random_ids_from_the_whole_vocabulary() -> None:
    assert whole_pool(bert(**IDS)).tolist() == list(range(VOCAB))


def test_bert_makes_every_subset_of_candidates_equally_likely() -> None:
    sequences, words = 20_000, 6
    policy = bert(**IDS)
    tokens = [CLS, *range(FIRST_WORD, FIRST_WORD + words), SEP, *[PAD] * 4]
    chosen = run(policy, [*tokens, SEP, SEP, SEP], sequences).selected[:, 1 : 1 + words]
    assert bert_count(words + 5, 20) == 2
    pairs = [tuple(np.flatnonzero(row).tolist()) for row in chosen]
    subsets = list(combinations(range(words), 2))
    for subset in subsets:
        excess = pairs.count(subset) - sequences / len(subsets)
        assert abs(excess) <= hoeffding(sequences), subset


def test_roberta_like_stays_within_one_of_its_source_s_count() -> None:
    law = roberta_like(**IDS).selection
    assert isinstance(law, FixedCount)
    for n in range(1, 601):
        mean = Fraction(3, 20) * n
        assert abs(fixed_count(law, n, n) - mean) <= Fraction(1, 2)
        assert fixed_count(law, n, n) in (math.floor(mean), math.floor(mean) + 1)


def test_roberta_like_neither_selects_nor_draws_special_ids() -> None:
    policy = roberta_like(**IDS, unk_id=UNK)
    tokens = [CLS, UNK, MASK, FIRST_WORD, FIRST_WORD, FIRST_WORD, FIRST_WORD, SEP, PAD]
    seen = run(policy, tokens, sequences=300).selected.any(axis=0)
    assert seen.tolist() == [False, False, False, True, True, True, True, False, False]
    assert whole_pool(policy).tolist() == list(range(FIRST_WORD, VOCAB))


def test_spanbert_like_has_the_geometric_lengths_of_its_source_renormalised() -> None:
    law = spanbert_like(**IDS).selection
    assert isinstance(law, Span)
    # masking.py: p (1 − p)^(l − 1) for l = 1..10, divided by its sum; here in integers.
    weights = [4 ** (length - 1) * 5 ** (10 - length) for length in range(1, 11)]
    assert law.lengths == tuple(Fraction(w, 5**10 - 4**10) for w in weights)
    mean = sum(length * p for length, p in enumerate(law.lengths, start=1))
    assert round(float(mean), 1) == 3.8  # the paper's figure


def test_spanbert_like_covers_fifteen_percent_of_the_interior() -> None:
    law = spanbert_like(**IDS).selection
    assert isinstance(law, Span)
    rate = Fraction(3, 20)
    one_step_more = Span(law.start + Fraction(1, 2**32), law.lengths)
    assert law.rate_at(9) <= rate < one_step_more.rate_at(9)
    assert law.rate_at(0) == law.start < law.rate_at(8) < law.rate_at(9) == law.rate_at(10_000)


def test_spanbert_like_decides_the_kind_once_for_a_span() -> None:
    corruption = spanbert_like(**IDS).corruption
    assert corruption.unit == "span"
    assert (corruption.mask, corruption.random, corruption.keep) == (
        Fraction(8, 10),
        Fraction(1, 10),
        Fraction(1, 10),
    )


def test_spanbert_like_neither_selects_nor_draws_special_ids() -> None:
    policy = spanbert_like(**IDS)
    assert policy.pad_id == PAD
    seen = run(policy, [CLS, UNK, MASK, FIRST_WORD, SEP, PAD], sequences=300).selected.any(axis=0)
    assert seen.tolist() == [False, True, False, True, False, False]
    assert whole_pool(policy).tolist() == [UNK, *range(FIRST_WORD, VOCAB)]


def test_modernbert_like_has_the_rate_and_the_weights_of_its_source_s_one_draw() -> None:
    # 0.24, 0.27 and 0.30 lie on a grid of hundredths; a cell is read at its middle.
    law = fractions_of([modernbert_kind((i + 0.5) / 100, 0.3) for i in range(100)])
    policy = modernbert_like(**IDS)
    assert isinstance(policy.selection, Bernoulli)
    assert policy.selection.rate == 1 - law[None]
    weights, rate = policy.corruption, policy.selection.rate
    assert weights.mask * rate == law["mask"]
    assert weights.random * rate == law["random"]
    assert weights.keep * rate == law["keep"]


def test_modernbert_like_never_selects_special_ids_and_draws_from_all_ids() -> None:
    policy = modernbert_like(**IDS)
    seen = run(policy, [CLS, FIRST_WORD, SEP, PAD], sequences=100).selected.any(axis=0)
    assert seen.tolist() == [False, True, False, False]
    assert whole_pool(policy).tolist() == list(range(VOCAB))


def test_a_bare_name_has_no_differences_and_a_like_name_has_some() -> None:
    like = {name for name in PRESETS if name.endswith("_like")}
    assert set(DIFFERENCES) == like
    assert all(DIFFERENCES[name] for name in like)
    assert set(SOURCES) == set(PRESETS)
    assert all(code.startswith("https://github.com/") for _, code in SOURCES.values())


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_preset_survives_its_plain_data(name: str) -> None:
    policy = PRESETS[name](**IDS)
    assert PRESETS[name].__name__ == name
    assert MaskingPolicy.from_mapping(policy.to_mapping()) == policy


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_preset_refuses_an_id_outside_the_vocabulary(name: str) -> None:
    with pytest.raises(PolicyError, match="mask_id is 40"):
        PRESETS[name](**{**IDS, "mask_id": VOCAB})
