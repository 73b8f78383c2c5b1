"""Random words, in Python integers (chapter RNG)."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import cache

__all__ = [
    "ORDER",
    "RANK",
    "SPAN",
    "TOKEN",
    "TWO_32",
    "Block",
    "Draw",
    "SequenceId",
    "draw_with",
    "threefry4x32_20",
    "threefry_counter",
    "threefry_key",
    "threshold",
]

TWO_32 = 2**32

#: Streams of random words: what they decide.
TOKEN, SPAN, RANK, ORDER = 0, 1, 2, 4

#: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011: the rotations of
#: Threefry4x32, (first pair, second pair) for each of eight rounds, and the key's parity word.
ROTATIONS = ((10, 26), (11, 21), (13, 27), (23, 5), (6, 20), (17, 11), (25, 10), (18, 20))
PARITY = 0x1BD11BDA

Block = tuple[int, int, int, int]
SequenceId = tuple[int, int]  # (low word, high word)

#: The words of (stream, sequence id, position) under one key.
Draw = Callable[[int, SequenceId, int], Block]


def threefry4x32_20(key: tuple[int, ...], counter: tuple[int, ...]) -> Block:
    """Threefry with four 32-bit words and 20 rounds (MLM-RNG-1).

    >>> [f"{word:08x}" for word in threefry4x32_20((0, 0, 0, 0), (0, 0, 0, 0))]
    ['9c6ca96a', 'e17eae66', 'fc10ecd4', '5256a7d8']
    """
    keys = (*key, key[0] ^ key[1] ^ key[2] ^ key[3] ^ PARITY)
    a, b, c, d = ((x + k) % TWO_32 for x, k in zip(counter, key, strict=True))
    for number in range(20):
        first, second = ROTATIONS[number % 8]
        if number % 2 == 0:
            a, b = _mix(a, b, first)
            c, d = _mix(c, d, second)
        else:
            a, d = _mix(a, d, first)
            c, b = _mix(c, b, second)
        if number % 4 == 3:
            n = number // 4 + 1
            a = (a + keys[n % 5]) % TWO_32
            b = (b + keys[(n + 1) % 5]) % TWO_32
            c = (c + keys[(n + 2) % 5]) % TWO_32
            d = (d + keys[(n + 3) % 5] + n) % TWO_32
    return a, b, c, d


def _mix(x: int, y: int, rotation: int) -> tuple[int, int]:
    """Add, rotate left, exclusive or."""
    x = (x + y) % TWO_32
    return x, ((y << rotation) % TWO_32 | y >> (32 - rotation)) ^ x


def threefry_key(seed: int, epoch: int) -> Block:
    """(seed_lo, seed_hi, epoch_lo, epoch_hi) (MLM-RNG-2)."""
    return seed % TWO_32, seed // TWO_32, epoch % TWO_32, epoch // TWO_32


def threefry_counter(stream: int, sequence: SequenceId, position: int) -> Block:
    """(position, 0x4D4C4D00 xor stream, sequence_lo, sequence_hi) (MLM-RNG-3)."""
    low, high = sequence
    return position, 0x4D4C4D00 ^ stream, low, high


def draw_with(seed: int, epoch: int) -> Draw:
    """The random words under one key (MLM-RNG-4: functions of their arguments alone)."""
    key = threefry_key(seed, epoch)

    @cache
    def draw(stream: int, sequence: SequenceId, position: int) -> Block:
        return threefry4x32_20(key, threefry_counter(stream, sequence, position))

    return draw


def threshold(p: Fraction) -> int:
    """T(p) = ceil(p · 2^32); a word w is below it with probability p (MLM-RNG-5).

    >>> threshold(Fraction(3, 20)), threshold(Fraction(0)), threshold(Fraction(1)) == 2**32
    (644245095, 0, True)
    """
    return -((-p.numerator * TWO_32) // p.denominator)
