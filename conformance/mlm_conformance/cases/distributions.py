"""Cases for the distribution of masks: many positions, few ids, one law at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mlm_conformance.cases.masks import MASK, PAD, SPECIAL
from mlm_conformance.cases.model import SampleCase
from mlm_conformance.cases.numbers import generator
from mlm_spec import Bernoulli, Corruption, FixedCount, MaskingPolicy

__all__ = ["DRAWS", "POOL", "SHAPE", "VOCAB", "DrawRecipe"]

SHAPE = (64, 64)
VOCAB = 32  # few ids: each is drawn often
#: What random replacements are drawn from: all ids but the special ones.
POOL = tuple(i for i in range(VOCAB) if i not in SPECIAL)
DRAWS = 32  # masks of a first look: 131,072 positions


@dataclass(frozen=True, slots=True)
class DrawRecipe:
    """What a `SampleCase` with every position eligible is made from.

    Attributes
    ----------
    rate : of selection.
    kinds : shares of mask id, random ids and kept tokens.
    law : ``bernoulli`` or ``count``.
    rows_alike : whether all rows hold the same tokens.
    """

    rate: str
    kinds: str
    law: str = "bernoulli"
    rows_alike: bool = False

    def build(self, run_seed: int) -> SampleCase:
        """The case; equal recipes and run seeds give equal cases."""
        drawn = (1, SHAPE[1]) if self.rows_alike else SHAPE
        tokens = generator(run_seed, 77).choice(np.array(POOL), size=drawn)
        law = Bernoulli(self.rate) if self.law == "bernoulli" else FixedCount(self.rate)
        mask, random, keep = self.kinds.split()
        policy = MaskingPolicy(
            law,
            Corruption(mask, random, keep),
            vocab_size=VOCAB,
            mask_id=MASK,
            pad_id=PAD,
            special_ids=SPECIAL,
        )
        whole = np.broadcast_to(tokens, SHAPE).astype(np.int64).copy()
        about = f"{self.law} rate {self.rate}, {self.kinds}"
        return SampleCase(whole, np.ones(SHAPE, np.bool_), policy, DRAWS, about=about)
