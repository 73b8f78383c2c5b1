"""Sessions: a run that goes from one to the other through checkpoints is one run.

Two rules say what "one run" is.  Each update is judged from the state before it, within the radii
of `mlm_conformance.training`.  And the end is where the reference gets to on its own: each entry
within what the reference's own run scatters by, if its intermediate results are moved by what a
float64 sum may lose.  The bias of the keys, whose gradient is 0 and whose steps are noise, scatters
by that noise, and needs no rule of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mlm_conformance.cases.training import SIZES, TrainingCase, training_recipes
from mlm_conformance.check import Context
from mlm_conformance.checks.training_common import equal_names, mark_of, opened, same_run
from mlm_conformance.checks.training_ready import Ready
from mlm_conformance.checks.training_updates import judged_step
from mlm_conformance.perturbed import perturbation, unit_of
from mlm_conformance.scatter import RUNS, Scatter, scatter_of
from mlm_conformance.training_session import Batch
from mlm_spec.errors import CheckpointError
from mlm_spec.training.batch import TrainingBatch
from mlm_spec.training.layers import identity
from mlm_spec.training.session import session as reference_session
from mlm_spec.training.state import initial_state
from mlm_spec.training.update import update

__all__ = ["READY", "ends_where", "leg", "runs_of"]


def leg(
    context: Context,
    case: TrainingCase,
    session: Any,
    updates: Sequence[Sequence[Batch]],
    folder: Path,
    before: Any = None,
) -> Any:
    """Some updates of one runner, from the checkpoint in the folder and into it.

    Parameters
    ----------
    session : at the start of the case.
    before : what the last runner returned; None for the first one.

    Returns
    -------
    Its parameters and its state at the end.
    """
    path = folder / "relay.safetensors"
    if before is not None:
        _load(context, session, path)
        same_run(context, session, before, "from the runner before")
    for batches in updates:
        judged_step(context, case, session, batches, parts=("report", "parameters"))
    session.save(path)
    context.saw("legs")
    return session.parameters(), session.state()


def _load(context: Context, session: Any, path: Path) -> None:
    """The reference too has to read what a target wrote."""
    try:
        session.load(path)
    except CheckpointError as error:
        context.require(False, f"the reference refuses a checkpoint: {error}")


def runs_of(case: TrainingCase) -> Scatter:
    """Where the reference gets to, and how far that scatters."""
    updates = [[TrainingBatch(**batch) for batch in batches] for batches in case.updates]
    unit = max(unit_of(case.config, batch) for batches in updates for batch in batches)

    def run(seed: int | None) -> dict[str, Any]:
        state = initial_state(case.parameters, case.config, case.plan)
        moved = identity if seed is None else perturbation(unit, seed)
        for batches in updates:
            state, _ = update(state, batches, case.config, case.plan, rounded=moved)
        # The last rounding of AdamW is one of each parameter itself.
        return {name: moved(p) for name, p in state.parameters.items()}

    return scatter_of(("relay", mark_of(case)), run)


def ends_where(context: Context, parameters: Any, wanted: Scatter) -> None:
    """The parameters are those at the end of the reference's run."""
    equal_names(context, "the end of the relay", parameters, wanted.still)
    about = f"{wanted.factor:.3g} spreads of {RUNS} moved runs"
    for name, still in wanted.still.items():
        what = f"{name} at the end of the relay"
        context.within(what, parameters[name], still, wanted.limit(name), about)


def a_relay_is_one_run(context: Context, case: TrainingCase) -> None:
    """The reference, this target, the reference: where the reference gets to on its own."""
    third = len(case.updates) // 3
    parts = [case.updates[:third], case.updates[third : 2 * third], case.updates[2 * third :]]
    about = (case.encoder, case.training, case.parameters)
    with TemporaryDirectory(prefix="mlm-spec-") as name, opened(context, case) as session:
        folder = Path(name)
        handed = leg(context, case, reference_session(*about), parts[0], folder)
        handed = leg(context, case, session, parts[1], folder, handed)
        last = leg(context, case, reference_session(*about), parts[2], folder, handed)
    ends_where(context, last[0], runs_of(case))


_RUNS = training_recipes(dropouts=("hidden",), sizes=SIZES[1:2], updates=3)

READY = (Ready(a_relay_is_one_run, (None, _RUNS[1][:1]), ("legs",), "load"),)
