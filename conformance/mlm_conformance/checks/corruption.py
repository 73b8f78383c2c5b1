"""Chapter COR: what selected positions show."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.cases.anywhere_masks import every_law, mask_series
from mlm_conformance.cases.masks import (
    LAWS,
    MASK,
    PACKED,
    ROWS,
    SPECIAL,
    MaskRecipe,
    mask_recipes,
    sample_recipes,
)
from mlm_conformance.cases.model import MaskCase, SampleCase, candidates
from mlm_conformance.check import Context, check
from mlm_conformance.checks.common import (
    HeadlessWords,
    besides,
    equal_masks,
    expected_mask,
    masked,
    numbered_words,
    sampled,
)

__all__: list[str] = []  # importing the module registers its checks

HALF = ("1/2",)
EVERY = ("1",)


@check(
    "MLM-COR-1",
    port="mask",
    recipes=mask_recipes(rates=HALF),
    needs=("selected", "unselected"),
    theorem=True,
    series=every_law,
)
def unselected_positions_show_their_tokens(context: Context, case: MaskCase) -> None:
    batch = masked(context, case)
    other = ~batch.selected
    context.saw("selected", batch.selected.sum())
    context.saw("unselected", other.sum())
    context.equal("inputs where not selected", batch.inputs[other], case.tokens[other])


@check(
    "MLM-COR-1",
    port="sample",
    recipes=sample_recipes(),
    needs=("selected", "unselected"),
    theorem=True,
)
def a_masker_leaves_unselected_tokens_alone(context: Context, case: SampleCase) -> None:
    inputs, labels = sampled(context, case, case.n)
    other = labels == -100
    context.saw("unselected", other.sum())
    context.saw("selected", (~other).sum())
    tokens = np.broadcast_to(case.tokens, inputs.shape)
    context.equal("inputs where not selected", inputs[other], tokens[other])


def _listed(ids: NDArray[Any]) -> str:
    """The different ids, and how many there are in all: ``0, 2, 3 (17 in all)``."""
    different = ", ".join(map(str, np.unique(ids)[:8].tolist()))
    return f"{different} ({ids.size} in all)"


@check(
    "MLM-COR-2",
    port="mask",
    recipes=mask_recipes(rates=HALF),
    needs=("selected",),
    theorem=True,
    series=mask_series(("bernoulli",), ("span",), ("word",)),
)
def targets_are_the_original_tokens(context: Context, case: MaskCase) -> None:
    batch = masked(context, case)
    context.saw("selected", batch.selected.sum())
    context.equal("targets", batch.targets, case.tokens)
    for name in ("inputs", "targets"):
        dtype = getattr(batch, name).dtype
        context.require(
            dtype == case.tokens.dtype, f"{name} has dtype {dtype}, should be {case.tokens.dtype}"
        )
    context.require(
        batch.selected.dtype == np.bool_, f"selected has dtype {batch.selected.dtype}, not bool"
    )


@check("MLM-COR-2", port="sample", recipes=sample_recipes(), needs=("selected",), theorem=True)
def labels_are_the_original_tokens(context: Context, case: SampleCase) -> None:
    _, labels = sampled(context, case, case.n)
    selected = labels != -100
    context.saw("selected", selected.sum())
    tokens = np.broadcast_to(case.tokens, labels.shape)
    context.equal("labels where selected", labels[selected], tokens[selected])


@check(
    "MLM-COR-3",
    port="mask",
    recipes=mask_recipes(rates=EVERY, units=("token",), shapes=(ROWS, PACKED)),
    needs=("masked", "random", "kept"),
    series=mask_series(
        ("bernoulli", "token", "1"),
        ("count",),
        ("word",),
        ("count", "token", "1/2"),
        at_once=2,
    ),
)
def kinds_follow_their_thresholds(context: Context, case: MaskCase) -> None:
    want = expected_mask(context, case)
    _count_kinds(context, case, want.inputs, want.selected)
    context.equal("inputs", masked(context, case).inputs, want.inputs)


def _count_kinds(
    context: Context, case: MaskCase, inputs: NDArray[Any], selected: NDArray[Any]
) -> None:
    shown, original = inputs[selected], case.tokens[selected]
    mask = case.policy.mask_id
    context.saw("masked", (shown == mask).sum())
    context.saw("kept", (shown == original).sum())
    context.saw("random", ((shown != original) & (shown != mask)).sum())


@check(
    "MLM-COR-4",
    port="mask",
    recipes=mask_recipes(rates=EVERY, kinds=("1 0 0",)),
    needs=("selected",),
    theorem=True,
)
def mask_weight_1_shows_the_mask_id(context: Context, case: MaskCase) -> None:
    batch = masked(context, case)
    context.saw("selected", batch.selected.sum())
    shown = batch.inputs[batch.selected]
    context.equal("inputs where selected", shown, np.full(shown.shape, MASK))


@check(
    "MLM-COR-4",
    port="mask",
    recipes=mask_recipes(
        rates=EVERY, kinds=("4/5 0 1/5", "0 1/2 1/2", "1/2 1/2 0", "0 0 1"), vocabs=(1000,)
    ),
    needs=("selected",),
    theorem=True,
)
def a_kind_of_weight_0_is_never_shown(context: Context, case: MaskCase) -> None:
    """Random ids from a pool that neither the mask id nor an original is in show what they are."""
    policy = replace(case.policy, pool=(998, 999))
    plain = (case.tokens >= 998) | (case.tokens == MASK)
    tokens = np.where(plain, 997, case.tokens).astype(case.tokens.dtype)
    batch = masked(context, replace(case, policy=policy, tokens=tokens))
    context.saw("selected", batch.selected.sum())
    shown, original = batch.inputs[batch.selected], tokens[batch.selected]
    weights = case.policy.corruption
    for kind, weight, seen in (
        ("the mask id", weights.mask, shown == MASK),
        ("a random id", weights.random, shown >= 998),
        ("the original", weights.keep, shown == original),
    ):
        context.require(
            weight > 0 or not seen.any(), f"{kind} is shown {seen.sum()} times at weight 0"
        )


@check(
    "MLM-COR-4",
    port="sample",
    recipes=sample_recipes(kinds=("1 0 0", "4/5 0 1/5")),
    needs=("selected",),
    theorem=True,
)
def a_masker_without_random_ids_shows_mask_or_original(context: Context, case: SampleCase) -> None:
    inputs, labels = sampled(context, case, case.n)
    selected = labels != -100
    context.saw("selected", selected.sum())
    kept = (inputs == labels) & (case.policy.corruption.keep > 0)
    odd = selected & (inputs != MASK) & ~kept
    context.require(not odd.any(), f"ids that may not be shown: {_listed(inputs[odd])}")


@check(
    "MLM-COR-5",
    port="mask",
    recipes=mask_recipes(rates=EVERY, kinds=("0 1 0",), vocabs=(32,), shapes=(PACKED,)),
    needs=("selected",),
    theorem=True,
)
def random_ids_lie_in_the_pool(context: Context, case: MaskCase) -> None:
    batch = masked(context, case)
    context.saw("selected", batch.selected.sum())
    pool = case.policy.pool
    allowed = np.arange(case.policy.vocab_size)
    if pool == "regular":
        allowed = np.setdiff1d(allowed, case.policy.special_ids)
    elif pool != "all":
        allowed = np.array(pool)
    shown = batch.inputs[batch.selected]
    outside = shown[~np.isin(shown, allowed)]
    context.require(not outside.size, f"random ids outside the pool: {_listed(outside)}")


@check(
    "MLM-COR-5",
    port="sample",
    recipes=sample_recipes(rates=("1/2",), kinds=("0 1 0", "1/2 1/2 0")),
    needs=("selected",),
    theorem=True,
)
def a_masker_never_draws_special_ids(context: Context, case: SampleCase) -> None:
    inputs, labels = sampled(context, case, case.n)
    selected = labels != -100
    context.saw("selected", selected.sum())
    shown = inputs[selected]
    barred = [i for i in SPECIAL if i != MASK or case.policy.corruption.mask == 0]
    outside = shown[np.isin(shown, barred) | (shown < 0) | (shown >= case.policy.vocab_size)]
    context.require(not outside.size, f"special ids, or no ids, drawn: {_listed(outside)}")


@check(
    "MLM-COR-6",
    port="mask",
    recipes=mask_recipes(laws=("bernoulli",), rates=EVERY, kinds=("0 1 0",), vocabs=(32,)),
    needs=("original redrawn",),
    theorem=True,
)
def a_pool_of_one_id_is_always_shown(context: Context, case: MaskCase) -> None:
    """Also where that id is the original: it may be redrawn."""
    policy = replace(case.policy, pool=(9,))
    tokens = case.tokens.copy()
    candidate = candidates(case)
    tokens[candidate & (np.arange(tokens.size).reshape(tokens.shape) % 3 == 0)] = 9
    batch = masked(context, replace(case, policy=policy, tokens=tokens))
    context.saw("original redrawn", (batch.selected & (tokens == 9)).sum())
    shown = batch.inputs[batch.selected]
    context.equal("inputs where selected", shown, np.full(shown.shape, 9))


@check(
    "MLM-COR-7",
    port="mask",
    recipes=besides(
        mask_recipes(
            laws=("word", "bernoulli", "count", "span"),
            rates=("1", "1/2"),
            kinds=("1/2 0 1/2", "1/3 1/3 1/3"),
            units=("word",),
        ),
        # What decides is no piece that is selected, or none that is a candidate, of many words.
        [
            HeadlessWords(MaskRecipe(law, "1/2", "1/2 0 1/2", "word", 32, i, ROWS, i))
            for law in LAWS
            for i in range(2)
        ],
    ),
    needs=("words of several pieces",),
    series=mask_series(
        ("bernoulli", "word", "1"),
        ("word", "word"),
        ("count", "word"),
        ("span", "word"),
        ("bernoulli", "word", "1/2", "1/2 0 1/2"),
        at_once=2,
    ),
)
def pieces_of_a_word_share_the_kind(context: Context, case: MaskCase) -> None:
    """With no random ids the kinds show in the inputs; with them the reference decides.

    A random id may be the mask id itself, where the pool has it.
    """
    want = expected_mask(context, case)
    batch = masked(context, case)
    assert case.word_id is not None
    candidate = candidates(case)
    mask = case.policy.mask_id
    candidate &= case.tokens != mask  # one that is kept looks like one that is masked
    hidden = batch.inputs == mask
    telling = case.policy.corruption.random == 0
    words = numbered_words(case)
    for row in range(len(hidden) if telling else 0):
        for word in np.unique(words[row][candidate[row]]):
            pieces = candidate[row] & batch.selected[row] & (words[row] == word)
            if pieces.sum() < 2:
                continue
            context.saw("words of several pieces")
            some, every = hidden[row][pieces].any(), hidden[row][pieces].all()
            name = case.word_id[row][pieces][0]
            context.require(some == every, f"row {row}: word {name} is masked in part")
    equal_masks(context, "by word", batch, want)


@check(
    "MLM-COR-8",
    port="mask",
    recipes=besides(
        mask_recipes(laws=("span",), kinds=("1/3 1/3 1/3", "1/2 0 1/2"), units=("span",)),
        [MaskRecipe("span", "1/7", "1/2 0 1/2", "span", 32, 1 + i % 2, ROWS, i) for i in range(6)],
    ),
    needs=("masked", "random", "kept"),
    series=mask_series(("span", "span")),
)
def a_span_shares_the_kind_of_its_start(context: Context, case: MaskCase) -> None:
    want = expected_mask(context, case)
    _count_kinds(context, case, want.inputs, want.selected)
    equal_masks(context, "by span", masked(context, case), want)
