"""Why some requirements are the first divergence of no mutant, or reject none alone."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["NEVER_ALONE", "NEVER_FIRST"]

NEVER_FIRST: Mapping[str, str] = MappingProxyType(
    {
        "MLM-COR-6": "it is MLM-COR-5 where the pool has one id: what is shown in its place is "
        "outside the pool, and MLM-COR-5 says so first",
    }
)
_OF_THE_WHOLE = (
    "a part of the encoder that is wrong is wrong in the gradient of the whole, which MLM-ENC-12, "
    "15 and 16 compare entry by entry"
)
_OF_AN_UPDATE = (
    "what is wrong with an update is wrong in the parameters that it leaves, which MLM-TRN-3, "
    "4 and 6 compare entry by entry"
)
_TRAINING = {
    **dict.fromkeys((f"MLM-ENC-{n}" for n in (*range(1, 12), 15)), _OF_THE_WHOLE),
    "MLM-ENC-13": "a micro-batch or a row that is lost is missing in the updates of MLM-TRN-3 too",
    "MLM-ENC-14": "an evaluation that drops is none for MLM-TRN-7, and a site of probability 0 "
    "that drops is one more in the gradient of MLM-ENC-12",
    "MLM-OPT-1": "moments are what MLM-TRN-2 compares as well, and what a run is saved with "
    "(MLM-CKP-1)",
    "MLM-OPT-3": "the norm is what MLM-TRN-2 compares as well",
    **dict.fromkeys((f"MLM-OPT-{n}" for n in (2, 5, 6, 7, 8)), _OF_AN_UPDATE),
    "MLM-OPT-9": "a rate is a factor of the update, and those of twenty are compared by MLM-TRN-6, "
    "or by MLM-OPT-2 where they do not fall",
    "MLM-TRN-1": "the mean is in every gradient (MLM-ENC-12), and the loss in every report "
    "(MLM-TRN-3)",
    "MLM-TRN-2": _OF_AN_UPDATE,
    "MLM-TRN-6": "a run that counts otherwise goes on otherwise from a checkpoint (MLM-CKP-1), "
    "which the reference reads as it should",
}
NEVER_ALONE: Mapping[str, str] = MappingProxyType(
    {
        **_TRAINING,
        "MLM-SEL-6": "MLM-SEL-7 says of every piece whether it is selected, and the same of all "
        "pieces of a word: where some are and others are not, it rejects one or the other, and it "
        "always has the cases of MLM-SEL-6",
        "MLM-COR-6": "it is MLM-COR-5 where the pool has one id: a random id that is not this one "
        "is outside the pool, whatever the original is",
    }
)
