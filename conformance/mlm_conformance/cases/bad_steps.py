"""Bad calls of the steps and of ``random_words``: shapes and dtypes, which are known in advance."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from mlm_conformance.cases.bad import bad_calls, wrong_shapes
from mlm_conformance.cases.model import BadCallCase

__all__ = ["STEPS", "bad_step_calls", "bad_word_calls"]

STEPS = {"mask_step": "mask", "score_step": "score", "head_step": "head"}
_STATIC = ("ShapeError", "DTypeError", "PolicyError", "SeedError", "WordError")
_NO_INTEGERS: tuple[Any, ...] = (None, True, False, 2.5, 4.0, "4", "", [4], {})
_NEGATIVE = (-1, -2, -(2**31), -(2**40))
_NO_WORDS = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint64")
_NO_WORDS_EITHER = ("float16", "float32", "float64", "complex64")
_NO_ARRAYS: tuple[Any, ...] = (None, 5, 1.5, True, "words", {}, (0, 0, 0, 0))


def bad_step_calls(port: str) -> tuple[BadCallCase, ...]:
    """Bad calls of a step: those of its checked twin that need no look at the data.

    Every second one would be an overflow besides: two positions are selected.
    """
    extra = {} if port == "mask_step" else {"capacity": 4}
    calls = [case for case in bad_calls(STEPS[port]) if case.error in _STATIC]
    cases = []
    for i, case in enumerate(calls):
        call = {**case.arguments, **({"capacity": 1} if extra and i % 2 else extra)}
        good = {**case.good, **extra}
        cases.append(BadCallCase(port, call, case.error, case.where, good, case.about))
    good = cases[0].good
    wrong = [(value, "DTypeError") for value in _NO_INTEGERS]
    wrong += [(value, "ShapeError") for value in _NEGATIVE]
    for value, error in wrong if extra else ():
        call = {**good, "capacity": value}
        cases.append(BadCallCase(port, call, error, "capacity", good, f"a capacity of {value!r}"))
    return tuple(cases)


def bad_word_calls() -> tuple[BadCallCase, ...]:
    """Bad calls of ``random_words``: keys and counters are uint32 (n, 4), and equally many."""
    return tuple(_bad_word_calls())


def _bad_word_calls() -> Iterator[BadCallCase]:
    words = np.arange(12, dtype=np.uint32).reshape(3, 4)
    good = {"key": words, "counter": words + 5}
    for name, array in good.items():
        for about, other in wrong_shapes(array):
            call, about = {**good, name: other}, f"{name} with {about}"
            yield BadCallCase("random_words", call, "ShapeError", "", good, about)
        for shape in ((), (0,), (12,), (3, 0), (3, 2, 2), (4, 3)):
            other = np.zeros(shape, np.uint32)
            call, about = {**good, name: other}, f"{name} of shape {shape}"
            yield BadCallCase("random_words", call, "ShapeError", "", good, about)
        for kind in (*_NO_WORDS, *_NO_WORDS_EITHER):
            call, about = {**good, name: array.astype(kind)}, f"{name} of {kind}"
            yield BadCallCase("random_words", call, "DTypeError", name, good, about)
        for value in _NO_ARRAYS:
            call, about = {**good, name: value}, f"{value!r} for {name}"
            yield BadCallCase("random_words", call, "DTypeError", name, good, about)
