"""What a selected position shows (chapter COR)."""

from __future__ import annotations

from mlm_conformance.transcription.places import Place
from mlm_conformance.transcription.random_words import TOKEN, TWO_32, Block, Draw, threshold
from mlm_conformance.transcription.selection import covering_start, first_position, is_candidate
from mlm_spec.policy import MaskingPolicy, Span

__all__ = ["deciding_position", "pool_id", "pool_size", "random_id", "shown"]


def deciding_position(
    policy: MaskingPolicy, place: Place, sequence: list[Place], draw: Draw
) -> int:
    """Where the kind of a selected place is read (MLM-COR-3, MLM-COR-7, MLM-COR-8)."""
    law = policy.selection
    if policy.corruption.unit == "word":
        word = [p for p in sequence if p.word == place.word and is_candidate(p, policy)]
        return first_position(word)
    if policy.corruption.unit == "span" and isinstance(law, Span):
        start = covering_start(law, place.sequence, place.position, draw)
        assert start is not None  # a selected place is a covered one
        return start
    return place.position


def shown(policy: MaskingPolicy, place: Place, deciding: int, draw: Draw) -> int:
    """The mask id, a random id, or the original, by w1(stream 0, deciding) (MLM-COR-3)."""
    corruption = policy.corruption
    w1 = draw(TOKEN, place.sequence, deciding)[1]
    if w1 < threshold(corruption.mask):
        return policy.mask_id
    if w1 < threshold(corruption.mask + corruption.random):
        return random_id(policy, draw(TOKEN, place.sequence, place.position))
    return place.token


def random_id(policy: MaskingPolicy, block: Block) -> int:
    """pool[r mod K], r = w2, or w3 where w2 is in the last, incomplete round of K (MLM-RNG-6)."""
    _, _, w2, w3 = block
    size = pool_size(policy)
    r = w2 if w2 <= (TWO_32 // size) * size - 1 else w3
    return pool_id(policy, r % size)


def pool_size(policy: MaskingPolicy) -> int:
    """K, the number of ids of the pool."""
    if policy.pool == "all":
        return policy.vocab_size
    if policy.pool == "regular":
        return policy.vocab_size - len(set(policy.special_ids))
    return len(policy.pool)


def pool_id(policy: MaskingPolicy, index: int) -> int:
    """The id at ``index`` of the pool in ascending order (MLM-RNG-6, MLM-COR-5)."""
    if policy.pool == "all":
        return index
    if policy.pool != "regular":
        return policy.pool[index]
    for special in sorted(policy.special_ids):  # each one passed moves the id up by one
        if special > index:
            break
        index += 1
    return index
