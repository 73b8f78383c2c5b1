"""A session of `MeshPort`, in a process of its own: eight devices have to be asked for in time.

Prints as JSON what lies outside its bound, how the arrays lie, and what is compiled twice.
"""

from __future__ import annotations

import json
from typing import Any

import jax
import numpy as np
from jax import monitoring
from mlm_conformance.cases.training import SIZES, TrainingCase, TrainingRecipe
from mlm_conformance.training import Ball, objective, updated
from mlm_jax.mesh import MeshPort
from mlm_jax.training.parameters import WORDS

COMPILED: list[str] = []


def listen(event: str, duration: float, **details: Any) -> None:
    """Keep the name of each program that is compiled."""
    if event.endswith("backend_compile_duration"):
        COMPILED.append(str(details.get("fun_name")))


def case() -> TrainingCase:
    """Of three micro-batches one has nothing selected, and the last has three rows."""
    found = TrainingRecipe(SIZES[1], "packed", "one of none", "none", 5).build(0)
    more = TrainingRecipe(SIZES[1], "padded", "uneven", "none", 6).build(0)
    found.updates[0].append(more.updates[0][1])
    return found


def outside(found: Any, balls: dict[str, Ball]) -> list[str]:
    """The names of arrays with an entry outside its ball."""
    return [n for n, b in balls.items() if (np.abs(found[n] - b.value) > b.radius).any()]


def run(case: TrainingCase) -> dict[str, Any]:
    """An update, what lies where, and what another one compiles."""
    session = MeshPort().session(case.encoder, case.training, case.parameters)
    batches = case.updates[0]
    truth = objective(case.config, case.parameters, batches, case.plan.seed, 1)
    gradients = session.gradients(batches)
    report = session.step(batches)
    zeros = {name: np.zeros_like(p) for name, p in case.parameters.items()}
    wanted = updated(case.plan, case.parameters, zeros, zeros, truth.gradients, 1)
    after = session.parameters()
    COMPILED.clear()
    session.step(batches)
    table = session._state.moments.parameters[WORDS]
    placed = session._layout.batch(session._prepared(batches)[0].batch)
    return {
        "devices": len(jax.devices()),
        "counts": [int(gradients["count"]), int(report["count"]), int(truth.count)],
        "outside": outside(gradients["gradients"], truth.gradients)
        + outside(after, wanted.parameters)
        + outside({"sum": gradients["sum"]}, {"sum": truth.sum}),
        "compiled": list(COMPILED),
        "ids": [table.sharding.shard_shape(table.shape)[0], table.shape[0]],
        "rows": [placed.inputs.sharding.shard_shape(placed.inputs.shape)[0], len(placed.inputs)],
    }


def main() -> None:
    monitoring.register_event_duration_secs_listener(listen)
    print(json.dumps(run(case())))


if __name__ == "__main__":
    main()
