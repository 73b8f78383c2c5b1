"""Masking policies: what is at the ends of each range, what is normalised, and plain data."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from mlm_spec import PolicyError
from mlm_spec.policy import Bernoulli, Corruption, FixedCount, MaskingPolicy, Span, WholeWord

LARGEST = 2**31 - 1
KINDS = Corruption("4/5", "1/10", "1/10")


def policy(**how: Any) -> MaskingPolicy:
    plain = {"selection": Bernoulli("3/20"), "corruption": KINDS, "vocab_size": 32, "mask_id": 4}
    return MaskingPolicy(**{**plain, **how})


def test_the_ends_of_each_range_belong_to_it() -> None:
    assert (Bernoulli(0).rate, WholeWord(1).rate) == (0, 1)
    law = FixedCount(1, floor=0, cap=0)
    assert (law.floor, law.cap) == (0, 0)
    assert FixedCount(1, floor=LARGEST, cap=LARGEST).floor == LARGEST
    assert FixedCount("1/2", floor=5, cap=5).cap == 5
    assert len(Span(0, (0,) * 63 + (1,)).lengths) == 64
    assert Span(1, (1,)).start == 1
    assert policy(vocab_size=LARGEST, mask_id=LARGEST - 1, pad_id=LARGEST - 1).pad_id == LARGEST - 1
    assert policy(vocab_size=1, mask_id=0, pool=(0,)).pool_size == 1
    assert policy(special_ids=(0, 31), pool=(0, 31)).pool == (0, 31)
    assert policy(pool=(), corruption=Corruption(1, 0, 0)).pool_size == 0


def test_a_law_without_more_has_the_defaults_that_are_documented() -> None:
    law = FixedCount("3/20")
    assert (law.floor, law.cap, law.base, law.rounding) == (0, None, "eligible", "half_up")
    assert KINDS.unit == "token"
    plain = policy()
    assert (plain.pad_id, plain.special_ids, plain.pool) == (None, (), "regular")


@pytest.mark.parametrize("rounding", ["half_up", "half_even", "ceiling"])
@pytest.mark.parametrize("base", ["eligible", "all"])
def test_a_fixed_count_keeps_what_it_is_given(base: Any, rounding: Any) -> None:
    law = FixedCount("3/20", 1, 20, base, rounding)
    fields = (law.rate, law.floor, law.cap, law.base, law.rounding)
    assert fields == (Fraction(3, 20), 1, 20, base, rounding)


def test_integers_of_numpy_become_python_s() -> None:
    found = policy(
        selection=FixedCount("1/2", floor=np.int64(1), cap=np.uint8(3)),
        vocab_size=np.int32(32),
        mask_id=np.int64(4),
        pad_id=np.uint16(7),
        special_ids=[np.int8(9), np.int8(1), np.int8(9)],
        pool=[np.int64(2), np.int64(3)],
    )
    law = found.selection
    assert isinstance(law, FixedCount)
    numbers = [law.floor, law.cap, found.vocab_size, found.mask_id, found.pad_id]
    numbers += [*found.special_ids, *found.pool]
    assert numbers == [1, 3, 32, 4, 7, 1, 7, 9, 2, 3]
    assert {type(n) for n in numbers} == {int}


@pytest.mark.parametrize("value", [True, np.True_, 1.0, "1", None])
def test_what_is_no_integer_is_refused(value: object) -> None:
    with pytest.raises(PolicyError, match=r"^selection.floor is "):
        FixedCount("1/2", floor=value)  # type: ignore[arg-type]
    with pytest.raises(PolicyError, match=r"^vocab_size is "):
        policy(vocab_size=value)


def test_padding_is_special_and_special_ids_are_sorted_and_single() -> None:
    assert policy(pad_id=0, special_ids=(9, 4, 9)).special_ids == (0, 4, 9)
    assert policy(pad_id=0, special_ids=(0, 4)).pool_size == 30
    assert policy(special_ids=(4,), pool="all").pool_size == 32
    assert policy(special_ids=(4,), pool=(4, 5, 6)).pool_size == 3


def test_an_empty_pool_matters_only_where_it_is_drawn_from() -> None:
    every = tuple(range(32))
    with pytest.raises(PolicyError, match=r"^pool is empty; "):
        policy(special_ids=every)
    assert policy(special_ids=every, corruption=Corruption("1/2", 0, "1/2")).pool_size == 0


def test_a_pool_ascends_strictly() -> None:
    for pool in ((3, 2), (2, 2), (1, 5, 4)):
        with pytest.raises(PolicyError, match=r"^pool is not strictly ascending; "):
            policy(pool=pool)


LAWS: list[tuple[Any, dict[str, Any]]] = [
    (Bernoulli("3/20"), {"law": "bernoulli", "rate": "3/20"}),
    (
        FixedCount("3/20", 1, 20, "all", "half_even"),
        {
            "law": "fixed_count",
            "rate": "3/20",
            "floor": 1,
            "cap": 20,
            "base": "all",
            "rounding": "half_even",
        },
    ),
    (WholeWord(1), {"law": "whole_word", "rate": "1"}),
    (
        Span("1/7", ("1/2", 0, "1/2")),
        {"law": "span", "start": "1/7", "lengths": ["1/2", "0", "1/2"]},
    ),
]


@pytest.mark.parametrize(("law", "plain"), LAWS)
@pytest.mark.parametrize("pool", ["regular", "all", [2, 3, 5]])
def test_a_policy_is_plain_data_and_back(law: Any, plain: dict[str, Any], pool: Any) -> None:
    unit = "span" if isinstance(law, Span) else "word"
    given = policy(
        selection=law,
        corruption=Corruption("1/2", "1/4", "1/4", unit=unit),
        pad_id=0,
        special_ids=(1, 2),
        pool=pool if isinstance(pool, str) else tuple(pool),
    )
    fields = {
        "selection": plain,
        "corruption": {"mask": "1/2", "random": "1/4", "keep": "1/4", "unit": unit},
        "vocab_size": 32,
        "mask_id": 4,
        "pad_id": 0,
        "special_ids": [0, 1, 2],
        "pool": pool,
    }
    assert given.to_mapping() == fields
    assert MaskingPolicy.from_mapping(fields) == given


def test_fields_that_may_be_left_out_have_their_defaults() -> None:
    fields = {
        "selection": {"law": "fixed_count", "rate": "3/20"},
        "corruption": {"mask": 1, "random": 0, "keep": 0},
        "vocab_size": 32,
        "mask_id": 4,
    }
    before = {name: dict(v) if isinstance(v, dict) else v for name, v in fields.items()}
    found = MaskingPolicy.from_mapping(fields)
    assert found == policy(selection=FixedCount("3/20"), corruption=Corruption(1, 0, 0))
    assert fields == before  # what is read is not changed


def test_the_rate_of_a_span_is_that_of_its_starts() -> None:
    law = Span("1/3", ("1/4", "1/4", "1/2"))
    tails = [Fraction(1), Fraction(3, 4), Fraction(1, 2)]
    missed = Fraction(1)
    for position, tail in enumerate(tails):
        missed *= 1 - Fraction(1, 3) * tail
        assert law.rate_at(position) == 1 - missed
    assert law.rate_at(3) == law.rate_at(1000) == 1 - missed


@pytest.mark.parametrize("rate", ["0", "1/4294967296", "3/20", "1/2", "4294967295/4294967296", "1"])
@pytest.mark.parametrize("lengths", [(1,), ("1/2", "1/2"), ("1/10",) * 10])
def test_the_start_for_a_rate_is_the_largest_on_the_grid(rate: str, lengths: Any) -> None:
    law = Span.with_rate(rate, lengths)
    assert (law.start * 2**32).denominator == 1
    assert law.rate_at(len(lengths)) <= Fraction(rate)
    if law.start < 1:
        more = Span(law.start + Fraction(1, 2**32), lengths)
        assert more.rate_at(len(lengths)) > Fraction(rate)


def test_a_rate_of_one_is_reached() -> None:
    assert Span.with_rate(1, ("1/2", "1/2")).start == 1
