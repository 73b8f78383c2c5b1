"""The training steps that are measured: one update of the same small BERT on the same sequences.

Each step masks, runs the model forward and backward, clips at norm 1, and moves the parameters
with AdamW; the next step takes the next sequences.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from typing import Any

import numpy as np

from benchmarks.maskers import bert_policy, hf_collator
from benchmarks.worker import NotHereError, Prepared, torch_device

__all__ = ["VARIANTS"]

Settings = Mapping[str, Any]

_RATE = 1e-4


def _encoder(settings: Settings) -> dict[str, Any]:
    return {
        "vocab_size": settings["vocab"],
        "hidden_size": settings["width"],
        "num_hidden_layers": settings["layers"],
        "num_attention_heads": settings["heads"],
        "intermediate_size": 4 * settings["width"],
        "max_position_embeddings": max(512, settings["columns"]),
        "hidden_dropout": "1/10",
        # Fused attention everywhere: it takes no mask of dropped probabilities from outside.
        "attention_dropout": 0,
    }


def _parameters(settings: Settings) -> dict[str, np.ndarray]:
    import torch
    from mlm_torch import MaskedLanguageModel

    from mlm_spec.training.config import EncoderConfig

    torch.manual_seed(0)
    model = MaskedLanguageModel(EncoderConfig.from_mapping(_encoder(settings)))
    return {name: value.detach().numpy() for name, value in model.named_parameters()}


def _rows(settings: Settings) -> Iterator[np.ndarray]:
    """Batches of ids, ``[CLS] … [SEP]``, new ones for ever."""
    shape = settings["rows"], settings["columns"]
    for number in count():
        ids = np.random.default_rng(number).integers(200, settings["vocab"], shape)
        ids[:, 0], ids[:, -1] = 101, 102
        yield ids


def _ours(settings: Settings, compiled: str | None) -> Prepared:
    from mlm_torch.checkpoint import Configuration
    from mlm_torch.port import as_tensor
    from mlm_torch.session import Session

    from mlm_spec.training.config import EncoderConfig, TrainingConfig

    device = torch_device(settings)
    training = TrainingConfig(
        _RATE, warmup_updates=0, total_updates=1, schedule="constant", seed=1,
        epsilon=1e-8, precision=settings["dtype"],
    )  # fmt: skip
    told = Configuration(
        EncoderConfig.from_mapping(_encoder(settings)), training, bert_policy(settings["vocab"])
    )
    session = Session(told, _parameters(settings), device, as_tensor, compiled)
    shape = settings["rows"], settings["columns"]
    ones, zeros = np.ones(shape, bool), np.zeros(shape, np.int64)
    place = np.broadcast_to(np.arange(shape[1], dtype=np.uint32), shape).copy()
    batches = enumerate(_rows(settings))

    def call() -> float:
        number, tokens = next(batches)
        ids = np.zeros((*shape, 2), np.uint32)
        ids[..., 0] = number * shape[0] + np.arange(shape[0], dtype=np.uint32)[:, None]
        batch = {
            "tokens": tokens, "eligible": ones, "epoch": 0, "attention_mask": ones,
            "token_type_ids": zeros, "position_ids": place.astype(np.int64), "sequence_id": ids,
            "position": place,
        }  # fmt: skip
        return float(session.step([batch])["loss"])

    return _prepared(settings, call)


def _eager(settings: Settings) -> Prepared:
    return _ours(settings, None)


def _compiled(settings: Settings) -> Prepared:
    compiler = os.environ.get("CXX", "g++")
    if settings["device"] == "cpu" and shutil.which(compiler) is None:
        raise NotHereError(f"no C++ compiler ({compiler})")
    return _ours(settings, "inductor")


def _hf(settings: Settings) -> Prepared:
    """As its examples and its `Trainer` do it: collator, model with labels, clip, fused AdamW."""
    import torch
    import transformers

    device = torch_device(settings)
    encoder = _encoder(settings)
    dropped = {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.0}
    sizes = {name: value for name, value in encoder.items() if "dropout" not in name}
    config = transformers.BertConfig(**sizes, **dropped)
    config._attn_implementation = "sdpa"
    model = transformers.BertForMaskedLM(config).train()
    given = {name: torch.from_numpy(value) for name, value in _parameters(settings).items()}
    model.load_state_dict(given, strict=False)
    model.to(device)
    decay = [x for x in model.parameters() if x.dim() == 2]
    rest = [x for x in model.parameters() if x.dim() != 2]
    groups = [{"params": decay, "weight_decay": 0.01}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=_RATE, fused=True)
    collator, batches = hf_collator(settings), _rows(settings)
    narrow = None if settings["dtype"] == "float32" else getattr(torch, settings["dtype"])

    def call() -> float:
        rows = [{"input_ids": row} for row in next(batches).tolist()]
        batch = {name: value.to(device) for name, value in collator(rows).items()}
        with torch.autocast(device.type, narrow, enabled=narrow is not None):
            loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return float(loss)

    return _prepared(settings, call)


def _prepared(settings: Settings, call: Callable[[], float]) -> Prepared:
    """With the loss before the first update, by which equal models are known."""
    import torch

    first = call()

    def peak_on_gpu() -> int:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return int(torch.cuda.max_memory_allocated() - before)

    on_gpu = settings["device"] == "cuda"
    return Prepared(call, {"loss": first}, peak_on_gpu if on_gpu else None)


VARIANTS = {
    "mlm_torch session": _eager,
    "mlm_torch session, compiled": _compiled,
    "transformers, BertForMaskedLM": _hf,
}
