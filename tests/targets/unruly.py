"""Backends that go wrong as a whole, for the tests of the runner: each is a target."""

from __future__ import annotations

import os
import sys
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
from mlm_conformance.mutants.correct import CORRECT

from mlm_spec import port


def _score_of(wrong: Any) -> Any:
    """A target with ``score`` alone, which goes wrong from its second call on."""
    calls = iter(range(10**9))

    def score(logits: Any, targets: Any, selected: Any, weights: Any) -> Any:
        right = port.score(logits, targets, selected, weights)
        return right if next(calls) == 0 else wrong(right)

    return SimpleNamespace(score=score)


def _sleep(right: Any) -> Any:
    time.sleep(3600)


def _leave(right: Any) -> Any:
    os._exit(7)


def _raise(right: Any) -> Any:
    raise RuntimeError("no score today")


def _babble(right: Any) -> Any:
    while True:
        sys.stdout.write("babble\n" * 1000)


def sleeps() -> Any:
    return _score_of(_sleep)


def leaves() -> Any:
    return _score_of(_leave)


def raises() -> Any:
    return _score_of(_raise)


def babbles() -> Any:
    return _score_of(_babble)


def wrong_shape() -> Any:
    return _score_of(lambda right: right._replace(log_likelihood=right.log_likelihood[..., None]))


def wrong_dtype() -> Any:
    return _score_of(lambda right: right._replace(sum=np.asarray(right.sum, np.float16)))


def not_an_array() -> Any:
    return _score_of(lambda right: right._replace(log_likelihood="none"))


def first_answer_forever() -> Any:
    kept: list[Any] = []

    def score(logits: Any, targets: Any, selected: Any, weights: Any) -> Any:
        kept.append(port.score(logits, targets, selected, weights))
        return kept[0]

    return SimpleNamespace(score=score)


def always_raises() -> Any:
    return SimpleNamespace(score=_raise)


def moody() -> Any:
    """Right and wrong in turn."""
    calls = iter(range(10**9))

    def score(logits: Any, targets: Any, selected: Any, weights: Any) -> Any:
        right = port.score(logits, targets, selected, weights)
        return right if next(calls) % 2 else right._replace(sum=right.sum + 1.0)

    return SimpleNamespace(score=score)


def _layer(*kept: str) -> Any:
    """A right ``head_loss`` with some of its results."""

    def head_loss(**call: Any) -> Any:
        result = CORRECT["mean"].head_loss(**call)
        return {name: result[name] for name in ("loss", *kept)}

    return SimpleNamespace(head_loss=head_loss, loss_reduction="mean")


loss_of_a_layer_alone = _layer()
loss_of_a_layer_and_one_gradient = _layer("grad_weight")


def no_ports() -> Any:
    return SimpleNamespace(name="nothing")
