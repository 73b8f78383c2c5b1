"""Targets with a session: a straight line that moves by one with each update, and some that err."""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np


class Line:
    """A session whose parameter ``line`` of three numbers grows by one with each update."""

    def __init__(self, parameters: dict[str, Any]) -> None:
        self.line = parameters["line"]
        self.update = 0

    def evaluate(self, batches: list[dict[str, Any]]) -> dict[str, Any]:
        return {"sum": -1.0, "count": sum(int(b["selected"].sum()) for b in batches)}

    def gradients(self, batches: list[dict[str, Any]]) -> dict[str, Any]:
        return {**self.evaluate(batches), "gradients": {"line": np.full(3, float(self.update))}}

    def step(self, batches: list[dict[str, Any]]) -> tuple[Any, ...]:
        self.update += 1
        self.line = self.line + 1.0
        return (0.5, self.evaluate(batches)["count"], 2.0, 0.1, 0, self.update)

    def parameters(self) -> dict[str, Any]:
        return {"line": self.line}

    def state(self) -> dict[str, Any]:
        zeros = {"line": np.zeros(3)}
        return {"update": self.update, "exp_avg": zeros, "exp_avg_sq": zeros, "loss_scale": 1.0}

    def save(self, path: str) -> None:
        np.savez(path, line=self.line, update=self.update)

    def load(self, path: str) -> None:
        with np.load(path) as kept:
            self.line, self.update = kept["line"], int(kept["update"])


class Target:
    """A session of each kind, by the name in its configuration."""

    def session(self, encoder: Any, training: Any, parameters: Any, policy: Any) -> Any:
        return KINDS[encoder["kind"]](parameters)


class Evaluating:
    """It can evaluate, and no more."""

    def __init__(self, parameters: dict[str, Any]) -> None:
        del parameters

    def evaluate(self, batches: list[dict[str, Any]]) -> dict[str, Any]:
        return {"sum": -1.0, "count": len(batches)}


class Misbehaving:
    """What a session may do wrong; ``mode`` is the first token of the first batch."""

    def __init__(self, parameters: dict[str, Any]) -> None:
        del parameters

    def step(self, batches: list[dict[str, Any]]) -> Any:
        mode = int(batches[0]["inputs"][0, 0])
        if mode == 0:
            time.sleep(3600)
        if mode == 1:
            os._exit(7)
        if mode == 2:
            return {"loss": 1.0}
        if mode == 3:
            batches[0]["inputs"][0, 0] = 9
        raise RuntimeError("a step that fails")

    def gradients(self, batches: list[dict[str, Any]]) -> Any:
        mode = int(batches[0]["inputs"][0, 0])
        wrong = (None, [1.0], {"line": None}, {3: np.zeros(1)}, {"line": object()})
        return {"sum": 0.0, "count": 1, "gradients": wrong[mode]}

    def parameters(self) -> Any:
        return [("line", np.zeros(3))]


def nothing(parameters: dict[str, Any]) -> object:
    return object()


def refused(parameters: dict[str, Any]) -> object:
    raise NotImplementedError("no such precision")


KINDS = {
    "line": Line,
    "evaluating": Evaluating,
    "misbehaving": Misbehaving,
    "nothing": nothing,
    "refused": refused,
}
