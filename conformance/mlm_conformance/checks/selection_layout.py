"""Chapter SEL: what masks must not depend on, which is how the cells are laid out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mlm_conformance.cases.anywhere_masks import every_law
from mlm_conformance.cases.masks import (
    PACKED,
    PAD,
    RATES,
    ROWS,
    UNITS,
    MaskRecipe,
    mask_recipes,
    rearrange,
)
from mlm_conformance.cases.model import MaskCase
from mlm_conformance.cases.numbers import generator
from mlm_conformance.check import Context, check, table
from mlm_conformance.checks.common import besides, masked
from mlm_spec import MaskedBatch

__all__: list[str] = []  # importing the module registers its checks

Places = NDArray[np.int64]
_THIRDS = "1/3 1/3 1/3"
_ANY_LAW = mask_recipes(rates=RATES[:2], kinds=(_THIRDS,), shapes=(ROWS,))


def _same_cells(
    context: Context,
    what: str,
    case: MaskCase,
    before: MaskedBatch,
    places: Places,
    shape: tuple[int, int],
) -> None:
    """The cells laid out anew have the masks they had before."""
    after = masked(context, rearrange(case, places, shape, case.salt))
    _compare_cells(context, what, before, after, places)


def _compare_cells(
    context: Context, what: str, before: MaskedBatch, after: MaskedBatch, places: Places
) -> None:
    kept = places.reshape(-1) >= 0
    to = places.reshape(-1)[kept]
    context.saw("selected", before.selected.reshape(-1)[kept].sum())
    for name in ("selected", "inputs"):
        old = getattr(before, name).reshape(-1)[kept]
        context.equal(f"{name} {what}", getattr(after, name).reshape(-1)[to], old)


def _grid(shape: tuple[int, int]) -> Places:
    return np.arange(shape[0] * shape[1]).reshape(shape)


@check("MLM-SEL-9", port="mask", recipes=_ANY_LAW, needs=("selected",), theorem=True)
def masks_do_not_depend_on_batch_order_or_size(context: Context, case: MaskCase) -> None:
    order = generator(case.salt, 7).permutation(ROWS[0])
    before = masked(context, case)
    _same_cells(context, "in another order of rows", case, before, _grid(ROWS)[order], ROWS)
    for row in range(ROWS[0]):
        places = np.full(ROWS, -1)
        places[row] = np.arange(ROWS[1])
        alone = masked(context, rearrange(case, places, (1, ROWS[1]), case.salt))
        _compare_cells(context, f"of row {row} in a batch of its own", before, alone, places)


@check(
    "MLM-SEL-9",
    port="mask",
    recipes=table(mask_recipes(rates=RATES[:1], kinds=(_THIRDS,), units=UNITS)[1]),
    needs=("selected", "rows"),
    theorem=True,
    series=every_law,
)
def rows_of_any_batch_may_come_in_any_order(context: Context, case: MaskCase) -> None:
    """A row may be one of some hundred."""
    rows, columns = case.tokens.shape
    order = generator(case.salt, 9).permutation(rows)
    context.saw("rows", rows)
    places = _grid((rows, columns))[order]
    before = masked(context, case)
    _same_cells(context, "in another order of rows", case, before, places, (rows, columns))


@check("MLM-SEL-10", port="mask", recipes=_ANY_LAW, needs=("selected", "moved"), theorem=True)
def masks_do_not_depend_on_padding(context: Context, case: MaskCase) -> None:
    """Without its padding, then padded at the left, the right, or both sides, to 32 columns."""
    real, before = case.tokens != PAD, masked(context, case)
    for side, shift in (("right", 0), ("left", PACKED[1] - ROWS[1]), ("both sides", 5)):
        for half in range(2):  # two rows at a time, in the shape of the packed bucket
            rows = slice(2 * half, 2 * half + 2)
            places = np.full(ROWS, -1)
            places[rows] = _grid(PACKED)[:, shift : shift + ROWS[1]]
            places[~real] = -1
            context.saw("moved", (places >= 0).sum())
            _same_cells(context, f"with padding at the {side}", case, before, places, PACKED)


@check("MLM-SEL-11", port="mask", recipes=_ANY_LAW, needs=("selected", "packed"), theorem=True)
def masks_do_not_depend_on_packing(context: Context, case: MaskCase) -> None:
    """Two sequences in one row: one behind the other, and interleaved column by column."""
    before = masked(context, case)
    behind = _grid(PACKED).reshape(ROWS)
    woven = _grid(PACKED).reshape(2, ROWS[1], 2).transpose(0, 2, 1).reshape(ROWS)
    for how, places in (("behind another", behind), ("interleaved with another", woven)):
        context.saw("packed", case.tokens.shape[0])
        _same_cells(context, f"of a sequence {how}", case, before, places, PACKED)


@check(
    "MLM-SEL-12",
    port="mask",
    recipes=besides(
        mask_recipes(laws=("bernoulli", "span"), rates=RATES[:2], kinds=(_THIRDS,)),
        [
            MaskRecipe("span", "3/20", _THIRDS, unit, 32, 1 + i % 2, ROWS, i + more)
            for more, unit in ((0, "token"), (100, "span"))
            for i in range(6)
        ],
    ),
    needs=("selected", "cut off"),
    theorem=True,
)
def bernoulli_and_span_masks_do_not_depend_on_truncation(context: Context, case: MaskCase) -> None:
    """A window of each row, anywhere in it, moved to the first columns."""
    rng = generator(case.salt, 8)
    places = np.full(ROWS, -1)
    for row in range(ROWS[0]):
        start, stop = sorted(rng.choice(ROWS[1] + 1, size=2, replace=False))
        places[row, start:stop] = row * ROWS[1] + np.arange(stop - start)
    context.saw("cut off", (places < 0).sum())
    _same_cells(context, "in a window", case, masked(context, case), places, ROWS)
