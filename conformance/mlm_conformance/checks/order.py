"""Chapter TRN: in which order a run sees its sequences."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from mlm_conformance.cases.model import OrderCase
from mlm_conformance.cases.numbers import generator
from mlm_conformance.check import Context, Fixed, check, table
from mlm_conformance.checks.common import field_of
from mlm_spec import Stream, random_words, split_words

__all__: list[str] = []  # importing the module registers its checks

_HIGH = 2**32


@dataclass(frozen=True, slots=True)
class OrderRecipe:
    """What an `OrderCase` is made from; the seed of the order follows from the run's seed.

    Attributes
    ----------
    count : how many sequences.
    epoch : where it begins.
    start : at which place of that epoch.
    number : how many are asked for.
    seed : makes the seed of the order.
    wide : whether that has more than 32 bits.
    """

    count: int
    epoch: int
    start: int
    number: int
    seed: int
    wide: bool = True

    def build(self, run_seed: int) -> OrderCase:
        """The case; equal recipes and run seeds give equal cases."""
        limit = 2**64 if self.wide else _HIGH
        seed = int(generator(run_seed, self.seed).integers(limit, dtype=np.uint64, endpoint=False))
        place = self.epoch * self.count + self.start
        return OrderCase(place, self.number, self.count, seed, self.seed)


def _whole(count: int, epoch: int, seed: int, wide: bool = True) -> OrderRecipe:
    return OrderRecipe(count, epoch, 0, count, seed, wide)


def _drawn(count: int, epoch: int, start: int, number: int, seed: int) -> OrderRecipe:
    return OrderRecipe(count, epoch, start % count, number, seed)


def _answered(context: Context, case: OrderCase) -> tuple[NDArray[Any], NDArray[Any]]:
    """Epoch and sequence, int64 (number,) each."""
    found = context.call("order", case.arguments())
    shape = (case.number,)
    epoch, sequence = (field_of(found, name, shape) for name in ("epoch", "sequence"))
    for name, array in (("epoch", epoch), ("sequence", sequence)):
        context.require(array.dtype == np.int64, f"{name} has dtype {array.dtype}, not int64")
    return epoch, sequence


def _as_it_should_be(context: Context, case: OrderCase) -> None:
    epoch, sequence = _answered(context, case)
    wanted = context.oracle.order(**case.arguments())
    context.equal("epoch", epoch, wanted["epoch"])
    context.equal("sequence", sequence, wanted["sequence"])


# Counts on either side of a power of two, where a padded program changes, and one of more than 16
# bits; epochs and seeds with and without a high word.
_EPOCHS = (
    _whole(67, 1, 0),
    _whole(64, 0, 1, wide=False),
    _whole(65, _HIGH, 2),
    _whole(1, 2**40 + 1, 3),
    _whole(2**16 + 40, 2, 4),
)
#: Seeds whose first epoch has two sequences with one w0, and so many sequences.  The later one has
#: the lower w1, and as signed numbers the higher; then the earlier one, and as signed numbers not.
_EQUAL = ((207, 720), (24221, 1400))


@check(
    "MLM-TRN-10",
    port="order",
    recipes=(
        st.builds(
            _whole,
            st.integers(1, 300),
            st.integers(0, 2**33),
            st.integers(0, _HIGH - 1),
        ),
        _EPOCHS,
    ),
    needs=("sequences", "high words of seeds", "high words of epochs"),
    share=0.4,
)
def an_epoch_has_the_order_of_its_words(context: Context, case: OrderCase) -> None:
    context.saw("sequences", case.number)
    context.saw("high words of seeds", case.seed >= _HIGH)
    context.saw("high words of epochs", case.position // case.count >= _HIGH)
    _as_it_should_be(context, case)


@check(
    "MLM-TRN-10",
    port="order",
    recipes=table([Fixed(OrderCase(0, n, n, seed, about="w0 twice")) for seed, n in _EQUAL]),
    needs=("equal first words",),
)
def equal_first_words_go_by_the_second(context: Context, case: OrderCase) -> None:
    ids = split_words(np.arange(case.count, dtype=np.uint64))
    nowhere = np.zeros(case.count, np.uint32)
    w0, _, _, _ = random_words(case.seed, 0, ids, nowhere, Stream.ORDER)
    context.saw("equal first words", case.count - len(np.unique(w0)))
    _as_it_should_be(context, case)


@check("MLM-TRN-10", port="order", recipes=table(_EPOCHS[:3]), needs=("epochs",), theorem=True)
def an_epoch_has_each_sequence_once(context: Context, case: OrderCase) -> None:
    _, sequence = _answered(context, case)
    context.saw("epochs")
    context.equal("sorted sequences", np.sort(sequence), np.arange(case.count))


_RUNS = (
    OrderRecipe(5, 0, 4, 4, 10),  # over one end
    OrderRecipe(5, 0, 0, 4, 11),
    OrderRecipe(7, 2, 3, 30, 12),  # over several, and to no end
    OrderRecipe(6, 1, 2, 4, 13),  # to an end
    OrderRecipe(6, 2, 0, 12, 14),  # from one to another
    OrderRecipe(1, 3, 0, 5, 15),
    OrderRecipe(70, _HIGH, 66, 9, 16),
    OrderRecipe(9, 1, 4, 0, 17),
)


@check(
    "MLM-TRN-11",
    port="order",
    recipes=(
        st.builds(
            _drawn,
            st.integers(1, 40),
            st.integers(0, 2**33),
            st.integers(0, 39),
            st.integers(0, 90),
            st.integers(0, _HIGH - 1),
        ),
        _RUNS,
    ),
    needs=("ends of epochs", "whole epochs", "starts within an epoch", "nothing asked for"),
    share=0.4,
)
def a_run_goes_from_epoch_to_epoch(context: Context, case: OrderCase) -> None:
    end = case.position + case.number
    context.saw("ends of epochs", end // case.count - case.position // case.count)
    context.saw("whole epochs", max(0, end // case.count + (-case.position // case.count)))
    context.saw("starts within an epoch", case.position % case.count > 0)
    context.saw("nothing asked for", case.number == 0)
    _as_it_should_be(context, case)


@check(
    "MLM-TRN-11",
    port="order",
    recipes=table(_RUNS[2:3] + _RUNS[4:5] + _RUNS[6:7]),
    needs=("cuts",),
    theorem=True,
)
def any_updates_make_the_same_run(context: Context, case: OrderCase) -> None:
    """Asked for piece by piece, each from the position that the one before has left."""
    rng = generator(case.salt, 48)
    epoch, sequence = _answered(context, case)
    done = 0
    while done < case.number:
        many = min(int(rng.integers(1, 2 * case.count)), case.number - done)
        here, part = case.position + done, slice(done, done + many)
        piece = _answered(context, replace(case, position=here, number=many))
        for name, whole, own in zip(("epoch", "sequence"), (epoch, sequence), piece, strict=True):
            context.equal(f"{name} from {here} on", own, whole[part])
        done += many
        context.saw("cuts", done < case.number)
