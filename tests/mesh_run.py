"""Sessions on meshes of several shapes, in a process of its own: eight devices have to be asked for
before JAX is used.  Prints as JSON what lies outside its bound, and how the arrays lie.
"""

from __future__ import annotations

import json
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from mlm_conformance.cases.training import SIZES, TrainingCase, TrainingRecipe
from mlm_conformance.training import Ball, objective, updated
from mlm_jax.mesh import MeshPort
from mlm_jax.session import JaxSession
from mlm_jax.training.layout import AXES
from mlm_jax.training.parameters import WORDS

#: Devices along the rows, and along the vocabulary: 31 ids are divided by none but one.
MESHES = ((1, 1), (2, 4), (3, 2), (4, 1))


def case_of(dropout: str) -> TrainingCase:
    """Of three micro-batches one has nothing selected, and the others unequal numbers."""
    recipe = TrainingRecipe(SIZES[1], "packed", "one of none", dropout, 5, rows=6)
    case = recipe.build(0)
    more = TrainingRecipe(SIZES[1], "padded", "one", dropout, 6, rows=5).build(0)
    case.updates[0] += more.updates[0]
    return case


def outside(found: Any, balls: dict[str, Ball]) -> list[str]:
    """The names of arrays with an entry outside its ball."""
    return [n for n, b in balls.items() if (np.abs(found[n] - b.value) > b.radius).any()]


def run(case: TrainingCase, rows: int, ids: int) -> dict[str, Any]:
    """One update on a mesh, and what lies where."""
    mesh = Mesh(np.array(jax.devices()[: rows * ids]).reshape(rows, ids), AXES)
    session = JaxSession(case.encoder, case.training, case.parameters, mesh=mesh)
    batches, config = case.updates[0], case.config
    truth = objective(config, case.parameters, batches, case.plan.seed, 1)
    gradients = session.gradients(batches)
    report = session.step(batches)
    zeros = {name: np.zeros_like(p) for name, p in case.parameters.items()}
    wanted = updated(case.plan, case.parameters, zeros, zeros, truth.gradients, 1)
    table = session._state.moments.parameters[WORDS]
    placed = session._layout.batch(session._prepared(batches)[0].batch)
    return {
        "counts": [int(gradients["count"]), int(report["count"]), int(truth.count)],
        "outside": outside(gradients["gradients"], truth.gradients)
        + outside(session.parameters(), wanted.parameters)
        + outside({"sum": gradients["sum"]}, {"sum": truth.sum}),
        "ids": [table.sharding.shard_shape(table.shape)[0], table.shape[0]],
        "rows": [placed.inputs.sharding.shard_shape(placed.inputs.shape)[0], len(placed.inputs)],
    }


def main() -> None:
    MeshPort()
    found = {f"{r} x {n}": run(case_of("everywhere"), r, n) for r, n in MESHES}
    print(json.dumps({"devices": len(jax.devices()), "meshes": found}))


if __name__ == "__main__":
    main()
