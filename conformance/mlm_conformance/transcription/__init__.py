"""The masking rules once more, one token at a time: the oracle of the reference.

A transcription of the text (chapters RNG, SEL and COR), clause by clause, in plain integers
and fractions.  It shares no line with `mlm_spec`, policies and result types apart, so that their
agreement says something.  Arrays are only read into lists; nothing here is vectorised.

    random_words    Threefry4x32-20, key and counter, thresholds
    places          the columns of a batch as plain facts; sequences and words
    selection       the four laws
    corruption      what a selected place shows
    masking         all of it on the arrays of the port
    order           the sequences of a run, one epoch after the other (chapter TRN)
"""

from __future__ import annotations

from mlm_conformance.transcription.masking import mask
from mlm_conformance.transcription.order import sequences_at
from mlm_conformance.transcription.random_words import threefry4x32_20, threshold

__all__ = ["mask", "sequences_at", "threefry4x32_20", "threshold"]
