"""Which positions are selected (chapter SEL).  Every law looks at one sequence."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache

from mlm_conformance.transcription.places import Place
from mlm_conformance.transcription.random_words import (
    RANK,
    SPAN,
    TOKEN,
    Draw,
    SequenceId,
    threshold,
)
from mlm_spec.policy import Bernoulli, FixedCount, MaskingPolicy, Selection, Span, WholeWord

__all__ = ["budget", "covering_start", "first_position", "is_candidate", "select", "span_length"]


def is_candidate(place: Place, policy: MaskingPolicy) -> bool:
    """Eligible, and not a special id (MLM-SEL-1)."""
    return place.eligible and place.token not in policy.special_ids


def select_bernoulli(law: Bernoulli, candidates: list[Place], draw: Draw) -> list[Place]:
    """Candidates with w0(stream 0) < T(rate) (MLM-SEL-2)."""
    limit = threshold(law.rate)
    return [p for p in candidates if draw(TOKEN, p.sequence, p.position)[0] < limit]


def select_fixed_count(
    law: FixedCount, sequence: list[Place], candidates: list[Place], pad_id: int | None, draw: Draw
) -> list[Place]:
    """The k candidates with the smallest (w0(stream 2), position) (MLM-SEL-5)."""
    if law.base == "eligible":
        counted = len(candidates)
    else:
        counted = sum(pad_id is None or p.token != pad_id for p in sequence)
    ranked = sorted(candidates, key=lambda p: (draw(RANK, p.sequence, p.position)[0], p.position))
    return ranked[: budget(law, counted, len(candidates))]


def budget(law: FixedCount, counted: int, candidates: int) -> int:
    """k: the rounded share, at least the floor, at most the cap and the candidates (MLM-SEL-4).

    >>> [budget(FixedCount("1/2", rounding=r), 5, 9) for r in ("half_up", "ceiling", "half_even")]
    [3, 3, 2]
    """
    a, b, n = law.rate.numerator, law.rate.denominator, counted
    if law.rounding == "half_up":
        k = (2 * a * n + b) // (2 * b)
    elif law.rounding == "ceiling":
        k = -(-a * n // b)
    else:
        k = round(Fraction(a * n, b))  # Python's round is to nearest, ties to even
    k = max(law.floor, k)
    if law.cap is not None:
        k = min(k, law.cap)
    return min(k, candidates)


def words(candidates: list[Place]) -> dict[int | None, list[Place]]:
    """The candidates of one sequence by word id (MLM-SEL-6)."""
    by_word: dict[int | None, list[Place]] = {}
    for place in candidates:
        by_word.setdefault(place.word, []).append(place)
    return by_word


def first_position(word: list[Place]) -> int:
    """The smallest candidate position of a word (MLM-SEL-7)."""
    return min(place.position for place in word)


def select_whole_word(law: WholeWord, candidates: list[Place], draw: Draw) -> list[Place]:
    """All candidates of the words with w0(stream 2, first position) < T(rate) (MLM-SEL-7)."""
    limit = threshold(law.rate)
    selected = []
    for word in words(candidates).values():
        if draw(RANK, word[0].sequence, first_position(word))[0] < limit:
            selected += word
    return selected


@lru_cache(maxsize=64)
def length_thresholds(law: Span) -> tuple[int, ...]:
    """T(lengths[0] + … + lengths[m − 1]) for m in 1..Lmax − 1 (MLM-SEL-8)."""
    return tuple(threshold(sum(law.lengths[:m], Fraction(0))) for m in range(1, len(law.lengths)))


def span_length(law: Span, sequence: SequenceId, i: int, draw: Draw) -> int:
    """The length of the span that starts at position i; 0 where none starts (MLM-SEL-8)."""
    w0, w1, _, _ = draw(SPAN, sequence, i)
    if w0 >= threshold(law.start):
        return 0
    return 1 + sum(w1 >= limit for limit in length_thresholds(law))


def covering_start(law: Span, sequence: SequenceId, j: int, draw: Draw) -> int | None:
    """The largest i in (j − Lmax, j], i ≥ 0, whose span covers position j (MLM-SEL-8)."""
    for i in range(j, max(j - len(law.lengths), -1), -1):
        if span_length(law, sequence, i, draw) > j - i:
            return i
    return None


def select_spans(law: Span, candidates: list[Place], draw: Draw) -> list[Place]:
    """The covered candidates (MLM-SEL-8)."""
    return [p for p in candidates if covering_start(law, p.sequence, p.position, draw) is not None]


def select(policy: MaskingPolicy, sequence: list[Place], draw: Draw) -> list[Place]:
    """A(x) of one sequence, by the policy's law."""
    law: Selection = policy.selection
    candidates = [place for place in sequence if is_candidate(place, policy)]
    match law:
        case Bernoulli():
            return select_bernoulli(law, candidates, draw)
        case FixedCount():
            return select_fixed_count(law, sequence, candidates, policy.pad_id, draw)
        case WholeWord():
            return select_whole_word(law, candidates, draw)
        case Span():
            return select_spans(law, candidates, draw)
