"""Sessions: the objective of an update and the gradient of every parameter.

Each function is a judgement of one case, `READY` says on which cases; a requirement makes it a
check.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mlm_conformance.cases.numbers import generator
from mlm_conformance.cases.training import TrainingCase, training_recipes
from mlm_conformance.cases.training_batches import (
    in_other_rows,
    repadded,
    resplit,
    tokens_of,
    unpacked,
    widened,
)
from mlm_conformance.check import Context
from mlm_conformance.checks.training_common import (
    equal_shapes,
    evaluation_of,
    opened,
    same_state,
    seen_in,
    truth_of,
    within_ball,
    within_balls,
)
from mlm_conformance.checks.training_ready import Ready
from mlm_conformance.training_session import Batch
from mlm_spec import Bernoulli, Corruption, MaskingPolicy

__all__ = ["READY", "equal_gradients", "gradients_of", "masked_of", "policy_in"]


def _gradients_within(
    context: Context, case: TrainingCase, batches: Sequence[Any], alike: Sequence[Batch]
) -> None:
    """``batches`` have the sum, the count and the gradients of the masked batches ``alike``."""
    seen_in(context, case, alike)
    truth = truth_of(case, alike)
    with opened(context, case) as session:
        found = session.gradients(batches)
    context.equal("count", found["count"], truth.count)
    within_ball(context, "sum", found["sum"], truth.sum)
    within_balls(context, "gradient", found["gradients"], truth.gradients)


def gradients_are_those_of_the_loss(context: Context, case: TrainingCase) -> None:
    """Every entry of every tensor, tied ones with both of their uses, before clipping."""
    _gradients_within(context, case, case.updates[0], case.updates[0])


def dropout_follows_its_stream(context: Context, case: TrainingCase) -> None:
    """The gradients are those with exactly the units dropped that the stream drops."""
    _gradients_within(context, case, case.updates[0], case.updates[0])


def evaluation_drops_nothing(context: Context, case: TrainingCase) -> None:
    batches = case.updates[0]
    seen_in(context, case, batches)
    truth = evaluation_of(case, batches)
    with opened(context, case) as session:
        found = session.evaluate(batches)
    context.equal("count", found["count"], truth.count)
    within_ball(context, "sum of an evaluation", found["sum"], truth.sum)


def nothing_is_dropped_at_probability_0(context: Context, case: TrainingCase) -> None:
    """An update has the sum of an evaluation."""
    batches = case.updates[0]
    seen_in(context, case, batches)
    context.saw("no dropout", not context.seen["dropout"])
    with opened(context, case) as session:
        still, moved = session.evaluate(batches), session.gradients(batches)
    limit = evaluation_of(case, batches).sum.radius + truth_of(case, batches).sum.radius
    about = "two any-order bounds of the sum"
    context.within("sum of an update", moved["sum"], still["sum"], limit, about)


def evaluation_and_gradients_change_nothing(context: Context, case: TrainingCase) -> None:
    batches = case.updates[0]
    with opened(context, case) as session:
        before = session.parameters(), session.state()
        session.evaluate(batches)
        session.gradients(batches)
        same_state(context, session, before, "after an evaluation and gradients")
        context.saw("states compared")


def gradients_of(context: Context, case: TrainingCase, batches: Sequence[Any]) -> dict[str, Any]:
    """What `gradients` returns, each with the name and the shape of its parameter."""
    with opened(context, case) as session:
        found = session.gradients(batches)
    equal_shapes(context, "gradient", found["gradients"], case.parameters)
    return found


def equal_gradients(
    context: Context,
    case: TrainingCase,
    one: Mapping[str, Any],
    batches: Sequence[Batch],
) -> None:
    """``batches`` have the sum, the count and the gradients ``one`` of the case's.

    These are the same real numbers, and both answers lie within their own radius of them.
    """
    seen_in(context, case, case.updates[0])
    first, second = truth_of(case, case.updates[0]), truth_of(case, batches)
    two, about = gradients_of(context, case, batches), "two any-order bounds of the update"
    context.equal("count", two["count"], one["count"])
    limit = first.sum.radius + second.sum.radius
    context.within("sum", two["sum"], one["sum"], limit, about)
    for name, ball in first.gradients.items():
        limit = ball.radius + second.gradients[name].radius
        seen, wanted = two["gradients"][name], one["gradients"][name]
        context.within(f"gradient of {name}", seen, wanted, limit, about)


def padding_is_not_seen(context: Context, case: TrainingCase) -> None:
    """Whatever it holds, and however much of it there is."""
    rng, e = generator(case.salt, 41), case.config
    limits = {
        "inputs": e.vocab_size,
        "targets": e.vocab_size,
        "token_type_ids": e.type_vocab_size,
        "position_ids": e.max_position_embeddings,
    }
    others = [repadded(batch, rng, limits) for batch in case.updates[0]]
    found = gradients_of(context, case, case.updates[0])
    for each in (others, [widened(b, 3) for b in others]):
        equal_gradients(context, case, found, each)


def packed_sequences_do_not_see_each_other(context: Context, case: TrainingCase) -> None:
    """Each alone in a row makes the same update, with the same units dropped."""
    rows = [unpacked(batch) for batch in case.updates[0]]
    context.saw("packed", sum(len(b["inputs"]) for b in rows) - _rows(case.updates[0]))
    equal_gradients(context, case, gradients_of(context, case, case.updates[0]), rows)


def rows_have_no_order(context: Context, case: TrainingCase) -> None:
    rng = generator(case.salt, 42)
    others = [in_other_rows(batch, rng) for batch in reversed(case.updates[0])]
    found = gradients_of(context, case, case.updates[0])
    equal_gradients(context, case, found, others)


def micro_batches_do_not_matter(context: Context, case: TrainingCase) -> None:
    """Any split of an update has the same sum, count and gradients."""
    found = gradients_of(context, case, case.updates[0])
    for parts in (1, 2, _rows(case.updates[0])):
        others = resplit(case.updates[0], parts)
        context.saw("splits", len(others) != len(case.updates[0]))
        equal_gradients(context, case, found, others)


def tokens_are_masked_inside(context: Context, case: TrainingCase) -> None:
    """Two epochs of one batch: the gradients are those of the batch that `mask` makes."""
    policy = policy_in(case)
    with opened(context, case, policy) as session:
        for epoch in (0, 2**33 + 1):
            given = [tokens_of(batch, epoch) for batch in case.updates[0]]
            masked = [masked_of(context, case, policy, tokens) for tokens in given]
            seen_in(context, case, masked)
            truth, found = truth_of(case, masked), session.gradients(given)
            context.equal(f"count of epoch {epoch}", found["count"], truth.count)
            within_balls(context, f"gradient of epoch {epoch}", found["gradients"], truth.gradients)


def policy_in(case: TrainingCase) -> MaskingPolicy:
    """How the tokens of a case are masked."""
    return MaskingPolicy(
        Bernoulli("1/3"), Corruption("4/5", "1/10", "1/10"), case.config.vocab_size, mask_id=1
    )


def masked_of(
    context: Context, case: TrainingCase, policy: MaskingPolicy, tokens: dict[str, Any]
) -> Batch:
    """The batch that `mask` makes of tokens."""
    names = ("tokens", "sequence_id", "position", "word_id", "eligible", "epoch")
    call = {name: tokens[name] for name in names}
    found = context.oracle.mask(**call, policy=policy, seed=case.plan.seed)
    rest = {n: v for n, v in tokens.items() if n not in ("tokens", "word_id", "eligible", "epoch")}
    return {
        "inputs": np.asarray(found.inputs),
        "targets": np.asarray(found.targets),
        "selected": np.asarray(found.selected),
        **rest,
    }


def nothing_selected_has_no_gradient(context: Context, case: TrainingCase) -> None:
    batches = [{**b, "selected": np.zeros_like(b["selected"])} for b in case.updates[0]]
    context.saw("positions", sum(b["selected"].size for b in batches))
    with opened(context, case) as session:
        found = session.gradients(batches)
    context.equal("count", found["count"], 0)
    context.equal("sum", found["sum"], 0.0)
    for name, gradient in found["gradients"].items():
        context.equal(f"gradient of {name}", gradient, np.zeros(gradient.shape))


def _rows(batches: Sequence[Batch]) -> int:
    return sum(len(batch["inputs"]) for batch in batches)


_STILL = training_recipes(dropouts=("none",))
_DROPPED = training_recipes(dropouts=("hidden", "everywhere"))
_MODEST = training_recipes(dropouts=("none", "hidden"))
_PADDED = training_recipes(layouts=("padded", "packed"), dropouts=("none", "hidden"))
_PACKED = training_recipes(layouts=("packed",), dropouts=("hidden", "none"))

READY = (
    Ready(gradients_are_those_of_the_loss, _STILL, ("selected", "layers", "micro-batches")),
    Ready(dropout_follows_its_stream, _DROPPED, ("selected", "layers", "dropout")),
    Ready(evaluation_drops_nothing, _DROPPED, ("selected", "dropout"), "evaluate"),
    Ready(
        nothing_is_dropped_at_probability_0, _STILL, ("selected", "no dropout"), "evaluate",
        theorem=True,
    ),
    Ready(evaluation_and_gradients_change_nothing, _MODEST, ("states compared",)),
    Ready(padding_is_not_seen, _PADDED, ("padding", "layers"), theorem=True),
    Ready(packed_sequences_do_not_see_each_other, _PACKED, ("packed", "layers"), theorem=True),
    Ready(rows_have_no_order, _MODEST, ("micro-batches",), theorem=True),
    Ready(micro_batches_do_not_matter, _MODEST, ("splits", "dropout"), theorem=True),
    Ready(tokens_are_masked_inside, _MODEST, ("selected",)),
    Ready(nothing_selected_has_no_gradient, _MODEST, ("positions",), theorem=True),
)  # fmt: skip
