"""Bad calls: at least sixty for each port, each with the error it must give.

A good call, and one thing wrong with it at a time.  The tables are data; nothing is drawn.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from mlm_conformance.cases.masks import MASK, PACKED, PAD, SPECIAL
from mlm_conformance.cases.model import BadCallCase
from mlm_conformance.cases.numbers import DTYPES, dtype_of, generator
from mlm_spec import Bernoulli, Corruption, MaskingPolicy, WholeWord, split_words

__all__ = [
    "bad_calls",
    "good_head_call",
    "good_loss_call",
    "good_mask_call",
    "good_score_call",
    "wrong_shapes",
]

Call = dict[str, Any]

_ROWS, _COLUMNS, _VOCAB, _WIDTH = 2, 8, 64, 16


def good_mask_call() -> Call:
    """A call of ``mask`` that is fine."""
    rng = generator(0, 20)
    shape = PACKED
    return {
        "tokens": rng.integers(4, _VOCAB, size=shape).astype(np.int32),
        "sequence_id": split_words(np.broadcast_to(np.array([[3], [2**40]]), shape)),
        "position": np.broadcast_to(np.arange(shape[1], dtype=np.uint32), shape).copy(),
        "word_id": np.broadcast_to(np.arange(shape[1], dtype=np.int32) // 2, shape).copy(),
        "eligible": np.ones(shape, np.bool_),
        "policy": MaskingPolicy(
            Bernoulli("1/2"), Corruption("4/5", "1/10", "1/10"), _VOCAB, MASK, PAD, SPECIAL
        ),
        "seed": 5,
        "epoch": 1,
    }


def good_score_call(dtype: str = "float32") -> Call:
    """A call of ``score`` that is fine; positions (0, 0) and (1, 3) are selected."""
    rng = generator(0, 21)
    selected = np.zeros((_ROWS, _COLUMNS), np.bool_)
    selected[0, 0] = selected[1, 3] = True
    return {
        "logits": rng.normal(size=(_ROWS, _COLUMNS, _VOCAB)).astype(dtype_of(dtype)),
        "targets": rng.integers(_VOCAB, size=(_ROWS, _COLUMNS)),
        "selected": selected,
        "weights": np.ones((_ROWS, _COLUMNS), np.float32),
    }


def good_head_call(dtype: str = "float32") -> Call:
    """A call of ``head`` that is fine; positions (0, 0) and (1, 3) are selected."""
    rng, score = generator(0, 22), good_score_call()
    kind = dtype_of(dtype)
    return {
        "hidden": rng.normal(size=(_ROWS, _COLUMNS, _WIDTH)).astype(kind),
        "weight": rng.normal(size=(_VOCAB, _WIDTH)).astype(kind),
        "bias": rng.normal(size=_VOCAB).astype(kind),
        "targets": score["targets"],
        "selected": score["selected"],
        "weights": score["weights"],
    }


def good_loss_call(reduction: str) -> Call:
    """A call of ``loss`` that is fine."""
    score = good_score_call()
    labels = np.where(score["selected"], score["targets"], -100).astype(np.int64)
    items = 2 if reduction == "sum/num_items" else None
    return {"logits": score["logits"], "labels": labels, "ignore_index": -100, "num_items": items}


def bad_calls(port: str, reduction: str = "mean") -> tuple[BadCallCase, ...]:
    """All bad calls of a port: ``mask``, ``score``, ``head`` or ``loss``."""
    if port == "mask":
        return tuple(_bad_mask_calls())
    if port == "score":
        return tuple(_bad_score_calls())
    if port == "head":
        return tuple(_bad_head_calls())
    return tuple(_bad_loss_calls(reduction))


def wrong_shapes(array: Any) -> Iterator[tuple[str, Any]]:
    """The array with an axis too few, an axis too many, and each axis off by one."""
    yield "an axis too few", array[0]
    yield "an axis too many", array[None]
    for axis in range(array.ndim):
        yield f"axis {axis} too long", np.concatenate([array, array.take([0], axis)], axis)
        yield f"axis {axis} too short", array.take(range(array.shape[axis] - 1), axis)


def _shapes(port: str, good: Call, *names: str) -> Iterator[BadCallCase]:
    for name in names:
        for about, array in wrong_shapes(good[name]):
            if name == "logits" and about.startswith("axis 2"):
                continue  # another vocabulary, and a good call
            call = {**good, name: array}
            yield BadCallCase(port, call, "ShapeError", "", good, f"{name} with {about}")


def _dtypes(port: str, good: Call, name: str, *kinds: str) -> Iterator[BadCallCase]:
    for kind in kinds:
        call = {**good, name: good[name].astype(kind)}
        yield BadCallCase(port, call, "DTypeError", name, good, f"{name} of {kind}")
    for other in (None, good[name].tolist()):
        about = "None" if other is None else "a list"
        call = {**good, name: other}
        yield BadCallCase(port, call, "DTypeError", name, good, f"{about} for {name}")


def _changed(array: Any, index: tuple[int, ...], value: float) -> Any:
    other = array.copy()
    other[index] = value
    return other


def _bad_mask_calls() -> Iterator[BadCallCase]:
    good = good_mask_call()
    # A free axis of tokens sets B and T: that array alone, longer, disagrees with all others.
    yield from _shapes("mask", good, "tokens", "sequence_id", "position", "word_id", "eligible")
    yield from _dtypes("mask", good, "tokens", "float32", "float64", "int16", "uint8", "bool")
    yield from _dtypes("mask", good, "sequence_id", "int32", "int64", "uint64", "float64")
    yield from _dtypes("mask", good, "position", "int32", "int64", "uint64", "float32")
    yield from _dtypes("mask", good, "eligible", "int32", "uint8", "float32")
    for kind in ("int64", "uint32", "float32"):
        call = {**good, "word_id": good["word_id"].astype(kind)}
        yield BadCallCase("mask", call, "DTypeError", "word_id", good, f"word_id of {kind}")
    for kind in ("int32", "int64"):
        for index, value in (((0, 0), -1), ((1, 7), _VOCAB), ((0, 5), 2**31 - 1), ((1, 0), -100)):
            tokens = _changed(good["tokens"].astype(kind), index, value)
            where = f"tokens[{index[0]}, {index[1]}]"
            about = f"{kind} {where} = {value}"
            yield BadCallCase(
                "mask", {**good, "tokens": tokens}, "IdRangeError", where, good, about
            )
    seeds: tuple[object, ...] = (-1, -(2**63), 2**64, 2**80, 1.0, True, None, "7")
    for name in ("seed", "epoch"):
        for seed in seeds:
            call = {**good, name: seed}
            yield BadCallCase("mask", call, "SeedError", name, good, f"{name} {seed!r}")
    yield BadCallCase("mask", {**good, "policy": None}, "PolicyError", "policy", good, "no policy")
    yield from _missing_words(good)


def _missing_words(good: Call) -> Iterator[BadCallCase]:
    policy: MaskingPolicy = good["policy"]
    by_word = Corruption("4/5", "1/10", "1/10", unit="word")
    for about, selection, corruption in (
        ("whole words", WholeWord("1/2"), policy.corruption),
        ("kinds by word", policy.selection, by_word),
        ("whole words and kinds by word", WholeWord("1/2"), by_word),
    ):
        needs = MaskingPolicy(selection, corruption, _VOCAB, MASK, PAD, SPECIAL)
        call = {**good, "policy": needs, "word_id": None}
        yield BadCallCase("mask", call, "WordError", "word_id", good, f"{about} without word_id")


def _bad_score_calls() -> Iterator[BadCallCase]:
    good = good_score_call()
    yield from _shapes("score", good, "logits", "targets", "selected", "weights")
    yield from _bad_selection("score", good, _VOCAB)
    yield from _dtypes("score", good, "logits", "int32", "int64", "uint8", "bool")
    empty = {**good, "logits": good["logits"][..., :0]}
    yield BadCallCase("score", empty, "ShapeError", "logits", good, "a vocabulary of no id")
    for dtype in DTYPES:
        right = good_score_call(dtype)
        for index, where in (((0, 0), "logits[0, 0"), ((1, 3), "logits[1, 3")):
            for value, error in ((np.nan, "NotFiniteError"), (np.inf, "NotFiniteError")):
                logits = _changed(right["logits"], (*index, 7), value)
                about = f"{dtype} {where}, 7] = {value}"
                yield BadCallCase("score", {**right, "logits": logits}, error, where, right, about)
        nothing = _changed(right["logits"], (1, 3), -np.inf)
        yield BadCallCase(
            "score",
            {**right, "logits": nothing},
            "NoSupportError",
            "logits[1, 3",
            right,
            f"{dtype} logits[1, 3] all -inf",
        )
        target = int(right["targets"][1, 3])
        barred = _changed(right["logits"], (1, 3, target), -np.inf)
        yield BadCallCase(
            "score",
            {**right, "logits": barred},
            "ImpossibleTargetError",
            f"logits[1, 3, {target}]",
            right,
            f"{dtype} target with logit -inf",
        )


def _bad_selection(port: str, good: Call, vocab: int) -> Iterator[BadCallCase]:
    """targets, selected and weights, which score and head share."""
    yield from _dtypes(port, good, "targets", "float32", "float64", "int16", "uint8", "bool")
    yield from _dtypes(port, good, "selected", "int32", "uint8", "float32", "int64")
    for kind in ("int32", "bool", "uint8"):
        call = {**good, "weights": good["weights"].astype(kind)}
        yield BadCallCase(port, call, "DTypeError", "weights", good, f"weights of {kind}")
    for kind in ("int32", "int64"):
        for value in (-1, vocab, vocab + 1, -100, 2**31 - 1):
            targets = _changed(good["targets"].astype(kind), (1, 3), value)
            call, about = {**good, "targets": targets}, f"{kind} targets[1, 3] = {value}"
            yield BadCallCase(port, call, "IdRangeError", "targets[1, 3]", good, about)
    for number in (np.nan, np.inf, -np.inf):
        weights = _changed(good["weights"], (0, 0), number)
        call, about = {**good, "weights": weights}, f"weights[0, 0] = {number}"
        yield BadCallCase(port, call, "NotFiniteError", "weights[0, 0]", good, about)


def _bad_head_calls() -> Iterator[BadCallCase]:
    good = good_head_call()
    yield from _shapes("head", good, "hidden", "targets", "selected", "weights")
    for about, weight in wrong_shapes(good["weight"]):
        if about != "axis 0 too short":  # a bias that is too long, then
            call = {**good, "weight": weight}
            yield BadCallCase("head", call, "ShapeError", "", good, f"weight with {about}")
    for about, bias in (
        ("too long", np.zeros(_VOCAB + 1)),
        ("too short", np.zeros(_VOCAB - 1)),
        ("of two axes", np.zeros((1, _VOCAB))),
    ):
        call = {**good, "bias": bias.astype(np.float32)}
        yield BadCallCase("head", call, "ShapeError", "bias", good, f"a bias {about}")
    yield from _bad_selection("head", good, _VOCAB)
    yield from _dtypes("head", good, "hidden", "int32", "uint8", "bool")
    yield from _dtypes("head", good, "weight", "float64", "float16", "int32")
    for kind in ("float64", "float16", "int32"):
        call = {**good, "bias": good["bias"].astype(kind)}
        yield BadCallCase("head", call, "DTypeError", "bias", good, f"bias of {kind}")
    for dtype in DTYPES:
        right = good_head_call(dtype)
        for name, index in (("hidden", (1, 3, 5)), ("weight", (7, 2)), ("bias", (9,))):
            for value in (np.nan, np.inf):
                changed = _changed(right[name], index, value)
                call, about = {**right, name: changed}, f"{dtype} {value} in {name}"
                yield BadCallCase("head", call, "NotFiniteError", "", right, about)


def _bad_loss_calls(reduction: str) -> Iterator[BadCallCase]:
    good = good_loss_call(reduction)
    yield from _shapes("loss", good, "logits")
    for about, labels in wrong_shapes(np.zeros((_ROWS, _COLUMNS), np.int64)):
        call = {**good, "labels": labels}
        yield BadCallCase("loss", call, "ShapeError", "", good, f"labels with {about}")
    yield from _dtypes("loss", good, "logits", "int32", "int64", "uint8", "bool")
    yield from _dtypes("loss", good, "labels", "float32", "float64", "int16", "int8", "bool")
    empty = {**good, "logits": good["logits"][..., :0]}
    yield BadCallCase("loss", empty, "ShapeError", "logits", good, "a vocabulary of no id")
    for kind in ("int32", "int64"):
        for value in (-1, -99, _VOCAB, _VOCAB + 1, 2**31 - 1):
            labels = _changed(good["labels"].astype(kind), (1, 3), value)
            call, about = {**good, "labels": labels}, f"{kind} labels[1, 3] = {value}"
            yield BadCallCase("loss", call, "IdRangeError", "labels[1, 3]", good, about)
    for case in _bad_score_calls():
        if "[" in case.where and case.where.startswith("logits"):
            call = {**good, "logits": case.arguments["logits"]}
            yield BadCallCase("loss", call, case.error, case.where, good, case.about)
    nothing = {**good, "labels": np.full((_ROWS, _COLUMNS), -100)}
    if reduction == "mean":
        yield BadCallCase("loss", nothing, "EmptySelectionError", "", good, "nothing selected")
