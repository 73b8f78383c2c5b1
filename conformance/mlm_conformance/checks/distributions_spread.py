"""Chapter DST: whether choices are dealt out, so many in each batch or row, and not made."""

from __future__ import annotations

from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.cases.distributions_anywhere import EvenDraw, even_series
from mlm_conformance.cases.model import SampleCase, candidates
from mlm_conformance.check import Context, check, table
from mlm_conformance.checks.common import sampled
from mlm_conformance.distributions.judge import Tally, fits
from mlm_conformance.distributions.spread import usually

__all__: list[str] = []  # importing the module registers its checks

Array = NDArray[Any]
_BERT = "4/5 1/10 1/10"


def _laws(*laws: tuple[str, str]) -> dict[str, Any]:
    """The usual shape with each law, and the run's sizes with them in turn."""
    recipes = table([EvenDraw(0, *law) for law in laws])
    return {"recipes": recipes, "needs": ("trials",), "series": even_series(*laws)}


@check("MLM-DST-5", port="sample", **_laws(("3/20", _BERT), ("1/2", _BERT)))
def positions_are_not_dealt_out(context: Context, case: SampleCase) -> None:
    """How many are selected differs from batch to batch, from row to row, and within a row."""
    rate = Fraction(case.policy.selection.rate)  # type: ignore[union-attr]

    def counts(inputs: Array, labels: Array) -> list[Tally]:
        return list(usually("positions selected", labels != -100, candidates(case), rate))

    fits(context, case, partial(sampled, context, case), counts)


@check("MLM-DST-12", port="sample", **_laws(("1", _BERT), ("1", "1/2 0 1/2")))
def kinds_are_not_dealt_out(context: Context, case: SampleCase) -> None:
    """How many show the mask id, and how many their tokens, where all are selected."""
    shares = case.policy.corruption
    able = candidates(case)
    kept = shares.keep + shares.random / case.policy.pool_size

    def counts(inputs: Array, labels: Array) -> list[Tally]:
        mask, own = inputs == case.policy.mask_id, inputs == case.tokens
        return [
            *usually("positions that show the mask id", mask, able, shares.mask),
            *usually("positions that show their tokens", own, able, kept),
        ]

    fits(context, case, partial(sampled, context, case), counts)


@check("MLM-DST-20", port="sample", **_laws(("1", "0 1 0")))
def random_ids_are_not_dealt_out(context: Context, case: SampleCase) -> None:
    """How many show an id of the lower half of the pool, and how many a multiple of 3."""
    policy = case.policy
    able = candidates(case)
    pool = np.setdiff1d(np.arange(policy.vocab_size), policy.special_ids)

    def counts(inputs: Array, labels: Array) -> list[Tally]:
        return [
            tally
            for what, some in (
                ("an id of the lower half", pool[: len(pool) // 2]),
                ("a multiple of 3", pool[pool % 3 == 0]),
            )
            for tally in usually(
                f"positions that show {what}",
                np.isin(inputs, some),
                able,
                Fraction(len(some), len(pool)),
            )
        ]

    fits(context, case, partial(sampled, context, case), counts)
