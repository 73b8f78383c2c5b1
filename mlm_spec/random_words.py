"""Random words: Threefry4x32-20, keyed without state (chapter RNG).

Source: Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlm_spec.checking import check_seed
from mlm_spec.errors import DTypeError, IdRangeError

__all__ = ["Stream", "random_words", "split_words", "threefry4x32"]

Words = NDArray[np.uint32]

# Rotations of rounds 0..7, repeated; the first of a pair turns word 1, the second word 3
# (in odd rounds: the first turns word 3, the second word 1).
_ROTATIONS = ((10, 26), (11, 21), (13, 27), (23, 5), (6, 20), (17, 11), (25, 10), (18, 20))
_ROUNDS = 20
_PARITY = 0x1BD11BDA
_TAG = 0x4D4C4D00  # "MLM\0": keeps these counters apart from anybody else's
_MASK = 0xFFFFFFFF
_BLOCK = 32768  # words a pass works on; five arrays of it stay in a second-level cache


class Stream(IntEnum):
    """Which decision the words serve (MLM-RNG-3)."""

    TOKEN = 0  # Bernoulli selection, kind and random id of a token
    SPAN = 1  # a span's start and length
    RANK = 2  # the ranking of fixed counts, the decision for a word
    DROPOUT = 3  # reserved
    ORDER = 4  # the order of the sequences of an epoch


def split_words(ids: ArrayLike) -> Words:
    """64-bit ids as pairs of 32-bit words, the low word first.

    Parameters
    ----------
    ids : integers (...), 0 .. 2**64 - 1.

    Returns
    -------
    uint32 (..., 2).

    Raises
    ------
    DTypeError, IdRangeError : not integers, or not in that range.

    Source: chapter RNG.  Bound: exact, bit for bit.

    >>> split_words([1, 2**32 + 5]).tolist()
    [[1, 0], [5, 1]]
    """
    given = ids if isinstance(ids, np.ndarray) else np.asarray(ids, dtype=object)
    if given.dtype == object:  # Python's integers: NumPy would make floats of some
        for item in given.reshape(-1):
            if isinstance(item, bool) or not isinstance(item, int | np.integer):
                raise DTypeError("ids", f"{item!r}, a {type(item).__name__}", "integers")
    elif given.dtype.kind not in "iu":
        raise DTypeError("ids", f"of dtype {given.dtype}", "integers")
    if given.size and not 0 <= (worst := given.min() if given.min() < 0 else given.max()) < 2**64:
        raise IdRangeError("ids", worst, "integers in 0..2**64 - 1")
    wide = given.astype(np.uint64)
    low = (wide & np.uint64(_MASK)).astype(np.uint32)
    return np.stack([low, (wide >> np.uint64(32)).astype(np.uint32)], axis=-1)


def threefry4x32(key: ArrayLike, counter: ArrayLike) -> Words:
    """Four random words for each counter: Threefry4x32 with 20 rounds (MLM-RNG-1).

    Parameters
    ----------
    key : uint32 (4,), or (..., 4) like the counters.
    counter : uint32 (..., 4).

    Returns
    -------
    uint32 (..., 4).

    Source: chapter RNG, and Salmon et al., SC 2011.  Bound: exact, bit for bit.

    >>> " ".join(f"{w:08x}" for w in threefry4x32([0, 0, 0, 0], [0, 0, 0, 0]))
    '9c6ca96a e17eae66 fc10ecd4 5256a7d8'
    """
    keys = np.asarray(key, dtype=np.uint32)
    counters = np.asarray(counter, dtype=np.uint32)
    shape = np.broadcast_shapes(keys.shape, counters.shape)
    lanes = [np.broadcast_to(counters, shape)[..., i].reshape(-1).copy() for i in range(4)]
    if keys.ndim == 1:
        schedule = [np.asarray(word) for word in keys]
    else:
        schedule = [np.broadcast_to(keys, shape)[..., i].reshape(-1) for i in range(4)]
    _permute(schedule, lanes)
    return np.stack(lanes, axis=-1).reshape(shape)


def random_words(
    seed: int, epoch: int, sequence_id: Words, position: Words, stream: Stream
) -> tuple[Words, Words, Words, Words]:
    """The four words w0..w3 of every position (MLM-RNG-2, MLM-RNG-3).

    key = (seed_lo, seed_hi, epoch_lo, epoch_hi)
    counter = (position, 0x4D4C4D00 xor stream, sequence_lo, sequence_hi)

    Parameters
    ----------
    seed, epoch : integers in 0 .. 2**64 - 1.
    sequence_id : uint32 (..., 2), the low word first.
    position : uint32 (...), in the source sequence.
    stream : which decision the words serve.

    Returns
    -------
    Four uint32 arrays (...).

    Raises
    ------
    SeedError : a seed or an epoch outside its range.

    Source: chapter RNG.  Bound: exact, bit for bit.
    """
    seed, epoch = check_seed("seed", seed), check_seed("epoch", epoch)
    key = [np.asarray(w, np.uint32) for n in (seed, epoch) for w in (n & _MASK, n >> 32)]
    w0 = position.reshape(-1).copy()
    w1 = np.full(w0.shape, _TAG ^ stream, np.uint32)
    w2, w3 = (sequence_id[..., i].reshape(-1).copy() for i in range(2))
    _permute(key, [w0, w1, w2, w3])
    shape = position.shape
    return w0.reshape(shape), w1.reshape(shape), w2.reshape(shape), w3.reshape(shape)


def _permute(key: list[Words], lanes: list[Words]) -> None:
    """Replace the four lanes (n,) by their random words, block by block, in place."""
    parity = key[0] ^ key[1] ^ key[2] ^ key[3] ^ np.uint32(_PARITY)
    schedule = [*key, parity]
    size = lanes[0].size
    scratch = np.empty(min(size, _BLOCK), np.uint32)
    for start in range(0, size, _BLOCK):
        part = slice(start, start + _BLOCK)
        block = [lane[part] for lane in lanes]
        _permute_block([k if k.ndim == 0 else k[part] for k in schedule], block, scratch)


def _permute_block(schedule: list[Words], block: list[Words], scratch: Words) -> None:
    a, b, c, d = block
    spare = scratch[: a.size]
    for lane, word in zip(block, schedule, strict=False):
        np.add(lane, word, out=lane)
    for number in range(_ROUNDS):
        first, second = _ROTATIONS[number % 8]
        if number % 2 == 0:
            _mix(a, b, first, spare)
            _mix(c, d, second, spare)
        else:
            _mix(a, d, first, spare)
            _mix(c, b, second, spare)
        if number % 4 == 3:
            _inject(schedule, block, number // 4 + 1)


def _mix(x: Words, y: Words, rotation: int, spare: Words) -> None:
    """x += y; y = (y rotated left) xor x."""
    np.add(x, y, out=x)
    np.right_shift(y, np.uint32(32 - rotation), out=spare)
    np.left_shift(y, np.uint32(rotation), out=y)
    np.bitwise_or(y, spare, out=y)
    np.bitwise_xor(y, x, out=y)


def _inject(schedule: list[Words], block: list[Words], number: int) -> None:
    for i, lane in enumerate(block):
        np.add(lane, schedule[(number + i) % 5], out=lane)
    np.add(block[3], np.uint32(number), out=block[3])
