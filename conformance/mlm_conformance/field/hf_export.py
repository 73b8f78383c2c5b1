"""A model that was trained here, read by Hugging Face: ``from_pretrained`` on its folder."""

# The packages of the field are in no environment that is type-checked.
# mypy: disable-error-code="import-not-found, import-untyped"

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import transformers

from mlm_spec.training.batch import TrainingBatch

__all__ = ["Loaded", "load_model", "model_ids", "model_score"]


class Loaded(NamedTuple):
    """A model and its tokenizer, and what loading the model complained of."""

    model: Any
    tokenizer: Any
    complaints: dict[str, Any]


def load_model(folder: Path) -> Loaded:
    """The automatic classes find out which model and which tokenizer it is."""
    model, complaints = transformers.AutoModelForMaskedLM.from_pretrained(
        folder, dtype="auto", output_loading_info=True, attn_implementation="eager"
    )
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    return Loaded(model.eval(), tokenizer, {n: v for n, v in complaints.items() if v})


def model_ids(loaded: Loaded, text: str) -> list[int]:
    """The ids of a text with ``[CLS]`` and ``[SEP]``."""
    found: list[int] = loaded.tokenizer(text)["input_ids"]
    return found


def model_score(loaded: Loaded, batch: TrainingBatch) -> float:
    """The sum of log-likelihoods of a batch with one sequence in each row, in nats."""
    given = {
        "input_ids": batch.inputs,
        "attention_mask": batch.attention_mask,
        "token_type_ids": batch.token_type_ids,
        "labels": np.where(batch.selected, batch.targets, -100),
    }
    tensors = {name: torch.tensor(np.asarray(value, np.int64)) for name, value in given.items()}
    with torch.no_grad():
        mean = loaded.model(**tensors).loss
    # Its loss is a mean over the selected positions.
    return -float(mean) * int(batch.selected.sum())
