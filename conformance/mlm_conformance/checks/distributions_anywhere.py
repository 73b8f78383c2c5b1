"""Chapter DST at sizes, ids, rates and shares from anywhere; and whatever repeats or copies.

A policy that few maskers can be asked for may be declined, and is left out then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.cases.distributions import POOL
from mlm_conformance.cases.distributions_anywhere import (
    AnywhereDraw,
    FairDraw,
    anywhere_series,
    fair_series,
    may_be_declined,
)
from mlm_conformance.cases.model import SampleCase
from mlm_conformance.cases.numbers import generator
from mlm_conformance.check import Context, NotClaimed, Recipes, check, table
from mlm_conformance.checks.common import sampled
from mlm_conformance.distributions.judge import Tally, bluntest, fits
from mlm_conformance.distributions.places import Group, by_place, by_token
from mlm_conformance.distributions.pool import Pool
from mlm_conformance.distributions.relations import enough, require_no_relation

__all__: list[str] = []  # importing the module registers its checks

Array = NDArray[Any]
_ANYWHERE = table([AnywhereDraw(0), AnywhereDraw(1)])
_ALL_MASKED, _RANDOM = "1 0 0", "0 1 0"


def _judged(
    context: Context, case: SampleCase, counts: Callable[[Array, Array], Sequence[Tally]]
) -> None:
    unusual = may_be_declined(case.policy)
    told = (lambda _: []) if unusual else bluntest  # next to 0 and 1 it takes long to say
    try:
        fits(context, case, partial(sampled, context, case), counts, told=told)
    except NotClaimed:
        if not unusual:
            raise
        context.saw("declined")


def _selected(case: SampleCase, labels: Array, groups: Iterator[Group]) -> list[Tally]:
    law = case.policy.selection
    chosen, rate = labels != -100, Fraction(law.rate)  # type: ignore[union-attr]
    return [
        Tally(f"selected {name}", int(chosen[:, at].sum()), len(chosen) * int(at.sum()), rate)
        for name, at in groups
    ]


@check("MLM-DST-1", port="sample", recipes=_ANYWHERE, needs=("trials",), series=anywhere_series)
def the_rate_holds_for_any_ids_and_beside_anything(context: Context, case: SampleCase) -> None:
    _judged(context, case, lambda _, labels: _selected(case, labels, by_token(case)))


@check("MLM-DST-2", port="sample", recipes=_ANYWHERE, needs=("trials",), series=anywhere_series)
def places_are_selected_alike_at_any_size(context: Context, case: SampleCase) -> None:
    _judged(context, case, lambda _, labels: _selected(case, labels, by_place(case)))


@check("MLM-DST-3", port="sample", recipes=_ANYWHERE, needs=("trials",), series=anywhere_series)
def the_kinds_are_the_same_for_any_ids(context: Context, case: SampleCase) -> None:
    _judged(context, case, lambda inputs, labels: list(_kinds(case, inputs, labels)))


def _kinds(case: SampleCase, inputs: Array, labels: Array) -> Iterator[Tally]:
    """Of positions whose tokens the pool has, or of those whose tokens it has not."""
    policy, pool = case.policy, Pool(case.policy)
    shares, inside = policy.corruption, pool.has(case.tokens)
    draw = shares.random / pool.size if pool.size else Fraction(0)
    mask = shares.mask + draw * bool(pool.has(np.array(policy.mask_id)))
    plain = case.tokens != policy.mask_id
    for name, at in by_token(case):
        for own, here in ((shares.keep + draw, inside), (shares.keep, ~inside)):
            some = at & here & plain
            selected = (labels != -100) & some
            shown, trials = inputs[selected], int(selected.sum())
            if trials:
                tokens = np.broadcast_to(case.tokens, inputs.shape)[selected]
                masked = int((shown == policy.mask_id).sum())
                yield Tally(f"the mask id {name}", masked, trials, Fraction(mask))
                yield Tally(f"their tokens {name}", int((shown == tokens).sum()), trials, own)


@check("MLM-DST-4", port="sample", recipes=_ANYWHERE, needs=("trials",), series=anywhere_series)
def random_ids_are_uniform_on_any_pool(context: Context, case: SampleCase) -> None:
    _judged(context, case, lambda inputs, labels: list(_ids(case, inputs, labels)))


def _ids(case: SampleCase, inputs: Array, labels: Array) -> Iterator[Tally]:
    """Of positions that show neither the mask id nor their own tokens: a quarter, say, of the ids.

    A position whose token is in that quarter does not count for it, nor one that had the mask id.
    """
    policy, pool = case.policy, Pool(case.policy)
    tokens = np.broadcast_to(case.tokens, inputs.shape)
    other = (labels != -100) & (inputs != policy.mask_id) & (tokens != policy.mask_id)
    other &= inputs != tokens
    shown, own = inputs[other], tokens[other]
    left = pool.size - int(pool.has(np.array(policy.mask_id)))
    for part in _parts(policy.vocab_size):
        within = pool.count(part.start, part.stop, part.step) - int(
            bool(pool.has(np.array(policy.mask_id))) and policy.mask_id in part
        )
        for inside in (True, False):
            fair = ~_in(own, part) & (pool.has(own) == inside)
            trials, ids = int(fair.sum()), left - inside
            if trials and ids > 0:
                what = f"ids {part.start}, {part.start + part.step} … to {part[-1]}"
                yield Tally(what, int(_in(shown[fair], part).sum()), trials, Fraction(within, ids))


def _parts(vocab: int) -> Iterator[range]:
    """Quarters of a vocabulary, every second id, and its ends."""
    ends = sorted({vocab * i // 4 for i in range(5)})
    yield from (range(a, b) for a, b in pairwise(ends))
    yield range(0, vocab, 2)
    yield range(1)
    yield range(vocab - 1, vocab)


def _in(ids: Array, part: range) -> NDArray[np.bool_]:
    inside: NDArray[np.bool_] = (ids >= part.start) & (ids < part.stop)
    inside &= (ids - part.start) % part.step == 0
    return inside


def _fair(rate: str, kinds: str) -> dict[str, Any]:
    recipes: Recipes = table([FairDraw(number, rate, kinds) for number in range(2)])
    return {"recipes": recipes, "needs": ("relations",), "series": fair_series(rate, kinds)}


@check("MLM-DST-5", port="sample", **_fair("1/2", _ALL_MASKED))
def no_columns_decide_one_another(context: Context, case: SampleCase) -> None:
    """Not any two, however far apart; nor is one the parity of others."""
    _, labels = sampled(context, case, case.n)
    require_no_relation(context, "columns", _by_columns(labels != -100))


@check(
    "MLM-DST-5",
    port="sample",
    recipes=table([FairDraw(0, "1/2", _ALL_MASKED)]),
    needs=("trials",),
)
def columns_are_independent_at_every_distance(context: Context, case: SampleCase) -> None:
    """Pairs that have no position in common; of each distance two sets of them."""

    def counts(inputs: Array, labels: Array) -> list[Tally]:
        chosen, columns = labels != -100, labels.shape[2]
        found = []
        for apart in range(1, columns):
            for first in range(2):
                left = [c for c in range(columns - apart) if c // apart % 2 == first]
                both = chosen[..., left] & chosen[..., [c + apart for c in left]]
                what = f"both of columns {apart} apart"
                found.append(Tally(what, int(both.sum()), both.size, Fraction(1, 4)))
        return [tally for tally in found if tally.trials]

    _judged(context, case, counts)


@check("MLM-DST-6", port="sample", **_fair("1/2", _ALL_MASKED))
def no_rows_or_samples_decide_one_another(context: Context, case: SampleCase) -> None:
    _, labels = sampled(context, case, case.n)
    _unrelated(context, labels != -100)


@check("MLM-DST-12", port="sample", **_fair("1", "1/2 0 1/2"))
def no_kinds_decide_one_another(context: Context, case: SampleCase) -> None:
    inputs, _ = sampled(context, case, case.n)
    masked = inputs == case.policy.mask_id
    require_no_relation(context, "kinds of columns", _by_columns(masked))
    _unrelated(context, masked, "kinds of ")


@check("MLM-DST-20", port="sample", **_fair("1", _RANDOM))
def no_ids_decide_one_another(context: Context, case: SampleCase) -> None:
    """By whether an id is in the upper half of the pool."""
    inputs, _ = sampled(context, case, case.n)
    upper = inputs >= POOL[len(POOL) // 2]
    require_no_relation(context, "ids of columns", _by_columns(upper))
    _unrelated(context, upper, "ids of ")


def _by_columns(bits: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return bits.reshape(-1, bits.shape[2]).T


def _unrelated(context: Context, bits: NDArray[np.bool_], of: str = "") -> None:
    """Rows of a batch over all samples, and samples over all cells."""
    require_no_relation(context, f"{of}rows", bits.transpose(1, 0, 2).reshape(bits.shape[1], -1))
    samples = bits.reshape(len(bits), -1)
    while samples.shape[1] < enough(len(samples)) and len(samples) > 1:
        samples = samples[: len(samples) // 2]
    require_no_relation(context, f"{of}samples", samples)


_CALLS = 64


@check(
    "MLM-DST-6",
    port="sample",
    recipes=table([FairDraw(0, "1/2", _ALL_MASKED)]),
    needs=("calls",),
)
def no_calls_decide_one_another(context: Context, case: SampleCase) -> None:
    """Sixty-four calls with tokens of their own, so that few seeds are found to be few."""
    rng, found = generator(case.salt, 79), []
    for _ in range(_CALLS):
        tokens = rng.choice(np.array(POOL), size=case.tokens.shape)
        _, labels = sampled(context, replace(case, tokens=tokens), 1)
        found.append((labels != -100).reshape(-1))
    context.saw("calls", len(found))
    require_no_relation(context, "calls", np.array(found))
