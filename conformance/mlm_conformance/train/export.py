"""The model in the layout that checkpoints of BERT have: configuration, weights, tokenizer."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.reports.files import remove_leftovers, write_atomically
from mlm_conformance.train.store import TokenStore
from mlm_conformance.train.vocabulary import special_ids
from mlm_spec.training.config import EncoderConfig
from mlm_spec.training.parameters import with_tied_copies
from mlm_spec.training.tensor_file import write_tensors

__all__ = ["bert_config", "export_model"]

_WEIGHTS, _CONFIG = "model.safetensors", "config.json"


def bert_config(encoder: EncoderConfig, dtype: str) -> dict[str, Any]:
    """The fields of ``config.json``; ``dtype`` is that of the weights."""
    ours = encoder.to_mapping()
    dropouts = {
        "hidden_dropout_prob": float(encoder.hidden_dropout),
        "attention_probs_dropout_prob": float(encoder.attention_dropout),
    }
    same = {name: ours[name] for name in ours if not name.endswith("_dropout")}
    return {
        "architectures": ["BertForMaskedLM"],
        "model_type": "bert",
        "hidden_act": "gelu",
        "position_embedding_type": "absolute",
        "pad_token_id": special_ids()["pad_id"],
        "tie_word_embeddings": True,
        "is_decoder": False,
        "use_cache": False,
        "dtype": dtype,
        **same,
        **dropouts,
    }


def export_model(
    folder: Path,
    parameters: Mapping[str, NDArray[Any]],
    encoder: EncoderConfig,
    store: TokenStore,
) -> None:
    """Write ``config.json``, ``model.safetensors`` and the tokenizer.

    Parameters
    ----------
    folder : made if it is not there; files of these names are replaced.
    parameters : all of the encoder, float32 or float64.
    encoder : which encoder.
    store : whose tokenizer it is.

    Raises
    ------
    CheckpointError : the weights cannot be written.
    """
    folder.mkdir(exist_ok=True)
    remove_leftovers(folder, [_WEIGHTS, _CONFIG, *(path.name for path in store.tokenizer_files)])
    tensors = with_tied_copies({name: np.asarray(value) for name, value in parameters.items()})
    dtype = str(next(iter(tensors.values())).dtype)
    # "pt" tells who reads it that linear weights are (out, in), as they are here.
    write_tensors(folder / _WEIGHTS, tensors, {"format": "pt"})
    config = json.dumps(bert_config(encoder, dtype), indent=2, sort_keys=True)
    write_atomically(folder / _CONFIG, config + "\n")
    for path in store.tokenizer_files:
        copy = folder / f".{path.name}.tmp"
        shutil.copyfile(path, copy)
        os.replace(copy, folder / path.name)
