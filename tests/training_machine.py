"""A training run in random order: steps, questions, checkpoints, other splits, other runners.

What decides is the state before each rule: an update is judged by the radii of
`mlm_conformance.training` from there, and whatever is no update has to leave it to the bit.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule
from mlm_conformance.cases.checkpoint_files import broken
from mlm_conformance.cases.training import SIZES, TrainingCase, TrainingRecipe
from mlm_conformance.cases.training_batches import in_other_rows, resplit
from mlm_conformance.check import Context, Violation
from mlm_conformance.checks.training_common import (
    evaluation_of,
    same_state,
    truth_of,
    within_ball,
    within_balls,
)
from mlm_conformance.checks.training_updates import judged_step
from mlm_conformance.training import rounding

from mlm_spec.errors import CheckpointError
from mlm_spec.training.batch import UpdateStatus

__all__ = ["CASE", "RUNS", "STEPS", "Run", "how"]

#: How many runs, and how long; ``MLM_SPEC_TRAINING_RUNS`` asks for more, of other seeds.
RUNS, STEPS = int(os.environ.get("MLM_SPEC_TRAINING_RUNS", "4")), 16
NIGHTLY = "MLM_SPEC_TRAINING_RUNS" in os.environ

CASE: TrainingCase = TrainingRecipe(
    SIZES[0], "padded", "uneven", "hidden", 3, updates=2, columns=8
).build(0)

for _batch in (batch for update in CASE.updates for batch in update):
    _batch["selected"][:, 0] = True  # so that only what is idle on purpose has none

Opens = Callable[..., Any]
BATCHES = st.sampled_from(CASE.updates)


def how(runs: int | None = None) -> settings:
    """The same runs each time; at night, unless so many are asked for, new ones."""
    is_new = NIGHTLY and runs is None
    return settings(
        max_examples=RUNS if runs is None else runs,
        stateful_step_count=STEPS,
        derandomize=not is_new,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink] if is_new else [Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


class Run(RuleBasedStateMachine):
    """Sessions that hand one run to each other.

    Parameters
    ----------
    runners : what opens a session, the first of them at the start.
    """

    def __init__(self, *runners: Opens) -> None:
        super().__init__()
        self.folder = TemporaryDirectory(prefix="mlm-spec-")
        self.context = Context(_Nobody(), _NOTHING, frozenset(), None, case=str(CASE))
        about = (CASE.encoder, CASE.training, CASE.parameters, None)
        self.sessions = [opens(*about) for opens in runners]
        self.at = 0
        self.save()

    def teardown(self) -> None:
        """The checkpoints go."""
        self.folder.cleanup()

    @property
    def session(self) -> Any:
        """Whoever has the run."""
        return self.sessions[self.at]

    @property
    def known(self) -> tuple[Any, Any]:
        """The state, as it is now: a copy, whatever a session does with its arrays."""
        return deepcopy((self.session.parameters(), self.session.state()))

    def truth(self, batches: Any) -> Any:
        """What the next update sees."""
        parameters, state = self.known
        return truth_of(CASE, batches, int(state["update"]) + 1, parameters)

    @rule(batches=BATCHES, parts=st.integers(1, 4), seed=st.integers(0, 99))
    def step_in_any_split(self, batches: Any, parts: int, seed: int) -> None:
        """One update, its rows in some order and some micro-batches."""
        rng = np.random.default_rng(seed)
        dealt = [in_other_rows(b, rng) for b in resplit(batches, parts)]
        judged_step(self.context, CASE, self.session, dealt, batches)

    @rule(batches=BATCHES, order=st.permutations(range(4)), replicas=st.integers(1, 4))
    def step_of_replicas(self, batches: Any, order: list[int], replicas: int) -> None:
        """Their micro-batches in another order, and one replica with nothing selected."""
        parts = resplit(batches, replicas)
        idle = {**parts[0], "selected": np.zeros_like(parts[0]["selected"])}
        parts = [parts[i] for i in order if i < len(parts)]
        at = order[0] % (len(parts) + 1)
        dealt = [*parts[:at], idle, *parts[at:]]
        judged_step(self.context, CASE, self.session, dealt, batches)

    @rule(batches=BATCHES, replicas=st.integers(2, 3))
    def replicas_add_up(self, batches: Any, replicas: int) -> None:
        """Sums, counts and gradients of each, put together, are those of all."""
        before, r = self.known, rounding()
        parts = [[part] for part in resplit(batches, replicas)]
        truths, found = [self.truth(p) for p in parts], [self.session.gradients(p) for p in parts]
        counts = [int(f["count"]) for f in found]
        total = self.truth(batches)
        self.context.equal("count of all replicas", np.asarray(sum(counts)), total.count)
        for name, ball in total.gradients.items():
            shares = [np.float64(n) / total.count for n in counts]
            terms = [f["gradients"][name] * s for f, s in zip(found, shares, strict=True)]
            pairs = zip(truths, shares, strict=True)
            near = r.add(*(r.scaled(t.gradients[name], share, 4) for t, share in pairs))
            what = f"gradient of {name} of all replicas"
            self.context.within(what, sum(terms), ball.value, ball.radius + near.radius)
        same_state(self.context, self.session, before, "after gradients of replicas")

    @rule(batches=BATCHES)
    def step_of_nothing(self, batches: Any) -> None:
        """An update in which nothing is selected."""
        before = self.known
        empty = [{**b, "selected": np.zeros_like(b["selected"])} for b in batches]
        report = self.session.step(empty)
        self.context.equal("status of nothing", report["status"], int(UpdateStatus.EMPTY))
        same_state(self.context, self.session, before, "after an update of nothing")

    @rule(batches=BATCHES)
    def evaluate(self, batches: Any) -> None:
        """Without dropout, and without a trace."""
        before = self.known
        truth, found = evaluation_of(CASE, batches, before[0]), self.session.evaluate(batches)
        self.context.equal("count", found["count"], truth.count)
        within_ball(self.context, "sum of an evaluation", found["sum"], truth.sum)
        same_state(self.context, self.session, before, "after an evaluation")

    @rule(batches=BATCHES)
    def gradients(self, batches: Any) -> None:
        """Those of the next update, without a trace."""
        before, truth = self.known, self.truth(batches)
        found = self.session.gradients(batches)
        self.context.equal("count", found["count"], truth.count)
        within_balls(self.context, "gradient", found["gradients"], truth.gradients)
        same_state(self.context, self.session, before, "after gradients")

    def save(self) -> None:
        """It changes nothing; what lay there is replaced."""
        before = self.known
        self.session.save(self.path)
        self.saved = before
        same_state(self.context, self.session, before, "after saving")

    @rule(to=st.integers(0, 1))
    def load(self, to: int) -> None:
        """Whoever loads goes on from the checkpoint, however old: another runner too."""
        self.at = to % len(self.sessions)
        self.session.load(self.path)
        same_state(self.context, self.session, self.saved, "after loading")

    @rule(to=st.integers(0, 1))
    def hand_over(self, to: int) -> None:
        """Saved, and loaded at once, perhaps by another."""
        self.save()
        self.load(to)

    @rule()
    def load_what_is_broken(self) -> None:
        """It is refused, and the run is what it was."""
        path, before = self.path.with_name("broken"), self.known
        for what, content in broken(self.path.read_bytes()):
            path.write_bytes(content)
            try:
                self.session.load(path)
            except CheckpointError:
                same_state(self.context, self.session, before, f"after a file with {what}")
            else:
                raise Violation(f"a checkpoint with {what} is taken")

    @property
    def path(self) -> Path:
        """Of the checkpoint."""
        return Path(self.folder.name) / "run.safetensors"


class _Nobody:
    """Sessions are called by themselves here."""

    def call(self, port: str, /, **args: Any) -> Any:
        """Never."""
        raise AssertionError(port)


_NOTHING: Any = None
