"""The relay: 5 updates in NumPy, 5 in PyTorch and 5 in JAX are 15 in the reference."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from mlm_conformance.cases.training import SIZES, TrainingRecipe
from mlm_conformance.check import Context, Violation
from mlm_conformance.checks.training_common import opened
from mlm_conformance.checks.training_relay import ends_where, leg, runs_of
from mlm_conformance.in_process import InProcessTarget
from mlm_conformance.oracle import reference_oracle
from mlm_jax.port import JaxPort
from mlm_torch.port import TorchPort

from mlm_spec.training.session import session

LEG = 5
RECIPE = TrainingRecipe(SIZES[1], "packed", "one", "everywhere", 2, updates=3 * LEG)
RUNNERS = {"numpy": SimpleNamespace(session=session), "torch": TorchPort(), "jax": JaxPort()}


def test_five_updates_each_are_fifteen_in_the_reference(tmp_path: Path) -> None:
    case, handed = RECIPE.build(0), None
    for number, (name, runner) in enumerate(RUNNERS.items()):
        oracle = reference_oracle()
        context = Context(InProcessTarget(runner), oracle, frozenset({"session"}), None)
        context.case = f"{case}, run by {name}"
        updates = case.updates[LEG * number : LEG * (number + 1)]
        with opened(context, case) as run:
            handed = leg(context, case, run, updates, tmp_path, handed)
        assert context.worst is not None
        assert 0.0 < context.worst.ratio <= 1.0
    assert handed is not None
    assert handed[1]["update"] == 3 * LEG

    wanted = runs_of(case)
    ends_where(context, handed[0], wanted)
    # The rule sees what one float32 rounding, in one entry, makes of a run.
    name = "bert.encoder.layer.0.output.dense.weight"
    other = {**handed[0], name: handed[0][name].copy()}
    other[name][0, 0] = other[name][0, 0].astype("float32")
    with pytest.raises(Violation, match="at the end of the relay"):
        ends_where(context, other, wanted)
