"""Our collator in Hugging Face's ``Trainer``: ``python -m benchmarks.trainer``.

Short runs of ``Trainer`` on a small ``BertForMaskedLM``: with no worker, with two, with two that
persist, and one that is stopped within an epoch and goes on from its checkpoint.  The model writes
down what reaches it.  Every row of every epoch has to be, bit for bit, what `mlm_spec.mask` makes
of that sequence in that epoch.  Beside them runs Hugging Face's own collator with ``seed=``, once
without workers and once with two: what has to be found there is that its masks are not the same.

The exit status is 1 if a row of ours differs, or if the difference of the other is not found.
"""

# The peers are in no environment that is type-checked, and are imported where they run.

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import RESULTS, machine, table, write
from mlm_spec import mask, split_words
from mlm_spec.policy import Bernoulli, Corruption, MaskingPolicy

__all__ = ["OURS", "THEIRS", "main", "train", "wanted"]

VOCAB, ROWS, COLUMNS, BATCH, EPOCHS, SEED = 97, 20, 16, 4, 3, 5
POLICY = MaskingPolicy(
    Bernoulli("3/10"), Corruption("4/5", "1/10", "1/10"), VOCAB, mask_id=4, pad_id=0,
    special_ids=(0, 1, 2, 3, 4),
)  # fmt: skip

#: name: settings of `Trainer`, and in which update it is stopped and goes on, or None.
OURS: Mapping[str, tuple[dict[str, Any], int | None]] = {
    "no worker": ({}, None),
    "two workers": ({"dataloader_num_workers": 2}, None),
    "two workers that persist": (
        {"dataloader_num_workers": 2, "dataloader_persistent_workers": True}, None,
    ),
    "two workers, stopped and resumed": ({"dataloader_num_workers": 2}, 7),
}  # fmt: skip
THEIRS = {name: OURS[name] for name in ("no worker", "two workers")}

#: (epoch, number of the sequence) to what the model was shown, and its labels.
Seen = dict[tuple[int, int], tuple[list[int], list[int]]]


def sequences() -> list[list[int]]:
    """[1 … 2], no two alike, of different lengths."""
    rng = np.random.default_rng(3)
    sizes = rng.integers(6, COLUMNS - 1, ROWS)
    return [[1, *rng.integers(5, VOCAB, size).tolist(), 2] for size in sizes]


def wanted() -> Seen:
    """What the reference makes of every sequence in every epoch."""
    found: Seen = {}
    for number, ids in enumerate(sequences()):
        tokens = np.array([ids])
        place = np.arange(len(ids), dtype=np.uint32)[None]
        able, ids_of = np.ones(tokens.shape, bool), split_words(np.full(tokens.shape, number))
        for epoch in range(EPOCHS):
            one = mask(tokens, ids_of, place, None, able, POLICY, SEED, epoch)
            labels = np.where(one.selected, one.targets, -100)
            found[epoch, number] = one.inputs[0].tolist(), labels[0].tolist()
    return found


def train(ours: bool, settings: Mapping[str, Any], stop: int | None) -> Seen:
    """Run `Trainer`; what its model saw in each epoch."""
    import torch
    import transformers
    from mlm_torch import MaskingCollator, NumberedDataset

    seen: Seen = {}
    numbers = {tuple(ids): number for number, ids in enumerate(sequences())}
    collator = MaskingCollator(POLICY, SEED) if ours else _their_collator(transformers)

    def on_epoch_begin(_: Any, args: Any, state: Any, control: Any, **rest: Any) -> None:
        if ours:
            collator.set_epoch(int(state.epoch))

    def on_step_end(_: Any, args: Any, state: Any, control: Any, **rest: Any) -> None:
        control.should_training_stop = state.global_step == stop or control.should_training_stop
        control.should_save = state.global_step == stop

    names = {"on_epoch_begin": on_epoch_begin, "on_step_end": on_step_end}
    callback = type("Callback", (transformers.TrainerCallback,), names)
    data = NumberedDataset([{"input_ids": ids} for ids in sequences()])

    def run(folder: str, resume: bool) -> None:
        transformers.set_seed(1)
        model = _model(transformers)
        arguments = transformers.TrainingArguments(
            folder, per_device_train_batch_size=BATCH, num_train_epochs=EPOCHS, seed=1,
            remove_unused_columns=False, report_to=[], save_strategy="no", use_cpu=True,
            disable_tqdm=True, logging_strategy="no", **settings,
        )  # fmt: skip
        trainer = transformers.Trainer(
            model, arguments, data_collator=collator, train_dataset=data, callbacks=[callback()]
        )
        watch = partial(_note, seen, numbers, trainer)
        handle = model.register_forward_pre_hook(watch, with_kwargs=True)
        trainer.train(resume_from_checkpoint=resume or None)
        handle.remove()

    with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng():
        run(folder, resume=False)
        if stop is not None:
            stop = None
            run(folder, resume=True)
    return seen


def _note(seen: Seen, numbers: Any, trainer: Any, model: Any, args: Any, given: Any) -> None:
    """Write down a batch under its epoch, which is known from the number of the update."""
    epoch = trainer.state.global_step // -(-ROWS // BATCH)
    real = given["attention_mask"].bool()
    for ids, labels, here in zip(given["input_ids"], given["labels"], real, strict=True):
        shown, label = ids[here].tolist(), labels[here].tolist()
        original = tuple(a if b == -100 else b for a, b in zip(shown, label, strict=True))
        place = epoch, numbers[original]
        if seen.setdefault(place, (shown, label)) != (shown, label):
            sys.exit(f"epoch {epoch} shows sequence {place[1]} in two ways")


def _model(transformers: Any) -> Any:
    config = transformers.BertConfig(
        vocab_size=VOCAB, hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=8, max_position_embeddings=COLUMNS,
    )  # fmt: skip
    return transformers.BertForMaskedLM(config)


def _their_collator(transformers: Any) -> Any:
    from mlm_conformance.field.hf_collators import _tokenizer_of

    inner = transformers.DataCollatorForLanguageModeling(
        _tokenizer_of(POLICY), mlm_probability=0.3, seed=SEED
    )
    return partial(_without_numbers, inner)


def _without_numbers(collator: Any, examples: list[dict[str, Any]]) -> Any:
    return collator([{"input_ids": one["input_ids"]} for one in examples])


def equal(a: Seen, b: Seen) -> int:
    """How many rows are in both, and alike."""
    return sum(a[place] == b.get(place) for place in a)


def repeated(seen: Seen) -> int:
    """How many rows of a later epoch are masked as in the first one."""
    return sum(pair == seen[0, place[1]] for place, pair in seen.items() if place[0])


def main() -> None:
    """Compare, print, write the record."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.trainer")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    want = wanted()
    ours = {name: train(True, *settings) for name, settings in OURS.items()}
    theirs = {name: train(False, *settings) for name, settings in THEIRS.items()}
    lines = [
        ["MaskingCollator", name, f"{equal(want, seen)}/{len(want)}", str(repeated(seen))]
        for name, seen in ours.items()
    ]
    first = theirs["no worker"]
    lines += [
        ["HF, seed=", name, f"{equal(first, seen)}/{len(want)}", str(repeated(seen))]
        for name, seen in theirs.items()
    ]
    record = [dict(zip(_HEAD, line, strict=True)) for line in lines]
    write(
        options.results, "trainer", _TITLE + table(_HEAD, lines),
        {"machine": machine(), "results": record},
    )  # fmt: skip
    if any(equal(want, seen) != len(want) or len(seen) != len(want) for seen in ours.values()):
        sys.exit("a row that is not masked as the specification says")
    if equal(first, theirs["two workers"]) == len(want):
        sys.exit("nothing is found, where the masks of workers differ")


_HEAD = ["collator", "Trainer with", "equal rows", "rows as in epoch 0"]
_TITLE = (
    f"Hugging Face's Trainer, {EPOCHS} epochs of {ROWS} sequences.  equal rows: those that the "
    "model saw\nand that mlm_spec.mask makes of the same sequence in the same epoch (for HF's own "
    "collator:\nits rows without workers).  rows as in epoch 0: rows of a later epoch with the "
    "mask of the first.\n\n"
)


if __name__ == "__main__":
    main()
