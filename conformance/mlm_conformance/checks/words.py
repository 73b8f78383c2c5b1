"""Chapter RNG: the words, their key and counter, and the thresholds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.cases.edges import EDGES, EdgeRecipe
from mlm_conformance.cases.masks import MASK, PAD, ROWS, SPECIAL, MaskRecipe, mask_recipes
from mlm_conformance.cases.model import MaskCase, WordsCase, candidates
from mlm_conformance.cases.numbers import generator
from mlm_conformance.check import Context, Fixed, check, table
from mlm_conformance.checks.common import besides, equal_masks, expected_mask, field_of, masked
from mlm_spec import (
    Bernoulli,
    Corruption,
    MaskedBatch,
    MaskingPolicy,
    split_words,
)

__all__: list[str] = []  # importing the module registers its checks

# Random123's published known answers for threefry4x32, 20 rounds (kat_vectors).
_PI = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)
_PI_KEY = (0xA4093822, 0x299F31D0, 0x082EFA98, 0xEC4E6C89)
_ONES = (2**32 - 1,) * 4
_KNOWN = (
    ("zeros", (0,) * 4, (0,) * 4, (0x9C6CA96A, 0xE17EAE66, 0xFC10ECD4, 0x5256A7D8)),
    ("ones", _ONES, _ONES, (0x2A881696, 0x57012287, 0xF6C7446E, 0xA16A6732)),
    ("digits of pi", _PI_KEY, _PI, (0x59CD1DBB, 0xB8879579, 0x86B5D00C, 0xAC8B6D84)),
)


@check(
    "MLM-RNG-1",
    port="random_words",
    recipes=table(
        [
            Fixed(WordsCase(np.array([key], np.uint32), np.array([ctr], np.uint32), about=name))
            for name, key, ctr, _ in _KNOWN
        ]
    ),
    needs=("known answers",),
    theorem=True,
)
def words_are_the_published_known_answers(context: Context, case: WordsCase) -> None:
    answers = {name: answer for name, _, _, answer in _KNOWN}
    result = context.call("random_words", {"key": case.key, "counter": case.counter})
    context.saw("known answers")
    words = field_of(result, "words", (1, 4))
    context.equal(f"words for {case.about}", words, np.array([answers[case.about]], np.uint32))


@dataclass(frozen=True, slots=True)
class _Blocks:
    """Random keys and counters, some of them equal in all but one bit."""

    seed: int
    least: int = 32
    most: int = 32

    def build(self, run_seed: int) -> WordsCase:
        """The case; equal recipes and run seeds give equal cases."""
        rng = generator(run_seed, self.seed)
        shape = (int(rng.integers(self.least, self.most + 1)), 4)
        key, counter = (rng.integers(2**32, size=shape, dtype=np.uint32) for _ in range(2))
        key[1:9], counter[1:9] = key[0], counter[0]
        for row in range(1, 9):
            array = key if row < 5 else counter
            array[row, (row - 1) % 4] ^= np.uint32(1) << rng.integers(32, dtype=np.uint32)
        return WordsCase(key, counter, about="random blocks")


def _more_blocks(number: int) -> list[_Blocks]:
    """For one in four sizes more blocks than most kernels take in one piece."""
    return [_Blocks(4 + number, 4097, 9000)] if number % 4 == 3 else []


@check(
    "MLM-RNG-1",
    port="random_words",
    recipes=table([_Blocks(i) for i in range(4)]),
    series=_more_blocks,
)
def words_are_threefry(context: Context, case: WordsCase) -> None:
    result = context.call("random_words", {"key": case.key, "counter": case.counter})
    words = field_of(result, "words", case.key.shape)
    context.equal("words", words, context.oracle.words(case.key, case.counter))


_WORD_RECIPES = mask_recipes(laws=("bernoulli",), rates=("1/2",), kinds=("1/3 1/3 1/3",))


@check("MLM-RNG-2", port="mask", recipes=_WORD_RECIPES, needs=("changed seed", "changed epoch"))
def every_bit_of_seed_and_epoch_is_in_the_key(context: Context, case: MaskCase) -> None:
    """One of the four key words is not 0, in turn; counters are small: they are MLM-RNG-3's."""
    rng = generator(case.salt, 5)
    places = np.indices(case.tokens.shape).astype(np.uint32)
    sequence = np.stack([places[0], np.zeros_like(places[0])], axis=-1)
    case = replace(case, position=places[1], sequence_id=sequence)
    word = int(rng.integers(1, 2**32))
    for seed, epoch in ((word, 0), (word << 32, 0), (0, word), (0, word << 32)):
        part = replace(case, seed=seed, epoch=epoch)
        context.saw("changed seed", seed > 0)
        context.saw("changed epoch", epoch > 0)
        where = f"for seed {seed}, epoch {epoch}"
        equal_masks(context, where, masked(context, part), expected_mask(context, part))


@check("MLM-RNG-3", port="mask", recipes=_WORD_RECIPES, needs=("changed counter",))
def every_word_of_the_counter_matters(context: Context, case: MaskCase) -> None:
    """Position, and the two words of the sequence id, each over all of 32 bits."""
    rng = generator(case.salt, 6)
    shape = case.tokens.shape
    full = rng.integers(2**32, size=(*shape, 3), dtype=np.uint32)
    zero = np.zeros(shape, np.uint32)
    base = np.stack([zero, zero], axis=-1)
    for name, position, sequence in (
        ("position", full[..., 0], base),
        ("low word of the sequence id", zero, np.stack([full[..., 1], zero], axis=-1)),
        ("high word of the sequence id", zero, np.stack([zero, full[..., 2]], axis=-1)),
    ):
        part = replace(case, position=position, sequence_id=sequence)
        context.saw("changed counter", (position > 0).sum() + (sequence > 0).sum())
        equal_masks(context, f"by {name}", masked(context, part), expected_mask(context, part))


@check(
    "MLM-RNG-4",
    port="mask",
    recipes=mask_recipes(rates=("1/2",)),
    needs=("selected",),
    theorem=True,
)
def the_same_call_gives_the_same_answer(context: Context, case: MaskCase) -> None:
    """Twice, with another call between, and with no global random state moved."""
    first = masked(context, case)
    context.saw("selected", first.selected.sum())
    masked(context, replace(case, seed=case.seed ^ 1, epoch=case.epoch ^ 1))
    answer = context.answer("mask", case.arguments(), watch_random=True)
    context.result_of("mask", answer)
    context.require(
        not answer.global_random_advanced, "mask advanced a global random state of its process"
    )
    equal_masks(context, "the second time", masked(context, case), first)


_ALTERED = ("tokens", "sequence_id", "position", "word_id", "eligible", "seed", "epoch", "policy")


@check(
    "MLM-RNG-4",
    port="mask",
    recipes=mask_recipes(rates=("1/2",), kinds=("1/3 1/3 1/3",), shapes=(ROWS,)),
    needs=_ALTERED,
    theorem=True,
    share=0.5,
)
def one_altered_argument_is_noticed(context: Context, case: MaskCase) -> None:
    """Calls that differ in one cell of one argument, and the first call again after each.

    What the right answer is, others see: here it is that to the same rows in an order of their own,
    which were in no call before.  Where the order of rows matters (MLM-SEL-9), that says nothing.
    """
    rng = generator(case.salt, 12)
    orders = rng.permutation(list(permutations(range(len(case.tokens))))[1:])
    first = masked(context, case)
    ordered = _reordered(context, case, orders[-1])
    for name, order in zip(_ALTERED, orders, strict=False):
        other = _altered(case, name, rng)
        context.saw(name)
        if (ordered.selected == first.selected).all() and (ordered.inputs == first.inputs).all():
            seen = masked(context, other)
            equal_masks(context, f"with another {name}", seen, _reordered(context, other, order))
        equal_masks(context, f"after another {name}", masked(context, case), first)


def _reordered(context: Context, case: MaskCase, order: NDArray[np.intp]) -> MaskedBatch:
    """The masks of the rows of a case, which are given in that order."""
    rows = ("tokens", "sequence_id", "position", "word_id", "eligible")
    batch = masked(context, replace(case, **{name: getattr(case, name)[order] for name in rows}))
    back = np.argsort(order)
    return batch._replace(selected=batch.selected[back], inputs=batch.inputs[back])


def _altered(case: MaskCase, name: str, rng: np.random.Generator) -> MaskCase:
    """The case with one cell of an argument changed, or a seed, an epoch or a share of kinds."""
    if name in ("seed", "epoch"):
        number: dict[str, Any] = {name: getattr(case, name) ^ 1 << int(rng.integers(63))}
        return replace(case, **number)
    if name == "policy":
        shares = Corruption("1/2", "1/4", "1/4", case.policy.corruption.unit)
        return replace(case, policy=replace(case.policy, corruption=shares))
    array = np.array(getattr(case, name))
    cells = np.argwhere(candidates(case))
    row, column = rng.choice(cells) if len(cells) else (0, 0)
    if name == "sequence_id":
        array[row, column, 0] ^= 1 << int(rng.integers(31))
    elif name == "eligible":
        array[row, column] ^= True
    elif name == "tokens":
        array[row, column] = rng.choice(np.setdiff1d(array, case.policy.special_ids))
    else:  # a position or a word that is not there yet
        array[row, column] = rng.choice(np.setdiff1d(np.arange(2 * array.size), array))
    altered: dict[str, Any] = {name: array}
    return replace(case, **altered)


# The boundary vectors of chapter RNG, for seed = epoch = 0: rate, sequence, position, and whether
# the word is below the threshold.
_BOUNDARY = (
    ("3/20", 2579409, 129, True),
    ("3/20", 1271431, 440, False),
    ("1/4294967296", 8262929, 326, True),
    ("1/4294967296", 8846433, 40, False),
    ("4294967295/4294967296", 15061757, 181, True),
    ("4294967295/4294967296", 8803059, 391, False),
    ("1", 8803059, 391, True),
    ("0", 8262929, 326, False),
)
_BELOW, _NOT_BELOW = "the last word below T", "the first word not below T"


def _boundary_cases() -> Iterator[Fixed]:
    for rate, sequence, position, below in _BOUNDARY:
        policy = MaskingPolicy(
            Bernoulli(rate), Corruption(1, 0, 0), 32, MASK, pad_id=PAD, special_ids=SPECIAL
        )
        tokens = np.full(ROWS, 9, np.int32)
        yield Fixed(
            MaskCase(
                tokens,
                split_words(np.full(ROWS, sequence)),
                np.full(ROWS, position, np.uint32),
                np.zeros(ROWS, np.int32),
                np.ones(ROWS, np.bool_),
                policy,
                seed=0,
                epoch=0,
                about=f"w0 is {_BELOW if below else _NOT_BELOW} at rate {rate}",
            )
        )


@check(
    "MLM-RNG-5",
    port="mask",
    recipes=table(list(_boundary_cases())),
    needs=(_BELOW, _NOT_BELOW),
)
def the_word_below_the_threshold_is_the_last_selected(context: Context, case: MaskCase) -> None:
    """No theorem: like any comparison of words it also fails where a mask has another cause."""
    below = _BELOW in case.about
    context.saw(_BELOW if below else _NOT_BELOW)
    context.equal("selected", masked(context, case).selected, case.eligible & below)


_RATES = ("1/4294967296", "4294967295/4294967296", "1/8589934592", "0", "1", "1/3")


@check(
    "MLM-RNG-5",
    port="mask",
    recipes=besides(
        mask_recipes(
            laws=("bernoulli",),
            rates=_RATES,
            kinds=("1/3 1/3 1/3", "0 1 0", "1 0 0", "1/4294967296 4294967295/4294967296 0"),
        ),
        [
            MaskRecipe("bernoulli", rate, "1/3 1/3 1/3", "token", 32, 0, ROWS, i)
            for i, rate in enumerate(_RATES)
        ],
    ),
    needs=("positions",),
)
def extreme_probabilities_are_exact(context: Context, case: MaskCase) -> None:
    context.saw("positions", case.tokens.size)
    equal_masks(context, f"at {case.about}", masked(context, case), expected_mask(context, case))


@check(
    "MLM-RNG-5",
    port="mask",
    recipes=table(
        [
            EdgeRecipe(what, below, seed)
            for what in EDGES
            for below in (False, True)
            for seed in (0, 1, 2)
        ]
    ),
    needs=EDGES,
)
def a_decision_turns_at_its_word(context: Context, case: MaskCase) -> None:
    """Every threshold of every law, with a probability of 32 bits that one word just meets."""
    what = next(what for what in EDGES if what in case.about)
    want = expected_mask(context, case)
    context.saw(what, want.selected.size)
    equal_masks(context, f"with {case.about}", masked(context, case), want)
