"""Sessions: updates that are not finite, and the loss scale that follows from them.

Each starts from a state that is loaded: its number of updates, its scale and its moments are those
that a rule is about, and no run has to get there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.cases.numbers import generator
from mlm_conformance.cases.training import SIZES, TrainingCase, training_recipes
from mlm_conformance.cases.training_plans import planned
from mlm_conformance.cases.training_precision import narrow_recipes
from mlm_conformance.check import Context
from mlm_conformance.checks.training_common import opened, same_state
from mlm_conformance.checks.training_ready import Ready
from mlm_conformance.training_session import TrainingSession
from mlm_spec.training.batch import UpdateStatus
from mlm_spec.training.checkpoint import Checkpoint, write_checkpoint
from mlm_spec.training.state import TrainingState, initial_state

__all__ = ["READY"]

Arrays = Mapping[str, NDArray[Any]]

_WORDS = "bert.embeddings.word_embeddings.weight"
_BIAS = "cls.predictions.bias"
_NORM = "cls.predictions.transform.LayerNorm"
#: By precision: what overflows when it is multiplied by ten, and what does when it is squared.
_LARGE = {"float64": (1e308, 1e170), "float32": (3e38, 1e25), "bfloat16": (3e38, 1e25)}
_TOP = 2.0**32


def an_update_that_is_not_finite_changes_nothing(context: Context, case: TrainingCase) -> None:
    """Logits that overflow; and gradients that do not, whose squares do."""
    for loud in _overflowing(case):
        with opened(context, loud) as session:
            if "load" in session.has:
                _load(loud, session, _run_in(loud, loud.parameters, 3, 1.0))
            before = session.parameters(), session.state()
            report = session.step(loud.updates[0])
            context.equal("status", report["status"], int(UpdateStatus.NOT_FINITE))
            context.equal("update", report["update"], before[1]["update"])
            for name in report.keys() & {"norm", "learning_rate"}:
                context.equal(name, report[name], 0.0)
            same_state(context, session, before, "after an update that is not finite")
            context.saw("updates that are not finite")


def what_is_no_number_is_no_sum(context: Context, case: TrainingCase) -> None:
    """Logits that overflow: an error for whoever evaluates, or asks for gradients."""
    loud, _ = _overflowing(case)
    with opened(context, loud) as session:
        for name in ("evaluate", "gradients"):
            if name not in session.has:
                continue
            answer = session.answer(name, batches=[dict(b) for b in loud.updates[0]])
            context.saw("calls")
            raised = answer.raised
            said = "a sum" if raised is None else raised.type
            known = raised is not None and "NotFiniteError" in raised.classes
            context.require(known, f"{name} of infinite logits gave {said}, not NotFiniteError")


def _overflowing(case: TrainingCase) -> tuple[TrainingCase, TrainingCase]:
    """Logits are infinite; the gradient of the output layer is about its square's root."""
    bias, gain = _LARGE[case.plan.precision]
    theta = case.parameters
    infinite = {_NORM + ".bias": theta[_NORM + ".bias"] + bias, _WORDS: theta[_WORDS] + 10.0}
    large = {_NORM + ".weight": theta[_NORM + ".weight"] * gain}
    return (
        replace(case, parameters={**theta, **infinite}),
        replace(case, parameters={**theta, **large}),
    )


def the_scale_doubles_with_every_2000th_update(context: Context, case: TrainingCase) -> None:
    """Whoever made the 1999 before it; up to 2³² and no further."""
    training = {**case.training, "total_updates": 9000}
    long, certain = replace(case, training=training), _certain(case)
    with opened(context, long) as session:
        for n in (1999, 2000, 2001, 4000):
            _load(long, session, _run_in(long, long.parameters, n - 1, 2.0**10))
            wanted = 2.0**11 if n % 2000 == 0 else 2.0**10
            _scale_after(context, session, case.updates[0], n, wanted)
            context.saw("doublings", wanted == 2.0**11)
        for scale in (_TOP / 2, _TOP):
            _load(long, session, _run_in(long, certain.parameters, 1999, scale))
            _scale_after(context, session, certain.updates[0], 2000, _TOP)


def _certain(case: TrainingCase) -> TrainingCase:
    """One token is right everywhere, and sure: no gradient, which no scale makes overflow."""
    bias = case.parameters[_BIAS].copy()
    bias[5] = 1000.0
    first = [{**b, "targets": np.full_like(b["targets"], 5)} for b in case.updates[0]]
    return replace(case, parameters={**case.parameters, _BIAS: bias}, updates=[first])


def the_scale_is_never_below_1(context: Context, case: TrainingCase) -> None:
    """An overflow at 2 halves it, and one at 1 does not: gradients that no float16 holds."""
    gain = _NORM + ".weight"
    loud = {**case.parameters, gain: case.parameters[gain] * 1e9}
    with opened(context, case) as session:
        for scale in (2.0, 1.0):
            _load(case, session, _run_in(case, loud, 3, scale))
            report = session.step(case.updates[0])
            context.equal("status", report["status"], int(UpdateStatus.NOT_FINITE))
            context.equal(f"loss_scale after {scale:g}", session.state()["loss_scale"], 1.0)
            context.saw("overflows")


def _scale_after(
    context: Context, session: TrainingSession, batches: Any, n: int, wanted: float
) -> None:
    report = session.step(batches)
    context.equal(f"status of update {n}", report["status"], int(UpdateStatus.OK))
    context.equal("update", report["update"], n)
    context.equal(f"loss_scale after update {n}", session.state()["loss_scale"], wanted)


def _run_in(case: TrainingCase, parameters: Arrays, update: int, scale: float) -> TrainingState:
    """A state that so many updates have made, with moments that are not 0."""
    rng, start = generator(case.salt, 50), initial_state(parameters, case.config, case.plan)

    def moment() -> dict[str, NDArray[Any]]:
        kept = start.parameters.items()
        return {name: rng.uniform(0.1, 1.0, p.shape).astype(p.dtype) for name, p in kept}

    return replace(start, exp_avg=moment(), exp_avg_sq=moment(), update=update, loss_scale=scale)


def _load(case: TrainingCase, session: TrainingSession, state: TrainingState) -> None:
    with TemporaryDirectory(prefix="mlm-spec-") as folder:
        path = Path(folder) / "state.safetensors"
        write_checkpoint(path, Checkpoint(state, case.config, case.plan, None))
        session.load(path)


_HALF = narrow_recipes(updates=2, precisions=("float16",))
_PLAIN = training_recipes(("padded",), ("even",), ("none",), SIZES[:1])
_EACH = (None, tuple(planned(_PLAIN, precision=name)[1][0] for name in _LARGE))
#: At float64: what overflows a narrower precision is a number to who computes wider.
_WIDE = training_recipes(("packed", "padded"), ("uneven", "one of none"), ("none",), SIZES[1:2])

READY = (
    Ready(
        an_update_that_is_not_finite_changes_nothing,
        _EACH,
        ("updates that are not finite",),
        "step",
        theorem=True,
    ),
    Ready(what_is_no_number_is_no_sum, _WIDE, ("calls",), "evaluate", theorem=True),
    Ready(the_scale_doubles_with_every_2000th_update, _HALF, ("doublings",), "load", theorem=True),
    Ready(the_scale_is_never_below_1, _HALF, ("overflows",), "load", theorem=True),
)
