"""What checks of sessions share: an open session of a case, and what it should answer."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from contextlib import AbstractContextManager
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.cases.training import TrainingCase
from mlm_conformance.check import Context, Violation
from mlm_conformance.oracle import remembering
from mlm_conformance.training import Ball, Objective, Updated, evaluated, objective, updated
from mlm_conformance.training_session import TrainingSession, training_session
from mlm_spec import MaskingPolicy
from mlm_spec.training.config import EncoderConfig, TrainingConfig

__all__ = [
    "equal_names",
    "equal_shapes",
    "evaluation_of",
    "mark_of",
    "opened",
    "same_run",
    "same_state",
    "seen_in",
    "truth_of",
    "update_of",
    "within_ball",
    "within_balls",
]

Array = NDArray[Any]
Arrays = Mapping[str, Array]
Batches = Sequence[Mapping[str, Array]]


def opened(
    context: Context,
    case: TrainingCase,
    policy: MaskingPolicy | None = None,
    devices: tuple[int, int] | None = None,
) -> AbstractContextManager[TrainingSession]:
    """A session at the start of the case; ``devices``: on so many (`training_session`)."""
    about = (case.encoder, case.training, case.parameters, policy, devices)
    return training_session(context, *about)


def seen_in(context: Context, case: TrainingCase, batches: Batches) -> None:
    """Count what a case has."""
    context.saw("selected", sum(int(b["selected"].sum()) for b in batches))
    context.saw("padding", sum(int((~b["attention_mask"]).sum()) for b in batches))
    context.saw("layers", case.config.num_hidden_layers)
    context.saw("micro-batches", len(batches) - 1)
    context.saw("dropout", bool(Fraction(case.config.hidden_dropout)))
    context.saw("attention dropout", bool(Fraction(case.config.attention_dropout)))


def truth_of(
    case: TrainingCase, batches: Batches, update: int = 1, parameters: Arrays | None = None
) -> Objective:
    """Sum, count and gradients of an update from these parameters, those of the start if none."""
    start = case.parameters if parameters is None else parameters
    about = {"config": case.config, "seed": case.plan.seed, "update": update}
    return _objective(parameters=_One(start), batches=_frozen(batches), **about)


def update_of(
    case: TrainingCase, batches: Batches, update: int, parameters: Arrays, state: Mapping[str, Any]
) -> tuple[Objective, Updated]:
    """`truth_of` an update, and what it leaves of these parameters and the moments of a state."""
    moments = {name: _One(state[name]) for name in ("exp_avg", "exp_avg_sq")}
    about = {"config": case.config, "plan": case.plan, "update": update}
    return _updated(parameters=_One(parameters), **moments, batches=_frozen(batches), **about)


def evaluation_of(
    case: TrainingCase, batches: Batches, parameters: Arrays | None = None
) -> Objective:
    """Sum and count without dropout."""
    start = case.parameters if parameters is None else parameters
    return _evaluated(config=case.config, parameters=_One(start), batches=_frozen(batches))


def within_ball(context: Context, what: str, seen: Array, ball: Ball) -> None:
    """A number, or an array of them, lies in its balls."""
    context.within(what, seen, ball.value, ball.radius, "any-order bound of the update")


def within_balls(context: Context, what: str, seen: Arrays, balls: Mapping[str, Ball]) -> None:
    """Arrays by name, all of them, lie in their balls."""
    equal_names(context, what, seen, balls)
    for name, ball in balls.items():
        within_ball(context, f"{what} of {name}", seen[name], ball)


def equal_names(
    context: Context, what: str, seen: Mapping[str, Any], wanted: Mapping[str, Any]
) -> None:
    """Every parameter has an entry, and nothing else has."""
    missing, unknown = sorted(set(wanted) - set(seen)), sorted(set(seen) - set(wanted))
    context.require(not missing, f"{what}: {', '.join(missing)} missing")
    context.require(not unknown, f"{what}: unknown {', '.join(unknown)}")


def equal_shapes(context: Context, what: str, seen: Arrays, wanted: Arrays) -> None:
    """Every parameter has an array of its shape, and nothing else has."""
    equal_names(context, what, seen, wanted)
    for name, array in wanted.items():
        found = seen[name].shape
        said = f"{what} of {name} has shape {found}, should be {array.shape}"
        context.require(found == array.shape, said)


def same_state(
    context: Context, session: TrainingSession, before: tuple[Arrays, Mapping[str, Any]], when: str
) -> None:
    """Parameters and optimiser state are, bit for bit, what they were."""
    _same_state(context, session, before, when)


def _same_state(
    context: Context, session: TrainingSession, before: tuple[Arrays, Mapping[str, Any]], when: str
) -> Mapping[str, Any]:
    """`same_state`; the state now."""
    parameters, state = before
    now, later = session.parameters(), session.state()
    _same(context, f"parameters {when}", now, parameters)
    for name in ("exp_avg", "exp_avg_sq"):
        _same(context, f"{name} {when}", later[name], state[name])
    for name in ("update", "loss_scale"):
        context.equal(f"{name} {when}", later[name], state[name])
    return later


def same_run(
    context: Context, session: TrainingSession, before: tuple[Arrays, Mapping[str, Any]], when: str
) -> None:
    """As `same_state`, and as many sequences have been consumed, where both say how many."""
    now = _same_state(context, session, before, when)
    if "position" in before[1] and "position" in now:
        context.equal(f"position {when}", now["position"], before[1]["position"])


def _same(context: Context, what: str, seen: Arrays, wanted: Arrays) -> None:
    equal_names(context, what, seen, wanted)
    for name, array in wanted.items():
        if seen[name].dtype != array.dtype:
            raise Violation(f"{what}: {name} has dtype {seen[name].dtype}, should be {array.dtype}")
        context.equal(f"{name} of {what}", seen[name], array)


class _One:
    """Arrays that are one argument, told apart by what is in them."""

    __slots__ = ("arrays", "mark")

    def __init__(self, arrays: Mapping[str, Any]) -> None:
        self.arrays = {name: np.asarray(array) for name, array in arrays.items()}
        parts = ((n, a.dtype.name, a.shape, a.tobytes()) for n, a in self.arrays.items())
        self.mark = tuple(parts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _One) and self.mark == other.mark

    def __hash__(self) -> int:
        return hash(self.mark)


def mark_of(case: TrainingCase) -> Hashable:
    """What tells cases apart."""
    about = tuple(tuple(sorted(plain.items())) for plain in (case.encoder, case.training))
    updates = tuple(_frozen(batches) for batches in case.updates)
    return about, _One(case.parameters), updates, case.salt


def _frozen(batches: Batches) -> tuple[_One, ...]:
    return tuple(_One(batch) for batch in batches)


def _objective_of(
    config: EncoderConfig, parameters: _One, batches: tuple[_One, ...], seed: int, update: int
) -> Objective:
    return objective(config, parameters.arrays, [b.arrays for b in batches], seed, update)


def _evaluated_of(config: EncoderConfig, parameters: _One, batches: tuple[_One, ...]) -> Objective:
    return evaluated(config, parameters.arrays, [b.arrays for b in batches])


def _updated_of(
    config: EncoderConfig,
    plan: TrainingConfig,
    parameters: _One,
    exp_avg: _One,
    exp_avg_sq: _One,
    batches: tuple[_One, ...],
    update: int,
) -> tuple[Objective, Updated]:
    about = {"config": config, "seed": plan.seed, "update": update}
    truth = _objective(parameters=parameters, batches=batches, **about)
    before = parameters.arrays, exp_avg.arrays, exp_avg_sq.arrays
    return truth, updated(plan, *before, truth.gradients, update)


#: So many, since targets that are right but for one thing ask for the same one after another.
_KEPT = 256
#: Several checks, and several rearrangements of one batch, ask for the same.
_objective, _evaluated = remembering(_objective_of, _KEPT), remembering(_evaluated_of, _KEPT)
_updated = remembering(_updated_of, _KEPT)
