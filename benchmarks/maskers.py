"""The maskers that are measured: BERT's 15 %, 80/10/10, by a Bernoulli law, on the same ids."""

from __future__ import annotations

import os
import shutil
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks.worker import NotHereError, Prepared, jax_device, torch_device
from mlm_spec.policy import Bernoulli, Corruption, MaskingPolicy

__all__ = ["OURS", "PEERS", "VARIANTS", "bert_policy", "hf_collator"]

Settings = Mapping[str, Any]

_MASK, _PAD, _SPECIAL = 103, 0, (0, 100, 101, 102, 103)


def bert_policy(vocab: int) -> MaskingPolicy:
    return MaskingPolicy(
        Bernoulli("3/20"),
        Corruption("4/5", "1/10", "1/10"),
        vocab_size=vocab,
        mask_id=_MASK,
        pad_id=_PAD,
        special_ids=_SPECIAL,
    )


def _batch(settings: Settings) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Tokens int32 (B, T), ``[CLS] … [SEP]``; sequence ids, positions and eligible as ports do."""
    rows, columns = settings["rows"], settings["columns"]
    draw = np.random.default_rng(0)
    tokens = draw.integers(200, settings["vocab"], (rows, columns)).astype(np.int32)
    tokens[:, 0], tokens[:, -1] = 101, 102
    sequence_id = np.zeros((rows, columns, 2), np.uint32)
    sequence_id[..., 0] = np.arange(rows, dtype=np.uint32)[:, None]
    position = np.ascontiguousarray(
        np.broadcast_to(np.arange(columns, dtype=np.uint32), (rows, columns))
    )
    return tokens, sequence_id, position, np.ones((rows, columns), bool)


def _mark(inputs: Any, selected: Any) -> dict[str, Any]:
    """How many were selected, and a checksum by which equal masks are known to be equal."""
    chosen = np.asarray(selected, bool)
    shown = np.ascontiguousarray(np.asarray(inputs).astype(np.int64))
    return {
        "selected": int(chosen.sum()),
        "checksum": zlib.crc32(np.packbits(chosen).tobytes(), zlib.crc32(shown.tobytes())),
    }


def _numpy(settings: Settings) -> Prepared:
    import mlm_spec

    if settings["device"] != "cpu":
        raise NotHereError("NumPy has no device")
    tokens, ids, position, eligible = _batch(settings)
    policy = bert_policy(settings["vocab"])

    def call() -> Any:
        return mlm_spec.mask(tokens, ids, position, None, eligible, policy, 1, 0)

    batch = call()
    return Prepared(call, _mark(batch.inputs, batch.selected))


def _torch_arguments(settings: Settings) -> tuple[Any, ...]:
    import torch

    device = torch_device(settings)
    return tuple(torch.from_numpy(array).to(device) for array in _batch(settings))


def _torch_wait(settings: Settings) -> Callable[[], None]:
    import torch

    return torch.cuda.synchronize if settings["device"] == "cuda" else lambda: None


def _torch_mask(settings: Settings) -> Prepared:
    import mlm_torch

    tokens, ids, position, eligible = _torch_arguments(settings)
    policy, wait = bert_policy(settings["vocab"]), _torch_wait(settings)

    def call() -> Any:
        batch = mlm_torch.mask(tokens, ids, position, None, eligible, policy, 1, 0)
        wait()
        return batch

    batch = call()
    return Prepared(call, _mark(batch.inputs.cpu(), batch.selected.cpu()))


def _torch_compiled(settings: Settings) -> Prepared:
    import mlm_torch

    compiler = os.environ.get("CXX", "g++")
    if settings["device"] == "cpu" and shutil.which(compiler) is None:
        raise NotHereError(f"no C++ compiler ({compiler})")
    tokens, ids, position, eligible = _torch_arguments(settings)
    wait = _torch_wait(settings)
    masker = mlm_torch.compile_mask(bert_policy(settings["vocab"]))
    key = mlm_torch.make_key(1, 0, tokens.device)

    def call() -> Any:
        step = masker(tokens, ids, position, None, eligible, key)
        wait()
        return step

    step = call()
    return Prepared(call, _mark(step.inputs.cpu(), step.selected.cpu()))


def _jax_arguments(settings: Settings) -> tuple[Any, ...]:
    import jax

    device = jax_device(settings)
    return tuple(jax.device_put(array, device) for array in _batch(settings))


def _jax_mask(settings: Settings) -> Prepared:
    import jax
    import mlm_jax

    tokens, ids, position, eligible = _jax_arguments(settings)
    policy = bert_policy(settings["vocab"])

    def call() -> Any:
        batch = mlm_jax.mask(tokens, ids, position, None, eligible, policy, 1, 0)
        return jax.block_until_ready(batch)

    batch = call()
    return Prepared(call, _mark(batch.inputs, batch.selected))


def _jax_step(settings: Settings) -> Prepared:
    import jax
    import mlm_jax

    tokens, ids, position, eligible = _jax_arguments(settings)
    plan = mlm_jax.make_plan(bert_policy(settings["vocab"]), length=settings["columns"])
    key, step = mlm_jax.key_words(1, 0), jax.jit(mlm_jax.mask_step)

    def call() -> Any:
        return jax.block_until_ready(step(tokens, ids, position, None, eligible, plan, key))

    batch = call()
    return Prepared(call, _mark(batch.inputs, batch.selected))


def hf_collator(settings: Settings) -> Any:
    """The collator on a word-level tokenizer of the right size; no file and no network."""
    import tokenizers
    import transformers

    model = tokenizers.models.WordLevel(
        {f"t{i}": i for i in range(settings["vocab"])}, unk_token="t100"
    )
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizers.Tokenizer(model),
        mask_token=f"t{_MASK}",
        pad_token=f"t{_PAD}",
        unk_token="t100",
        cls_token="t101",
        sep_token="t102",
    )
    return transformers.DataCollatorForLanguageModeling(tokenizer, seed=1)


def _hf_torch(settings: Settings) -> Prepared:
    import torch

    if settings["device"] != "cpu":
        raise NotHereError("the collator works on the CPU")
    torch_device(settings)
    collator = hf_collator(settings)
    collator.generator = torch.Generator().manual_seed(1)
    tokens = torch.from_numpy(_batch(settings)[0]).long()
    special = torch.isin(tokens, torch.tensor(_SPECIAL))

    def call() -> Any:
        # It writes into its argument; the other maskers return new arrays.
        return collator.torch_mask_tokens(tokens.clone(), special)

    inputs, labels = call()
    return Prepared(call, _mark(inputs, labels != -100))


def _hf_numpy(settings: Settings) -> Prepared:
    if settings["device"] != "cpu":
        raise NotHereError("the collator works on the CPU")
    collator = hf_collator(settings)
    collator.generator = np.random.default_rng(1)
    tokens = _batch(settings)[0].astype(np.int64)
    special = np.isin(tokens, _SPECIAL)

    def call() -> Any:
        return collator.numpy_mask_tokens(tokens.copy(), special)

    inputs, labels = call()
    return Prepared(call, _mark(inputs, labels != -100))


def _keras_layer(settings: Settings) -> tuple[Any, Any]:
    os.environ["KERAS_BACKEND"] = "tensorflow"
    import keras_hub
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(settings["threads"])
    tf.config.threading.set_inter_op_parallelism_threads(settings["threads"])
    layer = keras_hub.layers.MaskedLMMaskGenerator(
        vocabulary_size=settings["vocab"],
        mask_selection_rate=0.15,
        mask_token_id=_MASK,
        unselectable_token_ids=list(_SPECIAL),
        mask_token_rate=0.8,
        random_token_rate=0.1,
    )
    return layer, tf


def _keras(settings: Settings, *, graph: bool) -> Prepared:
    if settings["device"] != "cpu":
        raise NotHereError("the layer is a part of a data pipeline, on the CPU")
    layer, tf = _keras_layer(settings)
    tokens = tf.constant(_batch(settings)[0])
    masker = tf.function(layer) if graph else layer

    def call() -> Any:
        return masker(tokens)

    found = call()
    picked = np.zeros(tokens.shape, bool)
    for row, (where, weight) in enumerate(
        zip(found["mask_positions"], found["mask_weights"], strict=True)
    ):
        picked[row, np.asarray(where)[np.asarray(weight) > 0].astype(int)] = True
    return Prepared(call, _mark(found["token_ids"], picked))


OURS = {
    "mlm_spec (numpy)": _numpy,
    "mlm_torch.mask": _torch_mask,
    "mlm_torch.compile_mask": _torch_compiled,
    "mlm_jax.mask": _jax_mask,
    "mlm_jax.mask_step, jitted": _jax_step,
}
PEERS = {
    "HF torch_mask_tokens": _hf_torch,
    "HF numpy_mask_tokens": _hf_numpy,
    "keras-hub, eager": lambda settings: _keras(settings, graph=False),
    "keras-hub, tf.function": lambda settings: _keras(settings, graph=True),
}
VARIANTS = OURS | PEERS
