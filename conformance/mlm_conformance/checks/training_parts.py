"""Sessions: one part of the encoder at a time.

Judgements for the requirements of chapter ENC that need more than a comparison of all gradients.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.cases.numbers import generator
from mlm_conformance.cases.training import SIZES, TrainingCase, training_recipes
from mlm_conformance.cases.training_batches import in_other_rows, resplit, unpacked
from mlm_conformance.cases.training_parts import part_recipes
from mlm_conformance.check import Context
from mlm_conformance.checks.training_common import equal_shapes, opened, seen_in, truth_of
from mlm_conformance.checks.training_gradients import equal_gradients, gradients_of
from mlm_conformance.checks.training_ready import Ready
from mlm_conformance.training import shapes
from mlm_conformance.training_session import Batch

__all__ = ["READY"]

Array = NDArray[Any]

_WORDS = "bert.embeddings.word_embeddings.weight"
#: Weights of the maps whose input has the unit 0 always 0.
_FED = tuple(
    f"{name}.weight"
    for name in (
        "query",
        "key",
        "value",
        "attention.output.dense",
        "intermediate.dense",
        "transform.dense",
    )
)
_PLACES = "bert.embeddings.position_embeddings.weight"


def parameters_have_names_and_shapes(context: Context, case: TrainingCase) -> None:
    """Those of the table, with the numbers that were given; and so have gradients."""
    table = {name: np.empty(shape) for name, shape in shapes(case.config).items()}
    with opened(context, case) as session:
        parameters = session.parameters()
        gradients = session.gradients(case.updates[0])["gradients"]
    for what, seen in (("parameters", parameters), ("gradients", gradients)):
        equal_shapes(context, what, seen, table)
        context.saw(what, len(seen))
    for name, given in case.parameters.items():
        context.equal(f"{name} of parameters", parameters[name], given)


def a_column_belongs_to_an_input(context: Context, case: TrainingCase) -> None:
    """An input that is always 0 gives its column of a weight the gradient 0, and no other."""
    found = gradients_of(context, case, case.updates[0])["gradients"]
    for name, gradient in found.items():
        if not name.endswith(_FED):
            continue
        context.equal(f"column 0 of the gradient of {name}", gradient[:, 0], 0.0 * gradient[:, 0])
        context.saw("columns", bool(gradient[0].any()))


def every_position_sees_every_other(context: Context, case: TrainingCase) -> None:
    """One position of a row is predicted, the first, the last or another: each position of the
    row has a part in it."""
    batch = _chains(case)
    for at in (0, -1, batch["selected"].shape[1] // 2):
        batch["selected"][:] = False
        batch["selected"][:, at] = True
        found = gradients_of(context, case, [batch])["gradients"][_PLACES]
        for place in np.unique(batch["position_ids"]):
            said = f"the position at {place} has no part in the prediction at {at}"
            context.require(bool(found[place].any()), f"{said} [{case}]")
            context.saw("pairs")


def _chains(case: TrainingCase) -> Batch:
    """A row of one real sequence; its position ids are its columns."""
    first = case.updates[0][0]
    batch = {name: array[:1].copy() for name, array in first.items()}
    columns = np.arange(batch["inputs"].shape[1])
    batch["attention_mask"][:] = True
    batch["sequence_id"][:] = batch["sequence_id"][:, :1]
    batch["position"][:] = columns
    batch["position_ids"][:] = columns
    return batch


def words_have_the_gradients_of_both_uses(context: Context, case: TrainingCase) -> None:
    """Where the table of positions is read at the rows of that of words, the gradients differ by
    that of the output layer."""
    batches = case.updates[0]
    seen_in(context, case, batches)
    found = gradients_of(context, case, batches)["gradients"]
    truth = truth_of(case, batches).gradients
    words, places = truth[_WORDS], truth[_PLACES]
    rows = len(words.value)
    seen = found[_WORDS] - found[_PLACES][:rows]
    wanted = words.value - places.value[:rows]
    # Each subtraction is rounded once.
    limit = words.radius + places.radius[:rows] + 2.0**-52 * np.abs(wanted)
    about = "two any-order bounds of the update"
    context.within("gradient of the words' use as output layer", seen, wanted, limit, about)
    at_both = np.unique(np.concatenate([b["inputs"][b["attention_mask"]] for b in batches]))
    context.saw("rows that are read", len(at_both))
    context.saw("rows that are not", rows - len(at_both))


def units_go_with_their_sequence(context: Context, case: TrainingCase) -> None:
    """In other rows and micro-batches, beside other sequences, at other columns: the same units
    are dropped."""
    batches, rng = case.updates[0], generator(case.salt, 43)
    found = gradients_of(context, case, batches)
    rows = [unpacked(batch) for batch in batches]
    context.saw("moved", sum(len(b["inputs"]) for b in rows))
    mixed = resplit([in_other_rows(batch, rng) for batch in reversed(rows)], 3)
    for others in (rows, mixed):
        equal_gradients(context, case, found, others)


_SMALL = training_recipes(dropouts=("none",), sizes=SIZES[1:2])
_PACKED = training_recipes(layouts=("packed",), dropouts=("everywhere",), sizes=SIZES[1:2])

READY = (
    Ready(
        parameters_have_names_and_shapes, _SMALL, ("parameters", "gradients"), "parameters",
        theorem=True,
    ),
    Ready(a_column_belongs_to_an_input, part_recipes("unit 0", 1), ("columns",), theorem=True),
    Ready(every_position_sees_every_other, _SMALL, ("pairs",), theorem=True),
    Ready(
        words_have_the_gradients_of_both_uses, part_recipes("equal rows", 0),
        ("rows that are read", "rows that are not"),
    ),
    Ready(
        units_go_with_their_sequence, _PACKED, ("moved", "dropout", "attention dropout"),
        theorem=True,
    ),
)  # fmt: skip
