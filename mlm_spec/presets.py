"""Masking policies that carry the name of a published model.

A preset bears a bare name only if it is its source's rule *as a law*: the same count for every
length, the same candidates, the same probabilities of what a selected position shows, the same
pool.  (The draws themselves differ: here they are the words of chapter RNG, whose resolution is
2⁻³².)  Every other preset is called ``…_like``, and `DIFFERENCES` says how it departs.

>>> policy = PRESETS["bert"](30522, mask_id=103, pad_id=0, cls_id=101, sep_id=102)
>>> policy.selection.cap, policy.pool_size
(20, 30522)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from types import MappingProxyType

from mlm_spec.policy import Bernoulli, Corruption, FixedCount, MaskingPolicy, Span

__all__ = [
    "DIFFERENCES",
    "PRESETS",
    "SOURCES",
    "bert",
    "modernbert_like",
    "roberta_like",
    "spanbert_like",
]

_EIGHTY_TEN_TEN = (Fraction(4, 5), Fraction(1, 10), Fraction(1, 10))


def bert(
    vocab_size: int,
    mask_id: int,
    pad_id: int,
    cls_id: int,
    sep_id: int,
    max_predictions: int = 20,
) -> MaskingPolicy:
    """BERT's rule: k = min(max_predictions, max(1, round(0.15 · length))) of each sequence.

    The length counts ``[CLS]`` and ``[SEP]``, which are never selected.  ``round`` is Python
    3's: ties go to the even integer.  Random ids come from the whole vocabulary, special ids
    included.  ``[UNK]`` can be selected.  The original draws its masks once, for ``dupe_factor``
    copies of the corpus (10 by default): pass ``epoch % 10`` to have that here too.

    Parameters
    ----------
    vocab_size : V.
    mask_id, pad_id, cls_id, sep_id : the ids of ``[MASK]``, ``[PAD]``, ``[CLS]``, ``[SEP]``.
    max_predictions : at most this many positions of a sequence; 20 by default, as in the source.

    Raises
    ------
    PolicyError : an id outside the vocabulary, or max_predictions below 1.

    Source
    ------
    Devlin et al. 2019, §3.1 and appendix A.1; ``create_masked_lm_predictions`` without its
    whole-word option (see `SOURCES`).
    """
    return MaskingPolicy(
        FixedCount(Fraction(3, 20), floor=1, cap=max_predictions, base="all", rounding="half_even"),
        Corruption(*_EIGHTY_TEN_TEN),
        vocab_size=vocab_size,
        mask_id=mask_id,
        pad_id=pad_id,
        special_ids=(cls_id, sep_id),
        pool="all",
    )


def roberta_like(
    vocab_size: int,
    mask_id: int,
    pad_id: int,
    cls_id: int,
    sep_id: int,
    unk_id: int | None = None,
) -> MaskingPolicy:
    """15 % of each sequence's candidates, new in every epoch; see `DIFFERENCES`.

    Parameters
    ----------
    vocab_size : V.
    mask_id, pad_id, cls_id, sep_id : the ids of ``<mask>``, ``<pad>``, ``<s>``, ``</s>``.
    unk_id : the id of ``<unk>``, if there is one: never selected, never drawn.

    Raises
    ------
    PolicyError : an id outside the vocabulary.

    Source
    ------
    Liu et al. 2019, §2.3 and §4.1; ``MaskTokensDataset`` of fairseq (see `SOURCES`).
    """
    unknown = () if unk_id is None else (unk_id,)
    return MaskingPolicy(
        FixedCount(Fraction(3, 20), base="eligible", rounding="half_up"),
        Corruption(*_EIGHTY_TEN_TEN),
        vocab_size=vocab_size,
        mask_id=mask_id,
        pad_id=pad_id,
        special_ids=(mask_id, cls_id, sep_id, *unknown),
        pool="regular",
    )


def spanbert_like(
    vocab_size: int, mask_id: int, pad_id: int, cls_id: int, sep_id: int
) -> MaskingPolicy:
    """Spans of geometric length, 1 to 10, that cover 15 %; see `DIFFERENCES`.

    P(length = l) ∝ (1/5)(4/5)^(l−1) for l = 1 … 10, renormalised: the mean is 3.797.  (The paper
    reports 3.8; had the mass beyond 10 been moved to 10, it would be 4.463.)  A span shows one
    kind, as ``--replacement-method span`` does in the source.

    Parameters
    ----------
    vocab_size : V.
    mask_id, pad_id, cls_id, sep_id : the ids of ``[MASK]``, ``[PAD]``, ``[CLS]``, ``[SEP]``.

    Raises
    ------
    PolicyError : an id outside the vocabulary.

    Source
    ------
    Joshi et al. 2020, §3.1; ``PairWithSpanMaskingScheme`` (see `SOURCES`).
    """
    return MaskingPolicy(
        Span.with_rate(Fraction(3, 20), _geometric_lengths(Fraction(1, 5), longest=10)),
        Corruption(*_EIGHTY_TEN_TEN, unit="span"),
        vocab_size=vocab_size,
        mask_id=mask_id,
        pad_id=pad_id,
        special_ids=(mask_id, cls_id, sep_id),
        pool="regular",
    )


def modernbert_like(
    vocab_size: int, mask_id: int, pad_id: int, cls_id: int, sep_id: int
) -> MaskingPolicy:
    """30 %, each candidate on its own; see `DIFFERENCES`.

    Parameters
    ----------
    vocab_size : V.
    mask_id, pad_id, cls_id, sep_id : the ids of ``[MASK]``, ``[PAD]``, ``[CLS]``, ``[SEP]``.

    Raises
    ------
    PolicyError : an id outside the vocabulary.

    Source
    ------
    Warner et al. 2024, §2.2.2; ``SequencePacker.mlm_masking`` (see `SOURCES`).
    """
    return MaskingPolicy(
        Bernoulli(Fraction(3, 10)),
        Corruption(*_EIGHTY_TEN_TEN),
        vocab_size=vocab_size,
        mask_id=mask_id,
        pad_id=pad_id,
        special_ids=(cls_id, sep_id),
        pool="all",
    )


def _geometric_lengths(p: Fraction, longest: int) -> tuple[Fraction, ...]:
    """P(length = 1 … longest) of a geometric law, conditioned on not being longer."""
    mass = [p * (1 - p) ** (length - 1) for length in range(1, longest + 1)]
    return tuple(m / sum(mass) for m in mass)


PRESETS: Mapping[str, Callable[..., MaskingPolicy]] = MappingProxyType(
    {
        "bert": bert,
        "roberta_like": roberta_like,
        "spanbert_like": spanbert_like,
        "modernbert_like": modernbert_like,
    }
)
"""Every preset by its name.  All take vocab_size, mask_id, pad_id, cls_id, sep_id."""

SOURCES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "bert": (
            "Devlin et al. 2019, https://arxiv.org/abs/1810.04805, §3.1 and appendix A.1",
            "https://github.com/google-research/bert/blob/eedf571/create_pretraining_data.py",
        ),
        "roberta_like": (
            "Liu et al. 2019, https://arxiv.org/abs/1907.11692, §2.3 and §4.1",
            "https://github.com/facebookresearch/fairseq/blob/3d262bb2/fairseq/data/"
            "mask_tokens_dataset.py",
        ),
        "spanbert_like": (
            "Joshi et al. 2020, https://arxiv.org/abs/1907.10529, §3.1",
            "https://github.com/facebookresearch/SpanBERT/blob/0670d8b/pretraining/fairseq/data/"
            "masking.py",
        ),
        "modernbert_like": (
            "Warner et al. 2024, https://arxiv.org/abs/2412.13663, §2.2.2",
            "https://github.com/AnswerDotAI/ModernBERT/blob/8c57a0f/src/sequence_packer.py",
        ),
    }
)
"""The paper with its section, and the code, of every preset."""

DIFFERENCES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "roberta_like": (
            "Count: the source takes ⌊0.15 · n + U⌋ positions, U uniform in [0, 1), so the count "
            "of a length varies by one with mean 0.15 · n; here it is 0.15 · n rounded half up.",
            "Candidates: the source selects <s> and </s> at the full rate and counts them in n; "
            "here special ids are neither selected nor counted.",
            "Pool: the source draws from every id but its first four special symbols, so <mask> "
            "can be drawn; here it cannot.",
            "Unknown: the source can select <unk>; here unk_id, where given, is never selected.",
        ),
        "spanbert_like": (
            "Budget: the source draws spans until exactly ⌈0.15 · n⌉ positions are covered and "
            "cuts the last one there; here each position starts a span on its own, so the count "
            "varies around 0.15 · n and no span is cut but by the end of the sequence.",
            "Edge: here the first nine positions have a lower rate (MLM-SEL-8).",
            "Words: the source's lengths count whole words and its spans begin at a word's first "
            "piece; here lengths count positions.",
            "Overlap: the source merges spans that touch or overlap, and the merged span takes "
            "one decision of kind; here each position follows the latest span that covers it.",
            "Pool: the source draws random ids by corpus frequency; here uniformly from the "
            "regular ids.",
        ),
        "modernbert_like": (
            "Candidates: the source also selects [CLS] and [SEP] (its issue 212); here special "
            "ids are never selected.",
            "Padding: the source corrupts padding too, without a label (the same issue); here "
            "unselected positions never change.",
            "Pool: the source draws from 0 up to the largest id of the packed batch; here from "
            "the whole vocabulary.",
        ),
    }
)
"""How each ``…_like`` preset departs from its source, as a law."""
