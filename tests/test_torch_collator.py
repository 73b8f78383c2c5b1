"""The collator: the masks of the specification, whoever loads the examples, and whenever."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mlm_torch.collator import MaskingCollator, NumberedDataset
from torch.utils.data import DataLoader, DistributedSampler

import mlm_spec
from mlm_spec.errors import (
    DTypeError,
    IdRangeError,
    InputError,
    PolicyError,
    SeedError,
    ShapeError,
    WordError,
)
from mlm_spec.policy import Bernoulli, Corruption, FixedCount, MaskingPolicy, Span, WholeWord
from mlm_spec.training.batch import TrainingBatch

TARGETS = Path(__file__).parent / "targets"
SEED, FIRST, LONGEST = 2**63 + 5, 2**40 + 1, 12
SHOWN = Corruption("4/5", "1/10", "1/10")


def policy_of(selection: Any = None, pad_id: int | None = 0) -> MaskingPolicy:
    chosen = Bernoulli("2/5") if selection is None else selection
    special = () if pad_id is None else (0, 1, 2, 3, 4)
    return MaskingPolicy(chosen, SHOWN, 97, mask_id=4, pad_id=pad_id, special_ids=special)


def examples_of(count: int = 11) -> list[dict[str, Any]]:
    """Sequences [1 … 2] of different lengths, in words of two tokens."""
    found = []
    for number in range(count):
        draw = np.random.default_rng(number)
        size = int(draw.integers(3, LONGEST - 1))
        ids = [1, *draw.integers(5, 97, size).tolist(), 2]
        found.append({"input_ids": ids, "word_ids": [None, *(n // 2 for n in range(size)), None]})
    return found


EXAMPLES = examples_of()
DATA = NumberedDataset(EXAMPLES, FIRST)


def wanted(
    epoch: int, policy: MaskingPolicy, examples: list[dict[str, Any]] = EXAMPLES
) -> dict[int, tuple[list[int], list[int]]]:
    """Number → (shown ids, labels), each sequence masked alone by the reference."""
    found = {}
    for index, example in enumerate(examples):
        tokens = np.array([example["input_ids"]])
        words = [-1 if word is None else word for word in example["word_ids"]]
        ids = mlm_spec.split_words(np.full(tokens.shape, FIRST + index))
        masked = mlm_spec.mask(
            tokens, ids, np.arange(tokens.shape[1], dtype=np.uint32)[None],
            np.array([words], np.int32), np.array([words]) >= 0, policy, SEED, epoch,
        )  # fmt: skip
        labels = np.where(masked.selected, masked.targets, -100)
        found[FIRST + index] = masked.inputs[0].tolist(), labels[0].tolist()
    return found


def contents(batches: Iterable[TrainingBatch]) -> dict[int, tuple[list[int], list[int]]]:
    """The same of batches, without padding; what is at padding is looked at."""
    found: dict[int, tuple[list[int], list[int]]] = {}
    for batch in batches:
        labels = torch.where(batch.selected, batch.targets, -100)
        padding = ~batch.attention_mask
        assert not batch.inputs[padding].any()
        assert not (batch.selected & padding).any()
        for row, real in enumerate(batch.attention_mask):
            low, high = batch.sequence_id[row, 0].tolist()
            pair = batch.inputs[row, real].tolist(), labels[row, real].tolist()
            assert found.setdefault(low + (high << 32), pair) == pair
    return found


def collator_of(**changes: Any) -> MaskingCollator:
    policy = changes.pop("policy", policy_of())
    return MaskingCollator(policy, SEED, **({"returns": "fields"} | changes))


def loader_of(collator: MaskingCollator, **changes: Any) -> Any:
    return DataLoader(DATA, collate_fn=collator, **({"batch_size": 3} | changes))


# Masks


POLICIES = {
    "bernoulli": policy_of(),
    "nothing special": policy_of(Bernoulli("1/2"), pad_id=None),
    "fixed count": policy_of(FixedCount("3/10", floor=1)),
    "fixed count of all": policy_of(FixedCount("3/10", floor=1, base="all")),
    "fixed count of all, no padding id": policy_of(FixedCount("1/2", base="all"), pad_id=None),
    "whole word": policy_of(WholeWord("2/5")),
    "span": policy_of(Span("1/5", ("1/2", "1/2"))),
}


@pytest.mark.parametrize("name", POLICIES)
def test_masks_are_those_of_the_reference_whatever_the_padding(name: str) -> None:
    policy, shown = POLICIES[name], 0
    want = wanted(3, policy, [e | {"word_ids": [0] * len(e["input_ids"])} for e in EXAMPLES])
    if name == "whole word":
        want = wanted(3, policy)
    for size in (1, 4, 11):
        for multiple in (1, 8):
            collator = collator_of(policy=policy, epoch=3, pad_to_multiple_of=multiple)
            batches = list(loader_of(collator, batch_size=size))
            assert contents(batches) == want
            shown += sum(int(batch.selected.sum()) for batch in batches)
            assert multiple == 1 or {b.inputs.shape[1] for b in batches} <= {8, 16}
    assert shown > 100


def test_labels_are_what_other_peoples_models_take() -> None:
    collator = collator_of(returns="labels")
    (batch,) = loader_of(collator, batch_size=11)
    assert batch.keys() == {"input_ids", "attention_mask", "labels"}
    assert {x.dtype for x in batch.values()} == {torch.int64}
    fields = collator_of()([DATA[n] for n in range(11)])
    assert torch.equal(batch["input_ids"], fields.inputs)
    assert torch.equal(batch["labels"] != -100, fields.selected)
    assert torch.equal(batch["labels"][fields.selected], fields.targets[fields.selected])
    assert torch.equal(batch["attention_mask"].bool(), fields.attention_mask)
    typed = [DATA[0] | {"token_type_ids": [1] * len(EXAMPLES[0]["input_ids"])}]
    assert collator(typed)["token_type_ids"].all()


def test_a_window_has_the_masks_of_its_place_in_the_sequence() -> None:
    ids = EXAMPLES[0]["input_ids"]
    whole = collator_of()([{"input_ids": ids, "sequence_id": 5}])
    part = collator_of()([{"input_ids": ids[2:], "sequence_id": 5, "first_position": 2}])
    assert torch.equal(part.inputs, whole.inputs[:, 2:])
    assert torch.equal(part.position, whole.position[:, 2:])
    assert part.position_ids.tolist() == [list(range(len(ids) - 2))]


def test_what_an_example_marks_as_special_or_as_padding_is_never_selected() -> None:
    policy = policy_of(Bernoulli(1))
    example = {
        "input_ids": [5, 6, 7, 8], "sequence_id": 0,
        "special_tokens_mask": [1, 0, 0, 0], "attention_mask": [1, 1, 1, 0],
    }  # fmt: skip
    batch = MaskingCollator(policy, 1)([example])
    assert batch["labels"].tolist() == [[-100, 6, 7, -100]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0]]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("word_ids", [None, 0, 0, 1, None, 0, 0, None]),  # the second text counts from 0 again
        ("offset_mapping", [(0, 0), (0, 2), (2, 5), (6, 9), (0, 0), (0, 2), (2, 4), (0, 0)]),
    ],
)
def test_words_come_from_numbers_or_offsets(field: str, value: list[Any]) -> None:
    policy, seen = policy_of(WholeWord("1/2")), set()
    for number in range(64):
        example = {"input_ids": [1, *range(5, 11), 2], "sequence_id": number, field: value}
        labels = MaskingCollator(policy, 3)([example])["labels"][0] != -100
        one, two, three = labels[[1, 2]], labels[[3]], labels[[5, 6]]
        assert one.all() == one.any()
        assert three.all() == three.any()
        assert not labels[[0, 4, 7]].any()
        seen.add((bool(one.any()), bool(two.any()), bool(three.any())))
    assert len(seen) == 8  # each word is decided for itself


# Workers, ranks, epochs


def epochs_of(loader: Any, collator: MaskingCollator, epochs: Iterable[int]) -> list[Any]:
    found = []
    for epoch in epochs:
        collator.set_epoch(epoch)
        found.append(contents(loader))
    return found


WANTED = [wanted(epoch, policy_of()) for epoch in range(3)]


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("workers", [0, 1, 2])
def test_forked_workers_make_the_same_masks_in_every_epoch(workers: int, persistent: bool) -> None:
    collator = collator_of()
    keeps = persistent and workers > 0
    loader = loader_of(collator, num_workers=workers, persistent_workers=keeps, shuffle=True)
    if workers:
        loader.multiprocessing_context = multiprocessing.get_context("fork")
    assert epochs_of(loader, collator, [0, 1, 2, 0]) == [*WANTED, WANTED[0]]


def test_spawned_workers_that_persist_are_told_the_epoch_too() -> None:
    collator = collator_of()
    loader = loader_of(
        collator, num_workers=2, persistent_workers=True, multiprocessing_context="spawn"
    )
    assert epochs_of(loader, collator, [0, 2, 1]) == [WANTED[0], WANTED[2], WANTED[1]]


def test_memory_that_is_not_shared_would_be_found_out() -> None:
    collator = collator_of()
    collator._epoch = collator._epoch.clone()
    loader = loader_of(collator, num_workers=1, persistent_workers=True)
    loader.multiprocessing_context = multiprocessing.get_context("fork")
    assert epochs_of(loader, collator, [0, 1]) == [WANTED[0], WANTED[0]]


def test_epochs_differ_and_the_same_epoch_does_not() -> None:
    assert WANTED[0] != WANTED[1] != WANTED[2] != WANTED[0]
    collator = collator_of()
    loader = loader_of(collator)
    assert contents(loader) == contents(loader) == WANTED[0]


@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_make_together_what_one_makes(ranks: int) -> None:
    together: dict[int, Any] = {}
    for rank in range(ranks):
        sampler: Any = DistributedSampler(DATA, ranks, rank, shuffle=True, seed=1)
        collator = collator_of()
        for epoch in (0, 1):
            sampler.set_epoch(epoch)
            collator.set_epoch(epoch)
            found = contents(loader_of(collator, sampler=sampler, batch_size=2))
            assert all(WANTED[epoch][number] == pair for number, pair in found.items())
            if epoch:
                together |= found
    assert together == WANTED[1]


def test_the_suite_tells_epochs_workers_and_ranks_apart() -> None:
    """As it judges other people's collators, where ranks have different parts of the data."""
    ids = [f"MLM-DST-{n}" for n in (17, 18, 19)]
    command = [sys.executable, "-m", "mlm_conformance", "check", "collating:Collating"]
    command += ["--profile", "quick", "--only", *ids]
    here = os.pathsep.join([str(TARGETS), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": here}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 of 3 pass" in done.stdout, done.stdout


def test_a_run_that_goes_on_in_the_middle_of_an_epoch_has_the_masks_of_that_epoch() -> None:
    rest = torch.utils.data.Subset(DATA, range(5, 11))
    collator = collator_of(epoch=1)
    loader: Any = DataLoader(rest, batch_size=4, collate_fn=collator)
    assert contents(loader) == {n: p for n, p in WANTED[1].items() if n >= FIRST + 5}


def test_the_global_generators_neither_matter_nor_move() -> None:
    examples = [DATA[n] for n in range(11)]
    torch.manual_seed(1)
    np.random.seed(1)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    one = collator_of()(examples)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]
    torch.manual_seed(2)
    assert contents([one]) == contents([collator_of()(examples)])


def test_large_epochs_are_kept_whole() -> None:
    collator = collator_of(epoch=2**64 - 1)
    assert collator.epoch == 2**64 - 1
    assert contents(loader_of(collator)) == wanted(2**64 - 1, policy_of())


# Bad calls


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"sequence_id": None}, InputError, r"examples\[1\]\['sequence_id'\] is missing"),
    ({"sequence_id": -1}, InputError, "sequence_id"),
    ({"sequence_id": 2**64}, InputError, "sequence_id"),
    ({"sequence_id": 1.0}, InputError, "sequence_id"),
    ({"input_ids": [5, 97]}, IdRangeError, r"tokens\[1, 1\] is 97"),
    ({"input_ids": [5.0, 6.0]}, DTypeError, "input_ids"),
    ({"input_ids": [[5], [6]]}, ShapeError, "input_ids"),
    ({"attention_mask": [1]}, ShapeError, "attention_mask"),
    ({"first_position": 2**32 - 1}, InputError, "first_position"),
    ({"first_position": "x"}, InputError, "first_position"),
]


@pytest.mark.parametrize(("change", "error", "words"), BAD, ids=[str(b[0]) for b in BAD])
def test_a_bad_example_is_named(change: dict[str, Any], error: type[Exception], words: str) -> None:
    good = {"input_ids": [5, 6], "sequence_id": 0}
    with pytest.raises(error, match=words):
        collator_of()([good, good | change])


def test_an_example_without_tokens_no_example_and_no_mapping_are_refused() -> None:
    for bad in ([{"sequence_id": 0}], [], [[5, 6]]):
        with pytest.raises(InputError):
            collator_of()(bad)


def test_words_that_are_needed_and_not_there_are_refused() -> None:
    collator = MaskingCollator(policy_of(WholeWord("1/2")), 1)
    with pytest.raises(WordError, match=r"examples\[0\] is without word_ids"):
        collator([{"input_ids": [5], "sequence_id": 0}])
    with pytest.raises(ShapeError, match="word_ids"):
        collator([{"input_ids": [5], "sequence_id": 0, "word_ids": [0, 0]}])


def test_settings_that_are_none_are_refused_at_once() -> None:
    for change, error in (
        ({"epoch": -1}, SeedError),
        ({"policy": "bert"}, PolicyError),
        ({"returns": "np"}, InputError),
        ({"pad_to_multiple_of": 0}, InputError),
    ):
        with pytest.raises(error):
            collator_of(**change)
    collator = collator_of()
    with pytest.raises(SeedError):
        collator.set_epoch(2**64)
    assert collator.epoch == 0
