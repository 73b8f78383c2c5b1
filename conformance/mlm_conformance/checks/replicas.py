"""Chapter DST, training on several devices: replicas, each with micro-batches of its own.

The suite starts the processes.  What they make together is judged as the update of one session is,
by the same bounds: these hold for any order in which gradients are added up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from mlm_conformance.cases.training import SIZES, TrainingCase, training_recipes
from mlm_conformance.cases.training_batches import resplit, tokens_of
from mlm_conformance.check import Context, check
from mlm_conformance.checks.training_common import (
    equal_names,
    equal_shapes,
    evaluation_of,
    seen_in,
    truth_of,
    within_ball,
    within_balls,
)
from mlm_conformance.checks.training_files import sequences_in
from mlm_conformance.checks.training_gradients import masked_of, policy_in
from mlm_conformance.checks.training_updates import judged_step
from mlm_conformance.replica_session import ReplicaSession, dealt, flat, replica_session
from mlm_conformance.training_session import Batch
from mlm_spec import MaskingPolicy, errors
from mlm_spec.training.batch import UpdateStatus

__all__: list[str] = []  # importing the module registers its checks

_COUNTS = (1, 2, 3, 4)
_PORT = "replica_session"
_CUTS = ("packed", "padded"), ("uneven", "one of none")
_STILL = training_recipes(*_CUTS, ("none",), SIZES[1:2])
_DROPPED = training_recipes(*_CUTS, ("everywhere",), SIZES[1:2])
_TWO = training_recipes(*_CUTS, ("none",), SIZES[1:2], updates=2)


def _together(
    context: Context,
    case: TrainingCase,
    size: int,
    policy: MaskingPolicy | None = None,
    sharded: bool = False,
) -> AbstractContextManager[ReplicaSession]:
    """A session of replicas at the start of the case."""
    run = (case.encoder, case.training, case.parameters, policy)
    return replica_session(context, size, *run, sharded=sharded)


@check("MLM-DST-21", port=_PORT, recipes=_DROPPED, needs=("selected", "dropout"), share=0.08)
def masks_and_dropout_know_no_replica(context: Context, case: TrainingCase) -> None:
    """Tokens that are dealt out have the gradients of those that `mask` masks, with the units of
    their sequences dropped."""
    policy = policy_in(case)
    given = [tokens_of(dict(batch), 5) for batch in _by_rows(case)[0]]
    masked = [masked_of(context, case, policy, tokens) for tokens in given]
    truth = truth_of(case, masked)
    seen_in(context, case, masked)
    for size in _COUNTS:
        with _together(context, case, size, policy) as session:
            found = session.gradients(given)
        context.equal(f"count on {size} replicas", found["count"], truth.count)
        what = f"gradient on {size} replicas"
        within_balls(context, what, found["gradients"], truth.gradients)


@check("MLM-DST-22", port=_PORT, recipes=_TWO, needs=("updates", "unequal counts"), share=0.08)
def an_update_of_replicas_is_that_of_one(context: Context, case: TrainingCase) -> None:
    for size in _COUNTS:
        with _together(context, case, size) as session:
            for batches in _by_rows(case):
                counts = {_selected(own) for own in dealt(batches, size)}
                context.saw("unequal counts", len(counts) > 1)
                judged_step(context, case, session, batches)


@check("MLM-DST-22", port=_PORT, recipes=_STILL, needs=("positions",), share=0.08)
def replicas_evaluate_the_whole(context: Context, case: TrainingCase) -> None:
    """Sum and count of an evaluation are those of all batches."""
    batches = _by_rows(case)[0]
    truth = evaluation_of(case, batches)
    for size in _COUNTS[1:]:
        with _together(context, case, size) as session:
            found = session.evaluate(batches)
        context.equal(f"count on {size} replicas", found["count"], truth.count)
        within_ball(context, f"sum on {size} replicas", found["sum"], truth.sum)
        context.saw("positions", truth.count)


@check(
    "MLM-DST-23", port=_PORT, recipes=_TWO, needs=("replicas", "updates"), share=0.08, theorem=True
)
def replicas_stay_the_same(context: Context, case: TrainingCase) -> None:
    """Bit for bit: what is reported, gradients, parameters and state."""
    for size in _COUNTS[1:]:
        with _together(context, case, size) as session:
            for batches in _by_rows(case):
                given = _given(dealt(batches, size))
                has = [name for name in ("evaluate", "gradients") if name in session.has]
                for name in (*has, "step"):
                    _all_the_same(context, name, session.results(name, given))
                _all_the_same(context, "a replica", session.everything())
                context.saw("updates")
            context.saw("replicas", size - 1)


@check("MLM-DST-24", port=_PORT, recipes=_STILL, needs=("replicas of nothing",), share=0.08)
def a_replica_of_nothing_takes_part(context: Context, case: TrainingCase) -> None:
    """One whose positions are not selected, and one that has no micro-batch at all."""
    batches = case.updates[0]
    for nothing in (_emptied(batches[:1]), []):
        for first in (True, False):
            with _together(context, case, 2) as session:
                shares = [nothing, batches] if first else [batches, nothing]
                judged_step(context, case, _Shared(session, shares), batches)
                context.saw("replicas of nothing")


@check("MLM-DST-24", port=_PORT, recipes=_TWO, needs=("updates of nothing",), share=0.08)
def nothing_on_all_replicas_changes_nothing(context: Context, case: TrainingCase) -> None:
    nothing = _emptied(case.updates[0])
    for size, given in ((2, nothing), (3, nothing[:1]), (2, [])):
        with _together(context, case, size) as session:
            session.step(case.updates[0])
            before = session.everything()
            for rank, report in enumerate(session.results("step", _given(dealt(given, size)))):
                where = f"of nothing on replica {rank}"
                context.equal(f"status {where}", report["status"], int(UpdateStatus.EMPTY))
                context.equal(f"count {where}", report["count"], 0)
            _unchanged(context, session, before, "after an update of nothing", ("position",))
            context.saw("updates of nothing")
            judged_step(context, case, session, case.updates[1], parts=("report", "parameters"))


@check("MLM-DST-25", port=_PORT, recipes=_TWO, needs=("refused calls",), share=0.08)
def what_one_refuses_all_refuse(context: Context, case: TrainingCase) -> None:
    """A bad micro-batch, or a bad file, on one replica; the next update is as if nothing were."""
    good = [dict(batch) for batch in case.updates[0][:1]]
    bad = [{**good[0], "inputs": good[0]["inputs"] - case.config.vocab_size}]
    with TemporaryDirectory(prefix="mlm-spec-") as folder:
        files = [Path(folder) / name for name in ("run.safetensors", "absent.safetensors")]
        for size, wrong in ((2, 0), (2, 1), (3, 1)):
            with _together(context, case, size) as session:
                session.save(files[0])
                session.step(case.updates[0])
                before = session.everything()
                ranks = range(size)
                calls: list[tuple[str, list[dict[str, Any]]]] = [
                    ("step", [{"batches": bad if r == wrong else good} for r in ranks]),
                    ("evaluate", [{"batches": bad if r == wrong else good} for r in ranks]),
                    ("load", [{"path": str(files[r == wrong])} for r in ranks]),
                ]
                for name, given in calls:
                    _all_refused(context, session, name, given)
                    _unchanged(context, session, before, f"after a refused {name}")
                    context.saw("refused calls")
                judged_step(context, case, session, case.updates[1], parts=("parameters",))


@check("MLM-DST-26", port=_PORT, recipes=_TWO, needs=("checkpoints",), share=0.08)
def a_run_goes_on_with_another_number(context: Context, case: TrainingCase) -> None:
    """What three replicas save, one, two and four load; and go on from there."""
    consumed = sum(map(sequences_in, case.updates[0]))
    with TemporaryDirectory(prefix="mlm-spec-") as folder:
        path = Path(folder) / "run.safetensors"
        with _together(context, case, 3) as session:
            session.step(case.updates[0])
            session.save(path)
            before = session.everything()[0]
        for size in (1, 2, 4):
            with _together(context, case, size) as session:
                session.load(path)
                for rank, found in enumerate(session.everything()):
                    _same(context, f"replica {rank} of {size} after loading", found, before)
                    if "position" in found:
                        context.equal("position", found["position"], consumed)
                judged_step(context, case, session, case.updates[1], parts=("parameters",))
                _all_the_same(context, "a replica that has loaded", session.everything())
                context.saw("checkpoints")


@check("MLM-DST-27", port=_PORT, recipes=_TWO, needs=("updates", "checkpoints"), share=0.08)
def parameters_in_parts_are_parameters(context: Context, case: TrainingCase) -> None:
    """Updates, evaluations, all arrays and a checkpoint, with a part of each on each replica."""
    with TemporaryDirectory(prefix="mlm-spec-") as folder:
        path = Path(folder) / "run.safetensors"
        for size in (2, 3):
            with _together(context, case, size, sharded=True) as session:
                equal_shapes(context, "parameters", session.parameters(), case.parameters)
                judged_step(context, case, session, case.updates[0])
                truth = evaluation_of(case, case.updates[1], session.parameters())
                found = session.evaluate(case.updates[1])
                within_ball(context, "sum of parts", found["sum"], truth.sum)
                session.save(path)
                before = session.everything()[0]
            for sharded in (False, True):
                with _together(context, case, 2, sharded=sharded) as session:
                    session.load(path)
                    _same(context, "what was loaded", session.everything()[0], before)
                    judged_step(context, case, session, case.updates[1], parts=("parameters",))
                context.saw("checkpoints")


def _by_rows(case: TrainingCase) -> list[list[Batch]]:
    """The updates with a micro-batch for each row: enough for all replicas."""
    rows = [sum(len(batch["inputs"]) for batch in batches) for batches in case.updates]
    return [list(resplit(b, count)) for b, count in zip(case.updates, rows, strict=True)]


class _Shared:
    """Replicas whose micro-batches are dealt out as told."""

    def __init__(self, session: ReplicaSession, shares: Sequence[Sequence[Batch]]) -> None:
        self.parameters, self.state = session.parameters, session.state
        self._session, self._shares = session, shares

    def step(self, batches: Sequence[Batch]) -> dict[str, Any]:
        """One update by the shares, whatever is given."""
        return self._session.shared("step", self._shares)


def _given(shares: Sequence[Sequence[Batch]]) -> list[dict[str, Any]]:
    return [{"batches": list(own)} for own in shares]


def _selected(batches: Sequence[Batch]) -> int:
    return sum(int(batch["selected"].sum()) for batch in batches)


def _emptied(batches: Sequence[Batch]) -> list[dict[str, Any]]:
    return [{**b, "selected": np.zeros_like(b["selected"])} for b in batches]


def _all_refused(
    context: Context, session: ReplicaSession, name: str, given: Sequence[Mapping[str, Any]]
) -> None:
    for rank, answer in enumerate(session.answers(name, given)):
        raised, where = answer.raised, f"{name} on replica {rank}"
        said = f"{where} raised nothing, though one replica cannot do it"
        context.require(raised is not None, said)
        known = raised is not None and set(raised.classes) & set(errors.__all__)
        kind = "" if raised is None else raised.type
        context.require(bool(known), f"{where} raised {kind}, none of the documented errors")


def _unchanged(
    context: Context,
    session: ReplicaSession,
    before: Sequence[Mapping[str, Any]],
    when: str,
    but: Sequence[str] = (),
) -> None:
    for rank, pair in enumerate(zip(session.everything(), before, strict=True)):
        found, wanted = ({n: a for n, a in one.items() if n not in but} for one in pair)
        _same(context, f"replica {rank} {when}", found, wanted)


def _all_the_same(context: Context, what: str, found: Sequence[Mapping[str, Any]]) -> None:
    """Bit for bit."""
    each = [flat(one) for one in found]
    for rank, other in enumerate(each[1:], 1):
        _same(context, f"{what} on replica {rank}, beside replica 0", other, each[0])


def _same(context: Context, what: str, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    equal_names(context, what, found, wanted)
    for name, array in wanted.items():
        context.equal(f"{name}: {what}", found[name], array)
