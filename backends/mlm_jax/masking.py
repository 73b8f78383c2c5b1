"""The masker: tokens in, a corrupted batch out (chapters SEL and COR).

`mask_step` is pure and belongs inside a compiled training step; `mask` checks its arguments and
raises the documented errors.

>>> from mlm_spec.policy import Bernoulli, Corruption, MaskingPolicy
>>> policy = MaskingPolicy(Bernoulli("3/20"), Corruption("4/5", "1/10", "1/10"),
...                        vocab_size=32, mask_id=4, pad_id=0, special_ids=(0, 1, 2, 3, 4))
>>> tokens = np.full((2, 64), 9, np.int32)
>>> sequence_id = np.zeros((2, 64, 2), np.uint32)
>>> sequence_id[:, :, 0] = [[7], [8]]
>>> position = np.broadcast_to(np.arange(64, dtype=np.uint32), (2, 64))
>>> eligible = np.ones((2, 64), bool)
>>> batch = mask(tokens, sequence_id, position, None, eligible, policy, seed=1, epoch=0)
>>> batch.inputs.shape, bool((batch.targets == 9).all())
((2, 64), True)

Inside a step, the plan is made once and the key crosses as an argument:

>>> step = jax.jit(mask_step)
>>> plan = make_plan(policy, length=64)
>>> again = step(tokens, sequence_id, position, None, eligible, plan, key_words(1, 0))
>>> bool((again.inputs == batch.inputs).all()), int(again.status)
(True, 0)
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mlm_jax import checking
from mlm_jax.corruption import corrupt, deciding_word
from mlm_jax.random_words import TOKEN, key_words, words_at
from mlm_jax.selection import candidates, select_positions, word_leader
from mlm_jax.sequences import Source
from mlm_jax.thresholds import ANY, MaskingPlan, make_plan
from mlm_spec.batch import MaskedBatch, Status
from mlm_spec.errors import ShapeError, WordError
from mlm_spec.policy import MaskingPolicy, WholeWord

__all__ = ["MaskStep", "jitted_mask_step", "mask", "mask_step"]

Array = Any  # jax.Array or numpy.ndarray


class MaskStep(NamedTuple):
    """What `mask_step` returns: a `MaskedBatch` and the status word, int32 ()."""

    inputs: jax.Array
    targets: jax.Array
    selected: jax.Array
    status: jax.Array


def mask(
    tokens: Array,
    sequence_id: Array,
    position: Array,
    word_id: Array | None,
    eligible: Array,
    policy: MaskingPolicy,
    seed: int,
    epoch: int,
) -> MaskedBatch:
    """Select and corrupt; a pure function of its arguments, checked.

    One compiled program a shape serves all policies; waits for the device once.

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
    MaskedBatch of JAX arrays: inputs and targets int32 (B, T), selected bool (B, T).

    Raises
    ------
    ShapeError, DTypeError, IdRangeError, PolicyError, SeedError, WordError.

    Source
    ------
    Devlin et al. 2018, §3.1 (the task); the keying is the specification's own.

    Source: chapters SEL and COR.  Bound: exact, bit for bit.
    """
    checking.check_mask(tokens, sequence_id, position, word_id, eligible)
    plan = make_plan(policy, tokens.shape[1], any_law=True)
    words = checked_words(word_id, policy, tokens.shape)
    key = key_words(seed, epoch)
    narrow = checking.narrow_ids(tokens)
    step = jitted_mask_step(narrow, sequence_id, position, words, eligible, plan, key)
    if int(step.status) & Status.ID_RANGE:
        checking.refuse_ids("tokens", tokens, policy.vocab_size)
    return MaskedBatch(step.inputs, step.targets, step.selected)


def checked_words(word_id: Array | None, policy: MaskingPolicy, shape: tuple[int, ...]) -> Array:
    """Word ids for a plan of any law: zeros where the policy looks at none.

    Raises
    ------
    WordError : the policy needs words, and there are none (MLM-ERR-15).
    """
    if word_id is not None:
        return word_id
    if isinstance(policy.selection, WholeWord) or policy.corruption.unit == "word":
        raise WordError("word_id", "None", "int32 (B, T), since the policy looks at words")
    return np.zeros(shape, np.int32)


def mask_step(
    tokens: Array,
    sequence_id: Array,
    position: Array,
    word_id: Array | None,
    eligible: Array,
    plan: MaskingPlan,
    key: Array,
) -> MaskStep:
    """`mask` without synchronisation, for use inside `jax.jit` (MLM-ERR-11, 12).

    A token outside the vocabulary sets ``ID_RANGE``; then the inputs are the tokens and nothing
    is selected, which is ``EMPTY`` too.

    Parameters
    ----------
    tokens, sequence_id, position, word_id, eligible : as in `mask`.
    plan : of `make_plan`, for T columns.
    key : uint32 (4,), of `key_words`.

    Raises
    ------
    ShapeError, DTypeError, WordError : when it is traced.

    Source: chapters SEL, COR and ERR.  Bound: exact, bit for bit.
    """
    checking.check_mask(tokens, sequence_id, position, word_id, eligible)
    if plan.counts.shape != (tokens.shape[1] + 1,):
        made = plan.counts.shape[0] - 1
        raise ShapeError("plan", f"made for {made} columns", f"one for {tokens.shape[1]}")
    if word_id is None:
        if "word" in (plan.law, plan.unit) or plan.law == ANY:
            raise WordError("word_id", "None", "int32 (B, T), since the plan may look at words")
        word_id = jnp.zeros(tokens.shape, jnp.int32)
    ids = jnp.asarray(checking.narrow_ids(tokens))
    known = jnp.all((ids >= 0) & (ids < plan.vocab_size))
    arrays = [jnp.asarray(x) for x in (sequence_id, position, word_id, eligible)]
    source = Source(ids.astype(jnp.int32), *arrays)
    selected, inputs = _masked(source, plan, jnp.asarray(key))
    selected &= known
    status = jnp.where(known, jnp.int32(0), jnp.int32(int(Status.ID_RANGE)))
    status |= jnp.where(jnp.any(selected), jnp.int32(0), jnp.int32(int(Status.EMPTY)))
    inputs = jnp.where(known, inputs.astype(ids.dtype), ids)
    return MaskStep(inputs, ids, selected, status)


jitted_mask_step = jax.jit(mask_step)


def _masked(source: Source, plan: MaskingPlan, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    if source.tokens.size == 0:  # no first column, where rows are sorted and shifted
        return jnp.zeros(source.tokens.shape, jnp.bool_), source.tokens
    candidate = candidates(source, plan)
    words = words_at(key, source.sequence_id, source.position, TOKEN)
    leader = word_leader(source, candidate, plan)
    selected, start = select_positions(source, candidate, leader, words[0], plan, key)
    kind = deciding_word(source, leader, start, words[1], plan, key)
    return selected, corrupt(source, selected, kind, words, plan)
