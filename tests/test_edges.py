"""The cases at the edge of a threshold turn at one word: one side is not the other."""

from __future__ import annotations

import numpy as np
import pytest
from mlm_conformance.cases.edges import EDGES, EdgeRecipe

import mlm_spec


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("what", EDGES)
def test_masks_on_the_two_sides_of_a_word_differ(what: str, seed: int) -> None:
    below, above = (
        mlm_spec.mask(**EdgeRecipe(what, side, seed).build(3).arguments()) for side in (True, False)
    )
    kind = "selected" if what in EDGES[:4] else "inputs"
    differs = np.argwhere(getattr(below, kind) != getattr(above, kind))
    assert len(differs) >= 1
    # No other decision turns: one word is met exactly, and all others are far from it.
    assert len(differs) <= (8 if "word" in what or "span" in what else 1)


def test_a_threshold_of_16_bits_is_off_at_every_edge() -> None:
    for what in EDGES:
        case = EdgeRecipe(what, True, 0).build(0)
        law, kinds = case.policy.selection, case.policy.corruption
        numbers = [getattr(law, "rate", None), getattr(law, "start", None), kinds.mask]
        numbers += [kinds.mask + kinds.random, *getattr(law, "lengths", ())]
        assert any(p is not None and p.denominator > 2**16 for p in numbers), what
