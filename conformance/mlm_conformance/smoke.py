"""One good call of each port, before anything is judged.

It separates an adapter that is broken, which is an error of every check on that port, from an
implementation that is wrong, which is a failure of some.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlm_conformance.answer import Answer, Hello
from mlm_conformance.cases.bad import (
    good_head_call,
    good_loss_call,
    good_mask_call,
    good_score_call,
)
from mlm_conformance.cases.masks import SampleRecipe, SampleWordsRecipe
from mlm_conformance.cases.training import SIZES, TrainingRecipe
from mlm_conformance.ports import OPENS
from mlm_conformance.process import Target
from mlm_conformance.replica_session import alone

__all__ = ["Smoke", "smoke"]


@dataclass(frozen=True, slots=True)
class Smoke:
    """What came of the first call of a port.

    Attributes
    ----------
    broken : why it is of no use; "" if it answered.
    fields : the fields of the answer.
    """

    broken: str
    fields: frozenset[str]


def smoke(target: Target, hello: Hello, ports: Collection[str]) -> dict[str, Smoke]:
    """Call each of the ports that is claimed once."""
    found = {}
    for port in (claimed for claimed in hello.claims if claimed in ports):
        answer = target.call(port, **_good_call(port, hello))
        fields = frozenset(name for name, value in answer.fields.items() if value is not None)
        if port in OPENS and answer.kind == "result":
            fields = frozenset(name for name in fields if answer.fields[name])
            target.call("session.close", session=int(answer.fields["session"]))
        found[port] = Smoke(_broken(answer), fields)
    return found


def _broken(answer: Answer) -> str:
    if answer.kind == "result":
        return ""
    if answer.raised is not None:
        last = answer.raised.traceback.strip().splitlines()[-6:]
        return "\n".join([f"{answer.raised.type}: {answer.raised.message}", *last])
    tail = f"\n{answer.output[-2000:]}" if answer.output else ""
    return f"{answer.text}{tail}"


def _good_call(port: str, hello: Hello) -> dict[str, Any]:
    calls: Mapping[str, Callable[[], dict[str, Any]]] = {
        "mask": good_mask_call,
        "mask_step": good_mask_call,
        "score": good_score_call,
        "score_step": lambda: {**good_score_call(), "capacity": 16},
        "head": good_head_call,
        "head_step": lambda: {**good_head_call(), "capacity": 16},
        "loss": lambda: good_loss_call(hello.loss_reduction or ""),
        "head_loss": lambda: _head_loss_call(hello.loss_reduction or ""),
        "sample": _sample_call,
        "sample_words": _sample_words_call,
        "sample_parallel": _sample_parallel_call,
        "random_words": _words_call,
        "policy": lambda: {"fields": good_mask_call()["policy"].to_mapping()},
        "order": lambda: {"position": 3, "number": 4, "count": 5, "seed": 1},
        "raise_for_status": lambda: {"status": 0, "mean": False},
        "session": _session_call,
        "replica_session": lambda: {**_session_call(), **alone()},
        "device_session": lambda: {**_session_call(), "rows": 1, "ids": 1},
    }
    return calls[port]()


def _head_loss_call(reduction: str) -> dict[str, Any]:
    layer, loss = good_head_call(), good_loss_call(reduction)
    call = {name: layer[name] for name in ("hidden", "weight", "bias")}
    return {**call, **{name: loss[name] for name in ("labels", "ignore_index", "num_items")}}


def _sample_call() -> dict[str, Any]:
    return SampleRecipe("3/20", "4/5 1/10 1/10", 0).build(0).arguments()


def _sample_words_call() -> dict[str, Any]:
    """Everything masked: what a masker of words has least reason to refuse."""
    return SampleWordsRecipe("3/20", "1 0 0", 0).build(0).arguments()


def _sample_parallel_call() -> dict[str, Any]:
    call = _sample_call()
    del call["n"]
    return {**call, "epochs": 1, "workers": 1, "ranks": 1}


def _session_call() -> dict[str, Any]:
    """In float32, which nobody refuses."""
    case = TrainingRecipe(SIZES[1], "padded", "one", "none", 0).build(0)
    parameters = {name: array.astype(np.float32) for name, array in case.parameters.items()}
    training = {**case.training, "precision": "float32"}
    about = {"encoder": case.encoder, "training": training, "policy": None}
    return {**about, "parameters": parameters}


def _words_call() -> dict[str, Any]:
    return {"key": np.zeros((1, 4), np.uint32), "counter": np.zeros((1, 4), np.uint32)}
