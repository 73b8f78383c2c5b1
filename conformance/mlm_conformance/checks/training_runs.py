"""Sessions: what a run counts and keeps, and where it ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from mlm_conformance.cases.numbers import generator
from mlm_conformance.cases.training import SIZES, TrainingCase, training_recipes
from mlm_conformance.check import Context
from mlm_conformance.checks.training_common import opened, same_state, seen_in
from mlm_conformance.checks.training_files import read_file, sequences_in
from mlm_conformance.checks.training_ready import Ready
from mlm_conformance.checks.training_updates import judged_step
from mlm_conformance.training_session import Batch
from mlm_spec.training.batch import UpdateStatus

__all__ = ["READY"]


def a_plan_that_has_ended_is_an_error(context: Context, case: TrainingCase) -> None:
    """`InputError`, as often as it is asked for, and neither state nor parameters change."""
    plan = {"warmup_updates": 1, "total_updates": 2, "schedule": "linear"}
    short = replace(case, training={**case.training, **plan})
    with opened(context, short) as session:
        for _ in range(2):
            context.equal("status", session.step(case.updates[0])["status"], int(UpdateStatus.OK))
        before = session.parameters(), session.state()
        for _ in range(2):
            answer = session.answer("step", batches=[dict(b) for b in case.updates[0]])
            raised = answer.raised
            context.require(raised is not None, "an update beyond the last one raised nothing")
            known = raised is not None and "InputError" in raised.classes
            got = raised.type if raised is not None else ""
            context.require(known, f"an update beyond the last one raised {got}, not InputError")
            same_state(context, session, before, "after an update beyond the last one")
            context.saw("updates beyond the last one")


def an_update_of_nothing_changes_nothing(context: Context, case: TrainingCase) -> None:
    """Neither parameters nor moments, nor the number of updates."""
    empty = _emptied(case.updates[0])
    with opened(context, case) as session:
        session.step(case.updates[0])
        before = session.parameters(), session.state()
        report = session.step(empty)
        context.saw("empty updates")
        context.equal("status of nothing", report["status"], int(UpdateStatus.EMPTY))
        context.equal("count of nothing", report["count"], 0)
        same_state(context, session, before, "after an update of nothing")
        for name in report.keys() & {"loss", "norm", "learning_rate"}:
            context.equal(f"{name} of nothing", report[name], 0.0)


def a_micro_batch_of_nothing_is_no_update_of_nothing(context: Context, case: TrainingCase) -> None:
    """Before the others, or after them; these make the update."""
    batches = case.updates[0]
    nothing = _emptied(batches[:1])
    with opened(context, case) as session:
        for given in ([*nothing, *batches], [*batches, *nothing]):
            judged_step(context, case, session, given, parts=("report", "parameters"))
            context.saw("empty micro-batches")


def one_number_counts_the_updates(context: Context, case: TrainingCase) -> None:
    """Of the report, the state, the learning rate, the correction and the dropout; an update of
    nothing has none."""
    seen_in(context, case, case.updates[0])
    with opened(context, case) as session:
        for n, batches in enumerate(case.updates, 1):
            report = session.step(_emptied(batches))
            context.equal("update after nothing", report["update"], n - 1)
            context.equal("update of the state", session.state()["update"], n - 1)
            judged_step(context, case, session, batches, parts=("report", "parameters"))


def an_update_takes_its_sequences_along(context: Context, case: TrainingCase) -> None:
    """The position in a checkpoint grows by the sequences of each update, made or not."""
    wanted = 0
    with opened(context, case) as session, TemporaryDirectory(prefix="mlm-spec-") as folder:
        path = Path(folder) / "run.safetensors"
        for batches in (case.updates[0], _emptied(case.updates[1])):
            report = session.step(batches)
            context.saw("updates of nothing", report["count"] == 0)
            wanted += sum(map(sequences_in, batches))
            session.save(path)
            metadata = read_file(path.read_bytes()).texts
            context.equal("position", np.asarray(int(metadata["position"])), wanted)


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


def _emptied(batches: Sequence[Batch]) -> list[dict[str, Any]]:
    return [{**b, "selected": np.zeros_like(b["selected"])} for b in batches]


_FEW = training_recipes(dropouts=("none", "hidden"), updates=3)
_SMALL = training_recipes(dropouts=("none",), sizes=SIZES[:2])

READY = (
    Ready(
        a_plan_that_has_ended_is_an_error,
        _SMALL,
        ("updates beyond the last one",),
        "step",
        theorem=True,
    ),
    Ready(an_update_of_nothing_changes_nothing, _FEW, ("empty updates",), "step", theorem=True),
    Ready(
        a_micro_batch_of_nothing_is_no_update_of_nothing, _SMALL, ("empty micro-batches",), "step"
    ),
    Ready(one_number_counts_the_updates, _FEW, ("updates", "dropout"), "step"),
    Ready(an_update_takes_its_sequences_along, _FEW, ("updates of nothing",), "save", theorem=True),
    Ready(a_session_keeps_its_own_parameters, _SMALL, ("sessions",), "step", theorem=True),
)
