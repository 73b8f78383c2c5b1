"""Spans: where they start, how long they are, and what they cover (MLM-SEL-8, MLM-COR-8).

Whether a span starts at position i, and its length, are functions of (seed, epoch, sequence, i)
alone.  So what covers position j is known without its neighbours in the row: they may be cut
off, or packed elsewhere.
"""

from __future__ import annotations

from fractions import Fraction

import torch
from torch import Tensor

from mlm_spec.policy import Span
from mlm_torch.places import Places
from mlm_torch.random_words import STREAM_SPAN, below, words
from mlm_torch.thresholds import threshold

__all__ = ["cover"]


def cover(candidates: Tensor, places: Places, law: Span, key: Tensor, static: bool) -> Tensor:
    """How far back the nearest start lies that covers each candidate.

    Parameters
    ----------
    candidates : bool (B, T).
    places : int32 bits (B, T) each.
    law, key : the span law, and the key's int32 bits.
    static : compute all starts anew instead of reading a neighbour's, so that no shape depends
        on data.

    Returns
    -------
    int32 (B, T), the distance j − i ≥ 0 to the largest covering start i, or −1.  Not to be read
    where not a candidate.
    """
    reach = _reach(places, law, key)
    back = torch.where(reach >= 1, 0, -1).int()
    for m in range(1, len(law.lengths)):
        wanted = candidates & (back < 0) & ~below(places.position, m)
        start = places._replace(position=places.position - m)
        if static:
            covers = _reach(start, law, key) > m
        else:
            covers = _covers_from_row(reach, start, places, wanted, m, law, key)
        back = torch.where(wanted & covers, m, back)
    return back


def _reach(places: Places, law: Span, key: Tensor) -> Tensor:
    """The length of the span that starts at each place, 0 if none does; int32, any shape."""
    w0, w1, _, _ = words(key, STREAM_SPAN, *places)
    length = torch.ones_like(w0)
    longer = Fraction(0)
    for probability in law.lengths[:-1]:
        longer += probability
        length += ~below(w1, threshold(longer))
    return torch.where(below(w0, threshold(law.start)), length, 0)


def _covers_from_row(
    reach: Tensor, start: Places, places: Places, wanted: Tensor, m: int, law: Span, key: Tensor
) -> Tensor:
    """Whether the span that starts m before each wanted place covers it.

    Where the start lies m columns to the left, its reach is known already; the few others
    (behind a cut, or packed out of order) are computed.
    """
    known = torch.zeros_like(wanted)
    covers = torch.zeros_like(wanted)
    if m < wanted.shape[1]:
        known[:, m:] = (
            (places.position[:, :-m] == start.position[:, m:])
            & (places.low[:, :-m] == places.low[:, m:])
            & (places.high[:, :-m] == places.high[:, m:])
        )
        covers[:, m:] = reach[:, :-m] > m
    missing = (wanted & ~known).nonzero(as_tuple=True)
    if missing[0].numel():
        covers[missing] = _reach(Places(*(x[missing] for x in start)), law, key) > m
    return covers
