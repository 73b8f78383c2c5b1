"""Threefry4x32-20 on int32 tensors (MLM-RNG-1, MLM-RNG-2, MLM-RNG-3).

`torch.uint32` has no addition, shift or comparison on the CPU.  So a word travels as the int32
with the same bits: addition wraps alike, a logical right shift is an arithmetic one and a mask,
and flipping the top bit turns the order of the unsigned words into the order of the signed ones.

Source: Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011
(rotations, key parity and the number of rounds).
"""

from __future__ import annotations

import operator
from collections.abc import Sequence

import torch
from torch import Tensor

from mlm_spec.errors import SeedError
from mlm_torch.checking import check_words

__all__ = [
    "STREAM_DROPOUT",
    "STREAM_ORDER",
    "STREAM_RANK",
    "STREAM_SPAN",
    "STREAM_TOKEN",
    "below",
    "counter_words",
    "first_word",
    "make_key",
    "random_words",
    "signed",
    "unsigned",
    "words",
]

STREAM_TOKEN, STREAM_SPAN, STREAM_RANK, STREAM_DROPOUT, STREAM_ORDER = 0, 1, 2, 3, 4

_TAG = 0x4D4C4D00
_PARITY = 0x1BD11BDA
_ROUNDS = 20
_ROTATIONS = ((10, 26), (11, 21), (13, 27), (23, 5), (6, 20), (17, 11), (25, 10), (18, 20))
_LOW = 0xFFFFFFFF

Operand = int | Tensor


def signed(word: int) -> int:
    """The int32 value that has the bits of ``word``, taken modulo 2³².

    >>> signed(0xFFFFFFFF), signed(1)
    (-1, 1)
    """
    return ((word + 2**31) & _LOW) - 2**31


def unsigned(bits: Tensor) -> Tensor:
    """The words as int64 values in 0 .. 2³² − 1."""
    return bits.long() & _LOW


def below(bits: Tensor, threshold: int) -> Tensor:
    """Word < threshold, compared as unsigned integers; ``threshold`` runs 0 .. 2³² (MLM-RNG-5)."""
    if threshold == 2**32:
        return torch.ones_like(bits, dtype=torch.bool)
    return (bits ^ signed(2**31)) < threshold - 2**31


def make_key(seed: int, epoch: int, device: torch.device | str | None = None) -> Tensor:
    """The key (seed_lo, seed_hi, epoch_lo, epoch_hi) as int32 bits, shape (4,) (MLM-RNG-2).

    Raises
    ------
    SeedError : a seed or an epoch that is not an integer in 0 .. 2⁶⁴ − 1.

    Source: chapter RNG.  Bound: exact, bit for bit.
    """
    halves = []
    for name, value in (("seed", seed), ("epoch", epoch)):
        number = _seed(name, value)
        halves += [signed(number & _LOW), signed(number >> 32)]
    return torch.tensor(halves, dtype=torch.int32, device=device)


def _seed(name: str, value: object) -> int:
    expected = "an integer in 0..2**64 - 1"
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise SeedError(name, f"{value!r} ({type(value).__name__})", expected)
    try:
        number = operator.index(value)
    except TypeError:
        raise SeedError(name, f"{value!r} ({type(value).__name__})", expected) from None
    if not 0 <= number < 2**64:
        raise SeedError(name, number, expected)
    return number


def random_words(key: Tensor, counter: Tensor) -> Tensor:
    """Threefry4x32-20 of each row (MLM-RNG-1).

    Parameters
    ----------
    key, counter : uint32 (n, 4).

    Returns
    -------
    uint32 (n, 4).

    Source: chapter RNG.  Bound: exact, bit for bit.

    >>> zero = torch.zeros(1, 4, dtype=torch.uint32)
    >>> [f"{w:08x}" for w in random_words(zero, zero)[0].tolist()]
    ['9c6ca96a', 'e17eae66', 'fc10ecd4', '5256a7d8']
    """
    check_words(key, counter)
    columns = [key.view(torch.int32)[:, i].contiguous() for i in range(4)]
    start = [counter.view(torch.int32)[:, i] + columns[i] for i in range(4)]
    return torch.stack(_cipher(start, _schedule(columns), False), dim=1).view(torch.uint32)


def first_word(key: Tensor, stream: int, position: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """w0 alone, otherwise as `words`: the last round need not be finished for it."""
    return _words(key, stream, position, low, high, True)[0]


def words(
    key: Tensor, stream: int, position: Tensor, low: Tensor, high: Tensor
) -> tuple[Tensor, ...]:
    """w0, w1, w2, w3 at (position, sequence) of one stream (MLM-RNG-3).

    Parameters
    ----------
    key : int32 (4,), from `make_key`.
    position, low, high : int32 bits of one shape; low and high are the sequence id's halves.

    Returns
    -------
    Four int32 tensors of that shape.
    """
    return _words(key, stream, position, low, high, False)


def counter_words(key: Tensor, counter: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """w0, w1, w2, w3 of counters whose four words broadcast against each other.

    Parameters
    ----------
    key : int32 (4,).
    counter : four tensors of int32 bits.

    Returns
    -------
    Four int32 tensors of the common shape.
    """
    schedule = _schedule(key.unbind())
    shape = torch.broadcast_shapes(*(word.shape for word in counter))
    # Each word in a buffer of its own, since the rounds work in place.
    state = [
        (word + own).expand(shape).contiguous()
        for word, own in zip(counter, schedule[:4], strict=True)
    ]
    return _cipher(state, schedule, False)


def _words(
    key: Tensor, stream: int, position: Tensor, low: Tensor, high: Tensor, first_only: bool
) -> tuple[Tensor, ...]:
    schedule = _schedule(key.unbind())
    tag = schedule[1] + signed(_TAG ^ stream)  # one word for all
    state = (position + schedule[0], tag, low + schedule[2], high + schedule[3])
    return _cipher(state, schedule, first_only)


def _schedule(key: Sequence[Tensor]) -> tuple[Tensor, ...]:
    return (*key, key[0] ^ key[1] ^ key[2] ^ key[3] ^ _PARITY)


def _constants(tensor: bool) -> dict[int, tuple[Operand, Operand]]:
    """For a rotation by r: the right shift 32 − r, and the r low bits that survive it.

    In eager mode an operation on a 0-d tensor starts about twice as fast as one on a number,
    and most of the time of a small operation is its start.
    """
    table: dict[int, tuple[Operand, Operand]] = {}
    for turn in (r for pair in _ROTATIONS for r in pair):
        shift, mask = 32 - turn, (1 << turn) - 1
        if tensor:
            kind = torch.int32
            table[turn] = (torch.tensor(shift, dtype=kind), torch.tensor(mask, dtype=kind))
        else:
            table[turn] = (shift, mask)
    return table


_NUMBERS, _TENSORS = _constants(False), _constants(True)


def _cipher(
    state: Sequence[Tensor], schedule: Sequence[Tensor], first_only: bool
) -> tuple[Tensor, ...]:
    """The twenty rounds, in place on the four tensors of ``state`` (key already added once).

    The second of them may be 0-d, one word for all.
    """
    a, b, c, d = state
    spare = torch.empty_like(a)
    eager = a.device.type == "cpu" and not torch.compiler.is_compiling()
    table = _TENSORS if eager else _NUMBERS
    for i in range(_ROUNDS):
        turn, other = _ROTATIONS[i % 8]
        if i % 2 == 0:
            b, spare = _mix(a, b, spare, turn, table)
            d, spare = _mix(c, d, spare, other, table)
        elif first_only and i == _ROUNDS - 1:
            return (a.add_(d).add_(schedule[_ROUNDS // 4 % 5]),)
        else:
            d, spare = _mix(a, d, spare, turn, table)
            b, spare = _mix(c, b, spare, other, table)
        if i % 4 == 3:
            g = i // 4 + 1
            a.add_(schedule[g % 5])
            b.add_(schedule[(g + 1) % 5])
            c.add_(schedule[(g + 2) % 5])
            d.add_(schedule[(g + 3) % 5] + g)
    return a, b, c, d


def _mix(
    a: Tensor, b: Tensor, spare: Tensor, turn: int, table: dict[int, tuple[Operand, Operand]]
) -> tuple[Tensor, Tensor]:
    """a += b; b = rotate_left(b, turn) xor a.  Returns the new b, and the buffer now free."""
    shift, mask = table[turn]
    a.add_(b)
    if b.dim() < a.dim():
        return a ^ (((b >> shift) & mask) + (b << turn)), spare
    torch.bitwise_right_shift(b, shift, out=spare)
    spare.bitwise_and_(mask)
    # The left shift and the union of the two parts are one multiply-add: no bits overlap.
    spare.add_(b, alpha=1 << turn)
    return spare.bitwise_xor_(a), b
