"""Sessions on several devices: rows dealt out, ids in parts, and what fills both up.

Three requirements, on meshes in which nothing but what each is about could go wrong: ids in parts
of one size and rows on one device; rows that are dealt out evenly and ids on one device; and both
filled up.  So a mistake fails the one that it breaks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from mlm_conformance.cases.training import SIZES, TrainingCase, TrainingRecipe
from mlm_conformance.cases.training_batches import tokens_of
from mlm_conformance.check import Context, Recipes, check, table
from mlm_conformance.checks.training_common import (
    equal_shapes,
    evaluation_of,
    opened,
    same_run,
    seen_in,
    truth_of,
    within_ball,
    within_balls,
)
from mlm_conformance.checks.training_files import read_file, sequences_in
from mlm_conformance.checks.training_gradients import masked_of, policy_in
from mlm_conformance.checks.training_updates import judged_step
from mlm_conformance.training_session import Batch, TrainingSession
from mlm_spec.errors import CheckpointError
from mlm_spec.training.session import session as reference_session

__all__: list[str] = []  # importing the module registers its checks

Devices = tuple[int, int]

_BIAS = "cls.predictions.bias"
_PORT = "device_session"
#: Added to the logits of four parts: no two of them are of one magnitude.
_FAR = (0.0, 900.0, -900.0, 450.0)
#: Added to all logits: below any number that stands in for −∞ in wide use, -1e9 the least of them.
_LOW = -1e10


def _recipes(size: int, layout: str, split: str, rows: int, dropout: str, **about: Any) -> Recipes:
    return table([TrainingRecipe(SIZES[size], layout, split, dropout, 1, rows=rows, **about)])


#: Ids in four parts of five.
_PARTS = _recipes(0, "packed", "one", 4, "none", max_grad_norm=0.5)
#: 31 ids, and micro-batches of one row and of three.
_FILLED = _recipes(1, "padded", "uneven", 4, "none", updates=2)
#: Micro-batches of four rows.
_EVEN = _recipes(1, "packed", "even", 8, "everywhere", updates=2)


def _see(context: Context, case: TrainingCase, devices: Devices) -> None:
    """Count what a mesh makes of a case."""
    rows, ids = devices
    context.saw("ids that fill up", -case.config.vocab_size % ids)
    context.saw("rows that fill up", sum(-len(b["inputs"]) % rows for b in case.updates[0]))


def _gradients_within(
    context: Context, case: TrainingCase, session: TrainingSession, batches: Sequence[Batch]
) -> None:
    """The sum, the count and all gradients of the next update, which is the first."""
    truth, found = truth_of(case, batches), session.gradients(batches)
    context.equal("count", found["count"], truth.count)
    within_ball(context, "sum", found["sum"], truth.sum)
    within_balls(context, "gradient", found["gradients"], truth.gradients)


def _shifted(case: TrainingCase, by: Any) -> TrainingCase:
    """With other logits: the output bias is another."""
    bias = case.parameters[_BIAS] + by
    return replace(case, parameters={**case.parameters, _BIAS: bias})


@check(
    "MLM-DST-28", port=_PORT, recipes=_PARTS, needs=("parts with a target", "parts far apart"),
    result_field="gradients",
)  # fmt: skip
def parts_are_those_of_a_whole(context: Context, case: TrainingCase) -> None:
    """Targets in each part; the largest logit in one of them, near the others and far away."""
    parts, batches = len(_FAR), case.updates[0]
    size = case.config.vocab_size // parts
    targets = np.concatenate([b["targets"][b["selected"]] for b in batches]) // size
    context.saw("parts with a target", len(np.unique(targets)) == parts)
    far = _shifted(case, np.repeat(_FAR, size))
    context.saw("parts far apart")
    for each in (case, far):
        with opened(context, each, devices=(1, parts)) as session:
            _gradients_within(context, each, session, batches)


@check(
    "MLM-DST-28", port=_PORT, recipes=_PARTS, needs=("updates", "clipped"), result_field="step",
)  # fmt: skip
def an_update_has_the_norm_of_all_parts(context: Context, case: TrainingCase) -> None:
    with opened(context, case, devices=(1, len(_FAR))) as session:
        judged_step(context, case, session, case.updates[0], parts=("norm", "parameters"))


_BOTH_FILL_UP = ("ids that fill up", "rows that fill up")
_MESHES = ((2, 4), (3, 2))


@check("MLM-DST-29", port=_PORT, recipes=_FILLED, needs=_BOTH_FILL_UP, result_field="step")
def an_update_is_not_that_of_what_fills_up(context: Context, case: TrainingCase) -> None:
    for devices in _MESHES:
        _see(context, case, devices)
        with opened(context, case, devices=devices) as session:
            for batches in case.updates:
                judged_step(context, case, session, batches)


@check(
    "MLM-DST-29", port=_PORT, recipes=_FILLED, needs=("ids that fill up",),
    result_field="gradients",
)  # fmt: skip
def no_number_stands_in_for_minus_infinity(context: Context, case: TrainingCase) -> None:
    """Where all logits are far below 0, an id with any logit but −∞ would have the probability."""
    low = _shifted(case, _LOW)
    _see(context, low, _MESHES[0])
    with opened(context, low, devices=_MESHES[0]) as session:
        _gradients_within(context, low, session, low.updates[0][1:])


@check(
    "MLM-DST-29", port=_PORT, recipes=_PARTS, needs=("parts without an id",),
    result_field="gradients",
)  # fmt: skip
def a_part_may_have_no_id(context: Context, case: TrainingCase) -> None:
    """20 ids on six devices: four on each of the first five."""
    devices = (1, 6)
    each = -(-case.config.vocab_size // devices[1])
    context.saw("parts without an id", case.config.vocab_size <= each * (devices[1] - 1))
    with opened(context, case, devices=devices) as session:
        _gradients_within(context, case, session, case.updates[0])


@check(
    "MLM-DST-29", port=_PORT, recipes=_FILLED, needs=_BOTH_FILL_UP, theorem=True,
    result_field="gradients",
)  # fmt: skip
def nothing_is_as_large_as_what_fills_up(context: Context, case: TrainingCase) -> None:
    """Parameters, gradients and moments have the shapes of the encoder, before an update and
    after it."""
    devices = _MESHES[0]
    _see(context, case, devices)
    with opened(context, case, devices=devices) as session:
        for batches in case.updates:
            equal_shapes(context, "parameters", session.parameters(), case.parameters)
            found = session.gradients(batches)["gradients"]
            equal_shapes(context, "gradient", found, case.parameters)
            state = session.state()
            for name in ("exp_avg", "exp_avg_sq"):
                equal_shapes(context, name, state[name], case.parameters)
            session.step(batches)


@check(
    "MLM-DST-29", port=_PORT, recipes=_FILLED, needs=(*_BOTH_FILL_UP, "read elsewhere"),
    result_field="save",
)  # fmt: skip
def a_checkpoint_is_that_of_any_devices(context: Context, case: TrainingCase) -> None:
    """Read to the bit by the reference, on one device, and on others, where the run goes on."""
    _see(context, case, _MESHES[0])
    with TemporaryDirectory(prefix="mlm-spec-") as name:
        path = Path(name) / "run.safetensors"
        with opened(context, case, devices=_MESHES[0]) as session:
            session.step(case.updates[0])
            session.save(path)
            before = session.parameters(), session.state()
        wanted = sum(map(sequences_in, case.updates[0]))
        position = int(read_file(path.read_bytes()).texts["position"])
        context.equal("position", np.asarray(position), wanted)
        _read_by_the_reference(context, case, path, before)
        alone = [None] if "session" in context.claims else []
        for devices in ((1, 1), *alone, _MESHES[1]):
            with opened(context, case, devices=devices) as other:
                other.load(path)
                same_run(context, other, before, "from a checkpoint of other devices")
                context.saw("read elsewhere")
                if devices == _MESHES[1]:
                    judged_step(context, case, other, case.updates[1])


def _read_by_the_reference(context: Context, case: TrainingCase, path: Path, before: Any) -> None:
    session: Any = reference_session(case.encoder, case.training, case.parameters, None)
    try:
        session.load(path)
    except CheckpointError as error:
        context.require(False, f"the reference refuses a checkpoint: {error}")
    same_run(context, session, before, "read by the reference")


def _with_an_idle_device(case: TrainingCase, devices: int) -> TrainingCase:
    """Nothing is selected in the rows of the last device, in the first micro-batch of an update."""

    def idle(batch: Batch) -> dict[str, Any]:
        selected = batch["selected"].copy()
        selected[-(len(selected) // devices) :] = False
        return {**batch, "selected": selected}

    return replace(case, updates=[[idle(first), *rest] for first, *rest in case.updates])


def _see_rows(context: Context, batches: Sequence[Batch], devices: int) -> None:
    """Count what is on each device."""
    for batch in batches:
        counts = [int(own.sum()) for own in np.split(batch["selected"], devices)]
        context.saw("devices with nothing selected", counts.count(0))
        context.saw("devices with unequal counts", len(set(counts)) > 1)


_UNEVEN = ("devices with nothing selected", "devices with unequal counts")


@check(
    "MLM-DST-30", port=_PORT, recipes=_EVEN, needs=(*_UNEVEN, "dropout", "attention dropout"),
    result_field="step",
)  # fmt: skip
def rows_may_lie_on_any_device(context: Context, case: TrainingCase) -> None:
    """Updates with dropout, of packed rows."""
    shared = _with_an_idle_device(case, 2)
    seen_in(context, shared, shared.updates[0])
    _see_rows(context, shared.updates[0], 2)
    with opened(context, shared, devices=(2, 1)) as session:
        for batches in shared.updates:
            judged_step(context, shared, session, batches)


@check("MLM-DST-30", port=_PORT, recipes=_EVEN, needs=_UNEVEN, result_field="evaluate")
def an_evaluation_is_of_all_rows(context: Context, case: TrainingCase) -> None:
    shared = _with_an_idle_device(case, 4)
    batches = shared.updates[0]
    _see_rows(context, batches, 4)
    truth = evaluation_of(shared, batches)
    with opened(context, shared, devices=(4, 1)) as session:
        found = session.evaluate(batches)
    context.equal("count", found["count"], truth.count)
    within_ball(context, "sum of an evaluation", found["sum"], truth.sum)


@check("MLM-DST-30", port=_PORT, recipes=_EVEN, needs=("selected",), result_field="gradients")
def masks_do_not_know_their_device(context: Context, case: TrainingCase) -> None:
    """Tokens are masked inside, as `mask` masks them."""
    policy, still = policy_in(case), {"hidden_dropout": "0", "attention_dropout": "0"}
    calm = replace(case, encoder={**case.encoder, **still})
    given = [tokens_of(batch, 3) for batch in calm.updates[0]]
    masked = [masked_of(context, calm, policy, tokens) for tokens in given]
    seen_in(context, calm, masked)
    truth = truth_of(calm, masked)
    with opened(context, calm, policy, (2, 1)) as session:
        found = session.gradients(given)
    context.equal("count", found["count"], truth.count)
    within_balls(context, "gradient", found["gradients"], truth.gradients)
