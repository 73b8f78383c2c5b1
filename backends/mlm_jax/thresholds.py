"""A masking policy as a few small arrays (MLM-RNG-5, MLM-RNG-6, MLM-SEL-4).

Probabilities become integers here, on the host and exactly; the device only compares words.
All numbers of a policy are arguments of the compiled step, so another rate, vocabulary, pool or
set of special ids compiles nothing.  Id tables are padded to a power of two; their true size is
a number among the others.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mlm_spec.errors import PolicyError
from mlm_spec.policy import Bernoulli, FixedCount, MaskingPolicy, Span, WholeWord

__all__ = ["ANY", "LAWS", "UNITS", "MaskingPlan", "Threshold", "below", "make_plan", "step_value"]

LAWS = ("bernoulli", "count", "word", "span")
UNITS = ("token", "word", "span")
ANY = "any"

_RANGE = 2**32
_LONGEST = 64  # the longest span a policy may have
# Sizes of the tables of runs, and beyond them powers of two: each size compiles a program, and
# most vocabularies have fewer than eight runs of special ids.
_TABLES = (8, 512)
_UNROLLED_TABLE = 32  # above this, a binary search beats comparing with every entry

Array = Any  # jax.Array or numpy.ndarray


class Threshold(NamedTuple):
    """T(p) = ceil(p · 2³²) for a comparison of uint32 words.

    T itself may be 2³², which is no uint32; T − 1 always is one, save for T = 0.

    Attributes
    ----------
    last : uint32 (...).  T − 1: the last word below T.
    some : bool (...).  False for T = 0: no word is below.
    """

    last: Array
    some: Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class MaskingPlan:
    """What a compiled masking step needs to know of a policy; a pytree.

    Attributes
    ----------
    law, unit : names of `LAWS` and `UNITS`, static; or `ANY`: decided by the arrays, so that one
        compiled program serves every policy.
    law_index, unit_index : int32 (), the same as numbers.
    needs_words : bool (), the law or the unit is "word".
    rate : Threshold ().  Of the rate, or of a span's start.
    lengths : Threshold (64,).  A span is longer than m iff its w1 is not below entry m.
    longest : int32 (), the longest span.
    counts : int32 (T + 1,).  For fixed counts: k before the limit by candidates, for n = 0 .. T.
    count_all : bool ().  n counts all that is not padding, instead of the candidates.
    masked, replaced : Threshold ().  Of the weights mask and mask + random.
    vocab_size, mask_id : int32 ().
    pad_id : int32 (), -1 for none.
    special_first, special_stop : uint32 (S,).  Runs of special ids, first ≤ id < stop.
    pool_size, pool_last : uint32 ().  K, and ⌊2³² / K⌋ · K − 1.
    pool_first, pool_shift : uint32 (R,).  Entry r of the pool is r + the shift of its run.
    """

    law: str = field(metadata={"static": True})
    unit: str = field(metadata={"static": True})
    law_index: Array
    unit_index: Array
    needs_words: Array
    rate: Threshold
    lengths: Threshold
    longest: Array
    counts: Array
    count_all: Array
    masked: Threshold
    replaced: Threshold
    vocab_size: Array
    mask_id: Array
    pad_id: Array
    special_first: Array
    special_stop: Array
    pool_size: Array
    pool_last: Array
    pool_first: Array
    pool_shift: Array


def make_plan(policy: MaskingPolicy, length: int, *, any_law: bool = False) -> MaskingPlan:
    """The plan of a policy for rows of ``length`` positions; NumPy arrays, read-only.

    Parameters
    ----------
    policy : the policy.
    length : T, the number of columns.
    any_law : leave the law to run time.  One program then serves every policy, and pays for
        branches; without, each law and unit compile their own.

    Raises
    ------
    PolicyError : ``policy`` is no `MaskingPolicy`.

    Source: chapters SEL and COR.  Bound: exact, bit for bit.
    """
    if not isinstance(policy, MaskingPolicy):
        raise PolicyError("policy", f"a {type(policy).__name__}", "a MaskingPolicy")
    return _cached_plan(policy, length, any_law)


def below(words: jax.Array, threshold: Threshold) -> jax.Array:
    """words < T, as bool (...) (MLM-RNG-5)."""
    return (words <= threshold.last) & threshold.some


def step_value(first: jax.Array, value: jax.Array, x: jax.Array) -> jax.Array:
    """The value of the last step with first ≤ x; 0 before the first step.

    Parameters
    ----------
    first : uint32 (S,), ascending; padded with 2³² − 1.
    value : uint32 (S,).
    x : uint32 (...), below 2³² − 1 where the result matters.

    Returns
    -------
    uint32 (...).
    """
    if first.shape[0] > _UNROLLED_TABLE:
        index = jnp.searchsorted(first, x.reshape(-1), side="right").reshape(x.shape)
        return jnp.concatenate([jnp.zeros(1, jnp.uint32), value])[index]
    result = jnp.zeros_like(x)
    for i in range(first.shape[0]):
        result = jnp.where(x >= first[i], value[i], result)
    return result


@lru_cache(maxsize=256)
def _cached_plan(policy: MaskingPolicy, length: int, any_law: bool) -> MaskingPlan:
    law, unit = _law(policy), policy.corruption.unit
    plan = MaskingPlan(
        law=ANY if any_law else law,
        unit=ANY if any_law else unit,
        law_index=np.int32(LAWS.index(law)),
        unit_index=np.int32(UNITS.index(unit)),
        needs_words=np.bool_("word" in (law, unit)),
        masked=_threshold(policy.corruption.mask),
        replaced=_threshold(policy.corruption.mask + policy.corruption.random),
        vocab_size=np.int32(policy.vocab_size),
        mask_id=np.int32(policy.mask_id),
        pad_id=np.int32(-1 if policy.pad_id is None else policy.pad_id),
        **_selection(policy, length),
        **_tables(policy),
    )
    for leaf in jax.tree_util.tree_leaves(plan):
        if isinstance(leaf, np.ndarray):
            leaf.flags.writeable = False
    return plan


def _law(policy: MaskingPolicy) -> str:
    return LAWS[(Bernoulli, FixedCount, WholeWord, Span).index(type(policy.selection))]


def _threshold(p: Fraction) -> Threshold:
    limit = -(-p.numerator * _RANGE // p.denominator)  # rounded up, in integers
    return Threshold(np.uint32(max(limit, 1) - 1), np.bool_(limit > 0))


def _thresholds(values: Iterable[Fraction]) -> Threshold:
    rows = [_threshold(value) for value in values]
    return Threshold(np.array([r.last for r in rows]), np.array([r.some for r in rows]))


def _selection(policy: MaskingPolicy, length: int) -> dict[str, Any]:
    law = policy.selection
    lengths = law.lengths if isinstance(law, Span) else (Fraction(1),)
    # Entry 0 is T(0): every span is longer than 0.  Beyond the longest, T(1): none is longer.
    steps = [Fraction(0), *accumulate(lengths)][:_LONGEST]
    steps += [Fraction(1)] * (_LONGEST - len(steps))
    fixed = isinstance(law, FixedCount)
    counts = [_count(law, n, length) if fixed else 0 for n in range(length + 1)]
    return {
        "rate": _threshold(law.start if isinstance(law, Span) else law.rate),
        "lengths": _thresholds(steps),
        "longest": np.int32(len(lengths)),
        "counts": np.array(counts, np.int32),
        "count_all": np.bool_(fixed and law.base == "all"),
    }


def _count(law: FixedCount, n: int, length: int) -> int:
    """k of n, before the limit by candidates; at most ``length``, to fit int32."""
    whole, rest = divmod(law.rate.numerator * n, law.rate.denominator)
    twice = 2 * rest
    if law.rounding == "ceiling":
        up = rest > 0
    elif law.rounding == "half_up":
        up = twice >= law.rate.denominator
    else:
        up = twice > law.rate.denominator or (twice == law.rate.denominator and whole % 2 == 1)
    k = max(law.floor, whole + up)
    return min(k, length if law.cap is None else min(law.cap, length))


def _runs(ids: Iterable[int]) -> list[tuple[int, int]]:
    """Ascending ids as runs (first, stop)."""
    runs: list[tuple[int, int]] = []
    for i in ids:
        if runs and runs[-1][1] == i:
            runs[-1] = (runs[-1][0], i + 1)
        else:
            runs.append((i, i + 1))
    return runs


def _tables(policy: MaskingPolicy) -> dict[str, Any]:
    special, pool = _runs(policy.special_ids), _pool_runs(policy)
    # Both have one size, so that fewer pairs of sizes meet.
    size = _table_size(max(len(special), len(pool)))
    ranks = [0, *accumulate(stop - first for first, stop in pool)]
    # An empty pool is legal where nothing is replaced; 1 keeps the remainder defined.
    entries = max(policy.pool_size, 1)
    return {
        "special_first": _padded([first for first, _ in special], _RANGE - 1, size),
        # A stop of 0 is after no id: padding matches nothing.
        "special_stop": _padded([stop for _, stop in special], 0, size),
        "pool_size": np.uint32(entries),
        "pool_last": np.uint32(_RANGE // entries * entries - 1),
        "pool_first": _padded(ranks[:-1], _RANGE - 1, size),
        "pool_shift": _padded(
            [first - rank for (first, _), rank in zip(pool, ranks, strict=False)], 0, size
        ),
    }


def _pool_runs(policy: MaskingPolicy) -> list[tuple[int, int]]:
    if isinstance(policy.pool, tuple):
        return _runs(policy.pool)
    if policy.pool == "all":
        return [(0, policy.vocab_size)]
    # What the special ids leave: runs between them, so a big vocabulary is never listed.
    edges = [(-1, 0), *_runs(policy.special_ids), (policy.vocab_size, policy.vocab_size)]
    gaps = [(before[1], after[0]) for before, after in pairwise(edges)]
    return [gap for gap in gaps if gap[0] < gap[1]]


def _table_size(runs: int) -> int:
    return next((size for size in _TABLES if runs <= size), 1 << max(runs - 1, 1).bit_length())


def _padded(values: list[int], filler: int, size: int) -> np.ndarray:
    return np.array(values + [filler] * (size - len(values)), np.uint32)
