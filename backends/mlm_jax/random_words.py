"""Threefry4x32-20 in 32-bit integers (MLM-RNG-1 .. MLM-RNG-3).

Every random decision is a pure function of (seed, epoch, sequence, position, stream): no state,
no split keys, and nothing of `jax.random`.  Only add, rotate and xor of uint32, so the words are
the same on every device and with x64 on or off.

Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3" (2011).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from mlm_jax.checking import check_array, check_seed

__all__ = [
    "DROPOUT",
    "ORDER",
    "RANK",
    "SPAN",
    "TAG",
    "TOKEN",
    "key_words",
    "random_words",
    "threefry4x32",
    "words_at",
]

Block = tuple[jax.Array, jax.Array, jax.Array, jax.Array]

# Streams: the second counter word tells the uses of one position apart.
TOKEN, SPAN, RANK, DROPOUT, ORDER = 0, 1, 2, 3, 4
TAG = 0x4D4C4D00

_PARITY = 0x1BD11BDA  # the extra key word is the xor of the key and this
# One pair of rotations a round, repeating after eight rounds.
_ROTATIONS = ((10, 26), (11, 21), (13, 27), (23, 5), (6, 20), (17, 11), (25, 10), (18, 20))
_ROUNDS = 20


def threefry4x32(key: Block, counter: Block) -> Block:
    """Four random words from four key words and four counter words, all uint32 (...).

    Key and counter broadcast against each other.

    Source: chapter RNG, and Salmon et al., SC 2011.  Bound: exact, bit for bit.

    >>> zero = (jnp.zeros(1, jnp.uint32),) * 4
    >>> [f"{int(word[0]):08x}" for word in threefry4x32(zero, zero)]
    ['9c6ca96a', 'e17eae66', 'fc10ecd4', '5256a7d8']
    """
    schedule = (*key, key[0] ^ key[1] ^ key[2] ^ key[3] ^ jnp.uint32(_PARITY))
    x = [word + k for word, k in zip(counter, schedule[:4], strict=True)]
    for number in range(_ROUNDS):
        # Even rounds mix (0, 1) and (2, 3); odd rounds mix (0, 3) and (2, 1).
        partners = (1, 3) if number % 2 == 0 else (3, 1)
        for low, high, by in zip((0, 2), partners, _ROTATIONS[number % 8], strict=True):
            x[low] = x[low] + x[high]
            x[high] = _rotate(x[high], by) ^ x[low]
        if number % 4 == 3:
            turn = number // 4 + 1
            x = [word + schedule[(turn + i) % 5] for i, word in enumerate(x)]
            x[3] = x[3] + jnp.uint32(turn)
    return x[0], x[1], x[2], x[3]


def words_at(key: jax.Array, sequence_id: jax.Array, position: jax.Array, stream: int) -> Block:
    """The words w0 .. w3 of positions.

    Parameters
    ----------
    key : uint32 (4,), see `key_words`.
    sequence_id : uint32 (..., 2), the low word first.
    position : uint32 (...).
    stream : TOKEN, SPAN, RANK or ORDER.

    Returns
    -------
    four arrays uint32 (...).
    """
    tag = jnp.full(position.shape, TAG ^ stream, jnp.uint32)
    counter = (position, tag, sequence_id[..., 0], sequence_id[..., 1])
    return threefry4x32((key[0], key[1], key[2], key[3]), counter)


def key_words(seed: int, epoch: int) -> np.ndarray:
    """The key: uint32 (4,), seed and epoch as pairs of words, the low word first (MLM-RNG-2).

    Built on the host, so 64-bit numbers never meet JAX.  In a compiled training step the result
    is an ordinary argument: a new epoch compiles nothing.

    Raises
    ------
    SeedError : not an integer in 0 .. 2**64 - 1.

    Source: chapter RNG.  Bound: exact, bit for bit.

    >>> key_words(2**32 + 5, 7).tolist()
    [5, 1, 7, 0]
    """
    numbers = (check_seed("seed", seed), check_seed("epoch", epoch))
    return np.array([w for n in numbers for w in (n & 0xFFFFFFFF, n >> 32)], np.uint32)


def random_words(key: jax.Array | np.ndarray, counter: jax.Array | np.ndarray) -> jax.Array:
    """Threefry4x32-20 on rows: key and counter uint32 (n, 4) → words uint32 (n, 4).

    Raises
    ------
    ShapeError, DTypeError.

    Source: chapter RNG.  Bound: exact, bit for bit.
    """
    check_array("key", key, ("n", 4), ("uint32",))
    check_array("counter", counter, (key.shape[0], 4), ("uint32",))
    return _rows(key, counter)


@jax.jit
def _rows(key: jax.Array, counter: jax.Array) -> jax.Array:
    keys = (key[:, 0], key[:, 1], key[:, 2], key[:, 3])
    counters = (counter[:, 0], counter[:, 1], counter[:, 2], counter[:, 3])
    return jnp.stack(threefry4x32(keys, counters), axis=1)


def _rotate(word: jax.Array, by: int) -> jax.Array:
    return (word << jnp.uint32(by)) | (word >> jnp.uint32(32 - by))
