"""Messages of masking policies, in full."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from message_cases import Call, assert_says

from mlm_spec.policy import Bernoulli, Corruption, FixedCount, MaskingPolicy, Span, WholeWord

LAW = {"law": "bernoulli", "rate": "3/20"}
KINDS = {"mask": "4/5", "random": "1/10", "keep": "1/10"}


def policy(**how: Any) -> MaskingPolicy:
    plain = {"selection": Bernoulli("3/20"), "corruption": Corruption("4/5", "1/10", "1/10")}
    return MaskingPolicy(**{**plain, "vocab_size": 32, "mask_id": 4, **how})


def policy_from(**how: Any) -> MaskingPolicy:
    """From plain data; ... leaves a field out."""
    fields = {**policy().to_mapping(), **how}
    return MaskingPolicy.from_mapping({k: v for k, v in fields.items() if v is not ...})


LAWS: list[Call] = [
    (
        ("PolicyError: selection.rate is 0.15 (float); expected an exact fraction, such as '3/20'"),
        lambda: Bernoulli(0.15),
    ),
    (
        "PolicyError: selection.rate is 'a'; expected an exact fraction, such as '3/20'",
        lambda: Bernoulli("a"),
    ),
    (
        "PolicyError: selection.rate is '1/0'; expected an exact fraction, such as '3/20'",
        lambda: Bernoulli("1/0"),
    ),
    (
        "PolicyError: selection.rate is 3/2; expected a probability in 0..1",
        lambda: Bernoulli("3/2"),
    ),
    (
        "PolicyError: selection.rate is True (bool); expected an exact fraction, such as '3/20'",
        lambda: Bernoulli(True),
    ),
    (
        ("PolicyError: selection.rate is 0.15 (float); expected an exact fraction, such as '3/20'"),
        lambda: WholeWord(0.15),
    ),
    (
        ("PolicyError: selection.rate is 0.15 (float); expected an exact fraction, such as '3/20'"),
        lambda: FixedCount(0.15),
    ),
    (
        "PolicyError: selection.floor is -1; expected an integer in 0..2147483647",
        lambda: FixedCount("3/20", floor=-1),
    ),
    (
        "PolicyError: selection.floor is 2147483648; expected an integer in 0..2147483647",
        lambda: FixedCount("3/20", floor=2**31),
    ),
    (
        "PolicyError: selection.cap is True; expected an integer in 0..2147483647",
        lambda: FixedCount("3/20", cap=True),
    ),
    (
        "PolicyError: selection.cap is 2147483648; expected an integer in 0..2147483647",
        lambda: FixedCount("3/20", cap=2**31),
    ),
    (
        "PolicyError: selection.cap is 4; expected at least the floor, 5",
        lambda: FixedCount("3/20", floor=5, cap=4),
    ),
    (
        "PolicyError: selection.base is 'none'; expected one of eligible, all",
        lambda: FixedCount("3/20", base="none"),
    ),
    (
        "PolicyError: selection.rounding is 'up'; expected one of half_up, half_even, ceiling",
        lambda: FixedCount("3/20", rounding="up"),
    ),
    ("PolicyError: selection.start is 2; expected a probability in 0..1", lambda: Span(2, (1,))),
    ("PolicyError: selection.lengths is 1; expected a list", lambda: Span("1/2", 1)),
    ("PolicyError: selection.lengths is 0 long; expected 1..64 lengths", lambda: Span("1/2", ())),
    (
        "PolicyError: selection.lengths is 65 long; expected 1..64 lengths",
        lambda: Span("1/2", (1, *[0] * 64)),
    ),
    (
        "PolicyError: selection.lengths is of sum 5/6; expected probabilities of sum 1",
        lambda: Span("1/2", ("1/2", "1/3")),
    ),
    (
        (
            "PolicyError: selection.lengths[1] is 0.5 (float); expected an exact fraction, such "
            "as '3/20'"
        ),
        lambda: Span("1/2", ("1/2", 0.5)),
    ),
    ("PolicyError: rate is 2; expected a probability in 0..1", lambda: Span.with_rate(2, (1,))),
    (
        "PolicyError: corruption.unit is 'row'; expected one of token, word, span",
        lambda: Corruption(1, 0, 0, unit="row"),
    ),
    (
        "PolicyError: corruption.mask is 2; expected a probability in 0..1",
        lambda: Corruption(2, 0, 0),
    ),
    (
        (
            "PolicyError: corruption.random is 1.0 (float); expected an exact fraction, such as "
            "'3/20'"
        ),
        lambda: Corruption(0, 1.0, 0),
    ),
    (
        "PolicyError: corruption.keep is -1; expected a probability in 0..1",
        lambda: Corruption(0, 0, -1),
    ),
    (
        "PolicyError: corruption is of sum 1/2; expected weights of sum 1",
        lambda: Corruption("1/2", 0, 0),
    ),
]

POLICIES: list[Call] = [
    (
        "PolicyError: selection is 'bernoulli'; expected one of the four selection laws",
        lambda: policy(selection="bernoulli"),
    ),
    (
        "PolicyError: corruption is (1, 0, 0); expected a Corruption",
        lambda: policy(corruption=(1, 0, 0)),
    ),
    (
        "PolicyError: vocab_size is 0; expected an integer in 1..2147483647",
        lambda: policy(vocab_size=0),
    ),
    (
        "PolicyError: vocab_size is 2147483648; expected an integer in 1..2147483647",
        lambda: policy(vocab_size=2**31),
    ),
    ("PolicyError: mask_id is 32; expected an integer in 0..31", lambda: policy(mask_id=32)),
    ("PolicyError: pad_id is -1; expected an integer in 0..31", lambda: policy(pad_id=-1)),
    (
        "PolicyError: special_ids[1] is 32; expected an integer in 0..31",
        lambda: policy(special_ids=(1, 32)),
    ),
    ("PolicyError: special_ids is {1, 2}; expected a list", lambda: policy(special_ids={1, 2})),
    ("PolicyError: pool is 'none'; expected one of regular, all", lambda: policy(pool="none")),
    ("PolicyError: pool[1] is 32; expected an integer in 0..31", lambda: policy(pool=(3, 32))),
    (
        "PolicyError: pool is not strictly ascending; expected each id once, ascending",
        lambda: policy(pool=(3, 3)),
    ),
    (
        "PolicyError: pool is empty; expected at least one id, since corruption.random > 0",
        lambda: policy(pool=()),
    ),
    (
        "PolicyError: corruption.unit is 'span'; expected a span law beside it",
        lambda: policy(corruption=Corruption(1, 0, 0, unit="span")),
    ),
    (
        "PolicyError: policy is 7; expected a mapping of fields",
        lambda: MaskingPolicy.from_mapping(7),
    ),
    (
        (
            "PolicyError: policy is without vocab_size, mask_id; expected all of selection, "
            "corruption, vocab_size, mask_id"
        ),
        lambda: policy_from(vocab_size=..., mask_id=...),
    ),
    (
        (
            "PolicyError: policy is with extra, more; expected only selection, corruption, "
            "vocab_size, mask_id, pad_id, special_ids, pool"
        ),
        lambda: policy_from(extra=1, more=2),
    ),
    (
        (
            "PolicyError: selection is 'bernoulli'; expected a law: bernoulli, fixed_count, "
            "whole_word, span"
        ),
        lambda: policy_from(selection="bernoulli"),
    ),
    (
        (
            "PolicyError: selection is {'law': 'none'}; expected a law: bernoulli, fixed_count, "
            "whole_word, span"
        ),
        lambda: policy_from(selection={"law": "none"}),
    ),
    (
        "PolicyError: selection is without rate; expected all of law, rate",
        lambda: policy_from(selection={"law": "bernoulli"}),
    ),
    (
        "PolicyError: selection is with start; expected only law, rate",
        lambda: policy_from(selection={**LAW, "start": 1}),
    ),
    (
        "PolicyError: selection.lengths is 1; expected a list",
        lambda: policy_from(selection={"law": "span", "start": 1, "lengths": 1}),
    ),
    (
        "PolicyError: corruption is None; expected a mapping of fields",
        lambda: policy_from(corruption=None),
    ),
    (
        "PolicyError: corruption is without random, keep; expected all of mask, random, keep",
        lambda: policy_from(corruption={"mask": 1}),
    ),
    (
        "PolicyError: corruption is with all; expected only mask, random, keep, unit",
        lambda: policy_from(corruption={**KINDS, "all": 1}),
    ),
    ("PolicyError: special_ids is 5; expected a list", lambda: policy_from(special_ids=5)),
    ("PolicyError: pool is 5; expected a list", lambda: policy_from(pool=5)),
]


@pytest.mark.parametrize(("message", "call"), LAWS + POLICIES)
def test_a_bad_policy_says_what_was_got_what_was_expected_and_where(
    message: str, call: Callable[[], object]
) -> None:
    assert_says(message, call)
