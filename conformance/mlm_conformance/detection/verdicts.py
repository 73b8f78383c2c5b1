"""Which check of a profile rejects a log-likelihood that is wrong at one vocabulary size only."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

import mlm_spec
from mlm_conformance.detection.wrong import WRONG, Value
from mlm_conformance.outcomes import Outcome
from mlm_conformance.profiles import PROFILES
from mlm_conformance.runner import open_session, plan, run_check
from mlm_spec import ScoreResult

__all__ = ["backend", "first_to_reject", "target"]

Array = NDArray[Any]


def backend(value: Value, vocab_size: int) -> SimpleNamespace:
    """A backend that is right, but for its log-likelihoods at this one size."""

    def score(logits: Array, targets: Array, selected: Array, weights: Array | None) -> Any:
        right = mlm_spec.score(logits, targets, selected, weights)
        if logits.shape[-1] != vocab_size:
            return right
        with np.errstate(all="ignore"):
            values = value(logits[selected], targets[selected]).astype(np.float64)
            share = np.ones(len(values)) if weights is None else weights[selected]
            total = np.float64((share * values).sum())
        nats = np.zeros(targets.shape)
        nats[selected] = values
        return ScoreResult(nats, total, right.count, right.grad_logits)

    return SimpleNamespace(score=score)


def target(name: str, vocab_size: int) -> str:
    """A wrong implementation as ``mlm-spec check`` takes it."""
    return f"{__name__}:{_attribute(name, vocab_size)}"


def first_to_reject(name: str, profile: str = "ci") -> str | None:
    """The first check of chapter LIK that a target fails; None if it passes them all.

    Parameters
    ----------
    name : as `target` gives it.
    """
    session = open_session(name, profile=profile, in_process=True, ports={"score"})
    session.profile = replace(PROFILES[profile], simplify_seconds=0.0)
    try:
        for check in plan(["MLM-LIK"]):
            if run_check(session, check).outcome is Outcome.FAIL:
                return check.id
    finally:
        session.close()
    return None


def _attribute(name: str, vocab_size: int) -> str:
    plain = "".join(letter if letter.isalnum() else "_" for letter in name)
    return f"{plain}_at_{vocab_size}"


def __getattr__(attribute: str) -> SimpleNamespace:
    """Each wrong implementation at each size is a target of its own."""
    start, _, size = attribute.rpartition("_at_")
    for name, value in WRONG.items():
        if size.isdecimal() and attribute == _attribute(name, int(size)):
            return backend(value, int(size))
    raise AttributeError(f"no wrong implementation {start or attribute!r}")
