"""The masker: tokens in, a `MaskedBatch` out (chapters SEL and COR)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlm_spec.batch import MaskedBatch
from mlm_spec.checking import IDS, check_array, check_ids, check_seed
from mlm_spec.corruption import corrupt
from mlm_spec.errors import PolicyError, WordError
from mlm_spec.policy import MaskingPolicy, WholeWord
from mlm_spec.selection import Source, candidates, select_positions

__all__ = ["check_source", "mask", "mask_source"]


def mask(
    tokens: NDArray[Any],
    sequence_id: NDArray[np.uint32],
    position: NDArray[np.uint32],
    word_id: NDArray[np.int32] | None,
    eligible: NDArray[np.bool_],
    policy: MaskingPolicy,
    seed: int,
    epoch: int,
) -> MaskedBatch:
    """Select and corrupt; a pure function of its arguments.

    Parameters
    ----------
    tokens : int32 or int64 (B, T), ids in 0 .. vocab_size - 1.
    sequence_id : uint32 (B, T, 2), the source sequence of each position, low word first.
    position : uint32 (B, T), the place in the source sequence (not in a packed buffer).
    word_id : int32 (B, T), equal for the pieces of a word; None if the policy needs no words.
    eligible : bool (B, T), False for padding and whatever must not be selected.
    policy : the law, the corruption and the vocabulary.
    seed, epoch : integers in 0 .. 2**64 - 1.

    Returns
    -------
    MaskedBatch : inputs and targets in the dtype of the tokens, selected bool; new arrays.

    Raises
    ------
    ShapeError, DTypeError, IdRangeError, PolicyError, SeedError, WordError.

    Source
    ------
    Devlin et al. 2018, §3.1 (the task); the keying is this specification's own.

    Source: chapters SEL and COR.  Bound: exact, bit for bit.

    >>> from mlm_spec import Bernoulli, Corruption, MaskingPolicy, split_words
    >>> tokens = np.array([[11, 12, 13, 14, 15, 16]], np.int32)
    >>> ids = split_words(np.full((1, 6), 7))
    >>> position = np.arange(6, dtype=np.uint32)[None]
    >>> policy = MaskingPolicy(Bernoulli("1/2"), Corruption(1, 0, 0), vocab_size=32, mask_id=4)
    >>> batch = mask(tokens, ids, position, None, np.ones((1, 6), bool), policy, seed=1, epoch=0)
    >>> bool((batch.inputs[batch.selected] == 4).all()), bool((batch.targets == tokens).all())
    (True, True)
    """
    source = check_source(tokens, sequence_id, position, word_id, eligible, policy)
    check_ids("tokens", tokens, policy.vocab_size)
    return mask_source(source, policy, check_seed("seed", seed), check_seed("epoch", epoch))


def mask_source(source: Source, policy: MaskingPolicy, seed: int, epoch: int) -> MaskedBatch:
    """`mask`, on arguments that are already checked."""
    candidate = candidates(source, policy)
    selected = select_positions(source, candidate, policy, seed, epoch)
    inputs = corrupt(source, candidate, selected, policy, seed, epoch)
    return MaskedBatch(inputs, source.tokens.copy(), selected)


def check_source(
    tokens: object,
    sequence_id: object,
    position: object,
    word_id: object,
    eligible: object,
    policy: object,
) -> Source:
    """Shapes, dtypes and the policy: all that is known without looking at values."""
    ids = check_array("tokens", tokens, ("B", "T"), IDS)
    rows, columns = ids.shape
    sequence = check_array("sequence_id", sequence_id, (rows, columns, 2), ("uint32",))
    places = check_array("position", position, (rows, columns), ("uint32",))
    words = word_id
    if words is not None:
        words = check_array("word_id", words, (rows, columns), ("int32",))
    able = check_array("eligible", eligible, (rows, columns), ("bool",))
    if not isinstance(policy, MaskingPolicy):
        raise PolicyError("policy", f"a {type(policy).__name__}", "a MaskingPolicy")
    if words is None and _needs_words(policy):
        raise WordError("word_id", "None", "int32 (B, T): this policy looks at words")
    return Source(ids, sequence, places, words, able)


def _needs_words(policy: MaskingPolicy) -> bool:
    return isinstance(policy.selection, WholeWord) or policy.corruption.unit == "word"
