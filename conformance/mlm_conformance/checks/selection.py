"""Chapter SEL: which positions each law selects."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from mlm_conformance.cases.anywhere_masks import every_law, mask_series
from mlm_conformance.cases.counting import ROUNDINGS, FloatCount
from mlm_conformance.cases.masks import (
    COUNTS,
    MASK,
    PACKED,
    PAD,
    ROWS,
    SPECIAL,
    MaskRecipe,
    mask_recipes,
    sample_recipes,
)
from mlm_conformance.cases.model import MaskCase, SampleCase, candidates
from mlm_conformance.cases.numbers import generator
from mlm_conformance.check import Context, Fixed, check, table
from mlm_conformance.checks.common import (
    HeadlessWords,
    besides,
    expected_mask,
    masked,
    numbered_words,
    sampled,
)
from mlm_spec import Corruption, FixedCount, MaskingPolicy, split_words

__all__: list[str] = []  # importing the module registers its checks

_THIRDS = "1/3 1/3 1/3"


@dataclass(frozen=True, slots=True)
class _ManySpecials:
    """Rows at rate 1 with many special ids, all over them: the last ids, or with gaps between."""

    count: int
    apart: int

    def build(self, run_seed: int) -> MaskCase:
        """The case; equal recipes and run seeds give equal cases."""
        case = MaskRecipe("bernoulli", "1", _THIRDS, "token", 1000, 0, ROWS, self.count)
        plain, rng = case.build(run_seed), generator(run_seed, self.count + 1)
        special = 999 - self.apart * np.arange(self.count)
        tokens = np.where(rng.random(ROWS) < 0.5, rng.choice(special, size=ROWS), plain.tokens)
        ids = (*plain.policy.special_ids, *special.tolist())
        policy = replace(plain.policy, special_ids=ids)
        return replace(plain, tokens=tokens.astype(plain.tokens.dtype), policy=policy)


@dataclass(frozen=True, slots=True)
class _PaddingApart:
    """A mask recipe without a padding id, whose padding is a sequence of its own in each row."""

    recipe: MaskRecipe

    def build(self, run_seed: int) -> MaskCase:
        """The case; equal recipes and run seeds give equal cases."""
        case = self.recipe.build(run_seed)
        sequence = case.sequence_id.copy()
        sequence[case.tokens == PAD] = 2**32 - 1
        return replace(case, sequence_id=sequence, policy=replace(case.policy, pad_id=None))


@check(
    "MLM-SEL-1",
    port="mask",
    recipes=besides(
        mask_recipes(rates=("1", "1/2"), kinds=("1/3 1/3 1/3",)),
        [_ManySpecials(count, apart) for count, apart in ((100, 1), (200, 4))],
    ),
    needs=("special ids", "ineligible", "padding"),
    theorem=True,
    series=every_law,
)
def only_candidates_are_selected(context: Context, case: MaskCase) -> None:
    candidate = candidates(case)
    context.saw("special ids", (np.isin(case.tokens, case.policy.special_ids)).sum())
    context.saw("ineligible", (~case.eligible).sum())
    context.saw("padding", (case.tokens == PAD).sum())
    selected = masked(context, case).selected
    context.equal("selected where not a candidate", selected & ~candidate, selected & False)


@check(
    "MLM-SEL-1",
    port="sample",
    recipes=sample_recipes(),
    needs=("ineligible", "selected"),
    theorem=True,
)
def a_masker_never_selects_what_is_not_eligible(context: Context, case: SampleCase) -> None:
    _, labels = sampled(context, case, case.n)
    barred = np.broadcast_to(~case.eligible, labels.shape)
    context.saw("ineligible", barred.sum())
    context.saw("selected", (labels != -100).sum())
    context.equal("labels where not eligible", labels[barred], np.full(int(barred.sum()), -100))


@check(
    "MLM-SEL-2",
    port="mask",
    recipes=mask_recipes(laws=("bernoulli",), shapes=(ROWS, PACKED, (1, 1))),
    needs=("selected", "unselected"),
    series=mask_series(("bernoulli",)),
)
def bernoulli_selects_below_the_threshold(context: Context, case: MaskCase) -> None:
    _same_selection(context, case)


def _same_selection(context: Context, case: MaskCase) -> None:
    want = expected_mask(context, case)
    context.saw("selected", want.selected.sum())
    context.saw("unselected", (candidates(case) & ~want.selected).sum())
    context.equal("selected", masked(context, case).selected, want.selected)


@check(
    "MLM-SEL-3",
    port="mask",
    recipes=besides(
        mask_recipes(rates=("1", "0"), kinds=(_THIRDS,)),
        [
            MaskRecipe(law, "0", _THIRDS, "token", 32, 0, ROWS, i)
            for i, law in enumerate(("bernoulli", "count", "word", "span"))
        ],
    ),
    needs=("at rate 0", "at rate 1"),
    theorem=True,
)
def rate_0_selects_nothing_and_rate_1_everything(context: Context, case: MaskCase) -> None:
    law = case.policy.selection
    rate = law.start if hasattr(law, "start") else law.rate
    if isinstance(law, FixedCount):  # without floor and cap: its rate alone decides
        case = replace(case, policy=_with_law(case, FixedCount(rate, base=law.base)))
    want = candidates(case) if rate == 1 else np.zeros(case.tokens.shape, np.bool_)
    context.saw(f"at rate {rate}", candidates(case).sum())
    context.equal(f"selected, at rate {rate}", masked(context, case).selected, want)


def _with_law(case: MaskCase, law: FixedCount) -> MaskingPolicy:
    return replace(case.policy, selection=law)


# Each rounding, floor, cap and base, at a rate that gives halves and at one that gives sevenths.
_COUNTED = besides(
    mask_recipes(laws=("count",), kinds=(_THIRDS,), shapes=(ROWS, PACKED)),
    [
        MaskRecipe("count", rate, _THIRDS, "token", 32, i % len(COUNTS), ROWS, i + more)
        for more, rate in ((0, "1/2"), (100, "1/7"))
        for i in range(2 * len(COUNTS))
    ]
    + [
        _PaddingApart(MaskRecipe("count", rate, _THIRDS, "token", 32, i, ROWS, i))
        for rate in ("1/2", "1/7")
        for i, told in enumerate(COUNTS)
        if told.get("base") == "all"
    ],
)


@check(
    "MLM-SEL-4",
    port="mask",
    recipes=_COUNTED,
    needs=("sequences", "selected"),
    series=mask_series(("count",)),
)
def each_sequence_has_its_count(context: Context, case: MaskCase) -> None:
    _same_counts(context, case)


def _float_counts(number: int) -> list[FloatCount]:
    """For every third size a case of one rounding in turn."""
    return [FloatCount(ROUNDINGS[number // 3 % 3], 2 + number)] if number % 3 == 2 else []


@check(
    "MLM-SEL-4",
    port="mask",
    recipes=table([FloatCount(rounding, i) for rounding in ROUNDINGS for i in range(2)]),
    needs=("sequences", "selected"),
    series=_float_counts,
)
def a_count_is_not_worked_out_in_floats(context: Context, case: MaskCase) -> None:
    """Of rates and lengths at which the product of floats is rounded to another number."""
    _same_counts(context, case)


def _same_counts(context: Context, case: MaskCase) -> None:
    want = expected_mask(context, case).selected.sum(axis=1)
    context.saw("sequences", len(want))
    context.saw("selected", want.sum())
    seen = masked(context, case).selected.sum(axis=1)
    context.equal("selected positions of each row", seen, want)


@check(
    "MLM-SEL-5",
    port="mask",
    recipes=_COUNTED,
    needs=("selected", "unselected"),
    series=mask_series(("count",), ("count", "word")),
)
def the_smallest_words_are_selected(context: Context, case: MaskCase) -> None:
    _same_selection(context, case)


# Two positions of one sequence with one word w0 of stream 2, for seed = epoch = 0.
_EQUAL_WORDS = ((47351, 61, 101), (103809, 238, 242))


def _equal_words() -> Iterator[Fixed]:
    """One of two candidates is to be selected, and their words are equal; in both orders."""
    policy = MaskingPolicy(FixedCount("1/2"), Corruption(1, 0, 0), 32, MASK, PAD, SPECIAL)
    for sequence, *pair in _EQUAL_WORDS:
        position = np.broadcast_to(1000 + np.arange(ROWS[1], dtype=np.uint32), ROWS).copy()
        position[::2, [3, 9]], position[1::2, [3, 9]] = pair, pair[::-1]
        yield Fixed(
            MaskCase(
                np.full(ROWS, 9, np.int32),
                split_words(np.full(ROWS, sequence)),
                position,
                np.zeros(ROWS, np.int32),
                np.isin(position, pair),
                policy,
                seed=0,
                epoch=0,
                about=f"positions {pair[0]} and {pair[1]} have equal words",
            )
        )


@check("MLM-SEL-5", port="mask", recipes=table(list(_equal_words())), needs=("equal words",))
def equal_words_go_to_the_smaller_position(context: Context, case: MaskCase) -> None:
    candidate = candidates(case)
    context.saw("equal words", candidate.any(axis=1).sum())
    order = np.where(candidate, case.position, np.iinfo(np.uint32).max)
    want = candidate & (case.position == order.min(axis=1, keepdims=True))
    context.equal("selected", masked(context, case).selected, want)


_WORDS = besides(
    mask_recipes(laws=("word",), kinds=(_THIRDS,), shapes=(ROWS, PACKED)),
    [HeadlessWords(MaskRecipe("word", "1/2", _THIRDS, "token", 32, i, ROWS, i)) for i in range(4)],
)


@check("MLM-SEL-6", port="mask", recipes=_WORDS, needs=("words of several pieces",), theorem=True)
def pieces_of_a_word_share_the_decision(context: Context, case: MaskCase) -> None:
    selected = masked(context, case).selected
    assert case.word_id is not None
    candidate, words = candidates(case), numbered_words(case)
    for row in range(len(selected)):
        for word in np.unique(words[row][candidate[row]]):
            pieces = candidate[row] & (words[row] == word)
            context.saw("words of several pieces", pieces.sum() > 1)
            some, every = selected[row][pieces].any(), selected[row][pieces].all()
            name = case.word_id[row][pieces][0]
            context.require(some == every, f"row {row}: word {name} is selected in part")


@check(
    "MLM-SEL-7",
    port="mask",
    recipes=_WORDS,
    needs=("selected", "unselected"),
    series=mask_series(("word",), ("word", "word")),
)
def a_word_is_decided_at_its_first_candidate(context: Context, case: MaskCase) -> None:
    _same_selection(context, case)


@dataclass(frozen=True, slots=True)
class _FromTheStart:
    """A mask recipe whose rows begin at position 0 of their source; about half is eligible."""

    recipe: MaskRecipe

    def build(self, run_seed: int) -> MaskCase:
        """The case; equal recipes and run seeds give equal cases."""
        case = self.recipe.build(run_seed)
        shape = case.position.shape
        able = generator(run_seed, self.recipe.seed + 1).random(shape) < 0.5
        return replace(
            case,
            tokens=np.where(candidates(case), case.tokens, 9).astype(case.tokens.dtype),
            position=np.broadcast_to(np.arange(shape[1], dtype=np.uint32), shape).copy(),
            eligible=able,
        )


@check(
    "MLM-SEL-8",
    port="mask",
    recipes=besides(
        mask_recipes(laws=("span",), kinds=(_THIRDS,), shapes=(ROWS, PACKED)),
        [
            MaskRecipe("span", rate, _THIRDS, "token", 32, 1 + i % 2, shape, i + more)
            for more, rate in ((0, "1/2"), (100, "1/7"))
            for i, shape in enumerate((ROWS, ROWS, PACKED, PACKED))
        ]
        + [
            _FromTheStart(MaskRecipe("span", "1/7", _THIRDS, "token", 32, 2, ROWS, i))
            for i in range(4)
        ],
    ),
    needs=("selected", "unselected"),
    series=mask_series(("span",), ("span", "span")),
)
def the_union_of_spans_is_selected(context: Context, case: MaskCase) -> None:
    _same_selection(context, case)
