"""Chapter RNG: the random id, which two words and the pool decide."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.cases.anywhere_masks import mask_series
from mlm_conformance.cases.masks import MASK, PAD, ROWS, SPECIAL, MaskRecipe, mask_recipes
from mlm_conformance.cases.model import MaskCase
from mlm_conformance.cases.numbers import generator
from mlm_conformance.check import Context, Fixed, check, table
from mlm_conformance.checks.common import besides, expected_mask, masked
from mlm_spec import Bernoulli, Corruption, MaskingPolicy, Stream, random_words, split_words

__all__: list[str] = []  # importing the module registers its checks


def _all_random(policy: MaskingPolicy, sequence: int, places: NDArray[Any], about: str) -> MaskCase:
    """Rows of one sequence at some of its positions, for seed = epoch = 0."""
    return MaskCase(
        np.full(ROWS, 9, np.int32),
        split_words(np.full(ROWS, sequence, np.uint64)),
        np.resize(places, ROWS).astype(np.uint32),
        np.zeros(ROWS, np.int32),
        np.ones(ROWS, np.bool_),
        policy,
        seed=0,
        epoch=0,
        about=about,
    )


def _policy(vocab: int, special: tuple[int, ...] = SPECIAL, pool: Any = "regular") -> MaskingPolicy:
    return MaskingPolicy(Bernoulli(1), Corruption(0, 1, 0), vocab, MASK, None, special, pool)


def _tries(sequence: int, count: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """w2 and w3 of the first positions of a sequence, for seed = epoch = 0."""
    position = np.arange(count, dtype=np.uint32)
    ids = split_words(np.full(count, sequence, np.uint64))
    _, _, w2, w3 = random_words(0, 0, ids, position, Stream.TOKEN)
    return w2, w3


def _limit(size: int) -> int:
    """How many words the first try takes for a pool of that size: those below."""
    return 2**32 // size * size


def _same_ids(context: Context, case: MaskCase) -> None:
    want = expected_mask(context, case)
    context.equal("inputs", masked(context, case).inputs, want.inputs)


@check(
    "MLM-RNG-6",
    port="mask",
    recipes=besides(
        mask_recipes(laws=("bernoulli",), rates=("1",), kinds=("0 1 0",), vocabs=(250_006,)),
        # More ids than float32 has integers.
        [MaskRecipe("bernoulli", "1", "0 1 0", "token", 2**25 + 7, 0, ROWS, 0)],
    ),
    needs=("random replacements",),
    series=mask_series(("bernoulli", "token", "1", "0 1 0")),
)
def random_ids_come_from_the_two_try_index(context: Context, case: MaskCase) -> None:
    want = expected_mask(context, case)
    context.saw("random replacements", want.selected.sum())
    context.equal("inputs", masked(context, case).inputs, want.inputs)


@dataclass(frozen=True, slots=True)
class _SecondTries:
    """Positions where w2 is refused and w3 decides: about one in 23,000 at K = 250,002."""

    seed: int

    def build(self, run_seed: int) -> MaskCase:
        """The case; equal recipes and run seeds give equal cases."""
        sequence, size = int(generator(run_seed, self.seed).integers(2**63)), 250_002
        w2, _ = _tries(sequence, 2**20)
        refused = np.flatnonzero(w2 >= _limit(size))
        return _all_random(_policy(size + len(SPECIAL)), sequence, refused, "w2 refused")


@check(
    "MLM-RNG-6",
    port="mask",
    recipes=table([_SecondTries(0), _SecondTries(1)]),
    needs=("second tries",),
)
def a_refused_word_gives_way_to_the_next(context: Context, case: MaskCase) -> None:
    _, _, w2, _ = random_words(case.seed, case.epoch, case.sequence_id, case.position, Stream.TOKEN)
    context.saw("second tries", (w2 >= _limit(case.policy.pool_size)).sum())
    _same_ids(context, case)


# For seed = epoch = 0: sequence, position, and two sizes of a pool.  With the first w2 is the last
# word that the first try takes, with the second it is the first word that is refused.
_TURNS = (
    (25901, 227, 219, 427),
    (33987, 91, 342, 907),
    (3312, 396, 1306, 1609),
    (18496, 162, 1867, 1671),
)
_TAKEN, _REFUSED = "the last word of the first try", "the first word that is refused"


def _turns() -> Iterator[Fixed]:
    for sequence, position, *sizes in _TURNS:
        for about, size in zip((_TAKEN, _REFUSED), sizes, strict=True):
            policy = _policy(size + len(SPECIAL))
            yield Fixed(_all_random(policy, sequence, np.array([position]), f"w2 is {about}"))


@check("MLM-RNG-6", port="mask", recipes=table(list(_turns())), needs=(_TAKEN, _REFUSED))
def the_first_try_ends_at_its_word(context: Context, case: MaskCase) -> None:
    """Pools of as few ids as any: the fewer, the nearer to 2³² is the first word refused."""
    _, _, w2, _ = random_words(case.seed, case.epoch, case.sequence_id, case.position, Stream.TOKEN)
    limit = _limit(case.policy.pool_size)
    context.saw(_TAKEN, (w2 == limit - 1).sum())
    context.saw(_REFUSED, (w2 == limit).sum())
    _same_ids(context, case)


@dataclass(frozen=True, slots=True)
class _EndsOfPool:
    """Positions that draw the first and the last two ids of a pool, and the mask id if it has it.

    Attributes
    ----------
    special : the ids that are no candidates.
    pool : as a policy has it.
    """

    special: tuple[int, ...]
    pool: Any

    def build(self, run_seed: int) -> MaskCase:
        """The case; equal recipes and run seeds give equal cases."""
        policy = _policy(_IDS, self.special, self.pool)
        sequence = int(generator(run_seed, 0).integers(2**63))
        w2, w3 = _tries(sequence, 2**16)
        size = policy.pool_size
        ranks = np.where(w2 < _limit(size), w2, w3) % size
        wanted = [0, 1, size - 2, size - 1]
        if MASK not in self.special and self.pool in ("regular", "all"):
            wanted.append(MASK - sum(i < MASK for i in self.special))
        places = np.array([np.flatnonzero(ranks == rank)[0] for rank in wanted])
        return _all_random(policy, sequence, places, "the ends of a pool")


_IDS = 1000
_SCATTERED = (PAD, 2, 5, 500, 997)


@check(
    "MLM-RNG-6",
    port="mask",
    recipes=table(
        [
            _EndsOfPool(SPECIAL, "regular"),
            _EndsOfPool(_SCATTERED, "regular"),
            _EndsOfPool((*_SCATTERED, MASK), "regular"),
            _EndsOfPool((PAD, *range(900, _IDS)), "regular"),
            _EndsOfPool((), "regular"),
            _EndsOfPool(_SCATTERED, "all"),
            _EndsOfPool(SPECIAL, tuple(range(1, _IDS, 3))),
        ]
    ),
    needs=("the first id", "the last id", "the mask id"),
)
def every_pool_is_drawn_from_end_to_end(context: Context, case: MaskCase) -> None:
    """Special ids at one end, at both, in the middle or nowhere; the mask id one of them or not."""
    want = expected_mask(context, case)
    policy, shown = case.policy, want.inputs[want.selected]
    pool = np.arange(policy.vocab_size)
    if not isinstance(policy.pool, str):
        pool = np.array(policy.pool)
    elif policy.pool == "regular":
        pool = np.setdiff1d(pool, policy.special_ids)
    context.saw("the first id", (shown == pool[0]).sum())
    context.saw("the last id", (shown == pool[-1]).sum())
    context.saw("the mask id", (shown == policy.mask_id).sum())
    context.equal("inputs", masked(context, case).inputs, want.inputs)
