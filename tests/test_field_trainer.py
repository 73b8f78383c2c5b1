"""What Hugging Face's Trainer is given, without its packages."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from mlm_conformance.field import causes
from mlm_conformance.field.hf_training import added_mask, labels_of, model_inputs, options_of
from mlm_conformance.field.registry import PEERS, REQUIREMENTS
from mlm_conformance.field.report import markdown
from mlm_conformance.field.run import check_field
from mlm_conformance.runner import plan
from test_field import FAILS, HERE

from mlm_spec.training.batches import plain_batch
from mlm_spec.training.config import Schedule, TrainingConfig
from mlm_spec.training.optimizer import learning_rate

PLAN = TrainingConfig(learning_rate=0.5, warmup_updates=3, total_updates=8)
TOKENS = np.array([[5, 6, 7], [8, 9, 0]])


def _their_rate(n: int, told: dict[str, Any]) -> Fraction:
    """Of update n by Trainer's schedules, which count from 0 (and M in all is 8)."""
    done, warm, top = n - 1, told["warmup_steps"], Fraction(told["learning_rate"])
    if done < warm:
        return top * Fraction(done, warm)
    return top * Fraction(8 - done, 8 - warm) if told["lr_scheduler_type"] == "linear" else top


@pytest.mark.parametrize("schedule", ["linear", "constant"])
@pytest.mark.parametrize("warmup", [1, 2, 3, 8])
def test_from_the_end_of_the_warm_up_on_trainer_has_the_specified_rates(
    schedule: Schedule, warmup: int
) -> None:
    training = replace(PLAN, schedule=schedule, warmup_updates=warmup)
    told = options_of(training)
    for n in range(warmup, 9):
        wanted = _their_rate(n, told)
        # The bound of `learning_rate`: two roundings.
        assert abs(Fraction(learning_rate(n, training)) - wanted) <= 2 * wanted / 2**53


def test_without_a_limit_trainer_does_not_clip() -> None:
    assert options_of(PLAN)["max_grad_norm"] == 1.0
    assert options_of(replace(PLAN, max_grad_norm=None))["max_grad_norm"] == 0.0


def test_each_field_of_adamw_reaches_trainer() -> None:
    told = options_of(replace(PLAN, beta1=0.8, beta2=0.7, epsilon=1e-3, weight_decay=0.2))
    names = ("adam_beta1", "adam_beta2", "adam_epsilon", "weight_decay", "learning_rate")
    assert [told[name] for name in names] == [0.8, 0.7, 1e-3, 0.2, 0.5]


def test_a_precision_that_trainer_lacks_on_a_cpu_is_not_claimed() -> None:
    assert [options_of(replace(PLAN, precision=p))["bf16"] for p in ("float64", "bfloat16")] == [
        False,
        True,
    ]
    with pytest.raises(NotImplementedError, match="fp16"):
        options_of(replace(PLAN, precision="float16"))


def test_labels_are_the_targets_where_they_are_selected() -> None:
    batch = plain_batch(TOKENS, TOKENS + 1, TOKENS > 6)
    assert labels_of(batch).tolist() == [[-100, -100, 8], [9, 10, -100]]


def test_a_row_of_one_sequence_has_the_usual_mask() -> None:
    found = model_inputs(plain_batch(TOKENS, attention_mask=TOKENS > 0), np.float32)
    assert found["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert found["position_ids"].tolist() == [[0, 1, 2], [0, 1, 2]]


def test_packed_rows_have_a_mask_of_pairs() -> None:
    ids = np.array([[3, 3, 4], [5, 5, 6]])
    batch = plain_batch(TOKENS, attention_mask=TOKENS > 0, sequence_id=ids)
    mask = model_inputs(batch, np.float32)["attention_mask"]
    assert (mask.shape, mask.dtype) == ((2, 1, 3, 3), np.float32)
    assert (mask[0, 0] == 0.0).tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 1]]
    # The padding has a sequence of its own, and still nobody sees it.
    assert (mask[1, 0] == 0.0).tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 0]]
    assert np.array_equal(mask, added_mask(batch, np.float32))


def test_sequences_that_differ_in_their_high_words_alone_are_told_apart() -> None:
    batch = plain_batch(TOKENS[:1], sequence_id=np.array([[1, 1, 1 + 2**32]]))
    assert model_inputs(batch, np.float64)["attention_mask"].shape == (1, 1, 3, 3)


def test_causes_belong_to_requirements_that_are_asked_for() -> None:
    known = {check.requirement for check in plan(REQUIREMENTS)}
    assert {*causes.TRAINER, *causes.TRAINER_AND_BERT} <= known
    for peer in PEERS:
        assert set(peer.causes) <= known


def test_a_finding_says_what_it_comes_from() -> None:
    peer = replace(HERE, causes={"MLM-OBJ-10": "It divides twice."})
    page = markdown(check_field([peer], judge=lambda target, only: FAILS))
    finding = page[page.index("**MLM-OBJ-10**") : page.index("**MLM-OBJ-11**")]
    assert "\n\nCause: It divides twice.\n\n" in finding
    assert page.count("Cause: ") == 1
