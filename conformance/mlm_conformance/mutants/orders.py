"""Chapter TRN: runs that see their sequences in another order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from mlm_conformance.mutants.registry import mutant
from mlm_spec import Stream, port, random_words, split_words

__all__ = [
    "a_part_is_that_of_an_epoch_of_padding",
    "a_resumed_run_begins_its_epoch_again",
    "a_run_leaves_out_the_end_of_an_epoch",
    "a_run_shuffles_anew_at_each_update",
    "a_run_stays_in_its_epoch",
    "a_run_takes_the_order_of_where_it_began",
    "a_run_tells_the_epoch_of_where_it_began",
    "an_epoch_has_its_ranks",
    "an_order_by_16_bits_of_the_number",
    "an_order_by_the_first_word_alone",
    "an_order_of_another_stream",
    "an_order_of_signed_words",
    "an_order_that_descends",
    "every_epoch_has_one_order",
    "orders_forget_the_high_word_of_the_epoch",
    "orders_forget_the_high_word_of_the_seed",
    "second_words_are_signed",
    "sequences_are_drawn_with_replacement",
]

_ORDER, _ONCE = "an_epoch_has_the_order_of_its_words", "an_epoch_has_each_sequence_once"
_SECOND = "equal_first_words_go_by_the_second"
_RUN, _PIECES = "a_run_goes_from_epoch_to_epoch", "any_updates_make_the_same_run"
_SHUFFLED = "https://github.com/facebookresearch/fairseq/commit/1f23d83f"
_RESUMED = "https://github.com/huggingface/accelerate/pull/4071"

Run = dict[str, Any]


def _words(epoch: int, count: int, seed: int, stream: Stream = Stream.ORDER) -> Any:
    """w0 and w1 of each sequence."""
    ids = split_words(np.arange(count, dtype=np.uint64))
    w0, w1, _, _ = random_words(seed, epoch, ids, np.zeros(count, np.uint32), stream)
    return w0, w1


def _order(epoch: int, count: int, seed: int) -> Any:
    w0, w1 = _words(epoch, count, seed)
    return np.lexsort((w1, w0)).astype(np.int64)


def _run(
    position: int, number: int, count: int, seed: int, order: Callable[[int, int, int], Any]
) -> Run:
    """A run through epochs of an order."""
    port.order(position, number, count, seed)  # refuses what it should
    first, last = position // count, (position + number - 1) // count
    epochs = [order(epoch, count, seed) for epoch in range(first, last + 1)]
    sequence = np.concatenate([np.zeros(0, np.int64), *epochs])
    start = position - first * count
    told = np.arange(position, position + number) // count
    return {"epoch": told, "sequence": sequence[start : start + number]}


@mutant("MLM-TRN-10", "order", check=_ORDER, url=_SHUFFLED)
def every_epoch_has_one_order(**call: int) -> Run:
    """The epoch is not in the key."""
    return _run(**call, order=lambda epoch, count, seed: _order(0, count, seed))


@mutant("MLM-TRN-10", "order", check=_ORDER)
def orders_forget_the_high_word_of_the_seed(**call: int) -> Run:
    """Seeds have 32 bits."""
    return _run(**call, order=lambda epoch, count, seed: _order(epoch, count, seed % 2**32))


@mutant("MLM-TRN-10", "order", check=_ORDER)
def orders_forget_the_high_word_of_the_epoch(**call: int) -> Run:
    """Epochs have 32 bits."""
    return _run(**call, order=lambda epoch, count, seed: _order(epoch % 2**32, count, seed))


@mutant("MLM-TRN-10", "order", check=_ORDER)
def an_order_of_another_stream(**call: int) -> Run:
    """The words are those that rank positions."""

    def order(epoch: int, count: int, seed: int) -> Any:
        w0, w1 = _words(epoch, count, seed, Stream.RANK)
        return np.lexsort((w1, w0)).astype(np.int64)

    return _run(**call, order=order)


@mutant("MLM-TRN-10", "order", check=_ORDER)
def an_order_that_descends(**call: int) -> Run:
    """The largest word comes first."""
    return _run(**call, order=lambda *about: _order(*about)[::-1])


@mutant("MLM-TRN-10", "order", check=_ORDER)
def an_epoch_has_its_ranks(**call: int) -> Run:
    """Each place shows the rank of the sequence with its number: the permutation backwards."""
    return _run(**call, order=lambda *about: np.argsort(_order(*about)))


@mutant("MLM-TRN-10", "order", check=_ORDER)
def an_order_of_signed_words(**call: int) -> Run:
    """Words of 2³¹ and more are taken for negative."""

    def order(epoch: int, count: int, seed: int) -> Any:
        w0, w1 = _words(epoch, count, seed)
        return np.lexsort((w1.view(np.int32), w0.view(np.int32))).astype(np.int64)

    return _run(**call, order=order)


@mutant("MLM-TRN-10", "order", check=_ORDER)
def an_order_by_16_bits_of_the_number(**call: int) -> Run:
    """Sequences 65,536 apart have the same words."""

    def order(epoch: int, count: int, seed: int) -> Any:
        w0, w1 = (np.resize(w, count) for w in _words(epoch, min(count, 2**16), seed))
        return np.lexsort((w1, w0)).astype(np.int64)

    return _run(**call, order=order)


@mutant("MLM-TRN-10", "order", check=_ORDER)
def a_part_is_that_of_an_epoch_of_padding(**call: int) -> Run:
    """Numbers up to the next power of two are sorted, and as many taken as there should be."""

    def order(epoch: int, count: int, seed: int) -> Any:
        return _order(epoch, 1 << (count - 1).bit_length(), seed)[:count]

    return _run(**call, order=order)


@mutant("MLM-TRN-10", "order", check=_SECOND)
def an_order_by_the_first_word_alone(**call: int) -> Run:
    """Where first words are equal, the number decides."""

    def order(epoch: int, count: int, seed: int) -> Any:
        return np.argsort(_words(epoch, count, seed)[0], kind="stable")

    return _run(**call, order=order)


@mutant("MLM-TRN-10", "order", check=_SECOND)
def second_words_are_signed(**call: int) -> Run:
    """Second words of 2³¹ and more are taken for negative."""

    def order(epoch: int, count: int, seed: int) -> Any:
        w0, w1 = _words(epoch, count, seed)
        return np.lexsort((w1.view(np.int32), w0)).astype(np.int64)

    return _run(**call, order=order)


@mutant("MLM-TRN-10", "order", check=_ONCE)
def sequences_are_drawn_with_replacement(**call: int) -> Run:
    """Each place of an epoch draws a number of its own."""

    def order(epoch: int, count: int, seed: int) -> Any:
        return _words(epoch, count, seed)[0].astype(np.int64) % count

    return _run(**call, order=order)


@mutant("MLM-TRN-11", "order", check=_PIECES, url=_RESUMED)
def a_resumed_run_begins_its_epoch_again(position: int, number: int, count: int, seed: int) -> Run:
    """Whoever begins within an epoch begins at its start."""
    return _run(position // count * count, number, count, seed, _order)


@mutant("MLM-TRN-11", "order", check=_PIECES)
def a_run_shuffles_anew_at_each_update(position: int, number: int, count: int, seed: int) -> Run:
    """The order follows from where the update begins."""
    return _run(
        position, number, count, seed, lambda epoch, *about: _order(position + epoch, *about)
    )


@mutant("MLM-TRN-11", "order", check=_RUN)
def a_run_takes_the_order_of_where_it_began(
    position: int, number: int, count: int, seed: int
) -> Run:
    """An update that reaches into the next epoch goes on in the order of the first."""
    first = position // count
    return _run(position, number, count, seed, lambda epoch, *about: _order(first, *about))


@mutant("MLM-TRN-11", "order", check=_RUN)
def a_run_tells_the_epoch_of_where_it_began(
    position: int, number: int, count: int, seed: int
) -> Run:
    """All sequences of an update are masked by the epoch of its first."""
    found = _run(position, number, count, seed, _order)
    return {**found, "epoch": np.full(number, position // count)}


@mutant("MLM-TRN-11", "order", check=_RUN)
def a_run_leaves_out_the_end_of_an_epoch(position: int, number: int, count: int, seed: int) -> Run:
    """Where an update reaches into the next epoch, the last sequence of each is passed over."""
    whole = port.order(position, number, count, seed)
    more = port.order(position, 2 * number + 1, count, seed)
    last = np.diff(more["epoch"], append=more["epoch"][-1:]) != 0
    if count == 1 or len(np.unique(whole["epoch"])) < 2:
        return whole
    return {name: array[~last][:number] for name, array in more.items()}


@mutant("MLM-TRN-11", "order", check=_RUN)
def a_run_stays_in_its_epoch(position: int, number: int, count: int, seed: int) -> Run:
    """An update that reaches over the end of an epoch begins the same one again."""
    start = position // count * count
    found = _run(start, count, count, seed, _order)
    places = (np.arange(position, position + number) - start) % count
    return {name: array[places] for name, array in found.items()}
