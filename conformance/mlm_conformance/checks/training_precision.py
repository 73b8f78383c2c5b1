"""Sessions below float64: within what rounding may do, and exact in what it may not touch.

What an update gives at a precision is compared with the reference's result in float64, entry by
entry.  How far it may be off is read from runs of the reference with moved intermediate results
(`mlm_conformance.scatter`): parameters are moved once, as where they are rounded before products,
results of operations by the unit of the narrow dtype and by what a float32 sum may lose, and
AdamW's operands by float32 alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.bounds.arithmetic import gamma
from mlm_conformance.cases.numbers import generator
from mlm_conformance.cases.training import TrainingCase
from mlm_conformance.cases.training_precision import (
    LONG,
    NARROW,
    narrow_recipes,
    overflowing_recipes,
)
from mlm_conformance.check import Context
from mlm_conformance.checks.training_common import equal_names, mark_of, opened, same_state
from mlm_conformance.checks.training_ready import Ready
from mlm_conformance.perturbed import perturbation, unit_of
from mlm_conformance.scatter import RUNS, scatter_of
from mlm_conformance.training_session import Batch, TrainingSession
from mlm_spec.training.batch import TrainingBatch, UpdateStatus
from mlm_spec.training.checkpoint import Checkpoint, write_checkpoint
from mlm_spec.training.optimizer import adamw, clipped, global_norm
from mlm_spec.training.state import TrainingState, initial_state
from mlm_spec.training.update import evaluate, mean_gradients

__all__ = ["READY"]

Array = NDArray[Any]
Arrays = Mapping[str, Array]
Moved = Callable[[Array], Array]

_FLOAT32 = 2.0**-24
_AGE = 1000  # updates of a state whose moments change little with each
_HALVINGS = 40  # more than there are powers of two between the scales


@dataclass(frozen=True, slots=True)
class Moves:
    """How a run of the reference is moved: nothing, or each by its unit.

    Attributes
    ----------
    factor : parameters, before products.
    result : every result of an operation of the encoder.
    update : operands and results of AdamW.
    """

    factor: Moved
    result: Moved
    update: Callable[[Array, float], Array]


def _moves(case: TrainingCase, batches: Sequence[Batch], seed: int | None) -> Moves:
    """Those of a seed; None: nothing moves."""
    if seed is None:
        return Moves(lambda x: x, lambda x: x, lambda x, unit: x)
    narrow = NARROW[case.plan.precision]
    sums = max(unit_of(case.config, TrainingBatch(**b), _FLOAT32) for b in batches)
    toss = perturbation(1.0, 3 * seed + 2)  # to 0 or 2 x
    return Moves(
        perturbation(narrow, 3 * seed) if narrow else (lambda x: x),
        perturbation(narrow + sums, 3 * seed + 1),
        lambda x, unit: x + unit * (toss(x) - x),
    )


def _wide(state: TrainingState) -> TrainingState:
    """The same numbers in float64, so that the reference rounds nothing."""

    def wide(arrays: Arrays) -> dict[str, Array]:
        return {name: x.astype(np.float64) for name, x in arrays.items()}

    return replace(
        state,
        parameters=wide(state.parameters),
        exp_avg=wide(state.exp_avg),
        exp_avg_sq=wide(state.exp_avg_sq),
    )


def _gradients(case: TrainingCase, state: TrainingState, batches: Any, moves: Moves) -> Any:
    """Sum, count and mean gradients, with factors and results moved."""
    factors = {name: moves.factor(p) for name, p in state.parameters.items()}
    at = replace(state, parameters=factors)
    return mean_gradients(at, batches, case.config, case.plan, rounded=moves.result)


def _next(
    case: TrainingCase, state: TrainingState, batches: Any, moves: Moves
) -> tuple[TrainingState, float, float]:
    """The state after an update, the loss before, and the norm of its gradient."""
    plan, n, few = case.plan, state.update + 1, gamma(4, _FLOAT32)
    found = _gradients(case, state, batches, moves)
    norm = global_norm(found.gradients)
    direction = clipped(found.gradients, norm, plan.max_grad_norm)
    old = ((name, getattr(state, name)) for name in ("exp_avg", "exp_avg_sq"))
    held = {g: {n: moves.update(x, few) for n, x in arrays.items()} for g, arrays in old}
    near = {name: moves.update(g, few) for name, g in direction.items()}
    new = adamw(state.parameters, near, held["exp_avg"], held["exp_avg_sq"], n, plan)
    # 1 − βⁿ in float32 is off by a unit of 1, and the step by that share.
    step = 2 * few + sum(_FLOAT32 / (1.0 - beta**n) for beta in (plan.beta1, plan.beta2))
    theta = {
        name: moves.update(p + moves.update(new.parameters[name] - p, step), few)
        for name, p in state.parameters.items()
    }
    after = TrainingState(theta, new.exp_avg, new.exp_avg_sq, n)
    return after, float(-found.sum / found.count), float(norm)


def _start(case: TrainingCase) -> TrainingState:
    return initial_state(case.parameters, case.config, case.plan)


def _flat(**groups: Any) -> dict[str, Array]:
    """Arrays by names like ``"gradient of cls.predictions.bias"``."""
    found: dict[str, Array] = {}
    for group, arrays in groups.items():
        found |= {f"{group} of {name}": np.asarray(x) for name, x in arrays.items()}
    return found


def _within(
    context: Context, seen: Arrays, name: str, case: TrainingCase, run: Callable[[int | None], Any]
) -> None:
    """Every entry of every result lies within its scatter."""
    wanted = scatter_of((name, mark_of(case)), run)
    equal_names(context, "results", seen, wanted.still)
    about = f"{wanted.factor:.3g} spreads of {RUNS} moved runs"
    for name, still in wanted.still.items():
        context.within(name, seen[name], still, wanted.limit(name), about)
        context.saw("entries", still.size)


def losses_and_gradients_scatter_no_more_than_rounding(
    context: Context, case: TrainingCase
) -> None:
    batches, start = case.updates[0], _wide(_start(case))

    def run(seed: int | None) -> dict[str, Array]:
        moves = _moves(case, batches, seed)
        found = _gradients(case, start, batches, moves)
        return {"sum": found.sum, **_flat(gradient=found.gradients)}

    with opened(context, case) as session:
        found = session.gradients(batches)
    seen = {"sum": found["sum"], **_flat(gradient=found["gradients"])}
    _within(context, seen, "gradients", case, run)


def a_long_sum_keeps_its_digits(context: Context, case: TrainingCase) -> None:
    """The log-likelihoods of many positions are added up in float32 at least."""
    batches, start = case.updates[0], _wide(_start(case))

    def run(seed: int | None) -> dict[str, Any]:
        moves = _moves(case, batches, seed)
        factors = {name: moves.factor(p) for name, p in start.parameters.items()}
        found = evaluate(factors, batches, case.config, case.plan, rounded=moves.result)
        return {"sum": found.sum}

    with opened(context, case) as session:
        found = session.evaluate(batches)
    context.saw("terms", int(found["count"]))
    _within(context, {"sum": found["sum"]}, "sum", case, run)


def a_run_scatters_no_more_than_rounding(context: Context, case: TrainingCase) -> None:
    """The losses and norms of a few updates, and the parameters after them."""

    def run(seed: int | None) -> dict[str, Any]:
        state, losses, norms = _wide(_start(case)), {}, {}
        for number, batches in enumerate(case.updates):
            # Each update is rounded anew.
            own = None if seed is None else seed * len(case.updates) + number
            moves, name = _moves(case, batches, own), str(number + 1)
            state, losses[name], norms[name] = _next(case, state, batches, moves)
        return _flat(loss=losses, norm=norms, parameter=state.parameters)

    with opened(context, case) as session:
        reports = [_made(context, case, session, batches) for batches in case.updates]
        losses, norms = (
            {str(n): report[name] for n, report in enumerate(reports, 1)}
            for name in ("loss", "norm")
        )
        seen = _flat(loss=losses, norm=norms, parameter=session.parameters())
    _within(context, seen, "run", case, run)


def _made(
    context: Context, case: TrainingCase, session: TrainingSession, batches: Sequence[Batch]
) -> Mapping[str, Any]:
    """The report of an update.  In float16 it may take a smaller scale first, which changes nothing
    but that."""
    tries = _HALVINGS if case.plan.precision == "float16" else 1
    for _ in range(tries):
        report = session.step(batches)
        if int(report["status"]) != UpdateStatus.NOT_FINITE:
            break
    context.equal("status", report["status"], int(UpdateStatus.OK))
    return report


def what_is_kept_is_kept_in_float32(context: Context, case: TrainingCase) -> None:
    """From a state of large moments an update changes all of it by little: too little for a
    narrow dtype, which holds 3 digits."""
    batches, start = case.updates[0], _aged(case)

    def run(seed: int | None) -> dict[str, Array]:
        state, _, _ = _next(case, _wide(start), batches, _moves(case, batches, seed))
        return _flat(parameter=state.parameters, exp_avg=state.exp_avg, exp_avg_sq=state.exp_avg_sq)

    with opened(context, case) as session, TemporaryDirectory(prefix="mlm-spec-") as folder:
        _load(case, session, start, Path(folder) / "aged.safetensors")
        loaded = {n: getattr(start, n) for n in ("exp_avg", "exp_avg_sq", "update", "loss_scale")}
        same_state(context, session, (start.parameters, loaded), "after loading")
        report = _made(context, case, session, batches)
        context.equal("update", report["update"], _AGE + 1)
        state = session.state()
        moments = {name: state[name] for name in ("exp_avg", "exp_avg_sq")}
        seen = _flat(parameter=session.parameters(), **moments)
    _within(context, seen, "aged", case, run)


def _aged(case: TrainingCase) -> TrainingState:
    """A state with moments ten times those of its gradients, and as many updates."""
    rng, start = generator(case.salt, 47), _start(case)
    found = mean_gradients(start, case.updates[0], case.config, case.plan)
    root = {n: np.sqrt(np.mean(np.square(g))) + 1e-3 for n, g in found.gradients.items()}
    shapes = {name: p.shape for name, p in start.parameters.items()}
    first = {n: 10.0 * root[n] * rng.normal(size=s) for n, s in shapes.items()}
    second = {n: np.square(10.0 * root[n] * rng.uniform(1, 2, s)) for n, s in shapes.items()}

    def kept(moments: Arrays) -> dict[str, Array]:
        return {name: x.astype(np.float32) for name, x in moments.items()}

    return replace(start, exp_avg=kept(first), exp_avg_sq=kept(second), update=_AGE)


def _load(case: TrainingCase, session: TrainingSession, state: TrainingState, path: Path) -> None:
    write_checkpoint(path, Checkpoint(state, case.config, case.plan, None))
    session.load(path)


def an_overflow_halves_the_scale(context: Context, case: TrainingCase) -> None:
    """…and changes nothing else, until an update succeeds at the scale that was found."""
    with opened(context, case) as session:
        context.equal("loss_scale at the start", session.state()["loss_scale"], 2.0**16)
        for _ in range(_HALVINGS):
            before = session.parameters(), session.state()
            report = session.step(case.updates[0])
            if int(report["status"]) != UpdateStatus.NOT_FINITE:
                break
            context.saw("overflows")
            wanted = {**before[1], "loss_scale": np.float64(before[1]["loss_scale"]) / 2.0}
            same_state(context, session, (before[0], wanted), "after an overflow")
            context.equal("update after an overflow", report["update"], before[1]["update"])
        context.equal("status at last", report["status"], int(UpdateStatus.OK))
        context.equal("update at last", report["update"], 1)
        scale = session.state()["loss_scale"]
        context.equal("loss_scale after an update", scale, before[1]["loss_scale"])
        for name, parameter in session.parameters().items():
            context.require(np.isfinite(parameter).all(), f"{name} is not finite")


_ALL = narrow_recipes(precisions=tuple(NARROW))
_ONE, _FEW = narrow_recipes(), narrow_recipes(updates=2)
_MANY = narrow_recipes(rows=LONG)
_ENTRIES = ("entries",)

READY = (
    Ready(losses_and_gradients_scatter_no_more_than_rounding, _ALL, _ENTRIES),
    Ready(a_long_sum_keeps_its_digits, _MANY, ("entries", "terms"), "evaluate"),
    Ready(a_run_scatters_no_more_than_rounding, _FEW, _ENTRIES, "step"),
    Ready(what_is_kept_is_kept_in_float32, _ONE, _ENTRIES, "load"),
    Ready(an_overflow_halves_the_scale, overflowing_recipes(), ("overflows",), theorem=True),
)
