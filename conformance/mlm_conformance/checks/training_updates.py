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
from mlm_conformance.cases.training_batches import in_other_rows, resplit
from mlm_conformance.check import Context
from mlm_conformance.checks.training_common import (
    equal_shapes,
    opened,
    seen_in,
    truth_of,
    update_of,
    within_ball,
    within_balls,
)
from mlm_conformance.checks.training_ready import Ready
from mlm_conformance.training import Objective, Updated
from mlm_conformance.training.balls import rounding
from mlm_conformance.training.update import norm_of
from mlm_conformance.training_session import Batch, Run
from mlm_spec.training.batch import UpdateStatus

__all__ = ["READY", "judged_step"]

_FIRST = ("parameters", "moments", "report")


def judged_step(
    context: Context,
    case: TrainingCase,
    session: Run,
    batches: Sequence[Batch],
    alike: Sequence[Batch] | None = None,
    parts: Sequence[str] = _FIRST,
) -> Updated:
    """One update, judged by the state that the session has before it.

    Parameters
    ----------
    batches : the micro-batches of the update.
    alike : others that make the same update, from which it is computed here; None: these.
    parts : what is compared, of ``"parameters"``, ``"moments"``, ``"report"``, and of the last
        its ``"loss"``, its ``"norm"`` or its ``"rate"`` alone.
    """
    parameters, state = session.parameters(), session.state()
    n = int(state["update"]) + 1
    equal_shapes(context, "parameters", parameters, case.parameters)
    for moment in ("exp_avg", "exp_avg_sq"):
        equal_shapes(context, moment, state[moment], case.parameters)
    wide = {name: np.asarray(p, np.float64) for name, p in parameters.items()}
    truth, wanted = update_of(case, batches if alike is None else alike, n, wide, state)
    report = session.step(batches)
    context.saw("updates")
    context.saw("clipped", float(wanted.norm.value) > (case.plan.max_grad_norm or np.inf))
    _report_within(context, report, parts, truth, wanted, n)
    if "parameters" in parts:
        within_balls(context, f"update {n}", session.parameters(), wanted.parameters)
    if "moments" in parts:
        _moments_within(context, session, wanted, n)
    return wanted


def _report_within(
    context: Context,
    report: Mapping[str, Any],
    parts: Sequence[str],
    truth: Objective,
    wanted: Updated,
    n: int,
) -> None:
    whole = "report" in parts
    context.equal("status", report["status"], int(UpdateStatus.OK))
    if whole:
        for name, value in (("count", truth.count), ("update", n)):
            context.equal(name, report[name], int(value))
    for name in ("loss", "norm", "learning_rate"):
        context.require(name in report, f"an update without its {name}")
    if whole or "loss" in parts:
        loss = truth.sum.value / -truth.count
        # The division rounds once here and once there.
        limit = truth.sum.radius / truth.count + abs(loss) * 2.0**-51
        context.within("loss", report["loss"], loss, limit)
    if whole or "norm" in parts:
        within_ball(context, "norm", report["norm"], wanted.norm)
    if whole or "rate" in parts:
        within_ball(context, "learning_rate", report["learning_rate"], wanted.learning_rate)


def _moments_within(context: Context, session: Run, wanted: Updated, n: int) -> None:
    state = session.state()
    context.equal("update of the state", state["update"], n)
    for name in ("exp_avg", "exp_avg_sq"):
        within_balls(context, f"{name} after update {n}", state[name], getattr(wanted, name))


def the_first_update_is_that_of_adamw(context: Context, case: TrainingCase) -> None:
    seen_in(context, case, case.updates[0])
    with opened(context, case) as session:
        judged_step(context, case, session, case.updates[0], parts=("parameters",))


def clipping_scales_to_the_limit(context: Context, case: TrainingCase) -> None:
    """The first moment after the first update is that of a run without clipping, scaled: so it is
    shown whatever a moment is."""
    free = replace(case, training={**case.training, "max_grad_norm": None})
    found, wanted = [], []
    for each in (free, case):
        with opened(context, each) as session:
            wanted.append(judged_step(context, each, session, case.updates[0], parts=()))
            found.append(session.state()["exp_avg"])
    share = (case.plan.max_grad_norm or np.inf) / float(wanted[0].norm.value)
    context.require(share < 1.0, "a gradient that need not be clipped")
    for name, moment in found[0].items():
        radius = wanted[1].exp_avg[name].radius + share * wanted[0].exp_avg[name].radius
        context.within(f"clipped exp_avg of {name}", found[1][name], share * moment, radius)


def clipping_leaves_small_gradients(context: Context, case: TrainingCase) -> None:
    """Gradients whose norm is below the limit stay: far below, and by a ten-millionth."""
    norm = float(norm_of(rounding(2.0**-53), truth_of(case, case.updates[0]).gradients).value)
    for limit in (1e3 * norm, (1.0 + 1e-7) * norm):
        near = replace(case, training={**case.training, "max_grad_norm": limit})
        with opened(context, near) as session:
            wanted = judged_step(context, near, session, case.updates[0], parts=("moments",))
        most = float(wanted.norm.value + wanted.norm.radius)
        context.saw("small gradients", most < limit)


def an_update_clips_once(context: Context, case: TrainingCase) -> None:
    """The norm is that of the mean over all micro-batches, and so is what is clipped."""
    with opened(context, case) as session:
        judged_step(context, case, session, case.updates[0], parts=("norm", "moments"))
    context.saw("micro-batches", len(case.updates[0]) - 1)


def the_norm_is_that_of_all_parameters(context: Context, case: TrainingCase) -> None:
    with opened(context, case) as session:
        judged_step(context, case, session, case.updates[0], parts=("norm",))


def the_loss_is_one_mean(context: Context, case: TrainingCase) -> None:
    with opened(context, case) as session:
        judged_step(context, case, session, case.updates[0], parts=("loss",))
    context.saw("micro-batches", len(case.updates[0]) - 1)


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


def updates_follow_one_by_one(context: Context, case: TrainingCase) -> None:
    with opened(context, case) as session:
        for batches in case.updates:
            judged_step(context, case, session, batches, parts=("parameters",))


def the_rate_rises_in_the_warm_up(context: Context, case: TrainingCase) -> None:
    """In the report and in what the parameters do, from the first update to its last."""
    _rates_follow(context, case, {"warmup_updates": 3, "total_updates": 9}, 3)
    context.saw("updates of a warm-up", 3)


def the_rate_falls_or_stays(context: Context, case: TrainingCase) -> None:
    """From the end of the warm-up to the last update of a plan, which still learns."""
    for schedule in ("linear", "constant"):
        about = {"warmup_updates": 2, "total_updates": 4, "schedule": schedule}
        _rates_follow(context, case, about, 4)
        context.saw(f"{schedule} schedules")


def _rates_follow(context: Context, case: TrainingCase, plan: dict[str, Any], last: int) -> None:
    short = replace(case, training={**case.training, **plan})
    with opened(context, short) as session:
        for _ in range(last):
            judged_step(context, short, session, case.updates[0], parts=("rate", "parameters"))


def the_split_of_an_update_does_not_matter(context: Context, case: TrainingCase) -> None:
    batches = case.updates[0]
    rows, rng = sum(len(b["inputs"]) for b in batches), generator(case.salt, 49)
    for parts in (1, rows):
        others = [in_other_rows(b, rng) for b in reversed(resplit(batches, parts))]
        context.saw("splits", len(others) != len(batches))
        with opened(context, case) as session:
            judged_step(context, case, session, others, batches, ("report", "parameters"))


def vectors_do_not_decay(context: Context, case: TrainingCase) -> None:
    """Matrices do, embeddings among them: with so large a decay that it outweighs the step."""
    heavy = replace(case, training={**case.training, "weight_decay": 50.0})
    with opened(context, heavy) as session:
        wanted = judged_step(context, heavy, session, case.updates[0], parts=("parameters",))
    context.saw("vectors", sum(b.value.ndim == 1 for b in wanted.parameters.values()))


_FEW = training_recipes(dropouts=("none", "hidden"), updates=3)
_CLIPPED = training_recipes(dropouts=("none",), max_grad_norm=0.5)
_FREE = training_recipes(dropouts=("none", "hidden"), max_grad_norm=None)
_SMALL = training_recipes(dropouts=("none",), sizes=SIZES[:2])
_RUNS = training_recipes(dropouts=("none", "hidden", "everywhere"), sizes=SIZES[1:3], updates=20)
_BOTH = (_CLIPPED[0], (*_CLIPPED[1], *_FREE[1]))

READY = (
    Ready(the_first_update_is_that_of_adamw, _BOTH, ("updates",), "step"),
    Ready(clipping_scales_to_the_limit, _CLIPPED, ("clipped",), "step"),
    Ready(clipping_leaves_small_gradients, _SMALL, ("small gradients",), "step"),
    Ready(an_update_clips_once, _CLIPPED, ("clipped", "micro-batches"), "step"),
    Ready(the_norm_is_that_of_all_parameters, _SMALL, ("updates",), "step"),
    Ready(the_loss_is_one_mean, _SMALL, ("micro-batches",), "step"),
    Ready(moments_follow_their_averages, _FEW, ("updates",), "state"),
    Ready(updates_follow_one_by_one, _FEW, ("updates",), "step"),
    Ready(twenty_updates_follow_one_by_one, (None, _RUNS[1]), ("updates", "dropout"), "step"),
    Ready(an_update_reports_what_it_did, _FEW, ("updates", "clipped"), "step"),
    Ready(the_rate_rises_in_the_warm_up, _SMALL, ("updates of a warm-up",), "step"),
    Ready(the_rate_falls_or_stays, _SMALL, ("linear schedules", "constant schedules"), "step"),
    Ready(the_split_of_an_update_does_not_matter, _FEW, ("splits",), "step"),
    Ready(vectors_do_not_decay, _SMALL, ("vectors",), "step"),
)
