"""Chapter ERR on sessions: what cannot begin, what cannot be read, and what is left as it was."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from mlm_conformance.answer import Answer
from mlm_conformance.cases.numbers import DTYPES, dtype_of
from mlm_conformance.cases.training import SIZES, TrainingCase, TrainingRecipe
from mlm_conformance.cases.training_bad import (
    Bad,
    bad_batches,
    bad_configurations,
    bad_parameters,
    bad_policies,
    bad_tokens,
    everything,
)
from mlm_conformance.check import Context, Violation, check, table
from mlm_conformance.checks.training_common import opened, same_run
from mlm_conformance.training_session import TrainingSession, training_session

__all__: list[str] = []  # importing the module registers its checks

_ONE = table([TrainingRecipe(SIZES[1], "packed", "one", "none", 1, updates=2)])
#: Those of a session that read batches, and ask for nothing else.
_READING = ("evaluate", "gradients", "step")


def _refused(context: Context, answer: Answer, bad: Bad, call: str) -> None:
    """The documented error, and no other."""
    context.saw("bad calls")
    if answer.kind == "malformed":
        raise Violation(f"{bad.about}: {answer.text}")
    if answer.raised is None:
        raise Violation(f"{bad.about}: {call} raised nothing, should raise {bad.error}")
    context.require(
        bad.error in answer.raised.classes,
        f"{bad.about}: {call} raised {answer.raised.type} ({answer.raised.message}),"
        f" should raise {bad.error}",
    )


def _begun(case: TrainingCase, **other: Any) -> dict[str, Any]:
    """The arguments of ``session``, some of them others."""
    about = {"encoder": case.encoder, "training": case.training, "policy": None}
    return {**about, "parameters": case.parameters, **other}


def _cannot_begin(
    context: Context, case: TrainingCase, calls: Iterable[tuple[Bad, Mapping[str, Any]]]
) -> None:
    for bad, other in calls:
        answer = context.answer("session", _begun(case, **other))
        if answer.kind == "result":
            context.target.call("session.close", session=int(answer.fields["session"]))
        _refused(context, answer, bad, "session")


@check("MLM-ERR-19", port="session", recipes=_ONE, needs=("bad calls",), theorem=True)
def a_configuration_without_a_meaning_is_refused(context: Context, case: TrainingCase) -> None:
    _cannot_begin(context, case, ((bad, bad.given) for bad in bad_configurations(case)))


@check("MLM-ERR-19", port="session", recipes=_ONE, needs=("bad calls",), theorem=True)
def a_policy_that_is_none_begins_no_session(context: Context, case: TrainingCase) -> None:
    _cannot_begin(context, case, ((bad, bad.given) for bad in bad_policies()))


@check("MLM-ERR-20", port="session", recipes=_ONE, needs=("bad calls",), theorem=True)
def parameters_of_another_encoder_are_refused(context: Context, case: TrainingCase) -> None:
    calls = ((bad, {"parameters": bad.given}) for bad in bad_parameters(case))
    _cannot_begin(context, case, calls)


@check("MLM-ERR-20", port="session", recipes=_ONE, needs=("bad calls",), theorem=True)
def parameters_that_float32_cannot_hold_are_refused(context: Context, case: TrainingCase) -> None:
    """Finite ones, of a session that keeps float32."""
    for precision in ("float32", "bfloat16"):
        training = {**case.training, "precision": precision}
        for name, value in (("cls.predictions.bias", 1e39), (next(iter(case.parameters)), -1e300)):
            array = case.parameters[name].copy()
            array.reshape(-1)[-1] = value
            bad = Bad(f"{value} in {name}, kept in float32", "NotFiniteError", None)
            given = {"training": training, "parameters": {**case.parameters, name: array}}
            _cannot_begin(context, case, [(bad, given)])


@check(
    "MLM-ERR-20", port="session", recipes=_ONE, needs=("dtypes",), theorem=True,
    result_field="parameters",
)  # fmt: skip
def parameters_of_any_float_dtype_are_taken(context: Context, case: TrainingCase) -> None:
    training = {**case.training, "precision": "float32"}
    for dtype in DTYPES:
        given = {name: array.astype(dtype_of(dtype)) for name, array in case.parameters.items()}
        about = (case.encoder, training, given)
        with training_session(context, *about) as session:
            found = session.parameters()
        context.saw("dtypes")
        for name, array in given.items():
            wanted = array.astype(np.float32)
            context.equal(f"{name}, given in {dtype}", found[name], wanted)


def _all_refused(
    context: Context, session: TrainingSession, good: Sequence[Any], faults: Iterable[Bad]
) -> None:
    """Alone, and behind a good micro-batch; by each of the methods, in turns."""
    methods = [name for name in _READING if name in session.has]
    for number, bad in enumerate(faults):
        name = methods[number % len(methods)]
        batches = [bad.given] if number // len(methods) % 2 else [*good, bad.given]
        _refused(context, session.answer(name, batches=batches), bad, name)


@check("MLM-ERR-21", port="session", recipes=_ONE, needs=("bad calls",), theorem=True)
def a_bad_micro_batch_is_refused(context: Context, case: TrainingCase) -> None:
    good = case.updates[0]
    with opened(context, case) as session:
        _all_refused(context, session, good, bad_batches(case, good[-1]))


@check("MLM-ERR-21", port="session", recipes=_ONE, needs=("bad calls",), theorem=True)
def a_bad_micro_batch_of_tokens_is_refused(context: Context, case: TrainingCase) -> None:
    good = case.updates[0]
    with opened(context, case, everything(case.config.vocab_size)) as session:
        _all_refused(context, session, good, bad_tokens(case, good[-1]))


@check(
    "MLM-ERR-21", port="session", recipes=_ONE, needs=("unselected",), theorem=True,
    result_field="evaluate",
)  # fmt: skip
def targets_that_are_not_selected_are_no_error(context: Context, case: TrainingCase) -> None:
    (*rest, last) = case.updates[0]
    other = ~last["selected"]
    context.saw("unselected", other.sum())
    targets = np.where(other, -100, last["targets"]).astype(last["targets"].dtype)
    with opened(context, case) as session:
        seen = session.evaluate([*rest, {**last, "targets": targets}])
        wanted = session.evaluate(case.updates[0])
    for name in ("sum", "count"):
        context.equal(f"{name} with targets of -100", seen[name], wanted[name])


def _some(case: TrainingCase) -> list[tuple[str, Bad]]:
    """One fault of each kind of error, and others from all over, each for one of the methods."""
    faults = list(bad_batches(case, case.updates[0][-1]))
    first = {bad.error: bad for bad in faults}
    chosen = [*first.values(), *faults[3 :: len(faults) // 5]]
    return [("step" if n % 2 else _READING[n // 2 % 2], bad) for n, bad in enumerate(chosen)]


@check(
    "MLM-ERR-22", port="session", recipes=_ONE, needs=("refused calls",), theorem=True,
    result_field="step",
)  # fmt: skip
def a_refused_call_changes_nothing_of_a_run(context: Context, case: TrainingCase) -> None:
    """Neither the state nor the arguments; and the next update is the one that it would have been.

    What is not refused is the matter of MLM-ERR-21.
    """
    good = case.updates[0]
    with opened(context, case) as session:
        start = session.parameters(), session.state()
        wanted = session.step(good)
        end = session.parameters(), session.state()
    for name, bad in _some(case):
        with opened(context, case) as session:
            if name not in session.has:
                continue
            answer = session.answer(name, batches=[*good, bad.given])
            if answer.raised is None:
                continue
            context.saw("refused calls")
            when = f"after {name} was refused for {bad.about}"
            context.require(not answer.mutated, f"the arguments are others {when}")
            same_run(context, session, start, when)
            report = session.step(good)
            for field, value in wanted.items():
                context.equal(f"{field} of the update {when}", report[field], value)
            same_run(context, session, end, f"an update {when}")


@check("MLM-ERR-22", port="session", recipes=_ONE, needs=("refused calls",), theorem=True)
def a_session_that_cannot_begin_changes_nothing(context: Context, case: TrainingCase) -> None:
    """Its arguments, and the session beside it, are what they were."""
    faults = list(bad_parameters(case))
    with opened(context, case) as session:
        start = session.parameters(), session.state()
        for bad in faults[:: len(faults) // 9]:
            answer = context.answer("session", _begun(case, parameters=bad.given))
            if answer.kind == "result":
                context.target.call("session.close", session=int(answer.fields["session"]))
                continue
            context.saw("refused calls")
            when = f"after a session was refused for {bad.about}"
            context.require(not answer.mutated, f"the arguments are others {when}")
            same_run(context, session, start, when)
