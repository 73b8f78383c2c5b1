"""The masker: select, corrupt, and say what was selected (chapters RNG, SEL, COR)."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from mlm_spec.batch import MaskedBatch
from mlm_spec.policy import MaskingPolicy
from mlm_torch.checking import check_batch, check_ids, check_tensor
from mlm_torch.corruption import deciding_words, shown_ids
from mlm_torch.gathering import find_selected
from mlm_torch.places import Places, find_places
from mlm_torch.random_words import make_key
from mlm_torch.selection import Selection, select_positions
from mlm_torch.status import Found, has_effect, status_word
from mlm_torch.thresholds import Tables, tables_for

__all__ = ["MaskStep", "mask", "mask_step"]

# Fewer words spend their time on starting operations, more on reading five buffers of them from
# memory: measured from 2¹⁴ to 2¹⁸ words on a processor with 1 MiB of second-level cache.
_BLOCK = 131072


class MaskStep(NamedTuple):
    """A `MaskedBatch` with the status word of the step that made it."""

    inputs: Any
    targets: Any
    selected: Any
    status: Any


def mask(
    tokens: Tensor,
    sequence_id: Tensor,
    position: Tensor,
    word_id: Tensor | None,
    eligible: Tensor,
    policy: MaskingPolicy,
    seed: int,
    epoch: int,
) -> MaskedBatch:
    """Mask a batch, after checking it.

    The result is a pure function of the arguments: no global random state is read or advanced.

    Parameters
    ----------
    tokens : int32 or int64 (B, T), the original ids.
    sequence_id : uint32 (B, T, 2), low word first; `sequence_words` makes it from int64 ids.
    position : uint32 (B, T), the position in the source sequence, not in a packed row.
    word_id : int32 (B, T), equal for the pieces of one word; None if the policy needs no words.
    eligible : bool (B, T), False at padding and wherever nothing may be selected.
    policy : the masking policy.
    seed, epoch : integers in 0 .. 2⁶⁴ − 1.

    Returns
    -------
    MaskedBatch : inputs and targets (B, T) in the dtype of ``tokens``, selected bool (B, T); new
        tensors on the device of ``tokens``.

    Raises
    ------
    ShapeError, DTypeError, PolicyError, WordError, IdRangeError, SeedError : nothing was changed.

    Source: the rules are chapters RNG, SEL and COR of the specification; the task is that of
    Devlin et al. 2018, section 3.1.

    Source: chapters SEL and COR.  Bound: exact, bit for bit.

    >>> from mlm_spec.policy import Bernoulli, Corruption
    >>> policy = MaskingPolicy(Bernoulli(1), Corruption(1, 0, 0), vocab_size=9, mask_id=4, pad_id=0)
    >>> tokens = torch.tensor([[5, 6, 0]])
    >>> ids, places = torch.zeros(1, 3, 2).to(torch.uint32), torch.tensor([[0, 1, 2]])
    >>> able = torch.ones(1, 3, dtype=torch.bool)
    >>> mask(tokens, ids, places.to(torch.uint32), None, able, policy, 1, 0).inputs.tolist()
    [[4, 4, 0]]
    """
    check_batch(tokens, sequence_id, position, word_id, eligible, policy)
    check_ids("tokens", tokens, policy.vocab_size)
    key = make_key(seed, epoch, tokens.device)
    inputs = tokens.clone(memory_format=torch.contiguous_format)
    selected = torch.empty_like(inputs, dtype=torch.bool)
    tables = tables_for(policy, tokens.device)
    # The results were made outside, so they stay usable with autograd; inside, each of the many
    # small operations starts quicker.
    with torch.inference_mode():
        for rows in _row_blocks(tokens):
            words = None if word_id is None else word_id[rows]
            places = find_places(sequence_id[rows], position[rows])
            selected[rows] = _mask_rows(
                inputs[rows], places, words, eligible[rows], policy, tables, key
            )
    return MaskedBatch(inputs, tokens.clone(), selected)


def _row_blocks(tokens: Tensor) -> list[slice]:
    """Rows in blocks that fit a CPU core's cache; on another device all rows at once.

    A row's mask depends on no other row.
    """
    rows = tokens.shape[0]
    blocks = -(-tokens.numel() // _BLOCK) if tokens.device.type == "cpu" else 1
    size = max(1, -(-rows // max(1, blocks)))
    return [slice(start, start + size) for start in range(0, rows, size)]


def _mask_rows(
    inputs: Tensor,
    places: Places,
    word_id: Tensor | None,
    eligible: Tensor,
    policy: MaskingPolicy,
    tables: Tables,
    key: Tensor,
) -> Tensor:
    """Corrupt some rows of tokens in place; the selection, bool."""
    found = select_positions(inputs, places, word_id, eligible, policy, tables, key, static=False)
    # Only selected positions are corrupted: gather them.
    index = find_selected(found.selected) if found.index is None else found.index
    drawn = _words_at(index, key, places, found)
    flat = inputs.view(-1)
    flat.scatter_(0, index, shown_ids(flat[index], drawn, policy, tables))
    return found.selected


def _words_at(
    index: Tensor, key: Tensor, places: Places, found: Selection
) -> tuple[Tensor, Tensor, Tensor]:
    """`deciding_words` of the flat places ``index``."""

    def pick(values: Tensor) -> Tensor:
        return values.reshape(-1).index_select(0, index)

    deciding = None if found.deciding is None else pick(found.deciding)
    known = None if found.words is None else [pick(word) for word in found.words]
    if known is not None and deciding is None:
        return deciding_words(key, places, None, known)
    return deciding_words(key, Places(*(pick(part) for part in places)), deciding, known)


def mask_step(
    tokens: Tensor,
    sequence_id: Tensor,
    position: Tensor,
    word_id: Tensor | None,
    eligible: Tensor,
    policy: MaskingPolicy,
    key: Tensor,
) -> MaskStep:
    """`mask` for a compiled step: static shapes, no synchronisation, no error for data.

    Parameters
    ----------
    tokens, sequence_id, position, word_id, eligible, policy : as in `mask`.
    key : int32 (4,), from `make_key`.  A tensor, so that a new epoch compiles nothing anew.

    Returns
    -------
    MaskStep : bit for bit the result of `mask`, and a status.  A token outside the vocabulary
        sets ``ID_RANGE``; then inputs equal tokens and nothing is selected (MLM-ERR-12).

    Raises
    ------
    ShapeError, DTypeError, PolicyError, WordError : these are known before the step runs.

    Source: chapters SEL, COR and ERR.  Bound: exact, bit for bit.
    """
    check_batch(tokens, sequence_id, position, word_id, eligible, policy)
    check_tensor("key", key, (4,), (torch.int32,))
    bad_ids = ((tokens < 0) | (tokens >= policy.vocab_size)).any()
    places = find_places(sequence_id, position)
    tables = tables_for(policy, tokens.device)
    found = select_positions(tokens, places, word_id, eligible, policy, tables, key, static=True)
    selected = found.selected & has_effect(Found(id_range=bad_ids))
    drawn = deciding_words(key, places, found.deciding, found.words)
    inputs = torch.where(selected, shown_ids(tokens, drawn, policy, tables), tokens)
    status = status_word(Found(id_range=bad_ids, empty=~selected.any()))
    return MaskStep(inputs, tokens.clone(), selected, status)
