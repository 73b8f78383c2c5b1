"""Sessions: what an update does to parameters and optimiser state, and what it reports.

A run is judged one update at a time, each from what the target itself had before it: so no error
of one update hides in the bound of a later one, and entries whose true gradient is 0 cause no
trouble, though AdamW makes full steps of their noise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mlm_conformance.cases.numbers import generator
from mlm_conformance.cases.training import SIZES, TrainingCase, training_recipes
from mlm_conformance.cases.training_batches import resplit
from mlm_conformance.check import Context
from mlm_conformance.checks.training_common import (
    opened,
    same_state,
    seen_in,
    truth_of,
    within_ball,
    within_balls,
)
from mlm_conformance.checks.training_ready import Ready
from mlm_conformance.training import Objective, Updated, learning_rate, updated
from mlm_conformance.training_session import Batch, TrainingSession
from mlm_spec.training.batch import UpdateStatus

__all__ = ["READY", "judged_step"]

_FIRST = ("parameters", "moments", "report")


def judged_step(
    context: Context,
    case: TrainingCase,
    session: TrainingSession,
    batches: Sequence[Batch],
    alike: Sequence[Batch] | None = None,
    parts: Sequence[str] = _FIRST,
) -> Updated:
    """One update, judged by the state that the session has before it.

    Parameters
    ----------
    batches : the micro-batches of the update.
    alike : others that make the same update, from which it is computed here; None: these.
    parts : what is compared, of ``"parameters"``, ``"moments"`` and ``"report"``.
    """
    parameters, state = session.parameters(), session.state()
    n = int(state["update"]) + 1
    wide = {name: np.asarray(p, np.float64) for name, p in parameters.items()}
    truth = truth_of(case, batches if alike is None else alike, n, wide)
    moments = state["exp_avg"], state["exp_avg_sq"]
    wanted = updated(case.plan, wide, *moments, truth.gradients, n)
    report = session.step(batches)
    context.saw("updates")
    context.saw("clipped", float(wanted.norm.value) > (case.plan.max_grad_norm or np.inf))
    if "report" in parts:
        _report_within(context, report, truth, wanted, n)
    if "parameters" in parts:
        within_balls(context, f"update {n}", session.parameters(), wanted.parameters)
    if "moments" in parts:
        _moments_within(context, session, wanted, n)
    return wanted


def _report_within(
    context: Context, report: Mapping[str, Any], truth: Objective, wanted: Updated, n: int
) -> None:
    for name, value in (("count", truth.count), ("status", UpdateStatus.OK), ("update", n)):
        context.equal(name, report[name], int(value))
    context.require("loss" in report and "norm" in report, "an update without its loss or norm")
    loss = truth.sum.value / -truth.count
    # The division rounds once here and once there.
    limit = truth.sum.radius / truth.count + abs(loss) * 2.0**-51
    context.within("loss", report["loss"], loss, limit)
    within_ball(context, "norm", report["norm"], wanted.norm)
    within_ball(context, "learning_rate", report["learning_rate"], wanted.learning_rate)


def _moments_within(context: Context, session: TrainingSession, wanted: Updated, n: int) -> None:
    state = session.state()
    context.equal("update of the state", state["update"], n)
    for name in ("exp_avg", "exp_avg_sq"):
        within_balls(context, f"{name} after update {n}", state[name], getattr(wanted, name))


def the_first_update_is_that_of_adamw(context: Context, case: TrainingCase) -> None:
    seen_in(context, case, case.updates[0])
    with opened(context, case) as session:
        judged_step(context, case, session, case.updates[0], parts=("parameters",))


def clipping_leaves_small_gradients(context: Context, case: TrainingCase) -> None:
    """Gradients whose norm is below the limit are not scaled up to it."""
    with opened(context, case) as session:
        wanted = judged_step(context, case, session, case.updates[0], parts=("moments",))
    context.saw("small gradients", float(wanted.norm.value) < (case.plan.max_grad_norm or 0.0))


def moments_follow_their_averages(context: Context, case: TrainingCase) -> None:
    with opened(context, case) as session:
        for batches in case.updates:
            judged_step(context, case, session, batches, parts=("moments",))


def twenty_updates_follow_one_by_one(context: Context, case: TrainingCase) -> None:
    """Warm-up and decay, bias correction, and other units dropped in each."""
    seen_in(context, case, case.updates[0])
    with opened(context, case) as session:
        for batches in case.updates:
            judged_step(context, case, session, batches, parts=("parameters",))


def an_update_reports_what_it_did(context: Context, case: TrainingCase) -> None:
    """Loss, count, the norm before clipping, learning rate, status and number."""
    with opened(context, case) as session:
        for batches in case.updates:
            judged_step(context, case, session, batches, parts=("report",))


def the_learning_rate_follows_its_plan(context: Context, case: TrainingCase) -> None:
    """Every update of a short plan, its first and last among them; then, of a line, an error."""
    training = {**case.training, "warmup_updates": 2, "total_updates": 5}
    short = replace(case, training=training)
    with opened(context, short) as session:
        for n in range(1, 6):
            report = session.step(case.updates[0])
            rate = learning_rate(short.plan, n)
            within_ball(context, f"learning_rate of update {n}", report["learning_rate"], rate)
        if short.plan.schedule == "linear":
            before = session.parameters(), session.state()
            answer = session.answer("step", batches=[dict(b) for b in case.updates[0]])
            context.require(answer.kind == "raised", "an update past the last one of its plan")
            same_state(context, session, before, "after an update that the plan has not")
            context.saw("plans that ended")


def the_split_of_an_update_does_not_matter(context: Context, case: TrainingCase) -> None:
    batches = case.updates[0]
    rows = sum(len(b["inputs"]) for b in batches)
    for parts in (1, rows):
        others = resplit(batches, parts)
        context.saw("splits", len(others) != len(batches))
        with opened(context, case) as session:
            judged_step(context, case, session, others, batches, ("report", "parameters"))


def an_update_of_nothing_changes_nothing(context: Context, case: TrainingCase) -> None:
    """Neither parameters nor moments, nor the number of updates; the next one is as if it had not
    been."""
    empty = [{**b, "selected": np.zeros_like(b["selected"])} for b in case.updates[0]]
    with opened(context, case) as session:
        session.step(case.updates[0])
        before = session.parameters(), session.state()
        report = session.step(empty)
        context.saw("empty updates")
        context.equal("status of nothing", report["status"], int(UpdateStatus.EMPTY))
        context.equal("count of nothing", report["count"], 0)
        same_state(context, session, before, "after an update of nothing")
        for name, value in report.items():
            context.require(np.isfinite(value).all(), f"{name} of nothing is {value}")
        judged_step(context, case, session, case.updates[0], parts=("parameters",))


def vectors_do_not_decay(context: Context, case: TrainingCase) -> None:
    """Matrices do, embeddings among them: with so large a decay that it outweighs the step."""
    heavy = replace(case, training={**case.training, "weight_decay": 50.0})
    with opened(context, heavy) as session:
        wanted = judged_step(context, heavy, session, case.updates[0], parts=("parameters",))
    context.saw("vectors", sum(b.value.ndim == 1 for b in wanted.parameters.values()))


def a_session_keeps_its_own_parameters(context: Context, case: TrainingCase) -> None:
    """What it was given, and what it gave out, does not change with it; nor it with that."""
    rng = generator(case.salt, 43)
    with opened(context, case) as one, opened(context, case) as other:
        before = other.parameters(), other.state()
        one.step(case.updates[0])
        same_state(context, other, before, "of another session")
        name = sorted(before[0])[int(rng.integers(len(before[0])))]
        context.equal(f"{name} at the start", before[0][name], case.parameters[name])
        context.saw("sessions", 2)


_FEW = training_recipes(dropouts=("none", "hidden"), updates=3)
_CLIPPED = training_recipes(dropouts=("none",), max_grad_norm=0.5)
_FREE = training_recipes(dropouts=("none", "hidden"), max_grad_norm=None)
_SMALL = training_recipes(dropouts=("none",), sizes=SIZES[:2])
_RUNS = training_recipes(dropouts=("none", "hidden", "everywhere"), sizes=SIZES[1:3], updates=20)
_BOTH = (_CLIPPED[0], (*_CLIPPED[1], *_FREE[1]))
_UNDER = training_recipes(dropouts=("none",), max_grad_norm=1e3)
_CONSTANT = training_recipes(dropouts=("none",), sizes=SIZES[:2], schedule="constant")
_PLANS = (_SMALL[0], (*_SMALL[1], *_CONSTANT[1]))

READY = (
    Ready(the_first_update_is_that_of_adamw, _BOTH, ("updates", "clipped"), "step"),
    Ready(clipping_leaves_small_gradients, _UNDER, ("small gradients",), "step"),
    Ready(moments_follow_their_averages, _FEW, ("updates",), "state"),
    Ready(twenty_updates_follow_one_by_one, (None, _RUNS[1]), ("updates", "dropout"), "step"),
    Ready(an_update_reports_what_it_did, _FEW, ("updates", "clipped"), "step"),
    Ready(the_learning_rate_follows_its_plan, _PLANS, ("plans that ended",), "step"),
    Ready(the_split_of_an_update_does_not_matter, _FEW, ("splits",), "step", theorem=True),
    Ready(an_update_of_nothing_changes_nothing, _FEW, ("empty updates",), "step", theorem=True),
    Ready(vectors_do_not_decay, _SMALL, ("vectors",), "step"),
    Ready(a_session_keeps_its_own_parameters, _SMALL, ("sessions",), "step", theorem=True),
)
