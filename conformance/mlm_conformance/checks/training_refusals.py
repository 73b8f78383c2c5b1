"""Sessions: files that are refused, with `CheckpointError`, and nothing of them taken over."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from mlm_conformance.cases.checkpoint_files import (
    CLAIMED,
    boastful,
    broken,
    executing,
    foreign,
    hostile,
)
from mlm_conformance.cases.numbers import generator
from mlm_conformance.cases.training import SIZES, TrainingCase, TrainingRecipe
from mlm_conformance.check import Context, Unmeasurable
from mlm_conformance.checks.training_common import opened, same_run
from mlm_conformance.checks.training_files import policy_of
from mlm_conformance.checks.training_ready import Ready
from mlm_conformance.checks.training_updates import judged_step
from mlm_conformance.training_session import TrainingSession

__all__ = ["READY", "require_error"]


def a_broken_checkpoint_is_refused(context: Context, case: TrainingCase) -> None:
    """Cut off, changed, or none; and the run goes on as if nobody had asked."""
    with TemporaryDirectory(prefix="mlm-spec-") as name, opened(context, case) as session:
        folder, good = Path(name), _good(session, case, Path(name))
        _all_refused(context, session, folder, broken(good, generator(case.salt, 67)))
        before = session.parameters(), session.state()
        for path, what in ((folder / "absent", "no file"), (folder, "a folder")):
            require_error(context, session.answer("load", path=str(path)), f"loading {what}")
            same_run(context, session, before, f"after loading {what}")
        judged_step(context, case, session, case.updates[1])


def a_checkpoint_of_something_else_is_refused(context: Context, case: TrainingCase) -> None:
    """Of another version, or with other tensors than its configurations have."""
    with TemporaryDirectory(prefix="mlm-spec-") as name, opened(context, case) as session:
        good = _good(session, case, Path(name))
        _all_refused(context, session, Path(name), foreign(good))


def a_checkpoint_of_another_run_is_refused(context: Context, case: TrainingCase) -> None:
    """Of another encoder, or another plan."""
    encoders = ({"layer_norm_eps": 1e-5}, {"hidden_dropout": "1/3"}, {"num_attention_heads": 1})
    plans = ({"beta2": 0.99}, {"seed": case.plan.seed ^ 1}, {"total_updates": 41})
    others = [
        *(replace(case, encoder={**case.encoder, **e}) for e in encoders),
        *(replace(case, training={**case.training, **t}) for t in plans),
    ]
    with TemporaryDirectory(prefix="mlm-spec-") as name, opened(context, case) as session:
        path, before = Path(name) / "other.safetensors", (session.parameters(), session.state())
        for other in others:
            with opened(context, other) as run:
                run.save(path)
            answer = session.answer("load", path=str(path))
            require_error(context, answer, "loading another configuration")
            same_run(context, session, before, "after loading that of another run")
            context.saw("other runs")


def a_checkpoint_of_another_policy_is_refused(context: Context, case: TrainingCase) -> None:
    """Each of three runs, two of which mask in their own ways, loads its own and no other."""
    ways = {"no policy": None, "a policy": policy_of(case), "another": policy_of(case, "1/3")}
    with TemporaryDirectory(prefix="mlm-spec-") as name:
        for what, policy in ways.items():
            with opened(context, case, policy) as run:
                run.save(Path(name) / what)
        for own, policy in ways.items():
            with opened(context, case, policy) as run:
                run.load(Path(name) / own)
                before = run.parameters(), run.state()
                for what in ways.keys() - {own}:
                    answer = run.answer("load", path=str(Path(name) / what))
                    require_error(context, answer, f"loading {what} with {own}")
                    same_run(context, run, before, f"after loading {what} with {own}")
                    context.saw("other policies")


def nothing_that_a_file_claims_is_believed(context: Context, case: TrainingCase) -> None:
    """Lengths and shapes beyond all memory, names twice, brackets without end."""
    with TemporaryDirectory(prefix="mlm-spec-") as name, opened(context, case) as session:
        good = _good(session, case, Path(name))
        _all_refused(context, session, Path(name), hostile(good))


def nothing_in_a_file_is_executed(context: Context, case: TrainingCase) -> None:
    """Programs, in the forms in which careless readers run them, leave no trace."""
    with TemporaryDirectory(prefix="mlm-spec-") as name, opened(context, case) as session:
        good, trace = _good(session, case, Path(name)), Path(name) / "trace"
        path, before = Path(name) / "executed.safetensors", (session.parameters(), session.state())
        for what, content in executing(good, trace):
            path.write_bytes(content)
            answer = session.answer("load", path=str(path))
            context.require(not trace.exists(), f"{what} was executed")
            require_error(context, answer, f"loading {what}")
            same_run(context, session, before, f"after loading {what}")
            context.saw("programs")


def a_file_takes_no_more_memory_than_it_has(context: Context, case: TrainingCase) -> None:
    """The second call's: half of what a small file claims to hold does not fit."""
    if context.device != "cpu":
        raise Unmeasurable(f"the memory of {context.device} is not seen from outside")
    with TemporaryDirectory(prefix="mlm-spec-") as name, opened(context, case) as session:
        path = Path(name) / "claiming.safetensors"
        for what, content in boastful(_good(session, case, Path(name))):
            path.write_bytes(content)
            about = f"loading {what} that claims {CLAIMED} bytes"
            require_error(context, session.answer("load", path=str(path)), about)
            answer = session.answer("load", watch={"measure_memory": True}, path=str(path))
            require_error(context, answer, about)
            if answer.peak_growth is None:
                raise Unmeasurable("this system does not say what memory a call took")
            grown = np.asarray(answer.peak_growth)
            context.within(f"bytes of memory for {what}", grown, 0.0, CLAIMED // 2)
            context.saw("calls measured")


def _good(session: TrainingSession, case: TrainingCase, folder: Path) -> bytes:
    """A checkpoint of the session, which then makes another update."""
    path = folder / "good.safetensors"
    session.save(path)
    session.step(case.updates[0])
    return path.read_bytes()


def _all_refused(
    context: Context, session: TrainingSession, folder: Path, files: Iterable[tuple[str, bytes]]
) -> None:
    before = session.parameters(), session.state()
    path = folder / "refused.safetensors"
    for what, content in files:
        path.write_bytes(content)
        require_error(context, session.answer("load", path=str(path)), f"loading {what}")
        same_run(context, session, before, f"after loading {what}")
        context.saw("refused files")


def require_error(context: Context, answer: Any, what: str) -> None:
    """The call raised `CheckpointError`, and said something."""
    context.require(answer.raised is not None, f"{what} raised nothing")
    known = "CheckpointError" in answer.raised.classes
    kind = answer.raised.type
    context.require(known, f"{what} raised {kind}, should be CheckpointError")
    context.require(bool(answer.raised.message.strip()), f"{what} raised {kind} without a word")


_ONE = (None, (TrainingRecipe(SIZES[1], "packed", "one", "none", 1, updates=2),))
_REFUSED = ("refused files",)

READY = (
    Ready(a_broken_checkpoint_is_refused, _ONE, _REFUSED, "load", theorem=True),
    Ready(a_checkpoint_of_something_else_is_refused, _ONE, _REFUSED, "load", theorem=True),
    Ready(a_checkpoint_of_another_run_is_refused, _ONE, ("other runs",), "load", theorem=True),
    Ready(
        a_checkpoint_of_another_policy_is_refused, _ONE, ("other policies",), "load", theorem=True
    ),
    Ready(nothing_that_a_file_claims_is_believed, _ONE, _REFUSED, "load", theorem=True),
    Ready(nothing_in_a_file_is_executed, _ONE, ("programs",), "load", theorem=True),
    Ready(a_file_takes_no_more_memory_than_it_has, _ONE, ("calls measured",), "load", theorem=True),
)
