"""Bad calls of a session, each made of a good one by one fault: (what it is, the error, the call).

Faults of data stand in the first entry, in the last one, and in one that is drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.cases.bad import wrong_shapes
from mlm_conformance.cases.training import TrainingCase
from mlm_conformance.cases.training_batches import tokens_of
from mlm_spec import Bernoulli, Corruption, MaskingPolicy

__all__ = [
    "Bad",
    "bad_batches",
    "bad_configurations",
    "bad_parameters",
    "bad_policies",
    "bad_tokens",
    "everything",
]

Array = NDArray[Any]
Batch = Mapping[str, Any]


class Bad(NamedTuple):
    """One fault: what it is, the error that it raises, and what has it."""

    about: str
    error: str
    given: Any


_NO_INTEGERS: tuple[Any, ...] = (2.0, True, "2", None)
_SIZES = ("vocab_size", "hidden_size", "num_attention_heads", "intermediate_size",
          "max_position_embeddings", "type_vocab_size")  # fmt: skip
_NO_NUMBERS: tuple[Any, ...] = (np.nan, np.inf, -1.0, "0.1", True)
_NO_DROPOUTS: tuple[Any, ...] = (0.1, 1, "1", "-1/10", "1/0", "a tenth", True, None)
_ENCODER: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(_SIZES, (0, -4, 2**31, *_NO_INTEGERS)),
    "num_hidden_layers": (-1, 2**31, *_NO_INTEGERS),
    **dict.fromkeys(("layer_norm_eps", "initializer_range"), (0.0, None, *_NO_NUMBERS)),
    **dict.fromkeys(("hidden_dropout", "attention_dropout"), _NO_DROPOUTS),
}
_TRAINING: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(("learning_rate", "epsilon"), (0.0, None, *_NO_NUMBERS)),
    "max_grad_norm": (0.0, *_NO_NUMBERS),
    **dict.fromkeys(("beta1", "beta2"), (1.0, None, *_NO_NUMBERS)),
    "weight_decay": (None, *_NO_NUMBERS),
    "total_updates": (0, 2**31, *_NO_INTEGERS),
    "warmup_updates": (-1, 2**31 - 1, *_NO_INTEGERS),
    "seed": (-1, 2**64, *_NO_INTEGERS),
    "schedule": ("cosine", "Linear", None, 0),
    "precision": ("float8", "double", None, 32),
}
#: What every encoder's configuration has to say.
_NEEDED = {
    "encoder": (*_SIZES[:4], "num_hidden_layers"),
    "training": ("learning_rate", "warmup_updates", "total_updates"),
}


def bad_configurations(case: TrainingCase) -> Iterator[Bad]:
    """Configurations with a field that has no meaning, as the arguments of ``session``."""
    for name, fields, values in (("encoder", case.encoder, _ENCODER),
                                 ("training", case.training, _TRAINING)):  # fmt: skip
        for field, bad in values.items():
            for value in bad:
                about = f"{name}.{field} {value!r}"
                yield Bad(about, "ConfigError", {name: {**fields, field: value}})
        for field in _NEEDED[name]:
            rest = {key: value for key, value in fields.items() if key != field}
            yield Bad(f"{name} without {field}", "ConfigError", {name: rest})
        more = {**fields, "hidden_act": "gelu"}
        yield Bad(f"{name} with an unknown field", "ConfigError", {name: more})
        for other in (None, 5, "base", [fields]):
            kind = type(other).__name__
            yield Bad(f"a {kind} for {name}", "ConfigError", {name: other})
    wide = {**case.encoder, "num_attention_heads": case.config.hidden_size - 1}
    yield Bad("heads that do not divide hidden_size", "ConfigError", {"encoder": wide})


def bad_policies() -> Iterator[Bad]:
    """What is given for a policy, and is none."""
    for other in ("bert", 5, True, {}, everything(8).to_mapping()):
        yield Bad(f"a {type(other).__name__} for policy", "PolicyError", {"policy": other})


def bad_parameters(case: TrainingCase) -> Iterator[Bad]:
    """Parameters that are not those of the encoder, in turns the first, the last and others."""
    good, names = case.parameters, list(case.parameters)
    chosen = [names[n] for n in (0, case.salt % len(names), -1)]
    for name in chosen:
        rest = {key: array for key, array in good.items() if key != name}
        yield Bad(f"no {name}", "InputError", rest)
        for about, array in wrong_shapes(good[name]):
            yield Bad(f"{name} with {about}", "ShapeError", {**good, name: array})
        for kind in ("int32", "int64", "uint8", "bool", "complex64"):
            array = good[name].astype(kind)
            yield Bad(f"{name} of {kind}", "DTypeError", {**good, name: array})
        for value in (np.nan, np.inf, -np.inf):
            for entry in _entries(good[name], case.salt):
                array = _changed(good[name], entry, value)
                about = f"{value} in {name}{[*entry]}"
                yield Bad(about, "NotFiniteError", {**good, name: array})
        for other in (None, good[name].tolist(), 1.0):
            about = f"a {type(other).__name__} for {name}"
            yield Bad(about, "DTypeError", {**good, name: other})
    for name in ("cls.predictions.decoder.weight", "bert.pooler.dense.bias"):
        yield Bad(f"{name} besides", "InputError", {**good, name: good[names[0]]})
    none: tuple[Any, ...] = ({}, None, 5)
    for nothing in none:
        yield Bad(f"parameters {nothing!r}", "InputError", nothing)


def everything(vocab_size: int) -> MaskingPolicy:
    """The policy that selects every position that is eligible."""
    return MaskingPolicy(Bernoulli(1), Corruption(1, 0, 0), vocab_size, mask_id=4, pool="all")


def bad_batches(case: TrainingCase, batch: Batch) -> Iterator[Bad]:
    """Masked micro-batches with one fault; there is padding in the one they are made of."""
    yield from _bad_fields(batch, "inputs")
    for name in batch:
        for about, array in wrong_shapes(batch[name]):
            yield Bad(f"{name} with {about}", "ShapeError", {**batch, name: array})
        yield from _bad_dtypes(batch, name)
    every, chosen = np.ones_like(batch["selected"]), batch["selected"]
    yield from _bad_ids(case, batch, "inputs", case.config.vocab_size, every)
    yield from _bad_ids(case, batch, "targets", case.config.vocab_size, chosen)
    yield from _bad_ids(case, batch, "token_type_ids", case.config.type_vocab_size, every)
    yield from _bad_ids(case, batch, "position_ids", case.config.max_position_embeddings, every)
    for entry in _entries(chosen, case.salt, ~batch["attention_mask"]):
        selected = _changed(chosen, entry, True)
        yield Bad(f"padding selected{[*entry]}", "InputError", {**batch, "selected": selected})
    yield Bad("tokens, and no policy", "PolicyError", tokens_of({**batch}, epoch=3))
    for other in (None, 5, "batch", [batch["inputs"]]):
        yield Bad(f"a {type(other).__name__} for a batch", "InputError", other)


def bad_tokens(case: TrainingCase, batch: Batch) -> Iterator[Bad]:
    """Micro-batches of tokens with one fault, for a session with the policy `everything`."""
    good = tokens_of({**batch}, epoch=3)
    yield from _bad_fields(good, "tokens", "word_id")
    for name in ("tokens", "eligible", "word_id"):
        for about, array in wrong_shapes(good[name]):
            yield Bad(f"{name} with {about}", "ShapeError", {**good, name: array})
    for name in ("tokens", "eligible", "attention_mask"):
        yield from _bad_dtypes(good, name)
    every = np.ones_like(good["eligible"])
    yield from _bad_ids(case, good, "tokens", case.config.vocab_size, every)
    for epoch in (-1, 2**64, 1.0, True, None, "3"):
        yield Bad(f"epoch {epoch!r}", "SeedError", {**good, "epoch": epoch})
    for entry in _entries(good["eligible"], case.salt, ~batch["attention_mask"]):
        eligible = _changed(good["eligible"], entry, True)
        yield Bad(f"padding eligible{[*entry]}", "InputError", {**good, "eligible": eligible})


def _bad_fields(good: Batch, first: str, *optional: str) -> Iterator[Bad]:
    """A field is missing, or there is one more."""
    for name in good:
        if name not in optional:
            rest = {key: array for key, array in good.items() if key != name}
            yield Bad(f"no {name}", "InputError", rest)
    for name in ("labels", "eligible" if first == "inputs" else "selected"):
        yield Bad(f"{name} besides", "InputError", {**good, name: good["attention_mask"]})


def _bad_dtypes(good: Batch, name: str) -> Iterator[Bad]:
    kind = good[name].dtype.name
    others = {"int32": ("int16", "uint8", "float64", "bool"), "bool": ("int32", "uint8", "float32"),
              "uint32": ("int32", "int64", "uint64", "float32")}[kind]  # fmt: skip
    for other in others:
        given = {**good, name: good[name].astype(other)}
        yield Bad(f"{name} of {other}", "DTypeError", given)
    for value in (None, good[name].tolist()):
        about = f"a {type(value).__name__} for {name}"
        yield Bad(about, "DTypeError", {**good, name: value})


def _bad_ids(
    case: TrainingCase, good: Batch, name: str, size: int, where: NDArray[np.bool_]
) -> Iterator[Bad]:
    """Ids that are none; the last two, cut to 32 bits, are the one that stood there.

    ``where`` they count: everywhere is at padding too.
    """
    entries = _entries(good[name], case.salt, where)
    if where.all():
        entries += _entries(good[name], case.salt, ~good["attention_mask"])
    for entry in dict.fromkeys(entries):
        was = int(good[name][entry])
        for value in (-1, size, -100, 2**31 - 1, was + 2**32, was - 2**32):
            kind = np.int64 if abs(value) >= 2**31 else good[name].dtype
            ids = _changed(good[name].astype(kind), entry, value)
            about = f"{name}{[*entry]} = {value} of {size}"
            yield Bad(about, "IdRangeError", {**good, name: ids})


def _entries(array: Array, salt: int, where: NDArray[np.bool_] | None = None) -> list[Any]:
    """The first and the last index, and one more, of those that count."""
    places = np.argwhere(np.ones(array.shape, np.bool_) if where is None else where)
    chosen = {0, len(places) - 1, (7 * salt + 5) % len(places)}
    return [tuple(int(i) for i in places[n]) for n in sorted(chosen)]


def _changed(array: Array, entry: tuple[int, ...], value: Any) -> Array:
    other = array.copy()
    other[entry] = value
    return other
