"""The reference passes every check of what it claims, in this very process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from mlm_conformance.cases.model import MaskCase
from mlm_conformance.check import Check
from mlm_conformance.outcomes import Outcome
from mlm_conformance.runner import Session, open_session, plan, run_check

from mlm_spec import Corruption, MaskingPolicy, WholeWord, split_words

# The reference is no training loss and no masker of its own: its loss is a mean, and it draws from
# no generator.  It has one device.
PORTS_OF_OTHERS = {"head_loss", "sample", "sample_words", "sample_parallel", "device_session"}
CLAIMED = [
    check
    for check in plan()
    if check.port not in PORTS_OF_OTHERS and "mean" in (check.reductions or ("mean",))
]


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    opened = open_session("numpy", profile="quick", in_process=True)
    # A failing case need not be made small here: `mlm-spec check numpy` does that.
    opened.profile = replace(opened.profile, simplify_seconds=0.0)
    yield opened
    opened.close()


@pytest.mark.parametrize("check", CLAIMED, ids=lambda check: check.id)
def test_the_reference_passes(check: Check, session: Session) -> None:
    result = run_check(session, check)
    assert result.outcome is Outcome.PASS, result.message


@pytest.mark.parametrize(
    ("name", "law", "kinds"),
    [
        ("pieces_of_a_word_share_the_decision", WholeWord("1/2"), ("1", "0", "0")),
        ("pieces_of_a_word_share_the_kind", WholeWord("1"), ("1/2", "0", "1/2")),
    ],
)
def test_one_id_in_two_sequences_of_a_row_names_two_words(
    name: str, law: WholeWord, kinds: tuple[str, ...], session: Session
) -> None:
    (check,) = [check for check in plan() if check.name == name]
    shape = (16, 8)
    column = np.broadcast_to(np.arange(8), shape)
    case = MaskCase(
        np.full(shape, 9, np.int32),
        split_words(100 + 2 * np.arange(16)[:, None] + column // 4),
        (column % 4).astype(np.uint32),
        np.zeros(shape, np.int32),
        np.ones(shape, np.bool_),
        MaskingPolicy(law, Corruption(*kinds, "word"), 32, mask_id=4),
        seed=0,
        epoch=0,
    )
    shown = session.context().call("mask", case.arguments())["inputs"] == 4
    assert (shown[:, :4].all(axis=1) != shown[:, 4:].all(axis=1)).any()
    check.judge(session.context(), case)
