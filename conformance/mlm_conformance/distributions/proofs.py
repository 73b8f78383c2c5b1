"""What a test sees in which one occurrence decides: it happens to no right masker at all."""

from __future__ import annotations

from math import expm1, log1p

from mlm_conformance.distributions.judge import SURE
from mlm_conformance.results import Sensitivity

__all__ = ["proof"]


def proof(what: str, trials: int) -> Sensitivity:
    """The smallest probability of ``what`` that N independent trials show once, as surely as SURE.

    It is 1 − (1 − SURE)^(1/N), for what has probability 0.

    Parameters
    ----------
    what : what must not occur.
    trials : independent trials, N > 0.

    >>> round(proof("heads", 1).above, 6), round(proof("heads", 6904).above, 6)
    (0.999, 0.001)
    """
    return Sensitivity(what, trials, "0", None, -expm1(log1p(-SURE) / trials))
