"""Dropout without state: words by hand, independence bit for bit, and how much is dropped."""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
import pytest
from encoder_cases import TINY, batch_of, padded, random_parameters, rows, tiny_batch
from message_cases import assert_says
from mlm_conformance.transcription import threefry4x32_20, threshold

from mlm_spec import split_words
from mlm_spec.training.config import EncoderConfig
from mlm_spec.training.dropout import (
    Dropout,
    Site,
    attention_channel,
    dropout_factor,
    dropout_keep,
    dropout_key,
)
from mlm_spec.training.encoder import encode
from mlm_spec.training.gradients import objective_and_gradients
from mlm_spec.training.places import real_places
from mlm_spec.training.units import units_of

BATCH = tiny_batch()
PARAMETERS = random_parameters(TINY, seed=1)
DROPOUT = Dropout(seed=2**40 + 7, update=2**33 + 1)
HALF = Fraction(1, 2)
KEY = (7, 2**8, 1, 2)  # (seed_lo, seed_hi, update_lo, update_hi) of DROPOUT


def word(site: int, layer: int, sequence: tuple[int, int], position: int, channel: int) -> int:
    key = threefry4x32_20(KEY, (site, 0x4D4C4D03, layer, 0))
    return threefry4x32_20(key, (position, channel // 4, *sequence))[channel % 4]


def keep(site: Site, layer: int, ids: Any, position: Any, channel: Any, p: Any = HALF) -> Any:
    return dropout_keep(dropout_key(DROPOUT, site, layer), ids, position, channel, p)


def test_the_words_of_a_unit_are_those_of_the_text() -> None:
    ids = split_words([2**33 + 1, 2**64 - 1])
    position = np.array([3, 2**32 - 1], np.uint32)
    channel = np.array([0, 5, 6, 7, 767, 2**32 - 1], np.uint32)
    for site, layer in product(Site, (0, 1, 11)):
        found = keep(site, layer, ids, position, channel)
        for (n, place), (m, c) in product(enumerate(position), enumerate(channel)):
            sequence = (int(ids[n, 0]), int(ids[n, 1]))
            kept = word(site, layer, sequence, int(place), int(c)) < threshold(HALF)
            assert found[n, m] == kept


def test_a_unit_is_kept_exactly_below_the_threshold() -> None:
    ids, position, channel = split_words([5]), np.zeros(1, np.uint32), np.arange(9, dtype=np.uint32)
    words = [word(2, 1, (5, 0), 0, int(c)) for c in channel]
    for c, w in enumerate(words):
        for shift in (0, 1):
            p = 1 - Fraction(w + shift, 2**32)  # T(1 − p) is w, then w + 1
            found = keep(Site.ATTENTION_OUTPUT, 1, ids, position, channel, p)[0]
            assert found.tolist() == [other < w + shift for other in words]
            assert found[c] == bool(shift)


def test_all_sites_layers_updates_and_seeds_drop_units_of_their_own() -> None:
    ids, position = split_words([5]), np.zeros(1, np.uint32)
    channel = np.arange(256, dtype=np.uint32)
    keys = [
        dropout_key(Dropout(seed, update), site, layer)
        for seed, update, site, layer in product((0, 1, 2**32, 2**63), (1, 2, 2**32), Site, (0, 1))
    ]
    found = {dropout_keep(key, ids, position, channel, HALF).tobytes() for key in keys}
    assert len(found) == len(keys) == 96


def units(batch: Any) -> tuple[Any, list[Any]]:
    """Factors of hidden units (N, d), and of the probabilities of each sequence."""
    places = real_places(batch)
    made = units_of(TINY, places, DROPOUT)
    return made.hidden(Site.OUTPUT, 1), made.attention(1)


def test_units_do_not_depend_on_the_batch_its_order_padding_or_packing() -> None:
    whole = batch_of([[(5, 2), (6, 3)], [(7, 4)], [(8, 1), (9, 2)]], TINY, seed=8)
    hidden, attention = units(whole)
    assert len(attention) == 5
    for order in ([0, 1, 2], [2, 0, 1], [1]):
        batch = padded(rows(whole, order), 9)
        found, probabilities = units(batch)
        starts = np.cumsum([0, *whole.attention_mask.sum(axis=1)])
        expected = np.concatenate([hidden[starts[row] : starts[row + 1]] for row in order])
        assert np.array_equal(found, expected)
        assert len(probabilities) == sum({0: 2, 1: 1, 2: 2}[row] for row in order)
        known = {one.tobytes() for one in attention}
        assert {one.tobytes() for one in probabilities} <= known


def test_micro_batches_drop_what_the_whole_batch_drops() -> None:
    whole = encode(PARAMETERS, BATCH, TINY, dropout=DROPOUT)
    for row in range(2):
        one = encode(PARAMETERS, rows(BATCH, [row]), TINY, dropout=DROPOUT)
        # The same units; products of another number of rows may differ in their last bits.
        assert np.array_equal(one.astype(np.float32), whole[[row]].astype(np.float32))


def test_a_probability_is_dropped_by_its_head_query_and_key() -> None:
    position = np.array([4, 2, 9], np.uint32)
    channel = attention_channel(2, position)
    assert channel.tolist() == [4, 2, 9, 2**24 + 4, 2**24 + 2, 2**24 + 9]
    places = real_places(BATCH)
    factors = units_of(TINY, places, DROPOUT).attention(1)
    for members, factor in zip(places.sequences, factors, strict=True):
        assert factor is not None
        n, (low, high) = len(members), places.sequence_id[members[0]].tolist()
        assert factor.shape == (2, n, n)
        for head, i, j in product(range(2), range(n), range(n)):
            query, key = (int(places.position[members[x]]) for x in (i, j))
            w = word(1, 1, (low, high), query, head * 2**24 + key)
            assert factor[head, i, j] == (1.5 if w < threshold(Fraction(2, 3)) else 0.0)


def test_what_is_kept_is_scaled_by_one_over_one_minus_p() -> None:
    kept = np.array([True, False])
    assert dropout_factor(kept, Fraction(1, 10)).tolist() == [float(Fraction(10, 9)), 0.0]
    assert dropout_factor(kept, Fraction(0)).tolist() == [1.0, 0.0]


def test_as_many_units_are_dropped_as_the_probability_says() -> None:
    n, p = 2**20, Fraction(1, 10)
    position, channel = np.arange(n // 64, dtype=np.uint32), np.arange(64, dtype=np.uint32)
    kept = int(keep(Site.OUTPUT, 0, np.zeros((n // 64, 2), np.uint32), position, channel, p).sum())
    # Hoeffding: |kept − n·(1 − p)| ≥ √(n·ln(2/α)/2) has probability α at most; α is 10⁻¹².
    assert abs(kept - n * (1 - p)) < (n * np.log(2e12) / 2) ** 0.5


def test_without_dropout_nothing_is_dropped_or_scaled() -> None:
    fields = TINY.to_mapping() | {"hidden_dropout": "0", "attention_dropout": "0"}
    never = EncoderConfig(**fields)
    expected = encode(PARAMETERS, BATCH, TINY)  # an evaluation
    assert np.array_equal(encode(PARAMETERS, BATCH, never, dropout=DROPOUT), expected)
    assert not np.array_equal(encode(PARAMETERS, BATCH, TINY, dropout=DROPOUT), expected)


@pytest.mark.parametrize("field", ["hidden_dropout", "attention_dropout"])
def test_each_probability_has_its_own_sites(field: str) -> None:
    fields = TINY.to_mapping() | {"hidden_dropout": "0", "attention_dropout": "0"}
    config = EncoderConfig(**fields | {field: "1/2"})
    made = units_of(config, real_places(BATCH), DROPOUT)
    hidden = [made.hidden(site) for site in (Site.EMBEDDINGS, Site.ATTENTION_OUTPUT, Site.OUTPUT)]
    assert [x is None for x in hidden] == [field != "hidden_dropout"] * 3
    assert [x is None for x in made.attention(0)] == [field != "attention_dropout"] * 4


def test_dropped_units_of_the_embeddings_learn_nothing() -> None:
    one = batch_of([[(5, 1)]], TINY, seed=1)
    seen = set()
    for update in range(1, 9):
        dropout = Dropout(0, update)
        factor = units_of(TINY, real_places(one), dropout).hidden(Site.EMBEDDINGS)
        assert factor is not None
        dropped = factor[0] == 0.0
        seen |= set(dropped.tolist())
        gradients = objective_and_gradients(PARAMETERS, one, TINY, dropout=dropout).gradients
        assert ((gradients["bert.embeddings.LayerNorm.bias"] == 0.0) == dropped).all()
    assert seen == {True, False}


def test_bad_keys_and_channels_are_refused() -> None:
    def run(config: EncoderConfig, batch: Any, dropout: Dropout) -> Any:
        return lambda: encode(random_parameters(config, 1), batch, config, dropout=dropout)

    assert_says(
        "SeedError: dropout.seed is -1; expected an integer in 0..2**64 - 1",
        run(TINY, BATCH, Dropout(-1, 1)),
    )
    assert_says(
        "SeedError: dropout.update is 1.0 (float); expected an integer",
        run(TINY, BATCH, Dropout(1, 1.0)),  # type: ignore[arg-type]  # what is refused
    )
    far = BATCH._replace(position=BATCH.position + np.uint32(2**24))
    assert_says(
        "IdRangeError: position is 16777219; expected below 2**24, for dropout in attention",
        run(TINY, far, DROPOUT),
    )
    encode(PARAMETERS, far, TINY)  # an evaluation has no channels
    fields = TINY.to_mapping() | {"hidden_size": 257, "num_attention_heads": 257}
    assert_says(
        "IdRangeError: encoder.num_attention_heads is 257; expected at most 256, so that dropout "
        "tells them apart",
        run(EncoderConfig(**fields), BATCH, DROPOUT),
    )
