"""The scalar transcription of the masking rules: known answers, facts done by hand, agreement.

The laws read random words through one function, so the facts below choose the words.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from mlm_conformance.transcription import mask, threefry4x32_20, threshold
from mlm_conformance.transcription.corruption import (
    deciding_position,
    pool_id,
    pool_size,
    random_id,
    shown,
)
from mlm_conformance.transcription.places import Place, places, sequences
from mlm_conformance.transcription.random_words import (
    RANK,
    SPAN,
    TOKEN,
    Block,
    Draw,
    draw_with,
    threefry_counter,
    threefry_key,
)
from mlm_conformance.transcription.selection import budget, select, span_length

import mlm_spec
from mlm_spec import Bernoulli, Corruption, FixedCount, MaskingPolicy, Span, WholeWord

SEQUENCE = (7, 0)
TOP = 2**32 - 1
HALF = 2**31
KINDS = Corruption("1/2", "1/4", "1/4")


def place(position: int, token: int = 9, word: int | None = None, eligible: bool = True) -> Place:
    return Place(0, position, token, SEQUENCE, position, word, eligible)


def words(table: dict[tuple[int, int], Block]) -> Draw:
    """Random words by (stream, position); a word that is not in the table is an error."""
    return lambda stream, sequence, position: table[stream, position]


def ranks(*w0: int) -> Draw:
    return words({(RANK, i): (w, TOP, TOP, TOP) for i, w in enumerate(w0)})


def policy(
    law: mlm_spec.Selection, corruption: Corruption = KINDS, **more: object
) -> MaskingPolicy:
    fields: dict[str, object] = {"vocab_size": 10, "mask_id": 3, "pad_id": 0, "special_ids": (1, 3)}
    return MaskingPolicy(law, corruption, **{**fields, **more})  # type: ignore[arg-type]


def chosen(law: mlm_spec.Selection, sequence: list[Place], draw: Draw) -> list[int]:
    return sorted(p.position for p in select(policy(law), sequence, draw))


# --- RNG


@pytest.mark.parametrize(
    ("key", "counter", "answer"),
    [
        ((0,) * 4, (0,) * 4, "9c6ca96a e17eae66 fc10ecd4 5256a7d8"),
        ((TOP,) * 4, (TOP,) * 4, "2a881696 57012287 f6c7446e a16a6732"),
        (
            (0xA4093822, 0x299F31D0, 0x082EFA98, 0xEC4E6C89),
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            "59cd1dbb b8879579 86b5d00c ac8b6d84",
        ),
    ],
)
def test_threefry_gives_the_published_known_answers(
    key: Block, counter: Block, answer: str
) -> None:
    """Source: kat_vectors of Random123, threefry4x32 with 20 rounds."""
    assert " ".join(f"{w:08x}" for w in threefry4x32_20(key, counter)) == answer


def test_key_and_counter_hold_low_words_first() -> None:
    assert threefry_key(0x1111111122222222, 0x3333333344444444) == (
        0x22222222,
        0x11111111,
        0x44444444,
        0x33333333,
    )
    assert threefry_counter(RANK, (5, 6), 4) == (4, 0x4D4C4D02, 5, 6)


@pytest.mark.parametrize(
    ("p", "limit"),
    [
        ("0", 0),
        ("1", 2**32),
        ("1/2", 2**31),
        ("1/4294967296", 1),
        ("1/4294967297", 1),
        ("4294967295/4294967296", 2**32 - 1),
        ("3/20", 644245095),
        ("1/3", 1431655766),
    ],
)
def test_threshold_is_the_scaled_probability_rounded_up(p: str, limit: int) -> None:
    assert threshold(Fraction(p)) == mlm_spec.threshold(Fraction(p)) == limit


def test_the_word_below_the_threshold_selects_and_the_threshold_does_not() -> None:
    """Found by search under seed 0, epoch 0: words that straddle T(3/20)."""
    draw, limit = draw_with(0, 0), threshold(Fraction(3, 20))
    assert draw(TOKEN, (2579409, 0), 129)[0] == limit - 1
    assert draw(TOKEN, (1271431, 0), 440)[0] == limit
    result = mask(
        np.array([[9, 9]], np.int32),
        np.array([[[2579409, 0], [1271431, 0]]], np.uint32),
        np.array([[129, 440]], np.uint32),
        None,
        np.ones((1, 2), bool),
        policy(Bernoulli("3/20")),
        0,
        0,
    )
    assert result.selected.tolist() == [[True, False]]


# --- SEL


def test_ineligible_positions_and_special_ids_are_no_candidates() -> None:
    sequence = [place(0, token=0), place(1, token=3), place(2, eligible=False), place(3)]
    assert chosen(Bernoulli("1"), sequence, words({(TOKEN, 3): (TOP, 0, 0, 0)})) == [3]


def test_bernoulli_compares_the_first_word_of_stream_zero_strictly() -> None:
    draw = words({(TOKEN, i): (HALF - 1 + i, 0, 0, 0) for i in range(3)})
    assert chosen(Bernoulli("1/2"), [place(i) for i in range(3)], draw) == [0]


@pytest.mark.parametrize(
    ("law", "counted", "k"),
    [
        (FixedCount("1/2", rounding="half_up"), 5, 3),
        (FixedCount("1/2", rounding="half_up"), 3, 2),
        (FixedCount("1/2", rounding="half_even"), 5, 2),
        (FixedCount("1/2", rounding="half_even"), 3, 2),
        (FixedCount("1/2", rounding="ceiling"), 5, 3),
        (FixedCount("1/5", rounding="ceiling"), 6, 2),
        (FixedCount("1/5", rounding="half_up"), 6, 1),
        (FixedCount("3/20"), 30, 5),  # 4.5
        (FixedCount("3/20", rounding="half_even"), 30, 4),
        (FixedCount("0", floor=2), 9, 2),
        (FixedCount("1", cap=4), 9, 4),
        (FixedCount("0", floor=2, cap=4), 9, 2),
        (FixedCount("1", floor=2, cap=4), 9, 4),
        (FixedCount("0", floor=50), 9, 20),
        (FixedCount("0", rounding="ceiling"), 9, 0),
    ],
)
def test_the_budget_is_rounded_then_floored_then_capped(
    law: FixedCount, counted: int, k: int
) -> None:
    assert budget(law, counted, candidates=20) == k


def test_fixed_count_takes_the_smallest_words_of_stream_two() -> None:
    law = FixedCount("2/5")
    assert chosen(law, [place(i) for i in range(5)], ranks(40, 10, 30, 20, 50)) == [1, 3]


def test_fixed_count_breaks_a_tie_by_position_not_by_column() -> None:
    sequence = [place(i)._replace(column=3 - i) for i in (3, 2, 1, 0)]
    assert chosen(FixedCount("1/4"), sequence, ranks(8, 8, 8, 8)) == [0]


@pytest.mark.parametrize(("base", "k"), [("eligible", 1), ("all", 2)])
def test_fixed_count_counts_candidates_or_all_but_padding(base: str, k: int) -> None:
    """One candidate of 2, or of 4 that are not padding; half of them are selected."""
    law = FixedCount("1/2", base=base)  # type: ignore[arg-type]
    sequence = [place(0), place(1), place(2, token=1), place(3, eligible=False), place(4, token=0)]
    assert len(chosen(law, sequence, ranks(1, 2, 3, 4, 5))) == k


def test_a_word_is_decided_at_its_smallest_candidate_position() -> None:
    """Position 0 of word 5 is no candidate, so position 2 decides, and position 4 follows."""
    sequence = [place(0, token=1, word=5), place(4, word=5), place(2, word=5), place(3, word=6)]
    draw = words({(RANK, 2): (HALF - 1, 0, 0, 0), (RANK, 3): (HALF, 0, 0, 0)})
    assert chosen(WholeWord("1/2"), sequence, draw) == [2, 4]


def test_span_length_counts_the_passed_thresholds() -> None:
    law = Span("1/2", ("1/2", "1/4", "1/4"))
    quarters = [0, HALF - 1, HALF, HALF + HALF // 2 - 1, HALF + HALF // 2, TOP]
    draw = words({(SPAN, i): (0, w, 0, 0) for i, w in enumerate(quarters)})
    assert [span_length(law, SEQUENCE, i, draw) for i in range(6)] == [1, 1, 2, 2, 3, 3]


def test_spans_start_below_the_threshold_and_cover_what_follows() -> None:
    """Starts at 1 (length 3) and 2 (length 1): position 3 is covered from 1 alone."""
    law = Span("1/2", ("1/2", "1/4", "1/4"))
    start, none = HALF - 1, HALF
    table = {1: (start, TOP), 2: (start, 0)}
    draw = words({(SPAN, i): (*table.get(i, (none, TOP)), 0, 0) for i in range(6)})
    assert chosen(law, [place(i) for i in range(6)], draw) == [1, 2, 3]


def test_a_span_that_starts_outside_the_row_still_covers() -> None:
    law = Span("1/2", ("0", "1"))
    draw = words({(SPAN, 5): (0, 0, 0, 0), (SPAN, 6): (TOP, 0, 0, 0)})
    assert chosen(law, [place(6)], draw) == [6]


# --- COR


@pytest.mark.parametrize(
    ("w1", "id_shown"),
    [(HALF - 1, 3), (HALF, 4), (HALF + HALF // 2 - 1, 4), (HALF + HALF // 2, 9), (TOP, 9)],
)
def test_the_kind_is_mask_then_random_then_keep(w1: int, id_shown: int) -> None:
    draw = words({(TOKEN, 6): (0, w1, 8, 0)})  # pool 2 4 5 6 7 8 9; 8 mod 7 = 1
    assert shown(policy(Bernoulli("1")), place(6), 6, draw) == id_shown


def test_a_random_id_uses_the_fourth_word_where_the_third_is_in_the_incomplete_round() -> None:
    rules = policy(Bernoulli("1"), pool=(2, 5, 8))  # 2^32 = 3 · 1431655765 + 1
    assert random_id(rules, (0, 0, TOP - 1, 0)) == 8
    assert random_id(rules, (0, 0, TOP, 4)) == 5


def test_a_pool_that_divides_two_to_the_32_never_needs_the_fourth_word() -> None:
    rules = policy(Bernoulli("1"), pool=(2, 5))
    assert random_id(rules, (0, 0, TOP, 0)) == 5


@pytest.mark.parametrize(
    ("pool", "ids"),
    [("regular", [2, 4, 5, 6, 7, 8, 9]), ("all", list(range(10))), ((1, 4), [1, 4])],
)
def test_the_pool_ascends(pool: object, ids: list[int]) -> None:
    rules = policy(Bernoulli("1"), pool=pool)
    assert [pool_id(rules, i) for i in range(pool_size(rules))] == ids


def test_a_word_reads_its_kind_once_and_its_random_ids_at_each_position() -> None:
    rules = policy(WholeWord("1"), Corruption("0", "1/2", "1/2", unit="word"))
    sequence = [place(2, word=1), place(5, word=1)]
    draw = words({(TOKEN, 2): (0, 0, 0, 0), (TOKEN, 5): (0, TOP, 6, 0)})
    deciding = [deciding_position(rules, p, sequence, draw) for p in sequence]
    assert deciding == [2, 2]
    assert [shown(rules, p, 2, draw) for p in sequence] == [2, 9]


def test_a_span_reads_its_kind_at_the_largest_covering_start() -> None:
    law = Span("1/2", ("1/2", "1/4", "1/4"))
    rules = policy(law, Corruption("1/2", "1/4", "1/4", unit="span"))
    table = {1: (0, TOP), 2: (0, 0)}
    draw = words({(SPAN, i): (*table.get(i, (TOP, TOP)), 0, 0) for i in range(5)})
    sequence = [place(i) for i in (1, 2, 3)]
    assert [deciding_position(rules, p, sequence, draw) for p in sequence] == [1, 2, 1]


# --- the whole


def test_a_sequence_is_one_row_and_one_id_in_whatever_columns() -> None:
    ids = np.array([[[1, 0], [2, 0], [1, 0]], [[1, 0], [1, 9], [1, 0]]], np.uint32)
    grid = np.arange(6).reshape(2, 3)
    groups = sequences(places(grid, ids, grid, None, grid >= 0))
    assert [[p.token for p in group] for group in groups] == [[0, 2], [1], [3, 5], [4]]


def test_arguments_are_left_alone_and_dtypes_kept() -> None:
    for dtype in (np.int32, np.int64):
        batch = Batch(3, dtype)
        before = batch.copies()
        result = mask(*batch.arguments, policy(Bernoulli("1")), 1, 2)
        assert result.inputs.dtype == result.targets.dtype == dtype
        assert result.selected.dtype == bool
        for now, then in zip(batch.arguments, before, strict=True):
            np.testing.assert_array_equal(now, then)


@pytest.mark.parametrize("shape", [(0, 4), (3, 0)])
def test_an_empty_batch_stays_empty(shape: tuple[int, int]) -> None:
    result = mask(
        np.zeros(shape, np.int64),
        np.zeros((*shape, 2), np.uint32),
        np.zeros(shape, np.uint32),
        None,
        np.ones(shape, bool),
        policy(FixedCount("1/2")),
        0,
        0,
    )
    assert [array.shape for array in result] == [shape] * 3


class Batch:
    """Packed rows: up to three interleaved sequences, shuffled windows of positions, padding."""

    shape = (4, 24)

    def __init__(self, number: int, dtype: type = np.int32) -> None:
        rng = np.random.default_rng(number)
        size = self.shape
        owner = rng.integers(0, 1 + number % 3, size) + np.array([[0], [3], [6], [9]])
        ids = rng.integers(0, 2**32, (12, 2), dtype=np.uint32)
        self.word_id = rng.integers(-1, 6, size).astype(np.int32)
        self.tokens = rng.integers(0, 10, size).astype(dtype)
        self.eligible = rng.random(size) < 0.8
        self.sequence_id = ids[owner]
        offset = (0, 1, 500, 2**32 - 24)[number % 4]
        columns = np.arange(24, dtype=np.uint32)
        self.position = rng.permuted(np.tile(columns, (4, 1)), axis=1) + np.uint32(offset)
        self.seed, self.epoch = (int(v) for v in rng.integers(0, 2**64, 2, dtype=np.uint64))

    @property
    def arguments(self) -> tuple[np.ndarray, ...]:
        return self.tokens, self.sequence_id, self.position, self.word_id, self.eligible

    def copies(self) -> list[np.ndarray]:
        return [array.copy() for array in self.arguments]


LAWS: dict[str, mlm_spec.Selection] = {
    "bernoulli": Bernoulli("2/5"),
    "fixed": FixedCount("3/10"),
    "fixed-all": FixedCount("1/4", floor=1, cap=5, base="all", rounding="half_even"),
    "fixed-ceiling": FixedCount("1/7", rounding="ceiling"),
    "word": WholeWord("2/5"),
    "span": Span("1/5", ("1/2", "0", "1/4", "1/4")),
    "long-span": Span("1/20", ("1/9",) * 9),
}
UNITS = [
    (law, unit)
    for law, unit in product(LAWS, ("token", "word", "span"))
    if unit != "span" or "span" in law
]


@pytest.mark.parametrize(("law", "unit"), UNITS)
def test_the_reference_masks_as_the_transcription_does(law: str, unit: str) -> None:
    """16 combinations × 14 batches × 96 tokens = 21,504 tokens."""
    corruption = Corruption("2/5", "2/5", "1/5", unit=unit)  # type: ignore[arg-type]
    selected = 0
    for number in range(14):
        pool = ("regular", "all", (2, 6, 7))[number % 3]
        rules = policy(LAWS[law], corruption, pool=pool, pad_id=(0, None)[number % 2])
        batch = Batch(number, (np.int32, np.int64)[number % 2])
        ours = mask(*batch.arguments, rules, batch.seed, batch.epoch)
        theirs = mlm_spec.mask(*batch.arguments, rules, batch.seed, batch.epoch)
        for name, mine, other in zip(ours._fields, ours, theirs, strict=True):
            assert mine.dtype == other.dtype
            np.testing.assert_array_equal(other, mine, err_msg=f"{name} of batch {number}")
        selected += int(ours.selected.sum())
    assert selected > 100  # of 1,344: the comparison was about something
