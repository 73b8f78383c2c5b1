"""Which positions are selected: A(x) (chapter SEL).

One function a law.  Every law is a pure function of (seed, epoch, sequence, position), of the
candidates of the sequence, and of nothing else.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mlm_spec.policy import Bernoulli, FixedCount, MaskingPolicy, Span, WholeWord
from mlm_torch.checking import needs_words
from mlm_torch.gathering import find_selected
from mlm_torch.grouping import number_groups, smallest_in_group
from mlm_torch.places import Places
from mlm_torch.random_words import STREAM_RANK, STREAM_TOKEN, below, first_word, unsigned, words
from mlm_torch.spans import cover
from mlm_torch.thresholds import FEW, Tables, quota_table, runs, threshold

__all__ = ["Selection", "find_special", "select_positions"]


class Selection(NamedTuple):
    """A(x), and who decides what it shows.

    Attributes
    ----------
    selected : bool (B, T).
    deciding : int32 bits (B, T), the position whose word decides the kind of a selected
        position; None where each decides for itself.  Meaningless where not selected.
    words : w0 .. w3 of stream 0 at each position, if the law has read them.
    index : int64 (N,), the flat places of the selected positions, if they are known.
    """

    selected: Tensor
    deciding: Tensor | None
    words: tuple[Tensor, ...] | None = None
    index: Tensor | None = None


def find_special(tokens: Tensor, policy: MaskingPolicy, tables: Tables) -> Tensor:
    """Tokens that are never selected, bool in the shape of ``tokens`` (MLM-SEL-1)."""
    if len(policy.special_ids) <= FEW:
        special = torch.zeros_like(tokens, dtype=torch.bool)
        for first, last in runs(policy.special_ids):
            special |= tokens == first if first == last else (tokens >= first) & (tokens <= last)
        return special
    ids = tables.special.to(tokens.dtype)
    slot = torch.searchsorted(ids, tokens, out_int32=True)
    return ids[slot.clamp_(max=ids.numel() - 1)] == tokens


def select_positions(
    tokens: Tensor,
    places: Places,
    word_id: Tensor | None,
    eligible: Tensor,
    policy: MaskingPolicy,
    tables: Tables,
    key: Tensor,
    static: bool,
) -> Selection:
    """Apply the policy's law.

    Parameters
    ----------
    tokens : integer (B, T), ids in the vocabulary.
    places, word_id, eligible : as `mlm_torch.mask` takes them, with words as int32 bits.
    policy, tables, key : the policy, its tables on the device, and the key's int32 bits.
    static : keep every shape independent of the data, for a compiled step.
    """
    law, deciding = policy.selection, None
    if isinstance(law, Bernoulli) and not needs_words(policy):
        return _bernoulli(tokens, places, eligible, policy, tables, key, static)
    candidates = eligible & ~find_special(tokens, policy, tables)
    if needs_words(policy):
        deciding = _word_positions(candidates, places, word_id)
    by_word = deciding if policy.corruption.unit == "word" else None
    if isinstance(law, Bernoulli):
        drawn = words(key, STREAM_TOKEN, *places)
        return Selection(candidates & below(drawn[0], threshold(law.rate)), by_word, drawn)
    if isinstance(law, FixedCount):
        counted = _counted(tokens, candidates, law, policy.pad_id)
        return Selection(_fixed_count(candidates, counted, places, law, key), by_word)
    if isinstance(law, WholeWord):
        return Selection(_whole_word(candidates, deciding, places, law, key), by_word)
    return _span(candidates, places, law, key, policy.corruption.unit, by_word, static)


def _bernoulli(
    tokens: Tensor,
    places: Places,
    eligible: Tensor,
    policy: MaskingPolicy,
    tables: Tables,
    key: Tensor,
    static: bool,
) -> Selection:
    """w0(stream 0) < T(rate) (MLM-SEL-2)."""
    # One pass of the generator gives the selection and, later, the corruption.
    drawn = words(key, STREAM_TOKEN, *places)
    selected = below(drawn[0], threshold(policy.selection.rate))  # dense, as the places are
    selected &= eligible
    if static:
        return Selection(selected & ~find_special(tokens, policy, tables), None, drawn)
    # Few are below: it is enough to look for special ids among them.
    index = find_selected(selected)
    keep = ~find_special(tokens.reshape(-1).index_select(0, index), policy, tables)
    selected.view(-1).index_copy_(0, index, keep)
    return Selection(selected, None, drawn, index[keep])


def _counted(tokens: Tensor, candidates: Tensor, law: FixedCount, pad_id: int | None) -> Tensor:
    """The positions that n counts (MLM-SEL-4)."""
    if law.base == "eligible":
        return candidates
    return torch.ones_like(candidates) if pad_id is None else tokens != pad_id


def _fixed_count(
    candidates: Tensor, counted: Tensor, places: Places, law: FixedCount, key: Tensor
) -> Tensor:
    """The k candidates of each sequence with the smallest (w0(stream 2), position) (MLM-SEL-5)."""
    columns = candidates.shape[1]
    group = number_groups(_sequence(places))
    zeros = torch.zeros_like(group)
    sizes = zeros.scatter_add(1, group, torch.ones_like(group))
    n = zeros.scatter_add(1, group, counted.long())
    k = quota_table(law, columns, group.device)[n]

    word = first_word(key, STREAM_RANK, *places).long()
    # (w0, position) as one signed number in the order of the unsigned pair.
    rank = ((unsigned(word) - 2**31) << 32) | unsigned(places.position)
    order = rank.argsort(dim=1, stable=True)
    # Then by sequence, its candidates first: the rank in the group is now a difference of columns.
    outer = (2 * group + ~candidates).gather(1, order)
    order = order.gather(1, outer.argsort(dim=1, stable=True))
    place = zeros.scatter(1, order, torch.arange(columns, device=group.device).expand_as(order))
    start = sizes.cumsum(dim=1) - sizes
    return candidates & (place - start.gather(1, group) < k.gather(1, group))


def _word_positions(candidates: Tensor, places: Places, word_id: Tensor) -> Tensor:
    """The smallest candidate position of each candidate's word, int32 bits (MLM-SEL-7)."""
    group = number_groups(_sequence(places), word_id.long())
    smallest = smallest_in_group(unsigned(places.position), candidates, group)
    return smallest.int()


def _whole_word(
    candidates: Tensor, deciding: Tensor, places: Places, law: WholeWord, key: Tensor
) -> Tensor:
    """w0(stream 2) at the word's smallest candidate position < T(rate) (MLM-SEL-6, MLM-SEL-7)."""
    word = first_word(key, STREAM_RANK, deciding, places.low, places.high)
    return candidates & below(word, threshold(law.rate))


def _span(
    candidates: Tensor,
    places: Places,
    law: Span,
    key: Tensor,
    unit: str,
    by_word: Tensor | None,
    static: bool,
) -> Selection:
    """Candidates that a span covers; the nearest start decides for unit "span" (MLM-SEL-8)."""
    back = cover(candidates, places, law, key, static)
    selected = candidates & (back >= 0)
    return Selection(selected, places.position - back if unit == "span" else by_word)


def _sequence(places: Places) -> Tensor:
    """The sequence ids as int64 bits: only equality matters."""
    return (places.high.long() << 32) | unsigned(places.low)
