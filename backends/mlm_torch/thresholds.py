"""Exact integers for the policy's fractions, and small tables for its ids (MLM-RNG-5, MLM-RNG-6).

Nothing here is as long as the vocabulary unless the policy itself lists its pool.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from mlm_spec.policy import FixedCount, MaskingPolicy

__all__ = [
    "FEW",
    "Tables",
    "quota_table",
    "quotas",
    "redraw_limit",
    "runs",
    "tables_for",
    "threshold",
]

# Up to so many special ids, a comparison with each is quicker than a search, and fuses.
FEW = 8


def threshold(probability: Fraction) -> int:
    """T(p) = ⌈p · 2³²⌉, in 0 .. 2³² (MLM-RNG-5).

    >>> threshold(Fraction(3, 20)), threshold(Fraction(1, 2**33)), threshold(Fraction(1))
    (644245095, 1, 4294967296)
    """
    return -(-(probability.numerator << 32) // probability.denominator)


def redraw_limit(pool_size: int) -> int:
    """⌊2³² / K⌋ · K: words below it reduce to an unbiased index, others are drawn again.

    >>> redraw_limit(32), redraw_limit(2**31 - 1)
    (4294967296, 4294967294)
    """
    return 2**32 // pool_size * pool_size


def quotas(law: FixedCount, longest: int) -> tuple[int, ...]:
    """max(floor, rounded rate · n) capped, for n = 0 .. longest, in exact integers (MLM-SEL-4).

    >>> quotas(FixedCount("3/20", floor=1, cap=2), 20)[::5]
    (1, 1, 2, 2, 2)
    """
    a, b = law.rate.numerator, law.rate.denominator
    if law.rounding == "half_up":
        rounded = [(2 * a * n + b) // (2 * b) for n in range(longest + 1)]
    elif law.rounding == "ceiling":
        rounded = [-(-a * n // b) for n in range(longest + 1)]
    else:
        rounded = [_half_even(a * n, b) for n in range(longest + 1)]
    cap = longest if law.cap is None else law.cap
    return tuple(min(max(law.floor, k), cap) for k in rounded)


def _half_even(numerator: int, denominator: int) -> int:
    whole, rest = divmod(numerator, denominator)
    if 2 * rest == denominator:
        return whole + whole % 2
    return whole + (2 * rest > denominator)


def quota_table(law: FixedCount, longest: int, device: torch.device) -> Tensor:
    """`quotas` as an int64 tensor, from a small cache."""
    if torch.compiler.is_compiling():  # a tensor made while tracing must not outlive the trace
        return _build_quotas(law, longest, device)
    return _cached_quotas(law, longest, device)


def _build_quotas(law: FixedCount, longest: int, device: torch.device) -> Tensor:
    return torch.tensor(quotas(law, longest), dtype=torch.int64, device=device)


def runs(ids: Sequence[int]) -> list[tuple[int, int]]:
    """The first and the last of each run of consecutive ids, which ascend.

    >>> runs((0, 100, 101, 102))
    [(0, 0), (100, 102)]
    """
    opens = [x for i, x in enumerate(ids) if i == 0 or ids[i - 1] != x - 1]
    closes = [x for i, x in enumerate(ids) if i + 1 == len(ids) or ids[i + 1] != x + 1]
    return list(zip(opens, closes, strict=True))


class Tables(NamedTuple):
    """Ids of one policy on one device, int64.

    Attributes
    ----------
    special : the special ids, ascending.
    pool : for a listed pool, its ids.  For ``"regular"``, the i-th special id minus i: the r-th
        regular id is r plus the number of these that are ≤ r.  For ``"all"``, empty.
    """

    special: Tensor
    pool: Tensor


def tables_for(policy: MaskingPolicy, device: torch.device) -> Tables:
    """The tables, from a small cache."""
    if torch.compiler.is_compiling():
        return _build_tables(policy, device)
    return _cached_tables(policy, device)


def _build_tables(policy: MaskingPolicy, device: torch.device) -> Tables:
    if policy.pool == "regular":
        pool = [special - i for i, special in enumerate(policy.special_ids)]
    else:
        pool = [] if policy.pool == "all" else list(policy.pool)
    special = torch.tensor(policy.special_ids, dtype=torch.int64, device=device)
    return Tables(special, torch.tensor(pool, dtype=torch.int64, device=device))


_cached_quotas = lru_cache(maxsize=64)(_build_quotas)
_cached_tables = lru_cache(maxsize=64)(_build_tables)
